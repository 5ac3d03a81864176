//! A server's options, and their making from a manifest.

use std::collections::BTreeMap;
use std::env::VarError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::log::LogSink;
use crate::manifest::Manifest;
use crate::outbound::AllowedHosts;
#[cfg(doc)]
use crate::sqlite;
use crate::variables::{self, Values, VariableError};

/// Limits of instances and of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests that an instance serves in its life; 128 by default, as in Spin.
    pub requests_per_instance: usize,
    /// Requests that an instance serves at a time; 16 by default, as in Spin.
    pub concurrent_requests_per_instance: usize,
    /// An instance without request and without work ends after this time; 1 s by default, as in Spin.
    /// Work after a response is work: it is not cut off.
    pub idle_timeout: Duration,
    /// Maximum linear memory of an instance in bytes; unlimited by default, as in Spin. An instance that
    /// asks for more does not get it, which most guests do not survive.
    pub memory_per_instance: Option<usize>,
    /// Time within which an instance must answer a request; unlimited by default, as in Spin. Then the
    /// client gets a 504, and the instance ends if it still computes.
    pub request_timeout: Option<Duration>,
    /// Requests that are with guests at a time, over all instances; further ones wait. 100 by default. At most
    /// half of them have a body. Each place reserves memory for its stack when the server starts.
    pub concurrent_requests: usize,
    /// Requests with a body that compute at a time, from the end of the body to the response; further ones
    /// wait, before they get an instance if they can. Two per core by default. Spin has no such limit.
    pub computing_requests: Option<usize>,
    /// Time that [`Server::stop`](crate::Server::stop) leaves to requests and to work after responses;
    /// 10 s by default.
    pub grace_period: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_instance: 128,
            concurrent_requests_per_instance: 16,
            idle_timeout: Duration::from_secs(1),
            memory_per_instance: None,
            request_timeout: None,
            concurrent_requests: 100,
            computing_requests: None,
            grace_period: Duration::from_secs(10),
        }
    }
}

/// The folder beside the manifest in which the default database lies, as in Spin.
pub const STATE: &str = ".spin";

/// The environment variable with the default of [`Limits::memory_per_instance`], as in Spin: bytes.
pub const MAX_INSTANCE_MEMORY: &str = "SPIN_MAX_INSTANCE_MEMORY";

/// Parses a size in bytes: a number with a unit, or without for bytes. `128MiB`, `128 mb` and `128m` are
/// the same: units are powers of 1024.
///
/// # Errors
///
/// The reason, for text that is no such size, and for 0.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("expected a size such as 128MiB, found {text:?}")),
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("expected a size of at least 1 byte, such as 128MiB, found {text:?}")),
    }
}

/// Sees the head of every response of the component, before its body is sent. It is called on the
/// thread of all connections, so it must not block.
#[derive(Clone)]
pub struct ResponseHook(Arc<dyn Fn(&http::response::Parts) + Send + Sync>);

impl ResponseHook {
    /// Shows every response to `see`.
    pub fn new(see: impl Fn(&http::response::Parts) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    pub(crate) fn see(&self, head: &http::response::Parts) {
        (self.0)(head);
    }
}

impl std::fmt::Debug for ResponseHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseHook")
    }
}

/// Everything that a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The component's file.
    pub component: PathBuf,
    /// All environment variables that the component sees.
    pub environment: BTreeMap<String, String>,
    /// The component's variables.
    pub variables: Values,
    /// The hosts that the component may send requests to.
    pub allowed_hosts: AllowedHosts,
    /// The SQLite databases that the component may use. The host has one: [`sqlite::DEFAULT`].
    pub sqlite_databases: Vec<String>,
    /// The folder for that database; without one, it is in memory and ends with each connection.
    pub state_folder: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The limits.
    pub limits: Limits,
    /// The folder for compiled code, which nobody but the user may write to; `None` compiles at every
    /// start. [`cache_folder`] proposes one.
    pub cache: Option<PathBuf>,
    /// Takes the lines of host and guest.
    pub log: LogSink,
    /// Sees the responses, if there is one.
    pub on_response: Option<ResponseHook>,
}

/// An error of [`Options::from_manifest`].
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// An application variable has no value, or the component's variables cannot be filled.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// An entry of `allowed_outbound_hosts` is not valid.
    #[error(transparent)]
    Outbound(#[from] crate::outbound::OutboundError),
    /// An environment variable of the host's own is not valid.
    #[error("cannot use {variable} from the environment: {reason}")]
    Environment {
        /// The environment variable.
        variable: &'static str,
        /// The reason.
        reason: String,
    },
}

impl Options {
    /// Returns the options that a manifest stands for: a free port of 127.0.0.1, default limits, the log
    /// on standard error, the database in the folder [`STATE`] beside the manifest, and compiled code kept in the folder `target` if the component lies in one. The
    /// environment may limit the instances' memory: [`MAX_INSTANCE_MEMORY`].
    ///
    /// Application variables come from `given`, from `environment` ([`std::env::var`] is the real one),
    /// or from their defaults, in this order.
    ///
    /// # Errors
    ///
    /// Every [`OptionsError`].
    pub fn from_manifest(
        manifest: &Manifest,
        given: &[(String, String)],
        environment: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Self, OptionsError> {
        let component = &manifest.component;
        let memory_per_instance = match environment(MAX_INSTANCE_MEMORY) {
            Ok(text) if text.trim().is_empty() => None,
            Ok(text) => Some(parse_size(&text).map_err(|reason| OptionsError::Environment {
                variable: MAX_INSTANCE_MEMORY,
                reason,
            })?),
            Err(VarError::NotPresent) => None,
            Err(error @ VarError::NotUnicode(_)) => {
                return Err(OptionsError::Environment {
                    variable: MAX_INSTANCE_MEMORY,
                    reason: error.to_string(),
                });
            }
        };
        let application = variables::resolve(&manifest.variables, given, environment)?;
        let variables = component.variables.iter().map(|(name, text)| {
            let place = format!("the component's variable `{name}`");
            Ok((name.clone(), variables::fill(text, &application, &place)?.to_owned()))
        });
        Ok(Self {
            component: component.source.clone(),
            environment: component.environment.clone(),
            variables: variables.collect::<Result<_, VariableError>>()?,
            allowed_hosts: AllowedHosts::parse(&component.allowed_outbound_hosts, &application)?,
            sqlite_databases: component.sqlite_databases.clone(),
            state_folder: Some(manifest.folder.join(STATE)),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits { memory_per_instance, ..Limits::default() },
            cache: cache_folder(&component.source),
            log: LogSink::stderr(),
            on_response: None,
        })
    }
}

/// Returns the folder for a component's compiled code: `compiled-components` in the folder `target` that
/// the component lies in; `None` if it lies in none.
pub fn cache_folder(component: &Path) -> Option<PathBuf> {
    let component = std::path::absolute(component).ok()?;
    component
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .map(|target| target.join("compiled-components"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Component;

    #[test]
    fn from_manifest_fills_the_components_variables() {
        let values = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let manifest = |variables| Manifest {
            folder: "/p".into(),
            variables: values(&[("endpoint", "http://jaeger:4318")]),
            component: Component {
                source: "/p/target/a.wasm".into(),
                allowed_outbound_hosts: vec!["{{ endpoint }}".to_owned()],
                environment: BTreeMap::new(),
                sqlite_databases: vec!["default".to_owned()],
                variables,
            },
        };
        let none = |_: &str| Err(VarError::NotPresent);
        let good = manifest(values(&[("to", "{{ endpoint }}"), ("level", "info")]));
        let options = Options::from_manifest(&good, &[], none).expect("options");
        assert_eq!(options.variables, values(&[("to", "http://jaeger:4318"), ("level", "info")]));
        assert!(options.allowed_hosts.allows("http", "jaeger", Some(4318)));
        assert_eq!(options.cache, Some("/p/target/compiled-components".into()));
        assert_eq!(options.sqlite_databases, ["default"]);
        assert_eq!(options.state_folder, Some("/p/.spin".into()));

        let bad = manifest(values(&[("to", "{{ nobody }}")]));
        let message = Options::from_manifest(&bad, &[], none).expect_err("undeclared").to_string();
        assert!(message.contains("the component's variable `to`"), "{message}");
    }

    #[test]
    fn size_is_a_number_with_a_unit() {
        for (text, bytes) in [
            ("134217728", 128 << 20),
            ("1", 1),
            ("128MiB", 128 << 20),
            (" 128 mb ", 128 << 20),
            ("128m", 128 << 20),
            ("64K", 64 << 10),
            ("2GiB", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "0", "0 MiB", "-1", "1.5GiB", "128 MiBs", "many", "99999999999GiB"]
        {
            let message = parse_size(text).expect_err(text);
            assert!(message.contains("128MiB") && message.contains(text), "{message}");
        }
    }

    #[test]
    fn environment_limits_the_memory_of_instances() {
        let manifest = Manifest {
            folder: "/p".into(),
            variables: Values::new(),
            component: Component {
                source: "/p/a.wasm".into(),
                allowed_outbound_hosts: Vec::new(),
                environment: BTreeMap::new(),
                sqlite_databases: Vec::new(),
                variables: Values::new(),
            },
        };
        let limit = |value: &'static str| {
            let environment = |name: &str| match name {
                "SPIN_MAX_INSTANCE_MEMORY" => Ok(value.to_owned()),
                _ => Err(VarError::NotPresent),
            };
            let options = Options::from_manifest(&manifest, &[], environment);
            options.map(|options| options.limits.memory_per_instance)
        };
        assert_eq!(limit("134217728").expect("a size"), Some(128 << 20));
        assert_eq!(limit("").expect("nothing"), None);
        let message = limit("much").expect_err("no size").to_string();
        assert!(message.contains("SPIN_MAX_INSTANCE_MEMORY"), "{message}");
    }

    #[test]
    fn cache_folder_is_in_target_or_nowhere() {
        assert_eq!(
            cache_folder(Path::new("/p/target/wasm32-wasip2/release/a.wasm")),
            Some(PathBuf::from("/p/target/compiled-components"))
        );
        assert_eq!(cache_folder(Path::new("/p/a.wasm")), None);
        assert_eq!(cache_folder(Path::new("/p/target")), None);
    }
}
