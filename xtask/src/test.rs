//! `cargo xtask test`: everything that can be tested on this machine, and a table of what was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build::Models;
use crate::tools::{Need, Tool};
use crate::{build, cargo};

/// A group of tests.
struct Group {
    name: &'static str,
    about: &'static str,
    /// Arguments of `cargo test`.
    arguments: &'static [&'static str],
    /// What it needs besides Rust. A group whose needs can't be met is not run, and the table says
    /// why.
    needs: &'static [Need],
}

/// All groups, the quick ones first. They share one selection of packages, so that nothing is
/// compiled twice.
const GROUPS: &[Group] = &[
    Group {
        name: "unit",
        about: "each module by itself, natively",
        arguments: &["--workspace", "--lib", "--bins"],
        needs: &[],
    },
    Group {
        name: "sandbox",
        about: "the component's modules and kernels once more, in the sandbox",
        arguments: &[
            "--release",
            "--target",
            crate::build::TARGET,
            "--package=kernels",
            "--package=vision",
            "--package=telemetry",
            "--package=hand-gesture-api",
            "--lib",
        ],
        needs: &[],
    },
    Group {
        name: "fidelity",
        about: "landmarks against those of MediaPipe",
        arguments: &["--workspace", "--test", "fidelity"],
        needs: &[],
    },
    Group {
        name: "http",
        about: "the component under the development host, by real HTTP",
        arguments: &["--workspace", "--test", "http"],
        needs: &[],
    },
    Group {
        name: "tracing",
        about: "the component's traces, as a collector gets them",
        arguments: &["--workspace", "--test", "tracing"],
        needs: &[],
    },
    Group {
        name: "jaeger",
        about: "the component's traces, found in a real Jaeger",
        arguments: &["--workspace", "--test", "jaeger"],
        needs: &[Need::Tool(Tool::Jaeger)],
    },
    Group {
        name: "charts",
        about: "what the Helm charts render and refuse",
        arguments: &["--workspace", "--test", "charts"],
        needs: &[Need::Tool(Tool::Helm), Need::Tool(Tool::Jaeger)],
    },
    Group {
        name: "lint",
        about: "infra's scripts and Terraform files, as they stand",
        arguments: &["--workspace", "--test", "lint"],
        needs: &[
            Need::Tool(Tool::Tflint),
            Need::Program("shellcheck", "--version", "Debian's shellcheck"),
            Need::Program("terraform", "version", "https://developer.hashicorp.com/terraform"),
        ],
    },
    Group {
        name: "terraform",
        about: "the module's choices and refusals, and where its password does not stand",
        arguments: &["--workspace", "--test", "terraform", "--", "--test-threads=1"],
        needs: &[Need::Providers, Need::Program("unzip", "-v", "Debian's unzip")],
    },
    Group {
        name: "storage",
        about: "the rendered configuration in Jaeger, with each storage's real server",
        // One at a time: the servers are large.
        arguments: &["--workspace", "--test", "storage", "--", "--test-threads=1"],
        needs: &[
            Need::Tool(Tool::Helm),
            Need::Tool(Tool::Jaeger),
            Need::Tool(Tool::IndexCleaner),
            Need::Tool(Tool::Rollover),
            Need::Servers,
            Need::Program("nginx", "-v", "Debian's nginx-light"),
            Need::Program("openssl", "version", "Debian's openssl"),
            Need::Program("curl", "--version", "Debian's curl"),
        ],
    },
    Group {
        name: "cluster",
        about: "both charts and the scripts on a real Kubernetes",
        arguments: &["--workspace", "--test", "cluster", "--", "--nocapture"],
        needs: &[
            Need::Cluster,
            Need::Tool(Tool::Helm),
            Need::Servers,
            Need::Program("kubectl", "--help", "https://kubernetes.io/docs/tasks/tools"),
            Need::Program("nginx", "-v", "Debian's nginx-light"),
            Need::Program("openssl", "version", "Debian's openssl"),
        ],
    },
];

/// How a group ended.
#[derive(Default)]
struct Outcome {
    name: &'static str,
    about: &'static str,
    passed: usize,
    failed: usize,
    ignored: usize,
    ok: bool,
    /// Why nothing of it was run.
    not_run: Option<String>,
    time: Duration,
}

/// Runs the groups with the given names, all if there are none. Groups that can't be run here are no
/// failure if nothing is named, or if they are among those that `may_lack`.
pub fn run(names: &[String], may_lack: &[String]) -> Result<()> {
    for name in names.iter().chain(may_lack) {
        if GROUPS.iter().all(|group| group.name != name) {
            let known: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
            bail!("there is no test group {name:?}; there are: {}", known.join(", "));
        }
    }
    let runner = runner()?;
    build::run(&Models::default())?;
    let mut outcomes = Vec::new();
    for group in GROUPS {
        if names.is_empty() || names.iter().any(|name| name == group.name) {
            outcomes.push(run_group(group, runner.as_deref())?);
        }
    }
    table(&outcomes);
    if outcomes.iter().any(|outcome| !outcome.ok && outcome.not_run.is_none()) {
        bail!("some tests failed; see above");
    }
    // Whoever names a group wants it run.
    let strict = !names.is_empty() || !may_lack.is_empty();
    let lacking = |outcome: &&Outcome| {
        outcome.not_run.is_some() && may_lack.iter().all(|name| name != outcome.name)
    };
    if let Some(outcome) = outcomes.iter().find(lacking).filter(|_| strict) {
        bail!("the group {} was not run; see above", outcome.name);
    }
    Ok(())
}

/// What runs the tests in the sandbox: this very program, where `.cargo/config.toml` has another
/// cargo, which would compile again what this one has. None where cargo can't be told of it: it
/// splits the command at spaces.
fn runner() -> Result<Option<String>> {
    let program = std::env::current_exe().context("this program's own file")?;
    let program = program.to_str().filter(|path| !path.contains(char::is_whitespace));
    Ok(program.map(|program| format!("{program} run")))
}

fn run_group(group: &Group, runner: Option<&str>) -> Result<Outcome> {
    println!("\nTesting {}: {}", group.name, group.about);
    let start = Instant::now();
    if let Some(why) = group.needs.iter().find_map(|need| need.lacking()) {
        println!("NOT RUN: {why}");
        let outcome = Outcome { name: group.name, about: group.about, ..Outcome::default() };
        return Ok(Outcome { not_run: Some(why), ..outcome });
    }
    for need in group.needs {
        need.prepare()?;
    }
    let mut command = cargo();
    if let Some(runner) = runner {
        command.env("CARGO_TARGET_WASM32_WASIP2_RUNNER", runner);
    }
    let mut child = command
        .args(["test", "--no-fail-fast"])
        .args(group.arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let output = child.stdout.take().context("no output of cargo")?;
    for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
        let line = line?;
        if let Some(counts) = counts(&line) {
            passed += counts[0];
            failed += counts[1];
            ignored += counts[2];
        }
        println!("{line}");
    }
    let status = child.wait()?;
    Ok(Outcome {
        name: group.name,
        about: group.about,
        passed,
        failed,
        ignored,
        // A group in which nothing ran has not passed.
        ok: status.success() && passed > 0,
        not_run: None,
        time: start.elapsed(),
    })
}

/// Passed, failed and ignored from the line that ends a test binary's output.
fn counts(line: &str) -> Option<[usize; 3]> {
    let line = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let (before, _) = line.split_once(word)?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some([number(" passed")?, number(" failed")?, number(" ignored")?])
}

fn table(outcomes: &[Outcome]) {
    println!(
        "\n{:<10} {:>7} {:>7} {:>8} {:>8}  what",
        "group", "passed", "failed", "not run", "time"
    );
    for outcome in outcomes {
        println!(
            "{:<10} {:>7} {:>7} {:>8} {:>6.0} s  {}{}",
            outcome.name,
            outcome.passed,
            outcome.failed,
            outcome.ignored,
            outcome.time.as_secs_f64(),
            outcome.about,
            match &outcome.not_run {
                Some(why) => format!("  NOT RUN: {why}"),
                None if outcome.ok => String::new(),
                None => "  FAILED".to_owned(),
            },
        );
    }
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    println!(
        "\n{} passed, {} failed, {} skipped, {} groups not run",
        sum(|o| o.passed),
        sum(|o| o.failed),
        sum(|o| o.ignored),
        sum(|o| usize::from(o.not_run.is_some()))
    );
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn the_closing_line_of_a_test_binary_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered \
                    out; finished in 0.01s";
        assert_eq!(counts(line), Some([12, 3, 1]));
        assert_eq!(counts("test decode ... ok"), None);
    }
}
