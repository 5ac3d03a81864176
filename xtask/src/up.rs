//! `cargo xtask up`: builds the component and serves it.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use host::{LogSink, Manifest, Options, ResponseHook, Server};

use crate::build::Models;
use crate::traces::{Traces, sampled_trace};
use crate::versions::LEAST_SPIN;
use crate::{build, root};

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
    /// Serve with Spin instead of this project's development host
    #[arg(long)]
    spin: bool,
    /// Serve the component that was built before
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    models: Models,
}

/// Serves until Ctrl-C.
pub fn run(up: &Up) -> Result<()> {
    if up.spin {
        return with_spin(up);
    }
    if !up.no_build {
        build::run(&up.models)?;
    }
    let mut variables = up.variables.clone();
    let traces = Traces::start(&mut variables)?;
    let manifest = Manifest::read(&root().join("spin.toml"))?;
    let mut options = Options::from_manifest(&manifest, &variables, |name| std::env::var(name))?;
    options.listen = up.listen;
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
            stop = tokio::signal::ctrl_c() => return Ok(stop?),
        };
        println!(
            "\nServing {url} on this project's development host (in production: `spin build && spin \
             up`).\n{traces}\n\n    {curl}\n\nCtrl-C stops it.",
            url = server.url(),
            traces = traces.about(),
            curl = curl(&server.url()),
        );
        tokio::signal::ctrl_c().await?;
        println!("\nStopping");
        server.stop().await;
        Ok(())
    })
}

fn curl(url: &str) -> String {
    format!(
        "curl --header 'Content-Type: image/jpeg' --data-binary @tests/photos/v.jpg {url}/predict"
    )
}

/// Serves with Spin.
fn with_spin(up: &Up) -> Result<()> {
    let (major, minor) = LEAST_SPIN;
    let remedy = format!(
        "install Spin {major}.{minor} or newer (https://spinframework.dev/install), or leave out \
         --spin to serve on this project's development host"
    );
    let output = match Command::new("spin").arg("--version").output() {
        Ok(output) => output,
        Err(error) => bail!("cannot run spin ({error}): {remedy}"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = spin_version(&text).with_context(|| {
        format!("expected a version from `spin --version`, found {text:?}: {remedy}")
    })?;
    if version < LEAST_SPIN {
        bail!("Spin {}.{} is too old for WASI 0.3: {remedy}", version.0, version.1);
    }
    if !up.no_build {
        build::run(&up.models)?;
    }
    let mut variables = up.variables.clone();
    let traces = Traces::start(&mut variables)?;
    let mut spin = Command::new("spin");
    spin.args(["up", "--listen", &up.listen.to_string()]).current_dir(root());
    for (name, value) in &variables {
        spin.arg("--variable").arg(format!("{name}={value}"));
    }
    println!("\n{}\n\n    {}\n", traces.about(), curl(&format!("http://{}", up.listen)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, interrupted) = runtime.block_on(async {
        let mut spin = tokio::task::spawn_blocking(move || spin.status());
        let mut interrupted = false;
        loop {
            tokio::select! {
                status = &mut spin => return (status, interrupted),
                // A terminal's Ctrl-C reaches Spin too. Its last spans are still to come, so the
                // collector must outlive it.
                _ = tokio::signal::ctrl_c() => interrupted = true,
            }
        }
    });
    let status = status??;
    if status.success() || interrupted {
        return Ok(());
    }
    bail!("spin up ended with {status}")
}

/// Returns major and minor version from the output of `spin --version`: `spin 4.1.0 (…)`.
fn spin_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::spin_version;

    #[test]
    fn spin_version_is_parsed() {
        assert_eq!(spin_version("spin 4.1.0 (abc 2026-08-01)\n"), Some((4, 1)));
        assert_eq!(spin_version("spin 4.10.2-pre0"), Some((4, 10)));
        assert_eq!(spin_version("spin"), None);
        assert_eq!(spin_version("model checker"), None);
    }
}
