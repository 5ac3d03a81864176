//! `cargo xtask test`: runs the groups of tests that this machine can run, and prints a table.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::build::{Models, World};
use crate::tools::{Need, Tool, install};
use crate::versions::{LEAST_SPIN, LEAST_SPIN_P2};
use crate::{build, cargo, tools};

/// A group of tests.
struct Group {
    name: &'static str,
    about: &'static str,
    /// Arguments of `cargo test`.
    arguments: &'static [&'static str],
    /// Environment variables of the tests.
    environment: &'static [(&'static str, &'static str)],
    /// Needs besides Rust. A group whose needs are not met is not run, and the table says why.
    needs: &'static [Need],
}

/// All groups, quick ones first. Native groups select the same packages: another selection would have other
/// features and compile anew.
const GROUPS: &[Group] = &[
    Group {
        name: "unit",
        about: "each module by itself, natively; versions and the command line",
        arguments: &["--workspace", "--lib", "--bins"],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "sandbox",
        about: "the component's modules and kernels, in the sandbox",
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
        environment: &[],
        needs: &[],
    },
    Group {
        name: "fidelity",
        about: "landmarks compared with MediaPipe's, in the sandbox; all choices of models",
        // The packages of the group sandbox, so that nothing compiles twice.
        arguments: &[
            "--release",
            "--target",
            crate::build::TARGET,
            "--package=kernels",
            "--package=vision",
            "--package=telemetry",
            "--package=hand-gesture-api",
            "--test=fidelity",
            "--test=pipeline",
        ],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "input",
        about: "odd photos, memory of decoding, and the fuzzing targets for a moment",
        arguments: &["--workspace", "--test=odd_photos", "--test=memory", "--test=fuzz"],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "commands",
        about: "generated files are up to date; unfit models are refused; the doctor for one machine",
        arguments: &["--workspace", "--test", "commands", "--test", "doctor"],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "http",
        about: "the component under the development host, by HTTP",
        arguments: &["--workspace", "--test", "http"],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "tracing",
        about: "the component's traces, as a collector receives them",
        arguments: &["--workspace", "--test", "tracing"],
        environment: &[],
        needs: &[],
    },
    Group {
        name: "spin-p2",
        about: "the groups http and tracing with the component for WASI 0.2",
        // Left out is what that world cannot do (docs/hosts.md): an instance has one request, so nothing is
        // counted or logged once for several, no export holds those of several, and HEAD has no length.
        arguments: &[
            "--workspace",
            "--test=http",
            "--test=tracing",
            "--",
            "--skip=absent_collector_costs_no_memory",
            "--skip=body_cut_off_is_a_problem_and_leaves_the_instance_alive",
            "--skip=body_larger_than_the_memory_is_refused_without_a_trap",
            "--skip=client_that_sends_all_of_an_oversized_body_reads_the_413",
            "--skip=disabled_tracing_sends_nothing_and_keeps_server_timing",
            "--skip=every_answer_has_its_line_and_every_span_counts_once",
            "--skip=hanging_collector_delays_no_request",
            "--skip=head_returns_headers_of_get_and_options_lists_methods",
            "--skip=invalid_setting_is_reported_once_and_falls_back_to_default",
            "--skip=odd_retry_after_is_survived",
            "--skip=refused_spans_are_dropped_and_counted",
        ],
        environment: &[("TEST_WORLD", "spin-p2")],
        needs: &[],
    },
    Group {
        name: "hosts",
        about: "the component for WASI alone on wasmtime, wasmCloud and the development host",
        // One at a time: each compiles the component first.
        arguments: &["--workspace", "--test", "hosts", "--", "--test-threads=1", "--skip=on_spin"],
        environment: &[],
        needs: &[
            Need::Hosts,
            Need::Package("curl", "--version", "curl"),
            Need::Package("python3", "--version", "python3"),
        ],
    },
    Group {
        name: "on-spin",
        about: "the component on the Spin that is installed",
        arguments: &["--workspace", "--test", "hosts", "--", "--test-threads=1", "on_spin::"],
        environment: &[],
        needs: &[
            Need::Spin(LEAST_SPIN),
            Need::Package("curl", "--version", "curl"),
            Need::Package("python3", "--version", "python3"),
        ],
    },
    Group {
        name: "on-spin-p2",
        about: "the component for WASI 0.2 on the Spin that is installed",
        arguments: &["--workspace", "--test", "hosts", "--", "--test-threads=1", "on_spin_p2::"],
        environment: &[],
        needs: &[
            Need::Spin(LEAST_SPIN_P2),
            Need::Package("curl", "--version", "curl"),
            Need::Package("python3", "--version", "python3"),
        ],
    },
    Group {
        name: "page",
        about: "the pages in a real browser: files, camera, keyboard, phone",
        // One at a time: a browser and a camera keep two cores busy.
        arguments: &["--workspace", "--test", "page", "--", "--test-threads=1", "--skip=axe_core"],
        environment: &[],
        needs: &[Need::Package("chromium", "--version", "chromium")],
    },
    Group {
        name: "training",
        about: "models/train.py learns from corrections",
        arguments: &["--workspace", "--test", "training"],
        environment: &[],
        needs: &[Need::Training],
    },
    Group {
        name: "accessibility",
        about: "the rules of axe-core on the pages, in a real browser",
        arguments: &["--workspace", "--test", "page", "--", "axe_core"],
        environment: &[],
        needs: &[Need::Axe, Need::Package("chromium", "--version", "chromium")],
    },
    Group {
        name: "jaeger",
        about: "the component's traces, found in Jaeger",
        arguments: &["--workspace", "--test", "jaeger", "--test", "doctor_jaeger"],
        environment: &[],
        needs: &[Need::Tool(Tool::Jaeger)],
    },
    Group {
        name: "charts",
        about: "the Helm charts: rendered manifests, refused values, metrics, alerts",
        arguments: &[
            "--workspace",
            "--test",
            "charts",
            "--test",
            "other_clusters",
            "--test",
            "monitoring",
        ],
        environment: &[],
        needs: &[
            Need::Tool(Tool::Helm),
            Need::Tool(Tool::Jaeger),
            Need::Tool(Tool::Prometheus),
            Need::Tool(Tool::Promtool),
        ],
    },
    Group {
        name: "packages",
        about: "the charts as signed OCI artefacts, in a registry",
        arguments: &["--workspace", "--test", "packages"],
        environment: &[],
        needs: &[
            Need::Tool(Tool::Helm),
            Need::Tool(Tool::Registry),
            Need::Package("gpg", "--version", "gnupg"),
        ],
    },
    Group {
        name: "scripts",
        about: "setup's and the doctor's parts: passwords, probes, index templates",
        arguments: &["--workspace", "--test", "scripts"],
        environment: &[],
        needs: &[
            Need::Tool(Tool::Helm),
            Need::Program("kubectl", "--help", "https://kubernetes.io/docs/tasks/tools"),
            Need::Package("jq", "--version", "jq"),
            Need::Package("nginx", "-v", "nginx-light"),
            Need::Package("openssl", "version", "openssl"),
            Need::Package("curl", "--version", "curl"),
        ],
    },
    Group {
        name: "lint",
        about: "linters of scripts, workflows, Terraform files and comments",
        arguments: &["--workspace", "--test", "lint"],
        environment: &[],
        needs: &[
            Need::Tool(Tool::Actionlint),
            Need::Tool(Tool::Tflint),
            Need::Package("shellcheck", "--version", "shellcheck"),
            Need::Terraform,
        ],
    },
    Group {
        name: "terraform",
        about: "the Terraform module: choices, refusals, no leaked password",
        arguments: &["--workspace", "--test", "terraform", "--", "--test-threads=1"],
        environment: &[],
        needs: &[Need::Providers, Need::Package("unzip", "-v", "unzip")],
    },
    Group {
        name: "storage",
        about: "the rendered configuration in Jaeger, with each storage's server",
        // Two at a time: they wait for servers most of the time, and the servers are large.
        arguments: &["--workspace", "--test", "storage", "--", "--test-threads=2"],
        environment: &[],
        needs: &[
            Need::Tool(Tool::Helm),
            Need::Tool(Tool::Jaeger),
            Need::Tool(Tool::IndexCleaner),
            Need::Tool(Tool::Rollover),
            Need::Servers,
            Need::Package("nginx", "-v", "nginx-light"),
            Need::Package("openssl", "version", "openssl"),
            Need::Package("curl", "--version", "curl"),
        ],
    },
    Group {
        name: "cluster",
        about: "charts and scripts on a Kubernetes",
        arguments: &["--workspace", "--test", "cluster", "--", "--nocapture"],
        environment: &[],
        needs: &[
            Need::Cluster,
            Need::Tool(Tool::Helm),
            Need::Servers,
            Need::Program("kubectl", "--help", "https://kubernetes.io/docs/tasks/tools"),
            Need::Package("jq", "--version", "jq"),
            Need::Package("nginx", "-v", "nginx-light"),
            Need::Package("openssl", "version", "openssl"),
        ],
    },
];

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Groups to run [default: all]
    #[arg(value_name = "GROUP", value_parser = groups())]
    groups: Vec<String>,
    /// A group that may be left out where it cannot run, while all others must run; repeatable
    #[arg(long, value_name = "GROUP", value_parser = groups(), hide_possible_values = true)]
    may_lack: Vec<String>,
}

fn groups() -> PossibleValuesParser {
    let group = |group: &Group| PossibleValue::new(group.name).help(group.about);
    PossibleValuesParser::new(GROUPS.iter().map(group))
}

/// The outcome of a group.
#[derive(Default)]
struct Outcome {
    name: &'static str,
    about: &'static str,
    passed: usize,
    failed: usize,
    ignored: usize,
    ok: bool,
    /// The reason if nothing of it was run.
    not_run: Option<String>,
    time: Duration,
}

/// Runs the named groups, or all. A group that cannot run here is an error only if it was named, or if
/// others may be left out.
pub fn run(Arguments { groups, may_lack }: &Arguments) -> Result<()> {
    let runner = runner()?;
    build::run(World::ALL, &Models::default(), true)?;
    let mut outcomes = Vec::new();
    for group in GROUPS {
        if groups.is_empty() || groups.iter().any(|name| name == group.name) {
            outcomes.push(run_group(group, runner.as_deref())?);
        }
    }
    table(&outcomes);
    if outcomes.iter().any(|outcome| !outcome.ok && outcome.not_run.is_none()) {
        bail!("some tests failed; see above");
    }
    let strict = !groups.is_empty() || !may_lack.is_empty();
    let lacking = |outcome: &&Outcome| {
        outcome.not_run.is_some() && may_lack.iter().all(|name| name != outcome.name)
    };
    if let Some(outcome) = outcomes.iter().find(lacking).filter(|_| strict) {
        bail!("the group {} was not run; see above", outcome.name);
    }
    Ok(())
}

/// Returns the runner of tests in the sandbox: this program, where `.cargo/config.toml` names a cargo that
/// would compile it again. `None` if its path has spaces, at which cargo splits the command.
fn runner() -> Result<Option<String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.to_str().filter(|path| !path.contains(char::is_whitespace));
    Ok(program.map(|program| format!("{program} run")))
}

fn run_group(group: &Group, runner: Option<&str>) -> Result<Outcome> {
    println!("\nTesting {}: {}", group.name, group.about);
    let start = Instant::now();
    let mut lacking = group.needs.iter().find_map(|need| need.lacking());
    if lacking.is_none() {
        lacking = install(group.needs).err().map(|error| format!("{error:#}"));
    }
    if let Some(why) = lacking {
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
    if let Some(terraform) = tools::terraform() {
        command.env(tools::TERRAFORM, terraform);
    }
    let mut child = command
        .args(["test", "--no-fail-fast"])
        .args(group.arguments)
        .envs(group.environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let output = child.stdout.take().context("no output of cargo")?;
    for line in BufReader::new(output).lines() {
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
        // A group without a single test has not passed.
        ok: status.success() && passed > 0,
        not_run: None,
        time: start.elapsed(),
    })
}

/// Parses the last line of a test binary: the numbers of passed, failed and ignored tests.
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
        "\n{:<10} {:>7} {:>7} {:>8} {:>8}  about",
        "group", "passed", "failed", "ignored", "time"
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
        "\n{} passed, {} failed, {} ignored, {} groups not run",
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
    fn summary_of_a_test_binary_is_parsed() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered \
                    out; finished in 0.01s";
        assert_eq!(counts(line), Some([12, 3, 1]));
        assert_eq!(counts("test decode ... ok"), None);
    }
}
