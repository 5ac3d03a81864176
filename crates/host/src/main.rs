//! `hand-gesture-host`: serves the component of a Spin manifest, or compiles it ahead. See the library.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use host::options::parse_size;
use host::variables::{VariableError, parse_argument};
use host::{Limits, LogSink, Manifest, Options, Server};

/// A development and test host for the hand gesture component (not for production).
#[derive(Parser)]
#[command(name = "hand-gesture-host")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the component of a Spin manifest over HTTP.
    Serve(Box<Serve>),
    /// Compiles a component ahead of its first start, where `serve` looks for compiled code, and
    /// prints the file.
    Compile {
        /// The component.
        component: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// The manifest.
    #[arg(long, value_name = "FILE", default_value = "spin.toml")]
    manifest: PathBuf,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Serves this file instead of the manifest's `source`.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Sets an application variable; repeatable. Takes precedence over SPIN_VARIABLE_NAME in the
    /// environment and over the manifest's default.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// Requests that an instance serves in its life [default: 128].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    requests_per_instance: Option<usize>,
    /// Requests that an instance serves at a time [default: 16].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    concurrency: Option<usize>,
    /// Requests with a body that compute at a time, over all instances [default: two for each core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    computing: Option<usize>,
    /// Time after which an instance without work ends [default: 1].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Maximum memory of an instance, such as 128MiB [default: SPIN_MAX_INSTANCE_MEMORY in the
    /// environment, else unlimited].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_instance_memory: Option<usize>,
    /// Time within which an instance must answer a request [default: unlimited].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    request_timeout: Option<Duration>,
    /// Time for running requests when the host is stopped [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    grace: Option<Duration>,
    /// The folder for the default SQLite database [default: .spin beside the manifest].
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Compiles at every start, and keeps no compiled code.
    #[arg(long)]
    no_cache: bool,
}

impl Serve {
    /// Returns the limits of the environment with those that were given.
    fn limits(&self, default: Limits) -> Limits {
        Limits {
            requests_per_instance: self
                .requests_per_instance
                .unwrap_or(default.requests_per_instance),
            concurrent_requests_per_instance: self
                .concurrency
                .unwrap_or(default.concurrent_requests_per_instance),
            computing_requests: self.computing.or(default.computing_requests),
            idle_timeout: self.idle_timeout.unwrap_or(default.idle_timeout),
            memory_per_instance: self.max_instance_memory.or(default.memory_per_instance),
            request_timeout: self.request_timeout.or(default.request_timeout),
            grace_period: self.grace.unwrap_or(default.grace_period),
            ..default
        }
    }
}

fn variable(text: &str) -> Result<(String, String), VariableError> {
    parse_argument(text)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(*options),
        Command::Compile { component } => compile(&component),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hand-gesture-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compile(component: &Path) -> anyhow::Result<()> {
    println!("{}", host::engine::compile(component)?.display());
    Ok(())
}

fn serve(serve: Serve) -> anyhow::Result<()> {
    let manifest = Manifest::read(&serve.manifest)?;
    let mut options =
        Options::from_manifest(&manifest, &serve.variables, |name| std::env::var(name))
            .with_context(|| format!("cannot serve {}", serve.manifest.display()))?;
    options.listen = serve.listen;
    options.limits = serve.limits(options.limits);
    options.log = LogSink::stderr();
    if let Some(component) = serve.component {
        options.cache = host::options::cache_folder(&component);
        options.component = component;
    }
    if let Some(folder) = serve.state_dir {
        options.state_folder = Some(folder);
    }
    if serve.no_cache {
        options.cache = None;
    }
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
            () = server.stop() => {}
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

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        let name = ["hand-gesture-host"].iter();
        Cli::try_parse_from(name.chain(arguments)).map(|cli| cli.command)
    }

    #[test]
    fn serve_without_arguments_has_defaults() {
        let Ok(Command::Serve(serve)) = parse(&["serve"]) else {
            panic!("not understood");
        };
        assert_eq!(serve.manifest, PathBuf::from("spin.toml"));
        assert_eq!(serve.listen.to_string(), "127.0.0.1:3000");
        let default = Limits::default();
        let limits = serve.limits(default.clone());
        assert_eq!(limits.idle_timeout, default.idle_timeout);
        assert_eq!((limits.memory_per_instance, limits.request_timeout), (None, None));
        let limits = serve.limits(Limits { memory_per_instance: Some(1), ..default });
        assert_eq!(limits.memory_per_instance, Some(1), "the environment's");
    }

    #[test]
    fn serve_arguments_are_read() {
        let Ok(Command::Serve(serve)) = parse(&[
            "serve",
            "--listen=0.0.0.0:80",
            "--variable",
            "a=b",
            "--variable",
            "c=",
            "--idle-timeout",
            "0.5",
            "--max-instance-memory",
            "64MiB",
            "--request-timeout",
            "30",
        ]) else {
            panic!("not understood");
        };
        assert_eq!(serve.listen.port(), 80);
        assert_eq!(serve.variables.len(), 2);
        let limits = serve.limits(Limits { memory_per_instance: Some(1), ..Limits::default() });
        assert_eq!(limits.idle_timeout, Duration::from_millis(500));
        assert_eq!(limits.memory_per_instance, Some(64 << 20));
        assert_eq!(limits.request_timeout, Some(Duration::from_secs(30)));
    }

    #[test]
    fn mistaken_argument_is_named() {
        for (arguments, message) in [
            (&[][..], "Usage: hand-gesture-host <COMMAND>"),
            (&["sevre"], "sevre"),
            (&["serve", "--listn"], "--listn"),
            (&["serve", "--listen", "here"], "--listen"),
            (&["serve", "--variable", "a"], "name=value"),
            (&["serve", "--concurrency", "0"], "at least 1"),
            (&["serve", "--computing", "0"], "at least 1"),
            (&["serve", "--max-instance-memory", "0"], "at least 1 byte"),
            (&["compile"], "<COMPONENT>"),
            (&["compile", "a.wasm", "b.wasm"], "b.wasm"),
        ] {
            let Err(error) = parse(arguments) else {
                panic!("{arguments:?} was understood");
            };
            let error = error.to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
