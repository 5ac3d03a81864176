//! Commands that serve a component on hosts that others wrote: [`spin`], [`wasmtime`] and [`wasmcloud`].
//!
//! The last two know nothing of Spin: the component must be one of WASI alone, and its settings are
//! environment variables.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use url::Url;

use crate::variables::Values;

/// The collector's port for OTLP over HTTP. The default of `collector_allowed_host` allows no other one.
pub const OTLP_PORT: u16 = 4318;

/// Returns the environment variables that stand for Spin's variables: their names in capitals.
pub fn environment(variables: &Values) -> Values {
    variables.iter().map(|(name, value)| (name.to_uppercase(), value.clone())).collect()
}

/// Returns the command that serves a manifest's component with `spin up`. `program` is Spin's file.
///
/// Spin's databases and logs get into `state`, if there is one, instead of `.spin` beside the manifest.
pub fn spin(
    program: &Path,
    listen: SocketAddr,
    manifest: &Path,
    variables: &[(String, String)],
    state: Option<&Path>,
) -> Command {
    let mut spin = Command::new(program);
    spin.args(["up", "--listen", &listen.to_string(), "--from"]).arg(manifest);
    if let Some(state) = state {
        spin.arg("--state-dir").arg(state);
    }
    for (name, value) in variables {
        spin.arg("--variable").arg(format!("{name}={value}"));
    }
    spin
}

/// Returns the command that serves a component with `wasmtime serve`. `program` is wasmtime's file.
pub fn wasmtime(
    program: &Path,
    listen: SocketAddr,
    component: &Path,
    environment: &Values,
) -> Command {
    let mut wasmtime = Command::new(program);
    // The environment and standard error are part of wasi:cli, which `serve` leaves out by default.
    wasmtime.args(["serve", "-Scli", "--addr", &listen.to_string()]);
    for (name, value) in environment {
        wasmtime.arg("--env").arg(format!("{name}={value}"));
    }
    wasmtime.arg(component);
    wasmtime
}

/// Returns the command that serves a component with wasmCloud's `wash dev`. `program` is wash's file.
///
/// `wash dev` reads a project's configuration, which is written into `folder`.
///
/// # Errors
/// A folder that cannot be written.
pub fn wasmcloud(
    program: &Path,
    listen: SocketAddr,
    component: &Path,
    environment: &Values,
    folder: &Path,
) -> std::io::Result<Command> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut config = format!(
        "build:\n  command: 'true'\n  component_path: {}\ndev:\n  address: {}\nworkload:\n",
        quoted(&component.display().to_string()),
        quoted(&listen.to_string()),
    );
    config += "  environment:\n    config:\n";
    for (name, value) in environment {
        config += &format!("      {name}: {}\n", quoted(value));
    }
    // wasmCloud lets a component send nothing to its own machine but what this names.
    config += "  allowedHostLoopbackPorts:\n";
    for port in environment.iter().filter_map(|(name, value)| loopback_port(name, value)) {
        config += &format!("    - '{port}'\n");
    }
    std::fs::create_dir_all(folder.join(".wash"))?;
    std::fs::write(folder.join(".wash/config.yaml"), config)?;
    let mut wash = Command::new(program);
    wash.arg("--non-interactive").arg("-C").arg(folder).arg("dev");
    Ok(wash)
}

/// Returns the URL that the setting `jaeger_collector_host` stands for. An IPv6 address gets its brackets.
pub fn collector_url(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("http://[{address}]:{OTLP_PORT}"),
        Err(_) => format!("http://{host}:{OTLP_PORT}"),
    }
}

/// Returns the port if a setting is a URL of this machine, or names it as the collector's host.
fn loopback_port(name: &str, value: &str) -> Option<u16> {
    let url = match name {
        "JAEGER_COLLECTOR_HOST" => collector_url(value),
        _ => value.to_owned(),
    };
    let url = Url::parse(&url).ok()?;
    let local = ["127.0.0.1", "localhost", "[::1]"].contains(&url.host_str()?);
    url.port_or_known_default().filter(|_| local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_this_machine_are_found() {
        for (value, port) in [
            ("http://127.0.0.1:4318", Some(4318)),
            ("http://localhost:4318/v1/traces", Some(4318)),
            ("https://[::1]", Some(443)),
            ("http://collector:4318", None),
            ("parentbased_always_on", None),
            ("localhost", None),
            ("0.5", None),
        ] {
            assert_eq!(loopback_port("NAME", value), port, "{value}");
        }
        for (value, port) in
            [("localhost", Some(4318)), ("::1", Some(4318)), ("jaeger", None), ("10.0.0.1", None)]
        {
            assert_eq!(loopback_port("JAEGER_COLLECTOR_HOST", value), port, "{value}");
        }
    }
}
