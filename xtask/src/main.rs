//! The project's commands: `cargo xtask COMMAND`.
//!
//! `cargo xtask up` is the first thing that a newcomer runs, and compiles this first. It depends on the
//! development host, but neither on the inference engine nor on the service.

mod bench;
mod build;
mod doctor;
mod features;
mod figures;
mod fuzz;
mod generate;
mod generated;
mod hostile;
mod hosts;
mod operators;
mod spin;
mod test;
mod tools;
mod traces;
mod up;
mod versions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::build::TARGET;

/// The project's commands
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the component and serve it until Ctrl-C
    Up(up::Up),
    /// Follow one request from the service on this machine to Jaeger, and name the first broken hop
    ///
    /// The exit code is the hop: 0 the trace arrived; 2 the service does not answer; 3 tracing is off; 4 the
    /// collector's name is unknown; 5 nothing answers at its port; 6 the collector rejects spans; 9 query does
    /// not answer or reads elsewhere; 10 the service's own spans are missing. 1 is for the command itself. On
    /// Kubernetes: infra/doctor.sh.
    Doctor(doctor::Arguments),
    /// Build the component, with its models frozen into it: target/hand-gesture-api.wasm
    Build(build::Arguments),
    /// Build the component and run all tests, or those of some groups
    ///
    /// A group that cannot run here, for lack of Go, Java or a cluster, is listed at the end. That is
    /// an error only if the group was named, or if other groups were by --may-lack.
    Test(test::Arguments),
    /// Build the tools of the tests into target/tools
    ///
    /// They are Go programs, hosts that pip fetches, and storage servers that Maven fetches, at the
    /// versions that infra/tools pins.
    Tools {
        /// Tools to build [default: all]
        #[arg(value_name = "NAME", value_parser = tools::names())]
        names: Vec<String>,
    },
    /// Measure the component: stages, new instances, load, memory, size
    Bench(bench::Arguments),
    /// Measure the components on all hosts that are here: start, letters, traces, memory, overload
    Hosts(hosts::Arguments),
    /// Measure each operator of palm detection and hand landmarks in the sandbox, this project's and
    /// tract's
    Operators(operators::Arguments),
    /// Send mutated photos, forms and headers to the component over HTTP, and count the answers
    ///
    /// It fails if an instance traps, if a request gets no answer, or if an answer has a status that is
    /// the service's own failure. The component runs in a process of its own, each instance with 128 MiB
    /// of memory at most. A request depends on its number and the seed alone.
    Hostile(hostile::Arguments),
    /// Look for inputs at which a parser panics: photos, forms, requests, headers, settings
    ///
    /// Each target gets mutations of its seeds that no run before has had. A finding becomes a test
    /// with its bytes.
    Fuzz(fuzz::Arguments),
    /// Write the files that have their source elsewhere: settings, figures
    ///
    /// spin.toml, spin-p2.toml, the chart's values and schema, docs/configuration.md from the settings in code;
    /// docs/benchmarks.md and docs/benchmarks.svg from docs/benchmarks.json.
    Generate {
        /// Write nothing, and fail if a file is out of date
        #[arg(long)]
        check: bool,
    },
    /// Run the pipeline over photos and write the training data of the letter classifier
    ///
    /// It runs in the sandbox, with the component's own operators. models/pack.py makes the committed tables
    /// of what it writes.
    Features(features::Arguments),
    /// Run a program compiled for wasm32-wasip2 in the sandbox, as cargo does with tests
    #[command(disable_help_flag = true)]
    Run {
        /// The program
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        #[command(flatten)]
        arguments: Rest,
    },
}

/// Arguments that are passed on.
#[derive(Debug, Args)]
struct Rest {
    /// Arguments of the program
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Returns the repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// Returns the folder of what is built; finished components lie where manifests name them.
fn target() -> PathBuf {
    host::target(root())
}

/// Returns the cargo that runs this, as a shell would run it in the repository's root.
///
/// Cargo passes variables about the package to a program that it runs. Build scripts that read them
/// (ring's) would run again when they differ, and everything built on them would compile twice.
fn cargo() -> std::process::Command {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let of_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        _ = error.print();
        // Instead of clap's 2, which the doctor uses.
        std::process::exit(i32::from(error.use_stderr()))
    });
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(up) => up::run(&up),
        Command::Doctor(arguments) => std::process::exit(doctor::run(&arguments).into()),
        Command::Build(arguments) => {
            build::run(arguments.worlds, &arguments.models, !arguments.without_sqlite)
        }
        Command::Test(arguments) => test::run(&arguments),
        Command::Tools { names } => tools::run(&names),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Hosts(arguments) => hosts::run(&arguments),
        Command::Operators(arguments) => operators::run(&arguments),
        Command::Hostile(arguments) => hostile::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Generate { check } => generate::run(check),
        Command::Features(arguments) => features::run(&arguments),
        Command::Run { file, arguments: Rest { mut arguments } } => {
            arguments.insert(0, file.display().to_string());
            // Tests read the repository's files by their full paths.
            let repository = root().display().to_string();
            let folders = [(".".into(), ".", false), (root().into(), repository.as_str(), false)];
            std::process::exit(host::command::run_command(&file, &arguments, &folders)?)
        }
    }
}

/// Builds a native example and returns it as a command. The packages are selected as for the tests, so that
/// nothing compiles twice.
fn example(name: &str) -> Result<std::process::Command> {
    let status = cargo()
        .args(["build", "--quiet", "--workspace", "--example", name])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the example `{name}` does not compile; see above");
    }
    let mut example = std::process::Command::new(target().join("debug/examples").join(name));
    example.current_dir(root());
    Ok(example)
}

/// Builds an example of the crate `vision` for the sandbox and returns its file.
fn sandbox_example(name: &str) -> Result<PathBuf> {
    let status = cargo()
        // With the service's package, so that dependencies have the component's features and are compiled.
        .args(["build", "--release", "--target", TARGET, "--package", "hand-gesture-api"])
        .args(["--package", "vision", "--example", name])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the example `{name}` does not compile; see above");
    }
    Ok(target().join(TARGET).join(format!("release/examples/{name}.wasm")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments = ["cargo xtask"].iter().chain(arguments);
        Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn invalid_arguments_are_rejected_by_name() {
        for (arguments, message) in [
            (&["serve"][..], "serve"),
            (&["build", "--palm", "medium"], "tuned, lite, full"),
            (&["build", "--letters", "a.onnx"], "--labels <FILE.txt>"),
            (&["build", "--labels", "a.txt"], "--letters <FILE.onnx>"),
            (&["up", "--listen", "here"], "--listen"),
            (&["up", "--variable", "a"], "name=value"),
            (&["doctor", "--wait", "long"], "--wait"),
            (&["test", "everything"], "everything"),
            (&["test", "--may-lack", "nothing"], "nothing"),
            (&["tools", "hammer"], "hammer"),
            (&["hostile", "--count", "many"], "--count"),
            (&["hostile", "--address", "here"], "--address"),
            (&["fuzz", "everything"], "trace_context"),
        ] {
            let error = parse(arguments).expect_err("must be rejected");
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn arguments_of_programs_are_passed_on() {
        let Ok(Command::Run { file, arguments }) = parse(&["run", "a.wasm", "--exact", "b"]) else {
            panic!("not parsed");
        };
        assert_eq!(
            (file, arguments.arguments),
            ("a.wasm".into(), vec!["--exact".into(), "b".into()])
        );
    }
}
