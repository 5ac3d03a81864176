//! `cargo xtask up`: builds the component and serves it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use host::{LogSink, Manifest, Options, ResponseHook, Server, others};

use crate::build::{Models, World};
use crate::traces::{Traces, sampled_trace};
use crate::{build, root, spin, target, tools};

/// Arguments of `cargo xtask up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Set an application variable; repeatable. Others come from SPIN_VARIABLE_NAME or spin.toml
    #[arg(
        long = "variable",
        value_name = "NAME=VALUE",
        value_parser = host::variables::parse_argument
    )]
    variables: Vec<(String, String)>,
    /// The host to serve with: this project's development host, or one that is installed
    #[arg(long, value_name = "HOST", default_value = "host")]
    host: With,
    /// The component's world [default: spin; for wasmtime and wasmcloud wasi]
    #[arg(long, value_name = "WORLD")]
    world: Option<World>,
    /// Serve the component that was built before
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    models: Models,
}

/// A host to serve with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    /// This project's development host
    Host,
    /// `spin up`
    Spin,
    /// `wasmtime serve`
    Wasmtime,
    /// `wash dev`
    Wasmcloud,
}

impl Up {
    fn world(&self) -> World {
        self.world.unwrap_or(match self.host {
            With::Host | With::Spin => World::Spin,
            With::Wasmtime | With::Wasmcloud => World::Wasi,
        })
    }
}

/// Serves until Ctrl-C.
pub fn run(up: &Up) -> Result<()> {
    match up.host {
        With::Host => with_host(up),
        With::Spin => with_spin(up),
        With::Wasmtime | With::Wasmcloud => without_spin(up),
    }
}

/// Builds the component, unless the one that was built before is to be served.
fn build(up: &Up) -> Result<()> {
    if up.no_build {
        return Ok(());
    }
    build::run(&[up.world()], &up.models, true)
}

/// Lets the page link to the UI that shows the traces, unless the variables say where it is.
fn link_to_jaeger(traces: &Traces, variables: &mut Vec<(String, String)>) {
    const NAME: &str = "jaeger_ui_url";
    let is_set = variables.iter().any(|(name, _)| name == NAME)
        || std::env::var_os("SPIN_VARIABLE_JAEGER_UI_URL").is_some();
    if let (false, Some(ui)) = (is_set, traces.ui()) {
        variables.push((NAME.into(), ui));
    }
}

/// Serves with the development host.
fn with_host(up: &Up) -> Result<()> {
    build(up)?;
    let mut variables = up.variables.clone();
    let traces = Traces::start(&mut variables)?;
    link_to_jaeger(&traces, &mut variables);
    let manifest = Manifest::read(&up.world().manifest())?;
    let mut options = Options::from_manifest(&manifest, &variables, |name| std::env::var(name))?;
    options.listen = up.listen;
    options.component = up.world().component();
    if up.world() == World::Wasi {
        options.environment = others::environment(&options.variables);
    }
    options.log = LogSink::stderr();
    options.on_response = traces.ui().map(|ui| {
        ResponseHook::new(move |head| {
            let header = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
            if let Some(trace) = header.and_then(sampled_trace) {
                println!("{}  {ui}/trace/{trace}", head.status.as_u16());
            }
        })
    });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("Compiling the component to machine code (seconds the first time, then cached)");
        let server = tokio::select! {
            server = Server::start(options) => server?,
            stop = stopping() => return Ok(stop.map(drop)?),
        };
        println!(
            "\nServing {url} on this project's development host (in production: `spin build && spin \
             up`).\nA browser gets a page there, to try a photo or a camera.\n{traces}\n\n    \
             {curl}\n\nCtrl-C stops it.",
            url = server.url(),
            traces = traces.about(),
            curl = curl(&server.url()),
        );
        stopping().await?;
        println!("\nStopping");
        server.stop().await;
        Ok(())
    })
}

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// Ctrl-C, which reaches all processes of the terminal.
    Interrupt,
    /// The signal that `kill` sends, to this process alone.
    #[cfg_attr(not(unix), allow(dead_code, reason = "Unix has it"))]
    Terminate,
}

/// Waits for a request to end: the host or the Jaeger that was started here has to end with this program.
async fn stopping() -> std::io::Result<Signal> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            stop = tokio::signal::ctrl_c() => stop.map(|()| Signal::Interrupt),
            _ = terminate.recv() => Ok(Signal::Terminate),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map(|()| Signal::Interrupt)
}

fn curl(url: &str) -> String {
    format!(
        "curl --header 'Content-Type: image/jpeg' --data-binary @tests/photos/v.jpg {url}/predict"
    )
}

/// Serves with Spin.
fn with_spin(up: &Up) -> Result<()> {
    let Some(least) = spin::least(up.world()) else {
        bail!("Spin serves the worlds spin and spin-p2: leave out --world, or name one")
    };
    if let Some(reason) = spin::lacking(least) {
        bail!("{reason}, or leave out --host to serve on this project's development host");
    }
    build(up)?;
    let mut variables = up.variables.clone();
    let traces = Traces::start(&mut variables)?;
    link_to_jaeger(&traces, &mut variables);
    let manifest = up.world().manifest();
    let mut spin = others::spin(Path::new(spin::PROGRAM), up.listen, &manifest, &variables, None);
    spin.current_dir(root());
    serve(up, spin, &traces)
}

/// Serves with a host that knows nothing of Spin: settings are environment variables.
fn without_spin(up: &Up) -> Result<()> {
    if up.world() != World::Wasi {
        bail!("only a component of the world wasi runs without Spin: leave out --world");
    }
    let program = tools::host_program(match up.host {
        With::Wasmcloud => "wash",
        _ => "wasmtime",
    })?;
    build(up)?;
    let mut variables = up.variables.clone();
    let traces = Traces::start(&mut variables)?;
    link_to_jaeger(&traces, &mut variables);
    let environment = others::environment(&variables.into_iter().collect());
    let component = up.world().component();
    let command = match up.host {
        With::Wasmcloud => {
            let folder = target().join("wasmcloud");
            others::wasmcloud(&program, up.listen, &component, &environment, &folder)?
        }
        _ => others::wasmtime(&program, up.listen, &component, &environment),
    };
    serve(up, command, &traces)
}

/// Runs another host until it ends.
fn serve(up: &Up, mut host: Command, traces: &Traces) -> Result<()> {
    println!("\n{}\n\n    {}\n", traces.about(), curl(&format!("http://{}", up.listen)));
    let name = host.get_program().display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, interrupted) = runtime.block_on(async {
        let mut host = host.spawn().with_context(|| format!("cannot run {name}"))?;
        let id = host.id();
        let mut host = tokio::task::spawn_blocking(move || host.wait());
        let mut interrupted = false;
        loop {
            tokio::select! {
                status = &mut host => return anyhow::Ok((status??, interrupted)),
                // Its last spans are still to come, so the collector must outlive it.
                signal = stopping() => {
                    interrupted = true;
                    if signal? == Signal::Terminate {
                        terminate(id);
                    }
                }
            }
        }
    })?;
    if status.success() || interrupted {
        return Ok(());
    }
    bail!("{name} ended with {status}")
}

/// Asks a process to end, which a terminal's Ctrl-C does by itself and `kill` does not.
fn terminate(id: u32) {
    // Without the program `kill`, the host is left running, as it would be without this.
    _ = Command::new("kill").args(["-s", "TERM", &id.to_string()]).status();
}
