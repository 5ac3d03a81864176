//! The project's own commands: `cargo xtask COMMAND`.

mod bench;
mod build;
mod operators;
mod test;
mod tools;
mod traces;
mod up;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

const USAGE: &str = "\
cargo xtask up [MODELS] [--listen ADDRESS:PORT] [--variable NAME=VALUE]... [--no-build] [--spin]
    Builds the component and serves it on 127.0.0.1:3000 until Ctrl-C.
    --no-build  serve what was built before
    --spin      serve with Spin (4.1 or newer) instead of this project's development host

cargo xtask build [MODELS]
    Builds target/hand-gesture-api.wasm, the component with its models in it.

cargo xtask test [--may-lack GROUP]... [GROUP]...
    Builds the component and runs all tests, or those of some groups: unit, sandbox, fidelity, http,
    tracing, jaeger, charts, lint, terraform, storage, cluster. A group that can't run here (for want
    of Go, Java, a cluster…) is told at the end, and is no failure unless it was named, or others
    were by --may-lack.

cargo xtask tools [NAME]...
    Builds what the tests run besides Rust into target/tools: jaeger, es-index-cleaner,
    es-rollover, helm, tflint (by Go), storage (servers, by Maven).

cargo xtask bench [MODELS] [--against URL]... [--against-command COMMAND]... [--json FILE]
    Measures the component: stages, new instances, load, memory, size.
    --against          another server's /predict in the same run
    --against-command  the same of one that a shell starts, which listens on 127.0.0.1:{port};
                       its start and memory, too

cargo xtask operators [MODELS]
    Measures each operator of palm detection and landmarks in the sandbox, this project's and
    tract's.

cargo xtask features --data FOLDER --output NAME [--palm SIZE] [--landmarks SIZE] [--only SET]
                     [--tract] [--found]
    Runs the pipeline over photos and writes what the letter classifier is trained on.
    --tract  with tract's operators, in 32-bit floats, in the place of this project's
    --found  what the service itself looks at only, without jittered looks

cargo xtask run FILE.wasm [ARGUMENT]...
    Runs a program that was compiled for wasm32-wasip2 in the sandbox; cargo does so with tests.

MODELS:
    --palm lite|full         palm detection model [lite]
    --landmarks lite|full    hand landmark model [full]
    --letters FILE.onnx --labels FILE.txt
                             a letter classifier of your own and the names of its outputs
";

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The cargo that runs this, as a shell would run it in the repository's root.
///
/// Cargo tells a program that it runs of which package it is. Build scripts that look at these
/// variables (ring's) would run again when they differ, and all that is built on them compile twice.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
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
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut parser = lexopt::Parser::from_env();
    let command = match parser.next()? {
        Some(Value(command)) => command.string()?,
        Some(Long("help") | Short('h')) => "help".into(),
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("a command is missing\n\n{USAGE}"),
    };
    match command.as_str() {
        "build" => build::run(&models(&mut parser)?).map(drop),
        "operators" => operators::run(&models(&mut parser)?),
        "bench" => {
            let mut arguments = bench::Arguments {
                models: build::Models::default(),
                against: Vec::new(),
                json: None,
            };
            while let Some(option) = next_option(&mut parser)? {
                match option.as_str() {
                    "against" => {
                        arguments.against.push(bench::Against::Url(parser.value()?.string()?));
                    }
                    "against-command" => {
                        arguments.against.push(bench::Against::Command(parser.value()?.string()?));
                    }
                    "json" => arguments.json = Some(parser.value()?.into()),
                    other => model_option(&mut arguments.models, other, &mut parser)?,
                }
            }
            bench::run(&arguments)
        }
        "test" => {
            let (mut groups, mut may_lack) = (Vec::new(), Vec::new());
            while let Some(argument) = parser.next()? {
                match argument {
                    Value(name) => groups.push(name.string()?),
                    Long("may-lack") => may_lack.push(parser.value()?.string()?),
                    other => return Err(other.unexpected().into()),
                }
            }
            test::run(&groups, &may_lack)
        }
        "tools" => tools::run(&names(&mut parser)?),
        "up" => up::run(&up_options(&mut parser)?),
        "features" => {
            let arguments: Vec<String> =
                parser.raw_args()?.map(|argument| argument.string()).collect::<Result<_, _>>()?;
            let status = cargo()
                .args(["run", "--quiet", "--package", "vision", "--example", "features", "--"])
                .args(arguments)
                .status()
                .context("cannot run cargo")?;
            if !status.success() {
                bail!("the example `features` failed; see above");
            }
            Ok(())
        }
        "run" => {
            let arguments: Vec<String> =
                parser.raw_args()?.map(|argument| argument.string()).collect::<Result<_, _>>()?;
            let file = arguments.first().context("run FILE.wasm [ARGUMENT]...")?;
            let code = host::command::run_command(Path::new(file), &arguments)?;
            std::process::exit(code)
        }
        "help" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no command {other:?}\n\n{USAGE}"),
    }
}

/// The names that follow.
fn names(parser: &mut lexopt::Parser) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) => names.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(names)
}

/// The next option's name, without its dashes.
fn next_option(parser: &mut lexopt::Parser) -> Result<Option<String>> {
    match parser.next()? {
        Some(Long(name)) => Ok(Some(name.to_owned())),
        Some(other) => Err(other.unexpected().into()),
        None => Ok(None),
    }
}

/// The models, if there are no other options.
fn models(parser: &mut lexopt::Parser) -> Result<build::Models> {
    let mut models = build::Models::default();
    while let Some(option) = next_option(parser)? {
        model_option(&mut models, &option, parser)?;
    }
    Ok(models)
}

/// Takes an option of the models; any other one is a mistake.
fn model_option(models: &mut build::Models, name: &str, parser: &mut lexopt::Parser) -> Result<()> {
    if models.take(name, parser)? {
        return Ok(());
    }
    bail!("there is no option --{name}\n\n{USAGE}")
}

fn up_options(parser: &mut lexopt::Parser) -> Result<up::Up> {
    let mut up = up::Up {
        models: build::Models::default(),
        listen: ([127, 0, 0, 1], 3000).into(),
        variables: Vec::new(),
        spin: false,
        build: true,
    };
    while let Some(option) = next_option(parser)? {
        match option.as_str() {
            "listen" => up.listen = parser.value()?.parse().context("--listen")?,
            "variable" => {
                let text = parser.value()?.string()?;
                up.variables.push(host::variables::parse_argument(&text)?);
            }
            "spin" => up.spin = true,
            "no-build" => up.build = false,
            other => model_option(&mut up.models, other, parser)?,
        }
    }
    Ok(up)
}
