//! `cargo xtask fuzz`: runs the targets of the crate `fuzz` for long, with mutations that no run has had, and guided
//! by the code that they reach.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, target};

/// The tests in `crates/fuzz/tests/fuzz.rs`.
const TARGETS: [&str; 5] = ["decode", "form", "api", "trace_context", "settings"];

/// Flags by which the compiler counts edges between blocks of code: `fuzz::coverage`.
const COVERAGE: &str = "--cfg fuzz_coverage -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters";

/// This machine's compilation target. If it is named, flags are not those of build scripts, which have no receiver of
/// counters.
const HOST: &str = "host-tuple";

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The target [default: all, one after the other]
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    target: Option<String>,
    /// Time for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Number of the first mutation [default: the time in seconds, times a million]
    #[arg(long, value_name = "N")]
    first: Option<u64>,
    /// Use mutations of the seeds alone: `--first` repeats such a run, and nothing is compiled anew
    #[arg(long)]
    without_coverage: bool,
}

/// Runs the targets, and ends at the first finding.
pub fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |name: &&str| arguments.target.as_deref().is_none_or(|target| target == *name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let first = arguments.first.unwrap_or(now * 1_000_000);
    for name in TARGETS.iter().copied().filter(wanted) {
        println!("Fuzzing {name} for {} s", arguments.seconds);
        let mut cargo = cargo();
        cargo.args(["test", "--test", "fuzz"]);
        if arguments.without_coverage {
            cargo.arg("--workspace");
        } else {
            let folder = target().join("fuzz");
            cargo.args(["--package", "fuzz", "--target", HOST, "--target-dir"]).arg(&folder);
            cargo.env("RUSTFLAGS", COVERAGE).env("FUZZ_CORPUS", folder.join("corpus"));
        }
        let status = cargo
            .args(["--", name, "--exact", "--nocapture"])
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
