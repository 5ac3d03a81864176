//! `hand-gesture-host`: serves or pre-initialises a component. See the library's documentation.

use anyhow::{Context, bail};
use host::{LogSink, Manifest, Options, Server, preinitialize, variables};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
hand-gesture-host: a development and test host for the hand gesture component (not for production)

hand-gesture-host serve [OPTIONS]
    Serves the component of a Spin manifest over HTTP.
    --manifest FILE            the manifest [spin.toml]
    --listen ADDRESS           where to listen [127.0.0.1:3000]
    --component FILE           serve this file instead of the manifest's `source`
    --variable NAME=VALUE      set an application variable; repeatable. Otherwise the variable
                               NAME comes from SPIN_VARIABLE_NAME, else from its default.
    --requests-per-instance N  requests that an instance gets in its life [128]
    --concurrency N            requests that an instance has at a time [16]
    --idle-timeout SECONDS     after which an instance without work ends [1]
    --memory MEGABYTES         the most memory of an instance [unlimited]
    --grace SECONDS            for what is running when the host is stopped [10]
    --no-cache                 compile anew, and keep no compiled code

hand-gesture-host compile COMPONENT
    Compiles the component COMPONENT ahead of its first start, where `serve` looks for compiled
    code, and prints the file.

hand-gesture-host preinit INPUT --models DIR --output FILE
    Runs the export `wizer-initialize` of the component INPUT, with DIR as /models, and writes
    the component with its memory as it is then to FILE.
";

enum Command {
    Serve(Serve),
    Compile(PathBuf),
    Preinit { input: PathBuf, models: PathBuf, output: PathBuf },
    Help,
}

struct Serve {
    manifest: PathBuf,
    component: Option<PathBuf>,
    listen: SocketAddr,
    variables: Vec<(String, String)>,
    limits: host::Limits,
    cache: bool,
}

fn main() -> ExitCode {
    let command = match parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("hand-gesture-host: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Compile(component) => compile(&component),
        Command::Preinit { input, models, output } => preinit(input, models, output),
        Command::Serve(options) => serve(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hand-gesture-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let mut parser = lexopt::Parser::from_args(arguments);
    match parser.next()? {
        Some(Value(command)) if command == "serve" => parse_serve(parser).map(Command::Serve),
        Some(Value(command)) if command == "compile" => {
            let component = parser.value().context("the component COMPONENT is missing")?;
            match parser.next()? {
                None => Ok(Command::Compile(component.into())),
                Some(other) => Err(other.unexpected().into()),
            }
        }
        Some(Value(command)) if command == "preinit" => parse_preinit(parser),
        Some(Value(command)) => bail!("there is no command {command:?}"),
        Some(Long("help") | Short('h')) => Ok(Command::Help),
        Some(other) => Err(other.unexpected().into()),
        None => bail!("a command is missing"),
    }
}

fn parse_serve(mut parser: lexopt::Parser) -> anyhow::Result<Serve> {
    let mut options = Serve {
        manifest: "spin.toml".into(),
        component: None,
        listen: ([127, 0, 0, 1], 3000).into(),
        variables: Vec::new(),
        limits: host::Limits::default(),
        cache: true,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("manifest") => options.manifest = parser.value()?.into(),
            Long("component") => options.component = Some(parser.value()?.into()),
            Long("listen") => options.listen = parser.value()?.parse().context("--listen")?,
            Long("variable") => {
                let argument = parser.value()?.string()?;
                let variable = variables::parse_argument(&argument).context("--variable")?;
                options.variables.push(variable);
            }
            Long("requests-per-instance") => {
                options.limits.requests_per_instance =
                    at_least_one(&mut parser).context("--requests-per-instance")?;
            }
            Long("concurrency") => {
                options.limits.concurrent_requests_per_instance =
                    at_least_one(&mut parser).context("--concurrency")?;
            }
            Long("idle-timeout") => {
                options.limits.idle_timeout = seconds(&mut parser).context("--idle-timeout")?;
            }
            Long("grace") => {
                options.limits.grace_period = seconds(&mut parser).context("--grace")?;
            }
            Long("memory") => {
                let megabytes = at_least_one(&mut parser).context("--memory")?;
                options.limits.memory_per_instance = Some(megabytes.saturating_mul(1 << 20));
            }
            Long("no-cache") => options.cache = false,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn at_least_one(parser: &mut lexopt::Parser) -> anyhow::Result<usize> {
    match parser.value()?.parse()? {
        0 => bail!("it must be at least 1"),
        number => Ok(number),
    }
}

fn seconds(parser: &mut lexopt::Parser) -> anyhow::Result<Duration> {
    let seconds: f64 = parser.value()?.parse()?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}

fn parse_preinit(mut parser: lexopt::Parser) -> anyhow::Result<Command> {
    let (mut input, mut models, mut output) = (None, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if input.is_none() => input = Some(path.into()),
            Long("models") => models = Some(parser.value()?.into()),
            Long("output") | Short('o') => output = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Preinit {
        input: input.context("the component INPUT is missing")?,
        models: models.context("--models is missing")?,
        output: output.context("--output is missing")?,
    })
}

fn compile(component: &Path) -> anyhow::Result<()> {
    println!("{}", host::engine::compile(component)?.display());
    Ok(())
}

fn preinit(input: PathBuf, models: PathBuf, output: PathBuf) -> anyhow::Result<()> {
    let start = Instant::now();
    let component = std::fs::read(&input)
        .with_context(|| format!("cannot read the component {}", input.display()))?;
    let done = preinitialize(&component, &models)?;
    std::fs::write(&output, &done.component)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!(
        "Wrote {}: {:.1} MB from {:.1} MB in {:.1} s",
        output.display(),
        done.component.len() as f64 / 1e6,
        component.len() as f64 / 1e6,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn serve(serve: Serve) -> anyhow::Result<()> {
    let manifest = Manifest::read(&serve.manifest)?;
    let mut options =
        Options::from_manifest(&manifest, &serve.variables, |name| std::env::var(name))
            .with_context(|| format!("cannot serve {}", serve.manifest.display()))?;
    if let Some(component) = serve.component {
        options.cache = host::engine::cache_folder(&component);
        options.component = host::ComponentSource::File(component);
    }
    if !serve.cache {
        options.cache = None;
    }
    options.listen = serve.listen;
    options.limits = serve.limits;
    options.log = LogSink::stderr();
    let log = options.log.clone();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let server = tokio::select! {
            server = Server::start(options) => server?,
            () = signals.next() => return Ok(()),
        };
        let startup = server.startup();
        log.host(format_args!(
            "{} the component in {:.2} s; this host is for development and tests",
            if startup.from_cache { "loaded" } else { "compiled" },
            startup.loading.as_secs_f64()
        ));
        println!("Serving {}", server.url());
        std::io::stdout().flush()?;
        signals.next().await;
        log.host("stopping; a second signal stops at once");
        tokio::select! {
            _ = server.stop() => {}
            () = signals.next() => {}
        }
        Ok(())
    })
}

/// Ctrl-C and, on Unix, SIGTERM.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> anyhow::Result<Command> {
        super::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn serve_has_defaults() {
        let Ok(Command::Serve(serve)) = parse(&["serve"]) else {
            panic!("not understood");
        };
        assert_eq!(serve.manifest, PathBuf::from("spin.toml"));
        assert_eq!(serve.listen.to_string(), "127.0.0.1:3000");
    }

    #[test]
    fn options_are_read() {
        let Ok(Command::Serve(serve)) = parse(&[
            "serve",
            "--listen=0.0.0.0:80",
            "--variable",
            "a=b",
            "--variable",
            "c=",
            "--idle-timeout",
            "0.5",
            "--memory",
            "64",
        ]) else {
            panic!("not understood");
        };
        assert_eq!(serve.listen.port(), 80);
        assert_eq!(serve.variables.len(), 2);
        assert_eq!(serve.limits.idle_timeout, Duration::from_millis(500));
        assert_eq!(serve.limits.memory_per_instance, Some(64 << 20));
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, message) in [
            (&[][..], "a command is missing"),
            (&["sevre"], "sevre"),
            (&["serve", "--listn"], "--listn"),
            (&["serve", "--listen", "here"], "--listen"),
            (&["serve", "--variable", "a"], "name=value"),
            (&["serve", "--concurrency", "0"], "at least 1"),
            (&["preinit", "a.wasm"], "--models is missing"),
            (&["compile"], "COMPONENT is missing"),
            (&["compile", "a.wasm", "b.wasm"], "b.wasm"),
        ] {
            let Err(error) = parse(arguments) else {
                panic!("{arguments:?} was understood");
            };
            let error = format!("{error:#}");
            assert!(error.contains(message), "{error}");
        }
    }
}
