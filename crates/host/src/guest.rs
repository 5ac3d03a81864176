//! A guest's imports: WASI, HTTP within `allowed_outbound_hosts`, Spin's variables and SQLite.

use std::sync::Arc;

use wasmtime::component::{HasSelf, ResourceTable};
use wasmtime::{Result, WasmBacktrace};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use crate::log::{GuestStream, LogSink, Source};
use crate::memory::InstanceMemory;
use crate::outbound::{AllowedHosts, SETTING};
use crate::sqlite::Databases;
use crate::variables::{Values, validate_name};

/// The interface `spin:variables` 3.0.0, as components of WASI 0.3 import it.
pub(crate) mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        inline: "
            package spin:variables@3.0.0;

            interface variables {
                get: async func(name: string) -> result<string, error>;

                variant error {
                    invalid-name(string),
                    undefined(string),
                    provider(string),
                    other(string),
                }
            }

            world spin-variables {
                import variables;
            }
        ",
    });
}
use bindings::spin::variables::variables;

/// That interface as components of WASI 0.2 import it.
pub(crate) mod bindings_p2 {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({ path: "../../wit/spin-variables.wit" });
}
use bindings_p2::fermyon::spin::variables as variables_p2;

/// Describes why a guest failed. The stack is left out if it has no names, as in a stripped component.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WasmBacktrace>() {
        Some(stack) if stack.frames().iter().all(|frame| frame.func_name().is_none()) => {
            error.root_cause().to_string()
        }
        Some(_) => format!("{error:?}"),
        None => format!("{error:#}"),
    }
}

/// State that all instances of a component share.
pub(crate) struct Shared {
    /// The component's variables. `None` outside of a server: every lookup fails.
    pub(crate) variables: Option<Values>,
    pub(crate) allowed_hosts: AllowedHosts,
    pub(crate) databases: Databases,
    pub(crate) log: LogSink,
}

impl Shared {
    /// For a guest without variables, network and databases.
    pub(crate) fn offline(log: LogSink) -> Self {
        let (allowed_hosts, databases) = (AllowedHosts::default(), Databases::default());
        Self { variables: None, allowed_hosts, databases, log }
    }
}

/// The data of one instance's store.
pub(crate) struct GuestState {
    shared: Arc<Shared>,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    pub(crate) memory: InstanceMemory,
}

impl GuestState {
    /// `wasi` lacks standard output and error: they go to the log, under the instance's number.
    pub(crate) fn new(
        shared: Arc<Shared>,
        mut wasi: WasiCtxBuilder,
        instance: u64,
        memory: InstanceMemory,
    ) -> Self {
        let stream = |source| GuestStream::new(shared.log.clone(), source);
        wasi.stdout(stream(Source::Stdout(instance)));
        wasi.stderr(stream(Source::Stderr(instance)));
        Self {
            hooks: Hooks(shared.clone()),
            shared,
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            memory,
        }
    }

    /// Returns the databases of the component.
    pub(crate) fn databases(&self) -> Databases {
        self.shared.databases.clone()
    }

    /// Returns what the guest holds handles of.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Looks up one of the component's variables.
    fn variable(&self, name: &str) -> std::result::Result<String, variables::Error> {
        if let Err(error) = validate_name(name) {
            return Err(variables::Error::InvalidName(error.to_string()));
        }
        match &self.shared.variables {
            Some(values) => values.get(name).cloned().ok_or_else(|| {
                variables::Error::Undefined(format!("the component has no variable `{name}`"))
            }),
            None => Err(variables::Error::Other(
                "there are no variables outside of a server".to_owned(),
            )),
        }
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl variables::Host for GuestState {}

impl variables::HostWithStore<GuestState> for HasSelf<GuestState> {
    async fn get(
        accessor: &wasmtime::component::Accessor<GuestState, Self>,
        name: String,
    ) -> std::result::Result<String, variables::Error> {
        accessor.with(|mut state| state.get().variable(&name))
    }
}

impl variables_p2::Host for GuestState {
    fn get(&mut self, name: String) -> std::result::Result<String, variables_p2::Error> {
        use variables::Error;
        self.variable(&name).map_err(|error| match error {
            Error::InvalidName(reason) => variables_p2::Error::InvalidName(reason),
            Error::Undefined(reason) => variables_p2::Error::Undefined(reason),
            Error::Provider(reason) => variables_p2::Error::Provider(reason),
            Error::Other(reason) => variables_p2::Error::Other(reason),
        })
    }
}

/// Checks outgoing requests before they are sent.
struct Hooks(Arc<Shared>);

type Io = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), HttpError>> + Send> {
        use http_body_util::BodyExt;
        let checked = check(&self.0, &request);
        Box::new(async move {
            checked?;
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(io) as Io))
        })
    }
}

/// Refuses a request to a host that is not allowed.
fn check(shared: &Shared, request: &http::Request<WasiBody>) -> Result<(), HttpError> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::HttpRequestUriInvalid);
    };
    let (host, port) = (authority.host(), authority.port_u16());
    if shared.allowed_hosts.allows(scheme, host, port) {
        return Ok(());
    }
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let destination = format!("{scheme}://{host}{port}");
    shared.log.host(format_args!(
        "cannot send the component's request to {destination}: add it to {SETTING}"
    ));
    Err(HttpError::HttpRequestDenied)
}
