//! The Helm charts, rendered.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

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

/// Renders a chart with values that a test gives instead of a file. `name` names its folder.
///
/// # Errors
/// Helm's message, if the chart refuses the values.
///
/// # Panics
/// If the values cannot be written.
pub fn render(name: &str, chart: &str, release: &str, values: &Value) -> Result<String, String> {
    let file = crate::folder(name).join("values.json");
    std::fs::write(&file, values.to_string()).expect("written");
    let (chart, file) = (format!("infra/helm/{chart}"), file.display().to_string());
    helm(["template", release, &chart, "--namespace", "tracing", "--values", &file])
}

/// Returns the documents of a YAML text as JSON. Helm reads it, as it reads values.
///
/// # Panics
/// If a document is no YAML.
pub fn documents(name: &str, yaml: &str) -> Vec<Value> {
    let chart = crate::folder(name);
    let write = |file: &str, text: &str| {
        std::fs::write(chart.join(file), text).expect("written");
    };
    std::fs::create_dir(chart.join("templates")).expect("a folder");
    write("Chart.yaml", "{apiVersion: v2, name: documents, version: 0.0.0}");
    write("documents.yaml", yaml);
    // Notes, because Helm sorts and checks whatever else it renders.
    write(
        "templates/NOTES.txt",
        concat!(
            r#"{{ range regexSplit "(?m)^---$" (.Files.Get "documents.yaml") -1 }}"#,
            "{{ with fromYaml . }}{{ toJson . }}\n{{ end }}{{ end }}"
        ),
    );
    let text = helm(["install", "documents", &chart.display().to_string(), "--dry-run=client"]);
    let text = text.unwrap_or_else(|error| panic!("{error}"));
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let documents: Vec<Value> =
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for document in &documents {
        assert!(document.get("Error").is_none(), "{document}");
    }
    documents
}

/// Lets Jaeger judge each role's configuration in a rendered chart, and returns their number.
///
/// # Panics
/// If Jaeger rejects one.
pub fn validate(rendered: &str, folder: &Path) -> usize {
    let mut seen = 0;
    for role in ["collector", "query", "ingester", "agent"] {
        let name = format!("jaeger-{role}");
        if !rendered.contains(&format!("service.name: {name}\n")) {
            continue;
        }
        let text = config(rendered, &name, "config.yaml");
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, &text).expect("written");
        let mut command = Command::new(tool("jaeger"));
        command.args(["validate", "--config"]).arg(&file);
        // Secrets, and what a node of AWS provides.
        let secrets = text.split("${env:").skip(1).filter_map(|rest| rest.split('}').next());
        for variable in secrets.chain(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]) {
            command.env(variable, "x");
        }
        output(&mut command).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        seen += 1;
    }
    seen
}

/// Returns the manifest of a kind and a name.
///
/// # Panics
/// If there is none.
pub fn manifest<'a>(rendered: &'a str, kind: &str, name: &str) -> &'a str {
    let (kind, name) = (format!("kind: {kind}\n"), format!("\n  name: {name:?}\n"));
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
