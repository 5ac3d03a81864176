//! The parts of Spin's manifest (`spin.toml`, version 2) that this host acts on.
//!
//! One HTTP component is supported, on one or more routes. What Spin knows and this host does
//! not do, such as `files` or key-value stores, is refused with a message that says so; what
//! only other commands act on (`build`, `tool`, `profile`, descriptions) is read over. Keys
//! that Spin does not know are refused, as Spin does.

use crate::routes::{Route, RouteError};
use crate::variables::{Variable, VariableError, validate_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A manifest that this host can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name of the application.
    pub name: String,
    /// The version of the application; empty if the manifest has none.
    pub version: String,
    /// The application variables.
    pub variables: BTreeMap<String, Variable>,
    /// The routes of the component, in the manifest's order; at least one.
    pub routes: Vec<Route>,
    /// The component that all HTTP triggers name.
    pub component: Component,
}

/// The component of a manifest. Its templates are not filled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The name in `[component.NAME]`.
    pub id: String,
    /// The component's file; relative paths are relative to the manifest's folder.
    pub source: PathBuf,
    /// `allowed_outbound_hosts`, with templates.
    pub allowed_outbound_hosts: Vec<String>,
    /// The environment variables that the component sees. There are no others.
    pub environment: BTreeMap<String, String>,
    /// The component's variables: templates over the application's.
    pub variables: BTreeMap<String, String>,
}

impl Component {
    /// The name of one of the component's settings, for messages.
    pub fn setting(&self, name: &str) -> String {
        format!("[component.{}].{name}", self.id)
    }
}

/// Why a manifest cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read the manifest {}", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a Spin manifest of version 2.
    #[error("the manifest is not valid: {0}")]
    Syntax(toml::de::Error),
    /// Spin knows the setting, this host does not do it.
    #[error("this host does not support {setting}: {reason}")]
    Unsupported {
        /// The setting.
        setting: String,
        /// What it supports, or what to do.
        reason: String,
    },
    /// The setting's value makes no sense.
    #[error("{setting} is not valid: {reason}")]
    Invalid {
        /// The setting.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable's name.
    #[error("in {setting}: {error}")]
    Variable {
        /// The table.
        setting: String,
        /// What is wrong with it.
        error: VariableError,
    },
}

impl Manifest {
    /// Reads a manifest from a file.
    ///
    /// # Errors
    ///
    /// See [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a manifest from its text. `folder` is where it lies, for the component's path.
    ///
    /// # Errors
    ///
    /// See [`ManifestError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ManifestError> {
        // The version is looked at first: a manifest of another version has other keys, and
        // complaints about those would lead astray.
        let version: VersionOnly = toml::from_str(text).map_err(ManifestError::Syntax)?;
        if version.spin_manifest_version != Some(toml::Value::Integer(2)) {
            return Err(ManifestError::Unsupported {
                setting: "this spin_manifest_version".to_owned(),
                reason: "only `spin_manifest_version = 2`".to_owned(),
            });
        }
        let raw: RawManifest = toml::from_str(text).map_err(ManifestError::Syntax)?;

        let mut variables = BTreeMap::new();
        for (name, variable) in raw.variables {
            let setting = format!("[variables].{name}");
            check_name(&name, "[variables]")?;
            if variable.required == variable.default.is_some() {
                return Err(ManifestError::Invalid {
                    setting,
                    reason: "it needs either `required = true` or a `default`".to_owned(),
                });
            }
            let variable = Variable {
                default: variable.default,
                required: variable.required,
                secret: variable.secret,
            };
            variables.insert(name, variable);
        }

        let (id, routes) = http_routes(raw.trigger)?;
        let Some(component) = raw.component.into_iter().find(|(name, _)| *name == id) else {
            return Err(ManifestError::Invalid {
                setting: "[[trigger.http]].component".to_owned(),
                reason: format!("there is no [component.{id}]"),
            });
        };
        Ok(Self {
            name: raw.application.name,
            version: raw.application.version,
            variables,
            routes,
            component: check_component(id, component.1, folder)?,
        })
    }
}

fn check_name(name: &str, setting: &str) -> Result<(), ManifestError> {
    validate_name(name)
        .map_err(|error| ManifestError::Variable { setting: setting.to_owned(), error })
}

/// The component that the HTTP triggers name, and their routes.
fn http_routes(
    triggers: BTreeMap<String, Vec<RawTrigger>>,
) -> Result<(String, Vec<Route>), ManifestError> {
    let mut component = None;
    let mut routes = Vec::new();
    for (kind, triggers) in triggers {
        let setting = format!("[[trigger.{kind}]]");
        let unsupported = |what: &str, reason: &str| ManifestError::Unsupported {
            setting: format!("{setting}{what}"),
            reason: reason.to_owned(),
        };
        if kind != "http" {
            return Err(unsupported("", "only HTTP triggers"));
        }
        for trigger in triggers {
            if let Some(key) = trigger.other.keys().next() {
                return Err(unsupported(&format!(".{key}"), "only `route` and `component`"));
            }
            let plain = toml::Table::from_iter([("type".to_owned(), "http".into())]);
            if trigger.executor.is_some_and(|executor| executor != plain) {
                return Err(unsupported(".executor", "only `{ type = \"http\" }`"));
            }
            let toml::Value::String(pattern) = trigger.route else {
                return Err(unsupported(".route", "only patterns, no private routes"));
            };
            routes.push(Route::parse(&pattern).map_err(|RouteError { reason, .. }| {
                ManifestError::Unsupported { setting: format!("the route {pattern:?}"), reason }
            })?);
            let toml::Value::String(id) = trigger.component else {
                return Err(unsupported(".component", "only the name of a component"));
            };
            match &component {
                None => component = Some(id),
                Some(first) if *first == id => {}
                Some(first) => {
                    return Err(unsupported(
                        "",
                        &format!("only one HTTP component, not both {first:?} and {id:?}"),
                    ));
                }
            }
        }
    }
    component.map(|id| (id, routes)).ok_or_else(|| ManifestError::Invalid {
        setting: "the manifest".to_owned(),
        reason: "there is no [[trigger.http]]".to_owned(),
    })
}

fn check_component(
    id: String,
    raw: RawComponent,
    folder: &Path,
) -> Result<Component, ManifestError> {
    let setting = |name: &str| format!("[component.{id}].{name}");
    let unsupported = |name: &str, reason: &str| ManifestError::Unsupported {
        setting: setting(name),
        reason: reason.to_owned(),
    };
    let toml::Value::String(source) = raw.source else {
        return Err(unsupported("source", "only the path of a file"));
    };
    let refused = [
        ("files", !raw.files.is_empty()),
        ("key_value_stores", !raw.key_value_stores.is_empty()),
        ("sqlite_databases", !raw.sqlite_databases.is_empty()),
        ("ai_models", !raw.ai_models.is_empty()),
        ("dependencies", !raw.dependencies.is_empty()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, present)| *present) {
        return Err(unsupported(name, "run the application with Spin for that"));
    }
    if !raw.allowed_http_hosts.is_empty() {
        return Err(unsupported("allowed_http_hosts", "its successor is allowed_outbound_hosts"));
    }
    for name in raw.variables.keys() {
        check_name(name, &setting("variables"))?;
    }
    Ok(Component {
        source: folder.join(source),
        allowed_outbound_hosts: raw.allowed_outbound_hosts,
        environment: raw.environment,
        variables: raw.variables,
        id,
    })
}

#[derive(Deserialize)]
struct VersionOnly {
    spin_manifest_version: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(rename = "spin_manifest_version")]
    _spin_manifest_version: toml::Value,
    application: RawApplication,
    #[serde(default)]
    variables: BTreeMap<String, RawVariable>,
    #[serde(default)]
    trigger: BTreeMap<String, Vec<RawTrigger>>,
    #[serde(default)]
    component: BTreeMap<String, RawComponent>,
}

/// Other keys (authors, description, tools…) change nothing here.
#[derive(Deserialize)]
struct RawApplication {
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    secret: bool,
    #[serde(default, rename = "description")]
    _description: String,
}

#[derive(Deserialize)]
struct RawTrigger {
    route: toml::Value,
    component: toml::Value,
    executor: Option<toml::Table>,
    #[serde(default, rename = "id")]
    _id: String,
    #[serde(flatten)]
    other: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawComponent {
    source: toml::Value,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<toml::Value>,
    #[serde(default)]
    key_value_stores: Vec<toml::Value>,
    #[serde(default)]
    sqlite_databases: Vec<toml::Value>,
    #[serde(default)]
    ai_models: Vec<toml::Value>,
    #[serde(default)]
    allowed_http_hosts: Vec<toml::Value>,
    #[serde(default)]
    dependencies: toml::Table,
    // Known to Spin, without effect here.
    #[serde(default, rename = "description")]
    _description: Option<toml::Value>,
    #[serde(default, rename = "exclude_files")]
    _exclude_files: Option<toml::Value>,
    #[serde(default, rename = "targets")]
    _targets: Option<toml::Value>,
    #[serde(default, rename = "build")]
    _build: Option<toml::Value>,
    #[serde(default, rename = "tool")]
    _tool: Option<toml::Value>,
    #[serde(default, rename = "profile")]
    _profile: Option<toml::Value>,
    #[serde(default, rename = "dependencies_inherit_configuration")]
    _dependencies_inherit_configuration: Option<toml::Value>,
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
        api_key = { required = true, secret = true }

        [[trigger.http]]
        route = "/..."
        component = "api"

        [component.api]
        source = "target/api.wasm"
        allowed_outbound_hosts = ["{{ otlp_endpoint }}"]
        environment = { LEVEL = "info" }
        [component.api.variables]
        endpoint = "{{ otlp_endpoint }}"
        [component.api.build]
        command = "cargo build"
    "#;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text, Path::new("/folder"))
    }

    /// The message for the good manifest with one text replaced by another.
    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replace(from, to)).expect_err(to).to_string()
    }

    #[test]
    fn everything_is_read() {
        let manifest = parse(GOOD).unwrap();
        assert_eq!(manifest.name, "hands");
        assert_eq!(manifest.version, "0.1.0");
        assert_eq!(manifest.variables["otlp_endpoint"].default.as_deref(), Some(""));
        assert!(manifest.variables["api_key"].required);
        assert!(manifest.variables["api_key"].secret);
        assert_eq!(manifest.routes.len(), 1);
        let component = manifest.component;
        assert_eq!(component.id, "api");
        assert_eq!(component.source, Path::new("/folder/target/api.wasm"));
        assert_eq!(component.allowed_outbound_hosts, ["{{ otlp_endpoint }}"]);
        assert_eq!(component.environment["LEVEL"], "info");
        assert_eq!(component.variables["endpoint"], "{{ otlp_endpoint }}");
    }

    #[test]
    fn other_versions_are_refused() {
        for version in ["1", "\"1\"", "3"] {
            let message = refusal("_version = 2", &format!("_version = {version}"));
            assert!(message.contains("spin_manifest_version = 2"), "{message}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let source = "source = \"target/api.wasm\"";
        let with = |more: &str| refusal(source, &format!("{source}\n{more}"));
        for (setting, message) in [
            ("files", with("files = [\"a.txt\"]")),
            ("key_value_stores", with("key_value_stores = [\"default\"]")),
            ("source", refusal(source, "source = { url = \"x\" }")),
            ("trigger.redis", refusal("[[trigger.http]]", "[[trigger.redis]]")),
            ("route", refusal("\"/...\"", "{ private = true }")),
            ("route \"/:id\"", refusal("\"/...\"", "\"/:id\"")),
            (
                "executor",
                refusal(
                    "component = \"api\"",
                    "component = \"api\"\nexecutor = { type = \"wagi\" }",
                ),
            ),
        ] {
            assert!(message.contains("does not support"), "{message}");
            assert!(message.contains(setting), "{message}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let message = refusal("allowed_outbound_hosts", "allowed_outbond_hosts");
        assert!(message.contains("allowed_outbond_hosts"), "{message}");
    }

    #[test]
    fn one_component_on_several_routes() {
        let trigger = |route: &str, component: &str| {
            format!("[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"{component}\"\n")
        };
        let text = format!("{GOOD}\n{}", trigger("/other", "api"));
        assert_eq!(parse(&text).unwrap().routes.len(), 2);
        let text = format!("{GOOD}\n{}", trigger("/other", "web"));
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains("\"api\" and \"web\""), "{message}");
        let message = refusal("component = \"api\"", "component = \"web\"");
        assert!(message.contains("no [component.web]"), "{message}");
    }

    #[test]
    fn variables_are_required_or_have_a_default() {
        for variable in ["{}", "{ required = true, default = \"x\" }"] {
            let message = refusal("{ required = true, secret = true }", variable);
            assert!(message.contains("[variables].api_key"), "{message}");
        }
        let message = refusal("api_key", "API_KEY");
        assert!(message.contains("\"API_KEY\""), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Manifest::read(Path::new("/nowhere/spin.toml")).unwrap_err().to_string();
        assert!(message.contains("/nowhere/spin.toml"), "{message}");
    }
}
