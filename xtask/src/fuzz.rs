//! `cargo xtask fuzz`: lets libFuzzer look for inputs at which a target of the crate `fuzz` panics, takes long or
//! takes much memory.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, target};

/// The tests in `crates/fuzz/tests/fuzz.rs`.
const TARGETS: [&str; 5] = ["decode", "form", "api", "trace_context", "settings"];

/// What the compiler adds for libFuzzer: a counter for each edge, and the operands of comparisons. `bolero` asks
/// for the last two.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "--cfg=fuzzing_libfuzzer",
];

/// Longest input, in bytes: somewhat more than the longest photo among the seeds.
const MAX_LENGTH: u32 = 100_000;
/// Seconds after which an input counts as a finding. Counters slow the code down.
const TIMEOUT: u32 = 10;
/// Largest memory of the process, in MiB, and of one allocation.
const MEMORY: u32 = 1024;
const ALLOCATION: u32 = 256;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The target [default: all, one after the other]
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    target: Option<String>,
    /// Time for each target, beside that of compiling
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets, and names the input of the first finding.
pub fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |name: &&str| arguments.target.as_deref().is_none_or(|target| target == *name);
    for name in TARGETS.iter().copied().filter(wanted) {
        explore(name, arguments.seconds)?;
    }
    Ok(())
}

fn explore(name: &str, seconds: u32) -> Result<()> {
    let folder = target().join("fuzz");
    let corpus = folder.join("corpus").join(name);
    let findings = folder.join("findings");
    for folder in [&corpus, &findings] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    println!("Fuzzing {name} for {seconds} s; what was found before is in {}", corpus.display());
    let arguments = [
        corpus.display().to_string(),
        format!("-artifact_prefix={}/{name}-", findings.display()),
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_LENGTH}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MEMORY}"),
        format!("-malloc_limit_mb={ALLOCATION}"),
        "-print_final_stats=1".to_owned(),
    ];
    if arguments[..2].iter().any(|argument| argument.contains(' ')) {
        bail!("cannot fuzz in {}: libFuzzer's arguments are parted by spaces", folder.display());
    }
    let status = cargo()
        // By the target's name, so that build scripts and macros, which libFuzzer is not linked to, are without
        // counters.
        .args(["test", "--package", "fuzz", "--test", "fuzz", "--target", &host_triple()?])
        .arg("--target-dir")
        .arg(&folder)
        .args(["--", name, "--exact", "--nocapture", "--test-threads=1"])
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("BOLERO_LIBFUZZER_ARGS", arguments.join(" "))
        .env("FUZZ_CORPUS", &corpus)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!(
            "{name} does not compile, or an input in {} is a finding; see above. Make a test with its bytes",
            findings.display()
        );
    }
    Ok(())
}

/// Returns the name of the machine's own target.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not name its host")?.to_owned())
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
