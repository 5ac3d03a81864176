//! The Helm charts, rendered.

use std::ffi::OsStr;
use std::process::Command;

use crate::{output, root, tool, versions};

/// Runs Helm in the repository's root.
///
/// # Errors
/// Everything that Helm wrote, if it fails.
pub fn helm<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<String, String> {
    output(Command::new(tool("helm")).args(arguments).current_dir(root()))
}

/// Renders the chart jaeger as the release `jaeger` in `tracing`, for the Jaeger under test.
///
/// # Panics
/// If the chart refuses the arguments.
pub fn render_jaeger(arguments: &[&str]) -> String {
    let version = format!("image.tag={}", versions::jaeger());
    let mut all = vec!["template", "jaeger", "infra/helm/jaeger", "--namespace", "tracing"];
    all.extend(["--set", &version]);
    all.extend(arguments);
    helm(all).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Renders the chart jaeger with the values of an example, or of a value file of the chart's own, and
/// further arguments.
///
/// # Panics
/// If the chart refuses them.
pub fn render_values(name: &str, arguments: &[&str]) -> String {
    let mut file = format!("infra/helm/jaeger/examples/{name}/values.yaml");
    if !root().join(&file).exists() {
        file = format!("infra/helm/jaeger/{name}.yaml");
    }
    render_jaeger(&[&["--values", &file], arguments].concat())
}

/// Returns the manifest of a kind and a name.
///
/// # Panics
/// If there is none.
pub fn manifest<'a>(rendered: &'a str, kind: &str, name: &str) -> &'a str {
    let (kind, name) = (format!("kind: {kind}\n"), format!("\n  name: {name}\n"));
    rendered
        .split("\n---\n")
        .find(|manifest| manifest.contains(&kind) && manifest.contains(&name))
        .unwrap_or_else(|| panic!("no {kind}{name} in {rendered}"))
}

/// Returns the text of a key of a ConfigMap.
///
/// # Panics
/// If there is none.
pub fn config(rendered: &str, name: &str, key: &str) -> String {
    let manifest = manifest(rendered, "ConfigMap", name);
    let (_, block) = manifest.split_once(&format!("\n  {key}: |\n")).expect("the key");
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect()
}
