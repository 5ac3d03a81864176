//! `cargo xtask fuzz`: runs the targets of the crate `fuzz` for long, with mutations that no run has had.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo;

/// The tests in `crates/fuzz/tests/fuzz.rs`.
const TARGETS: [&str; 5] = ["decode", "form", "api", "trace_context", "settings"];

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The target [default: all, one after the other]
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    target: Option<String>,
    /// Time for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Number of the first mutation, to repeat a run [default: the time in seconds, times a million]
    #[arg(long, value_name = "N")]
    first: Option<u64>,
}

/// Runs the targets, and ends at the first finding.
pub fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |name: &&str| arguments.target.as_deref().is_none_or(|target| target == *name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let first = arguments.first.unwrap_or(now * 1_000_000);
    for name in TARGETS.iter().copied().filter(wanted) {
        println!("Fuzzing {name} for {} s", arguments.seconds);
        let status = cargo()
            .args([
                "test",
                "--quiet",
                "--workspace",
                "--test",
                "fuzz",
                "--",
                name,
                "--exact",
                "--nocapture",
            ])
            .env("FUZZ_SECONDS", arguments.seconds.to_string())
            .env("FUZZ_FIRST", first.to_string())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!(
                "{name} does not compile, or has a finding; see above. Make a test with its bytes"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn targets_are_the_tests_of_the_crate() {
        let path = crate::root().join("crates/fuzz/tests/fuzz.rs");
        let text = std::fs::read_to_string(path).expect("the targets");
        let tests = text.split("#[test]\nfn ").skip(1);
        let mut tests: Vec<&str> = tests.filter_map(|test| test.split('(').next()).collect();
        let mut targets = TARGETS.to_vec();
        tests.sort_unstable();
        targets.sort_unstable();
        assert_eq!(tests, targets);
    }
}
