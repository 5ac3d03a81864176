//! What a guest finds around it: WASI, HTTP with `allowed_outbound_hosts` enforced, and Spin's
//! variables.

use crate::log::{GuestStream, LogSink, Source};
use crate::outbound::{AllowedHosts, Destination, SELF_HOST};
use crate::variables::{Values, validate_name};
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use std::net::SocketAddr;
use std::sync::Arc;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Result, StoreLimits, WasmBacktrace};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

/// `spin:variables`, copied from the WIT in spin-sdk 7.0.0.
mod bindings {
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

/// Why a guest failed. The stack is left out if the component has no names for it, as is usual
/// for one that was stripped.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WasmBacktrace>() {
        Some(stack) if stack.frames().iter().all(|frame| frame.func_name().is_none()) => {
            error.root_cause().to_string()
        }
        Some(_) => format!("{error:?}"),
        None => format!("{error:#}"),
    }
}

/// What all instances of a component share.
pub(crate) struct Shared {
    /// The component's variables; `None` during pre-initialisation, when there are none yet.
    pub(crate) variables: Option<Values>,
    pub(crate) allowed_hosts: AllowedHosts,
    /// The name of the setting behind `allowed_hosts`, for log lines.
    pub(crate) allowed_hosts_setting: String,
    /// Where the application itself listens.
    pub(crate) own_address: Option<SocketAddr>,
    pub(crate) log: LogSink,
}

/// The data of one instance's store.
pub(crate) struct GuestState {
    shared: Arc<Shared>,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    pub(crate) limits: StoreLimits,
}

impl GuestState {
    /// `wasi` has everything but the standard output and error, which go to the log under the
    /// number of the instance.
    pub(crate) fn new(
        shared: Arc<Shared>,
        mut wasi: WasiCtxBuilder,
        instance: u64,
        limits: StoreLimits,
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
            limits,
        }
    }
}

/// Everything that a component of this project may import.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    // Rust's standard library speaks WASI 0.2, the Spin SDK 0.3.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    bindings::SpinVariables::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
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
        if let Err(error) = validate_name(&name) {
            return Err(variables::Error::InvalidName(error.to_string()));
        }
        accessor.with(|mut state| match &state.get().shared.variables {
            Some(values) => values.get(&name).cloned().ok_or_else(|| {
                variables::Error::Undefined(format!("the component has no variable `{name}`"))
            }),
            None => Err(variables::Error::Other(
                "there are no variables during pre-initialisation".to_owned(),
            )),
        })
    }
}

/// Checks outgoing requests.
struct Hooks(Arc<Shared>);

type Io = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), HttpError>> + Send> {
        use http_body_util::BodyExt;
        let checked = check(&self.0, &mut request);
        Box::new(async move {
            checked?;
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(io) as Io))
        })
    }
}

/// Checks where a request goes, and turns one to the application itself to its address.
fn check(shared: &Shared, request: &mut http::Request<WasiBody>) -> Result<(), HttpError> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::HttpRequestUriInvalid);
    };
    let to_itself = authority.host() == SELF_HOST;
    let destination = Destination { scheme, host: authority.host(), port: authority.port_u16() };
    let allowed = if to_itself {
        shared.allowed_hosts.allows_self()
    } else {
        let Destination { scheme, host, port } = destination;
        shared.allowed_hosts.allows(scheme, host, port)
    };
    if !allowed {
        shared.log.host(format_args!(
            "the component was denied a request to {destination}: add \"{destination}\" to \
             {} to allow it",
            shared.allowed_hosts_setting
        ));
        return Err(HttpError::HttpRequestDenied);
    }
    if to_itself {
        let authority = shared
            .own_address
            .and_then(|address| Authority::try_from(address.to_string()).ok())
            .ok_or(HttpError::HttpRequestUriInvalid)?;
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| HttpError::HttpRequestUriInvalid)?;
        request.headers_mut().insert(http::header::HOST, host);
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        *request.uri_mut() =
            http::Uri::from_parts(parts).map_err(|_| HttpError::HttpRequestUriInvalid)?;
    }
    Ok(())
}
