//! What the tests of `infra/` share: the tools in `target/tools`, and rendered charts.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub mod jaeger;
pub mod older_clients;
pub mod process;
pub mod servers;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// A tool that `cargo xtask tools` has built. The variable JAEGER names another Jaeger, with its own
/// index cleaner and rollover beside it.
pub fn tool(name: &str) -> PathBuf {
    let of_jaeger = ["jaeger", "es-index-cleaner", "es-rollover"].contains(&name);
    if let (true, Some(path)) = (of_jaeger, std::env::var_os("JAEGER")) {
        return Path::new(&path).with_file_name(name);
    }
    let path = root().join("target/tools").join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask tools`", path.display());
    path
}

/// The Jaeger that the tests run, as `image.tag` names it.
pub fn jaeger_version() -> String {
    std::env::var("JAEGER_VERSION").unwrap_or_else(|_| "2.13.0".into())
}

/// Whether the Jaeger that is tested writes again what Elasticsearch or OpenSearch did not take.
/// 2.20 does not; infra/README.md says so.
pub fn jaeger_writes_again() -> bool {
    jaeger_version() == "2.13.0"
}

/// A command's standard output; an error is everything that it wrote.
pub fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() { Ok(stdout) } else { Err(stdout + &String::from_utf8_lossy(&stderr)) }
}

/// Runs Helm in the repository's root.
pub fn helm<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, String> {
    output(Command::new(tool("helm")).args(arguments).current_dir(root()))
}

/// Renders the chart jaeger as the release `jaeger` in `tracing`, for the Jaeger that is tested.
pub fn render_jaeger(arguments: &[&str]) -> String {
    let version = format!("image.tag={}", jaeger_version());
    let mut all = vec!["template", "jaeger", "infra/helm/jaeger", "--namespace", "tracing"];
    all.extend(["--set", &version]);
    all.extend(arguments);
    helm(all).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// The chart jaeger as a value file has it: the example of this name, or a file of the chart's own;
/// with further arguments.
pub fn render_values(name: &str, arguments: &[&str]) -> String {
    let mut file = format!("infra/helm/jaeger/examples/{name}/values.yaml");
    if !root().join(&file).exists() {
        file = format!("infra/helm/jaeger/{name}.yaml");
    }
    render_jaeger(&[&["--values", &file], arguments].concat())
}

/// The manifest of a kind and a name.
pub fn manifest<'a>(rendered: &'a str, kind: &str, name: &str) -> &'a str {
    let (kind, name) = (format!("kind: {kind}\n"), format!("\n  name: {name}\n"));
    rendered
        .split("\n---\n")
        .find(|manifest| manifest.contains(&kind) && manifest.contains(&name))
        .unwrap_or_else(|| panic!("no {kind}{name} in {rendered}"))
}

/// The text of a ConfigMap's key.
pub fn config(rendered: &str, name: &str, key: &str) -> String {
    let manifest = manifest(rendered, "ConfigMap", name);
    let (_, block) = manifest.split_once(&format!("\n  {key}: |\n")).expect("the key");
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect()
}
