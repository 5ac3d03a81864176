//! Shared parts of the tests of the component and of `infra/`. For development only.
//!
//! | module | provides |
//! |---|---|
//! | [`process`] | servers in processes of their own, free ports, waiting |
//! | [`http`] | requests to any server |
//! | [`raw`] | requests over a plain socket |
//! | [`hostile`] | mutated photos, forms and headers, and the answers to them |
//! | [`expected`] | comparison with files in git, which `UPDATE_EXPECTED=1` rewrites |
//! | [`service`] | the component under the development host |
//! | [`traces`] | the component with a collector beside it, traces as text |
//! | [`browser`] | a headless Chromium |
//! | [`animation`] | an animated PNG of screenshots |
//! | [`loopback`] | the threads of the two servers below |
//! | [`bad_collector`] | a collector that misbehaves |
//! | [`photo_server`] | a server of photos, which may misbehave |
//! | [`charts`] | the Helm charts, rendered |
//! | [`jaeger`] | Jaeger with a configuration, spans for it, searches |
//! | [`servers`] | storage servers and a reverse proxy |
//! | [`prometheus`] | Prometheus, which reads metrics and answers queries |
//! | [`older_clients`] | spans as older clients of Jaeger and Zipkin send them |
//! | [`versions`] | the versions of Jaeger |

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub mod animation;
pub mod bad_collector;
pub mod browser;
pub mod charts;
pub mod expected;
pub mod hostile;
pub mod http;
pub mod jaeger;
pub mod loopback;
pub mod older_clients;
pub mod photo_server;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod servers;
pub mod service;
pub mod traces;
pub mod versions;

/// Returns the repository's root.
pub fn root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("crates/test-support lies in the repository")
}

/// Returns the folder of what is built; finished components lie where manifests name them.
pub fn target() -> PathBuf {
    host::target(root())
}

/// Returns an empty folder for one test, `target/tmp/NAME`.
pub fn folder(name: &str) -> PathBuf {
    let folder = target().join("tmp").join(name);
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Returns the path of a tool that `cargo xtask tools` builds. The variable `JAEGER` names another
/// Jaeger, with its own index cleaner and rollover in the same folder.
///
/// # Panics
/// If the tool is missing.
pub fn tool(name: &str) -> PathBuf {
    let of_jaeger = ["jaeger", "es-index-cleaner", "es-rollover"].contains(&name);
    if let (true, Some(path)) = (of_jaeger, std::env::var_os("JAEGER")) {
        return Path::new(&path).with_file_name(name);
    }
    let path = target().join("tools").join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask tools {name}`", path.display());
    path
}

/// Returns a command for the Terraform module. The variable `TERRAFORM` names the program, such as `tofu`.
pub fn terraform() -> Command {
    Command::new(std::env::var_os("TERRAFORM").unwrap_or_else(|| "terraform".into()))
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// Everything that the command wrote, if it fails.
///
/// # Panics
/// If the command cannot be started.
pub fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() { Ok(stdout) } else { Err(stdout + &String::from_utf8_lossy(&stderr)) }
}
