//! The settings in the manifest, the chart and the documentation.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::generated::{Generated, between, read, wrap};

const SPIN: &str = "spin.toml";
const SPIN_P2: &str = "spin-p2.toml";
const VALUES: &str = "infra/helm/hand-gesture-api/values.yaml";
const SCHEMA: &str = "infra/helm/hand-gesture-api/values.schema.json";
const DOCUMENTATION: &str = "docs/configuration.md";

/// The note that stands at the start of a generated part.
const NOTE: &str = "Written by `cargo xtask generate` from src/settings.rs and \
                    crates/telemetry/src/settings.rs.";

/// The settings that most operators need, first in the documentation.
const FIRST: [&str; 6] = [
    "otel_exporter_otlp_endpoint",
    "collector_allowed_host",
    "otel_exporter_otlp_headers",
    "otel_traces_sampler",
    "low_confidence_threshold",
    "cors_allowed_origins",
];

/// The chart's own knowledge of a setting: a default that differs from the service's, with its reason.
struct InChart {
    name: &'static str,
    default: &'static str,
    reason: &'static str,
}

const IN_CHART: [InChart; 5] = [
    InChart {
        name: "jaeger_collector_host",
        default: "jaeger-collector.tracing.svc.cluster.local",
        reason: "The default is the chart jaeger's collector, released as jaeger in tracing.",
    },
    InChart {
        name: "collector_allowed_host",
        default: "\"\"",
        reason: "Empty: scheme, host and port of the endpoint.",
    },
    InChart { name: "otel_service_name", default: "hand-gesture-api", reason: "" },
    InChart {
        name: "trace_excluded_routes",
        default: "/health",
        reason: "Kubernetes' probes call /health all the time.",
    },
    InChart {
        name: "max_body_bytes",
        default: "10485760",
        reason: "The ingress lets bodies of this size through.",
    },
];

/// The part of the description that stands here.
#[derive(Deserialize)]
struct Description {
    settings: Vec<Setting>,
}

/// A setting, as the example `describe` prints it.
#[derive(Deserialize)]
struct Setting {
    name: String,
    kind: String,
    group: String,
    help: String,
    secret: bool,
    /// The value that the manifest declares.
    declared: String,
    /// The default as it would be written.
    default: Option<String>,
    /// The effect of leaving it unset, in words.
    unset: String,
    unit: String,
    /// Lowest and highest value.
    range: Option<[f64; 2]>,
    choices: Option<Vec<String>>,
    /// The setting for all signals, over which this one for traces takes precedence.
    overrides: Option<String>,
    /// The setting that replaced this old name.
    replaced_by: Option<String>,
}

/// Returns the files that list settings.
pub fn generate(description: &str) -> Result<Vec<Generated>> {
    let Description { settings } =
        serde_json::from_str(description).context("cannot parse the output of `describe`")?;
    let spin = manifest(&read(SPIN)?, &settings).context(SPIN)?;
    Ok(vec![
        Generated { path: SPIN_P2, text: manifest_p2(&spin).context(SPIN_P2)? },
        Generated { path: SPIN, text: spin },
        Generated { path: VALUES, text: values(&read(VALUES)?, &settings).context(VALUES)? },
        Generated { path: SCHEMA, text: schema(&read(SCHEMA)?, &settings).context(SCHEMA)? },
        Generated { path: DOCUMENTATION, text: documentation(&settings)? },
    ])
}

/// Returns the manifest of the component for WASI 0.2, which differs from the other one by a few lines.
fn manifest_p2(spin: &str) -> Result<String> {
    let mut text = spin.to_owned();
    for (old, new) in [
        (
            "# Needs Spin 4.1 or newer: the component speaks WASI 0.3.0. `spin build && spin up`, or without\n\
             # Spin `cargo xtask up`.\n",
            "# For Spin 2.6 and newer, and SpinKube: the component speaks WASI 0.2. `spin build -f spin-p2.toml\n\
             # && spin up -f spin-p2.toml`, or without Spin `cargo xtask up --world spin-p2`. Written by `cargo\n\
             # xtask generate` from spin.toml.\n",
        ),
        ("target/hand-gesture-api.wasm", "target/hand-gesture-api-p2.wasm"),
        ("\"cargo xtask build\"", "\"cargo xtask build --world spin-p2\""),
    ] {
        anyhow::ensure!(text.contains(old), "{old:?} is missing in {SPIN}");
        text = text.replace(old, new);
    }
    Ok(text)
}

/// The settings by group, in their order.
fn groups<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> Vec<(&'a str, Vec<&'a Setting>)> {
    let mut groups: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in settings {
        match groups.iter_mut().find(|(name, _)| *name == setting.group) {
            Some((_, group)) => group.push(setting),
            None => groups.push((&setting.group, vec![setting])),
        }
    }
    groups
}

impl Setting {
    /// The name in the chart's values: `otel_service_name` is `otelServiceName`.
    fn camel_case(&self) -> String {
        let mut parts = self.name.split('_');
        let mut name = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (first, rest) = part.split_at(part.len().min(1));
            name += &first.to_uppercase();
            name += rest;
        }
        name
    }

    fn in_chart(&self) -> Option<&'static InChart> {
        IN_CHART.iter().find(|setting| setting.name == self.name)
    }

    /// Help and relation to other settings, in Markdown.
    fn about(&self) -> String {
        let mut about = self.help.clone();
        if let Some(name) = &self.overrides {
            about += &format!(" Takes precedence over `{name}`.");
        }
        if let Some(name) = &self.replaced_by {
            about += &format!(" Set `{name}` instead.");
        }
        about.trim().to_owned()
    }

    /// Help without Markdown, for comments and schemas.
    fn plain(&self) -> String {
        self.about().replace('`', "")
    }

    /// The default, in Markdown.
    fn default_text(&self) -> String {
        match (&self.default, self.declared.as_str()) {
            _ if self.replaced_by.is_some() => String::new(),
            (_, declared) if !declared.is_empty() => format!("`{declared}`"),
            (Some(default), _) => format!("`{default}`"),
            (None, _) if self.unset.is_empty() => "none".into(),
            (None, _) => self.unset.clone(),
        }
    }

    /// The values that it accepts, in Markdown.
    fn values_text(&self) -> String {
        let words = |words: &[String]| {
            words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
        };
        let choices = self.choices.as_deref().unwrap_or_default();
        match (self.kind.as_str(), self.range) {
            _ if self.replaced_by.is_some() => String::new(),
            ("boolean", _) => "`true`, `false`".into(),
            ("number" | "integer", Some([min, max])) => {
                format!("{min} to {max} {}", self.unit).trim().to_owned()
            }
            ("choice", _) => words(choices),
            ("choices", _) => format!("comma-separated: {}", words(choices)),
            ("url", _) => "URL".into(),
            ("host", _) => "host name or address".into(),
            ("origin", _) => "`scheme://host:port`".into(),
            ("place", _) => "`scheme://host`, `scheme://host:port`".into(),
            ("header", _) => "header name".into(),
            ("list", _) => "comma-separated list".into(),
            ("pairs", _) => "`key=value,key=value`, values percent-encoded".into(),
            (other, _) => other.to_owned(),
        }
    }
}

/// Appends a comment, wrapped, and indented by some spaces.
fn comment(text: &mut String, indent: usize, about: &str) {
    for line in wrap(about, 98 - indent) {
        _ = writeln!(text, "{:indent$}# {line}", "");
    }
}

/// The manifest with both tables of variables.
fn manifest(text: &str, settings: &[Setting]) -> Result<String> {
    let mut declared = String::new();
    comment(&mut declared, 0, NOTE);
    for (group, settings) in groups(settings) {
        _ = writeln!(declared, "\n# --- {group}");
        for setting in settings {
            comment(&mut declared, 0, &setting.plain());
            let Setting { name, declared: value, secret, .. } = setting;
            let secret = if *secret { ", secret = true" } else { "" };
            _ = writeln!(declared, "{name} = {{ default = {}{secret} }}", json!(value));
        }
    }
    let mut passed_on = String::new();
    comment(&mut passed_on, 0, NOTE);
    for Setting { name, .. } in settings {
        _ = writeln!(passed_on, "{name} = \"{{{{ {name} }}}}\"");
    }
    let text = between(text, "\n[variables]\n", "\n[[trigger.http]]\n", &declared)?;
    between(
        &text,
        "\n[component.hand-gesture-api.variables]\n",
        "\n[component.hand-gesture-api.build]\n",
        &passed_on,
    )
}

/// The chart's values. Secret settings are missing: the chart reads them from a Secret.
fn values(text: &str, settings: &[Setting]) -> Result<String> {
    let mut block = String::new();
    let shown: Vec<&Setting> = settings.iter().filter(|setting| !setting.secret).collect();
    for (group, settings) in groups(shown) {
        _ = writeln!(block, "\n  # --- {group}");
        for setting in settings {
            let (default, reason) = setting
                .in_chart()
                .map_or(("\"\"", ""), |setting| (setting.default, setting.reason));
            comment(&mut block, 2, &format!("{} {reason}", setting.plain()));
            _ = writeln!(block, "  {}: {default}", setting.camel_case());
        }
    }
    let start = "\nsettings:\n";
    let (before, rest) = text.split_once(start).context("settings: is missing")?;
    // The block ends where the indentation does.
    let inside = |line: &str| line.trim().is_empty() || line.starts_with(' ');
    let length: usize =
        rest.split_inclusive('\n').take_while(|line| inside(line)).map(str::len).sum();
    let mut header = String::new();
    comment(&mut header, 2, NOTE);
    Ok(format!("{before}{start}{header}{block}\n{}", rest[length..].trim_start()))
}

/// The schema of the chart's values.
fn schema(text: &str, settings: &[Setting]) -> Result<String> {
    let mut schema: Value = serde_json::from_str(text)?;
    let properties: Map<String, Value> =
        settings.iter().map(|setting| (setting.camel_case(), property(setting))).collect();
    *schema.pointer_mut("/properties/settings/properties").context("no settings")? =
        properties.into();
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// A setting in the schema. Every setting may be empty, and Helm passes some values as text that look
/// like numbers: `--set` gives a fraction as a string.
fn property(setting: &Setting) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let mut property = match setting.kind.as_str() {
        // The chart needs the number itself, for the ingress.
        "number" | "integer" if setting.name == "max_body_bytes" => {
            let [_, max] = setting.range.unwrap_or_default();
            json!({"type": "integer", "minimum": 1, "maximum": max as u64})
        }
        "boolean" => json!({"enum": ["", "true", "false", true, false]}),
        "number" | "integer" => {
            let [min, max] = setting.range.unwrap_or_default().map(number);
            json!({"type": ["string", "number"], "minimum": min, "maximum": max})
        }
        "choice" => {
            let choices = setting.choices.iter().flatten().map(String::as_str);
            let choices: Vec<&str> = [""].into_iter().chain(choices).collect();
            json!({"type": "string", "enum": choices})
        }
        // A scheme is not case-sensitive (RFC 3986). An IPv6 address may lack its brackets.
        "url" => text("^([Hh][Tt][Tt][Pp][Ss]?://.+)?$"),
        "host" => text(concat!(
            "^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?",
            "|\\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\\]?|\\$\\([A-Za-z_][A-Za-z0-9_]*\\))?$"
        )),
        "origin" => text("^([Hh][Tt][Tt][Pp][Ss]?://[^/]+:[0-9]+)?$"),
        "place" => text("^([Hh][Tt][Tt][Pp][Ss]?://[^/@,]+)?$"),
        _ => json!({"type": ["string", "number", "boolean"]}),
    };
    property["description"] = setting.plain().into();
    property
}

/// A number without a fraction where it has none.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
}

/// The documentation of all settings.
fn documentation(settings: &[Setting]) -> Result<String> {
    let mut text = format!(
        "<!-- {NOTE} -->\n\n\
         # Configuration\n\n\
         Each setting is a Spin variable, or an environment variable of the component:\n\n\
         | form | example |\n|---|---|\n\
         | option of `spin up` and `cargo xtask up` | `--variable otel_service_name=letters` |\n\
         | environment variable of the host | `SPIN_VARIABLE_OTEL_SERVICE_NAME=letters` |\n\
         | environment variable of the component: `environment` in `spin.toml` | \
         `OTEL_SERVICE_NAME=letters` |\n\
         | value of the [chart](../infra/helm/hand-gesture-api/README.md) | \
         `settings.otelServiceName=letters` |\n\n\
         The Spin variable takes precedence over the component's environment variable. An empty value \
         counts as unset. An invalid value is reported in the log, once for each instance, and the \
         default is used. Settings are read when an instance gets its first request.\n\n\
         ## The six that matter first\n\n"
    );
    let mut first = Vec::new();
    for name in FIRST {
        let setting = settings.iter().find(|setting| setting.name == name);
        first.push(setting.with_context(|| format!("there is no setting {name}"))?);
    }
    table(&mut text, &first);
    for (group, settings) in groups(settings) {
        _ = write!(text, "\n## {group}\n\n");
        table(&mut text, &settings);
    }
    Ok(text)
}

fn table(text: &mut String, settings: &[&Setting]) {
    text.push_str("| variable | default | values | |\n|---|---|---|---|\n");
    for setting in settings {
        let secret = if setting.secret { " Secret." } else { "" };
        _ = writeln!(
            text,
            "| `{}` | {} | {} | {}{secret} |",
            setting.name,
            setting.default_text(),
            setting.values_text(),
            setting.about()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Vec<Setting> {
        let description = json!({"settings": [
            {"name": "one_two", "kind": "number", "group": "First", "help": "A `number`.",
             "secret": false, "declared": "", "default": "0.5", "unset": "", "unit": "ms",
             "range": [0.0, 1.0], "choices": null, "overrides": null, "replaced_by": null},
            {"name": "three", "kind": "pairs", "group": "Second", "help": "Hidden.",
             "secret": true, "declared": "a", "default": null, "unset": "", "unit": "",
             "range": null, "choices": null, "overrides": "one_two", "replaced_by": null},
        ], "formats": []});
        let description: Description = serde_json::from_value(description).expect("settings");
        description.settings
    }

    #[test]
    fn manifest_gets_both_tables() {
        let text = "a\n\n[variables]\nold = 1\n\n[[trigger.http]]\nb\n\n\
                    [component.hand-gesture-api.variables]\nold = 2\n\n\
                    [component.hand-gesture-api.build]\nc\n";
        let text = manifest(text, &settings()).expect("all tables");
        assert!(
            text.contains("\n# --- First\n# A number.\none_two = { default = \"\" }\n"),
            "{text}"
        );
        assert!(
            text.contains("\nthree = { default = \"a\", secret = true }\n\n[[trigger"),
            "{text}"
        );
        assert!(text.contains("\none_two = \"{{ one_two }}\"\nthree = \"{{ three }}\"\n\n[comp"));
        assert!(!text.contains("old"), "{text}");
        assert_eq!(manifest(&text, &settings()).expect("all tables"), text, "twice is once");
    }

    #[test]
    fn values_get_the_block_of_settings_without_secrets() {
        let text = "a: 1\nsettings:\n  old: 1\n\n  # old\n  older: 2\n# next\nb: 2\n";
        let text = values(text, &settings()).expect("a block");
        assert!(text.starts_with("a: 1\nsettings:\n  # Written by"), "{text}");
        assert!(text.contains("\n  # --- First\n  # A number.\n  oneTwo: \"\"\n"), "{text}");
        assert!(text.ends_with("\n\n# next\nb: 2\n"), "{text}");
        assert!(!text.contains("old") && !text.contains("three"), "{text}");
        assert_eq!(values(&text, &settings()).expect("a block"), text, "twice is once");
    }

    #[test]
    fn schema_limits_numbers() {
        let text = r#"{"properties": {"settings": {"properties": {"old": {}}}}}"#;
        let schema: Value =
            serde_json::from_str(&schema(text, &settings()).expect("a schema")).expect("JSON");
        let properties = &schema["properties"]["settings"]["properties"];
        assert_eq!(properties.as_object().expect("an object").len(), 2);
        assert_eq!(properties["oneTwo"]["maximum"], 1);
        assert_eq!(properties["oneTwo"]["description"], "A number.");
    }

    #[test]
    fn documentation_names_default_values_and_relation() {
        let mut text = String::new();
        let settings = settings();
        table(&mut text, &settings.iter().collect::<Vec<_>>());
        assert!(text.contains("| `one_two` | `0.5` | 0 to 1 ms | A `number`. |\n"), "{text}");
        let last = "| `three` | `a` | `key=value,key=value`, values percent-encoded | Hidden. Takes \
                    precedence over `one_two`. Secret. |\n";
        assert!(text.ends_with(last), "{text}");
    }
}
