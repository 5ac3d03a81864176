//! `cargo xtask generate`: writes what has its source elsewhere. With `--check` it compares instead, as
//! the test group `commands` does.
//!
//! | source | written |
//! |---|---|
//! | settings in `src/settings.rs` and `crates/telemetry/src/settings.rs` | `spin.toml`, `spin-p2.toml`, values and schema of the chart, `docs/configuration.md` |
//! | `docs/benchmarks.json` | `docs/benchmarks.md`, `docs/benchmarks.svg` |

mod settings;

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::generated::Generated;
use crate::{example, figures, root};

/// Writes all files, or compares them.
pub fn run(check: bool) -> Result<()> {
    let mut files = settings::generate(&describe()?)?;
    files.extend(figures::generate()?);
    let mut outdated = Vec::new();
    for Generated { path, text } in files {
        let file = root().join(path);
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        if found == text {
            continue;
        }
        if check {
            println!("{}", difference(path, &found, &text));
            outdated.push(path);
        } else {
            std::fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
            println!("wrote {path}");
        }
    }
    if !outdated.is_empty() {
        bail!("{} not up to date: run cargo xtask generate", outdated.join(", "));
    }
    Ok(())
}

/// Returns the service's description of itself, JSON that the example `describe` prints.
fn describe() -> Result<String> {
    let output = example("describe")?.output().context("cannot run the example")?;
    if !output.status.success() {
        bail!("the example `describe` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the lines that differ, between the first and the last difference.
fn difference(path: &str, found: &str, expected: &str) -> String {
    let (found, expected): (Vec<&str>, Vec<&str>) =
        (found.lines().collect(), expected.lines().collect());
    let before = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let (found, expected) = (&found[before..], &expected[before..]);
    let after = found.iter().rev().zip(expected.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = format!("{path}, from line {}:\n", before + 1);
    for line in &found[..found.len() - after] {
        _ = writeln!(text, "- {line}");
    }
    for line in &expected[..expected.len() - after] {
        _ = writeln!(text, "+ {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_shows_changed_lines_only() {
        let text = difference("f", "a\nb\nc\nd\n", "a\nx\ny\nd\n");
        assert_eq!(text, "f, from line 2:\n- b\n- c\n+ x\n+ y\n");
        assert_eq!(difference("f", "a\na\n", "a\n"), "f, from line 2:\n- a\n");
    }
}
