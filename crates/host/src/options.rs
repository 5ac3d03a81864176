//! What a server needs to know, and how a manifest says it.

use crate::engine;
use crate::log::LogSink;
use crate::manifest::Manifest;
use crate::outbound::AllowedHosts;
use crate::routes::Route;
use crate::variables::{self, Values};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the component comes from.
#[derive(Debug, Clone)]
pub enum ComponentSource {
    /// A file.
    File(PathBuf),
    /// The component itself.
    Bytes(Bytes),
}

/// How instances are used, and what they may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests that an instance gets in its life; 128 by default, as in Spin.
    pub requests_per_instance: usize,
    /// Requests that an instance has at a time; 16 by default, as in Spin.
    pub concurrent_requests_per_instance: usize,
    /// After how long without request and without work an instance ends; 1 s by default, as in
    /// Spin. Work after a response is work: it is not cut off.
    pub idle_timeout: Duration,
    /// The most linear memory of an instance in bytes; unlimited by default, as in Spin.
    pub memory_per_instance: Option<usize>,
    /// Requests that are with guests at a time, over all instances; further ones wait. 100 by default:
    /// ten times as many would take 5 ms longer to start, since each has its stack.
    pub concurrent_requests: usize,
    /// How long [`Server::stop`](crate::Server::stop) waits for requests and for work after responses; 10 s by
    /// default.
    pub grace_period: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_instance: 128,
            concurrent_requests_per_instance: 16,
            idle_timeout: Duration::from_secs(1),
            memory_per_instance: None,
            concurrent_requests: 100,
            grace_period: Duration::from_secs(10),
        }
    }
}

/// Sees the head of every response of the component, before its body is sent. It is called on the
/// thread of all connections: it must not block for long.
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

/// Everything that a server needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The component.
    pub component: ComponentSource,
    /// The routes on which the component answers; other paths get 404.
    pub routes: Vec<Route>,
    /// The environment variables that the component sees.
    pub environment: BTreeMap<String, String>,
    /// The component's variables.
    pub variables: Values,
    /// Where the component may send requests.
    pub allowed_hosts: AllowedHosts,
    /// The setting that `allowed_hosts` comes from, for log lines.
    pub allowed_hosts_setting: String,
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// How instances are used.
    pub limits: Limits,
    /// The folder for compiled code, which nobody but the user may write to; `None` compiles
    /// anew at every start. [`cache_folder`](crate::engine::cache_folder) proposes one.
    pub cache: Option<PathBuf>,
    /// Where the lines of host and guest go.
    pub log: LogSink,
    /// Sees the responses, if there is one.
    pub on_response: Option<ResponseHook>,
}

impl Options {
    /// Options for a component on all routes, without variables, environment and allowed
    /// hosts, on a free port of 127.0.0.1, with compiled code kept in the folder `target` that
    /// the component lies in, if it does, and with standard error for a log.
    pub fn new(component: ComponentSource) -> Self {
        Self {
            cache: match &component {
                ComponentSource::File(path) => engine::cache_folder(path),
                ComponentSource::Bytes(_) => None,
            },
            component,
            routes: Route::parse("/...").into_iter().collect(),
            environment: BTreeMap::new(),
            variables: Values::new(),
            allowed_hosts: AllowedHosts::default(),
            allowed_hosts_setting: "allowed_outbound_hosts".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits::default(),
            log: LogSink::stderr(),
            on_response: None,
        }
    }

    /// Options as a manifest has them. Application variables come from `given`, else from
    /// `environment` ([`std::env::var`] is the real one), else from their defaults.
    ///
    /// # Errors
    ///
    /// A variable that is missing or undeclared, and an entry of `allowed_outbound_hosts` that
    /// is not valid.
    pub fn from_manifest(
        manifest: &Manifest,
        given: &[(String, String)],
        environment: impl Fn(&str) -> Result<String, VarError>,
    ) -> anyhow::Result<Self> {
        let component = &manifest.component;
        let application = variables::resolve(&manifest.variables, given, environment)?;
        let setting = component.setting("allowed_outbound_hosts");
        let mut options = Self::new(ComponentSource::File(component.source.clone()));
        options.routes = manifest.routes.clone();
        options.environment = component.environment.clone();
        options.variables = variables::resolve_component(
            &component.variables,
            &application,
            &component.setting("variables"),
        )?;
        options.allowed_hosts =
            AllowedHosts::parse(&component.allowed_outbound_hosts, &application, &setting)?;
        options.allowed_hosts_setting = setting;
        Ok(options)
    }
}
