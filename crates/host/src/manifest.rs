//! The parts of Spin's manifest (`spin.toml`, version 2) that this project's has.
//!
//! One HTTP trigger with the route `/...`, one component, variables with defaults. Settings that only
//! other commands act on (`build`, descriptions) are ignored. What else Spin knows, such as `files` or
//! required variables, is refused by name, and so is what Spin does not know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::variables::{Values, validate_name};

/// A manifest that this host can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The folder that the manifest lies in.
    pub folder: PathBuf,
    /// The application variables and their defaults.
    pub variables: Values,
    /// The component that the HTTP trigger names.
    pub component: Component,
}

/// The component of a manifest. Its templates are not filled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The component's file; a relative path counts from the manifest's folder.
    pub source: PathBuf,
    /// The entries of `allowed_outbound_hosts`, templates.
    pub allowed_outbound_hosts: Vec<String>,
    /// All environment variables that the component sees.
    pub environment: BTreeMap<String, String>,
    /// The SQLite databases that the component may use.
    pub sqlite_databases: Vec<String>,
    /// The component's variables: templates over the application's.
    pub variables: Values,
}

/// An error in a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read the manifest {}", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The text is not a Spin manifest of version 2.
    #[error("the manifest is not valid: {0}")]
    Syntax(toml::de::Error),
    /// A setting that Spin supports and this host does not.
    #[error("this host does not support {setting}: {reason}")]
    Unsupported {
        /// The setting.
        setting: String,
        /// The supported value, or the remedy.
        reason: &'static str,
    },
    /// A setting that Spin refuses as well.
    #[error("{setting} is not valid: {reason}")]
    Invalid {
        /// The setting.
        setting: String,
        /// The reason.
        reason: String,
    },
}

/// Settings of a component that change nothing here.
const IGNORED: [&str; 7] = [
    "build",
    "dependencies_inherit_configuration",
    "description",
    "exclude_files",
    "profile",
    "targets",
    "tool",
];

/// Settings of a component that this host does not support.
const UNSUPPORTED: [&str; 5] =
    ["ai_models", "allowed_http_hosts", "dependencies", "files", "key_value_stores"];

impl Manifest {
    /// Reads a manifest from a file.
    ///
    /// # Errors
    ///
    /// Every [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses a manifest that lies in `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, ManifestError> {
        // The version first: a manifest of another version has other keys, and an error about those
        // would mislead.
        let version: RawVersion = toml::from_str(text).map_err(ManifestError::Syntax)?;
        if version.spin_manifest_version != Some(toml::Value::Integer(2)) {
            return Err(unsupported(
                "this spin_manifest_version",
                "only `spin_manifest_version = 2`",
            ));
        }
        let mut raw: RawManifest = toml::from_str(text).map_err(ManifestError::Syntax)?;
        let id = triggered_component(raw.trigger)?;
        let Some(component) = raw.component.remove(&id) else {
            let setting = "[[trigger.http]].component".to_owned();
            let reason = format!("there is no [component.{id}]");
            return Err(ManifestError::Invalid { setting, reason });
        };
        Ok(Self {
            folder: folder.to_owned(),
            variables: defaults(raw.variables)?,
            component: supported_component(&id, component, folder)?,
        })
    }
}

/// Returns the default of every variable.
fn defaults(variables: BTreeMap<String, RawVariable>) -> Result<Values, ManifestError> {
    let mut defaults = Values::new();
    for (name, variable) in variables {
        check_name(&name, "[variables]")?;
        let setting = format!("[variables].{name}");
        match (variable.default, variable.required) {
            (Some(default), false) => _ = defaults.insert(name, default),
            (None, true) => {
                return Err(unsupported(&setting, "it is `required`; give it a `default`"));
            }
            _ => {
                let reason = "it needs either a `default` or `required = true`".to_owned();
                return Err(ManifestError::Invalid { setting, reason });
            }
        }
    }
    Ok(defaults)
}

/// Returns the component of the only trigger.
fn triggered_component(
    triggers: BTreeMap<String, Vec<toml::Table>>,
) -> Result<String, ManifestError> {
    if let Some(kind) = triggers.keys().find(|kind| *kind != "http") {
        return Err(unsupported(&format!("[[trigger.{kind}]]"), "only HTTP triggers"));
    }
    let mut triggers = triggers.into_values().flatten();
    let Some(trigger) = triggers.next() else {
        let reason = "there is no [[trigger.http]]".to_owned();
        return Err(ManifestError::Invalid { setting: "the manifest".to_owned(), reason });
    };
    if triggers.next().is_some() {
        return Err(unsupported("a second [[trigger.http]]", "only one, for one component"));
    }
    let mut component = None;
    for (key, value) in trigger {
        let setting = format!("[[trigger.http]].{key}");
        match (&*key, value) {
            ("id", _) => {}
            ("component", toml::Value::String(id)) => component = Some(id),
            ("component", _) => return Err(unsupported(&setting, "only a component's name")),
            ("route", toml::Value::String(route)) if route == "/..." => {}
            ("route", toml::Value::String(route)) => {
                return Err(unsupported(&format!("the route {route:?}"), "only \"/...\""));
            }
            ("route", _) => return Err(unsupported(&setting, "only \"/...\"")),
            _ => return Err(unsupported(&setting, "only `route` and `component`")),
        }
    }
    component.ok_or_else(|| ManifestError::Invalid {
        setting: "[[trigger.http]]".to_owned(),
        reason: "it names no component".to_owned(),
    })
}

fn supported_component(
    id: &str,
    raw: RawComponent,
    folder: &Path,
) -> Result<Component, ManifestError> {
    let setting = |name: &str| format!("[component.{id}].{name}");
    let toml::Value::String(source) = raw.source else {
        return Err(unsupported(&setting("source"), "only the path of a file"));
    };
    for key in raw.other.keys() {
        if UNSUPPORTED.contains(&&**key) {
            return Err(unsupported(&setting(key), "run the application with Spin"));
        }
        if !IGNORED.contains(&&**key) {
            let reason = "Spin has no such setting".to_owned();
            return Err(ManifestError::Invalid { setting: setting(key), reason });
        }
    }
    for name in raw.variables.keys() {
        check_name(name, &setting("variables"))?;
    }
    Ok(Component {
        source: folder.join(source),
        allowed_outbound_hosts: raw.allowed_outbound_hosts,
        environment: raw.environment,
        sqlite_databases: raw.sqlite_databases,
        variables: raw.variables,
    })
}

fn check_name(name: &str, setting: &str) -> Result<(), ManifestError> {
    validate_name(name).map_err(|error| ManifestError::Invalid {
        setting: setting.to_owned(),
        reason: error.to_string(),
    })
}

fn unsupported(setting: &str, reason: &'static str) -> ManifestError {
    ManifestError::Unsupported { setting: setting.to_owned(), reason }
}

#[derive(Deserialize)]
struct RawVersion {
    spin_manifest_version: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(rename = "spin_manifest_version")]
    _version: IgnoredAny,
    #[serde(rename = "application")]
    _application: IgnoredAny,
    #[serde(default)]
    variables: BTreeMap<String, RawVariable>,
    #[serde(default)]
    trigger: BTreeMap<String, Vec<toml::Table>>,
    #[serde(default)]
    component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default, rename = "secret")]
    _secret: IgnoredAny,
    #[serde(default, rename = "description")]
    _description: IgnoredAny,
}

#[derive(Deserialize)]
struct RawComponent {
    source: toml::Value,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    sqlite_databases: Vec<String>,
    #[serde(default)]
    variables: Values,
    #[serde(flatten)]
    other: toml::Table,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        spin_manifest_version = 2

        [application]
        name = "hands"
        version = "0.1.0"
        authors = ["someone"]

        [variables]
        otlp_endpoint = { default = "", description = "where traces go" }
        api_key = { default = "none", secret = true }

        [[trigger.http]]
        route = "/..."
        component = "api"

        [component.api]
        source = "target/api.wasm"
        allowed_outbound_hosts = ["{{ otlp_endpoint }}"]
        environment = { LEVEL = "info" }
        sqlite_databases = ["default"]
        [component.api.variables]
        endpoint = "{{ otlp_endpoint }}"
        [component.api.build]
        command = "cargo build"
    "#;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text, Path::new("/folder"))
    }

    /// Returns the error for the good manifest with one text replaced by another.
    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replace(from, to)).expect_err(to).to_string()
    }

    #[test]
    fn manifest_is_read_in_full() {
        let manifest = parse(GOOD).unwrap();
        assert_eq!(manifest.variables["otlp_endpoint"], "");
        assert_eq!(manifest.variables["api_key"], "none");
        let component = manifest.component;
        assert_eq!(component.source, Path::new("/folder/target/api.wasm"));
        assert_eq!(component.allowed_outbound_hosts, ["{{ otlp_endpoint }}"]);
        assert_eq!(component.environment["LEVEL"], "info");
        assert_eq!(component.sqlite_databases, ["default"]);
        assert_eq!(component.variables["endpoint"], "{{ otlp_endpoint }}");
        assert_eq!(manifest.folder, Path::new("/folder"));
    }

    #[test]
    fn other_versions_are_refused() {
        for version in ["1", "\"1\"", "3"] {
            let message = refusal("_version = 2", &format!("_version = {version}"));
            assert!(message.contains("spin_manifest_version = 2"), "{message}");
        }
    }

    #[test]
    fn unsupported_setting_is_named() {
        let source = "source = \"target/api.wasm\"";
        let with = |more: &str| refusal(source, &format!("{source}\n{more}"));
        for (setting, message) in [
            ("files", with("files = [\"a.txt\"]")),
            ("key_value_stores", with("key_value_stores = [\"default\"]")),
            ("source", refusal(source, "source = { url = \"x\" }")),
            ("trigger.redis", refusal("[[trigger.http]]", "[[trigger.redis]]")),
            ("route", refusal("\"/...\"", "{ private = true }")),
            ("route \"/:id\"", refusal("\"/...\"", "\"/:id\"")),
            ("route \"/api/...\"", refusal("\"/...\"", "\"/api/...\"")),
            (
                "executor",
                refusal(
                    "component = \"api\"",
                    "component = \"api\"\nexecutor = { type = \"wagi\" }",
                ),
            ),
            ("[variables].api_key", refusal("{ default = \"none\"", "{ required = true")),
        ] {
            assert!(message.contains("does not support"), "{message}");
            assert!(message.contains(setting), "{message}");
        }
    }

    #[test]
    fn unknown_setting_is_refused() {
        let message = refusal("allowed_outbound_hosts", "allowed_outbond_hosts");
        assert!(message.contains("allowed_outbond_hosts"), "{message}");
        let message = refusal("[variables]", "[variabels]");
        assert!(message.contains("variabels"), "{message}");
    }

    #[test]
    fn trigger_must_be_one_that_names_the_component() {
        let second = "[[trigger.http]]\nroute = \"/other\"\ncomponent = \"api\"\n";
        let message = parse(&format!("{GOOD}\n{second}")).unwrap_err().to_string();
        assert!(message.contains("a second [[trigger.http]]"), "{message}");
        let message = refusal("component = \"api\"", "component = \"web\"");
        assert!(message.contains("no [component.web]"), "{message}");
        let message = refusal("component = \"api\"", "");
        assert!(message.contains("names no component"), "{message}");
    }

    #[test]
    fn variable_needs_a_default_and_a_valid_name() {
        for variable in ["{}", "{ required = true, default = \"x\" }"] {
            let message = refusal("{ default = \"none\", secret = true }", variable);
            assert!(message.contains("[variables].api_key"), "{message}");
        }
        let message = refusal("api_key", "API_KEY");
        assert!(message.contains("\"API_KEY\""), "{message}");
    }

    #[test]
    fn missing_file_is_named() {
        let message = Manifest::read(Path::new("/nowhere/spin.toml")).unwrap_err().to_string();
        assert!(message.contains("/nowhere/spin.toml"), "{message}");
    }
}
