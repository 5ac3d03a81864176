//! Connections: accepts them and gives their requests to instances.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{ExpirationError, ProxyHandler, TrapOrPanicError};
use wasmtime_wasi_http::io::TokioIo;

use crate::guest::describe;
use crate::instances::Instances;
use crate::lingering::Lingering;
use crate::log::LogSink;
use crate::options::ResponseHook;
use crate::spin_headers::set_spin_headers;
use crate::turns::Turn;

/// Paths below this are the host's own, as in Spin.
const RESERVED: &str = "/.well-known/spin/";

/// The path that answers `OK` as long as the host runs, as in Spin.
const HEALTH: &str = "/.well-known/spin/health";

/// State that all connections share.
pub(crate) struct Application {
    pub(crate) handler: ProxyHandler<Instances>,
    /// The requests that may be with guests.
    pub(crate) permits: Semaphore,
    /// Those of them that may have a body: others then don't wait behind them.
    pub(crate) permits_with_body: Semaphore,
    /// The requests that may compute.
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) guests: Handle,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) log: LogSink,
    pub(crate) on_response: Option<ResponseHook>,
}

/// Accepts connections until the server stops.
pub(crate) async fn accept(
    listener: TcpListener,
    application: Arc<Application>,
    connections: TaskTracker,
    stopping: CancellationToken,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            application.log.host(format_args!("cannot accept connections: {error}"));
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                // A response in small parts must not wait for the client's acknowledgements.
                let _ = stream.set_nodelay(true);
                let application = application.clone();
                let stopping = stopping.clone();
                connections.spawn(connection(stream, client, application, stopping));
            }
            Err(error) => {
                // Too many open files, most likely: others may be closed soon.
                application.log.host(format_args!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection until the client closes it or the server stops.
async fn connection(
    stream: tokio::net::TcpStream,
    client: SocketAddr,
    application: Arc<Application>,
    stopping: CancellationToken,
) {
    let log = application.log.clone();
    let service = service_fn(move |request| {
        let application = application.clone();
        async move { Ok::<_, Infallible>(application.respond(request, client).await) }
    });
    let stream = TokioIo::new(Lingering::new(stream, stopping.clone()));
    let connection = http1::Builder::new().serve_connection(stream, service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A response that a guest began and did not finish ends here as well.
        log.host(format_args!("the connection from {client} broke: {error}"));
    }
}

impl Application {
    async fn respond(
        &self,
        mut request: Request<Incoming>,
        client: SocketAddr,
    ) -> Response<WasiBody> {
        let path = request.uri().path().to_owned();
        if path.starts_with(RESERVED) {
            return match &*path {
                HEALTH => plain(StatusCode::OK, "OK"),
                _ => plain(StatusCode::NOT_FOUND, ""),
            };
        }
        // `OPTIONS *` has no path that a route could match.
        if !path.starts_with('/') {
            return plain(StatusCode::NOT_FOUND, "");
        }
        if let Err(reason) = make_absolute(&mut request) {
            return plain(StatusCode::BAD_REQUEST, reason);
        }
        let uri = request.uri().clone();
        set_spin_headers(request.headers_mut(), &uri, client);
        let waits = request.headers().contains_key(EXPECT);
        let asked = Arc::new(AtomicBool::new(false));
        let called = format!("{} {path}", request.method());
        let Ok(permit) = self.permit(request.body()).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "");
        };
        // After the permit: whoever has a turn can go on.
        let (head, body) = request.into_parts();
        let body = Asked { body, asked: asked.clone() };
        let (turn, body) = Turn::of(self.turns.clone(), body).await;
        let request = Request::from_parts(head, body.map_err(Into::into).boxed_unsync());
        let start = Instant::now();
        let handler = self.handler.clone();
        // The guests' runtime must drive the instance, and `handle` spawns its task on the runtime
        // that polls it.
        let handled = self.guests.spawn(async move { handler.handle((), request).await }).await;
        drop((turn, permit));
        match handled {
            Ok(Ok(response)) => {
                let (mut head, body) = response.into_parts();
                // Neither side can know whether a client that got no leave to send its body sends it. hyper
                // closes such a connection, too, but says so only if the guest dropped the body before it
                // answered.
                if waits && !asked.load(Ordering::Relaxed) {
                    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(hook) = &self.on_response {
                    hook.see(&head);
                }
                Response::from_parts(head, body)
            }
            // An instance that computes, or waits as those of WASI 0.2 do, does not learn that a request is
            // overdue: it is ended, and the error is that of its end.
            Ok(Err(error)) if error.is::<ExpirationError>() || self.is_overdue(start) => {
                self.log.host(format_args!("{called}: 504, no answer within the request timeout"));
                plain(StatusCode::GATEWAY_TIMEOUT, "")
            }
            Ok(Err(error)) if error.is::<TrapOrPanicError>() => {
                self.log.host(format_args!("{called}: 500, its instance ended before it answered"));
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
            Ok(Err(error)) => {
                self.log.host(format_args!("{called}: 500, {}", describe(&error)));
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
            Err(error) => {
                self.log.host(format_args!("{called}: 500, {error}"));
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }
}

impl Application {
    /// Waits until a request may be with a guest.
    async fn permit(
        &self,
        body: &Incoming,
    ) -> Result<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>), AcquireError> {
        let with_body = match body.is_end_stream() {
            true => None,
            false => Some(self.permits_with_body.acquire().await?),
        };
        Ok((with_body, self.permits.acquire().await?))
    }

    /// True if a request that came in at `start` should have been answered.
    fn is_overdue(&self, start: Instant) -> bool {
        self.request_timeout.is_some_and(|timeout| start.elapsed() >= timeout)
    }
}

/// A request's body that tells whether anybody has asked for it: hyper then sends `100 Continue`.
struct Asked {
    body: Incoming,
    asked: Arc<AtomicBool>,
}

impl Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.asked.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Makes the request's URI absolute, by its `host` header or its own authority, which must not
/// contradict each other.
fn make_absolute(request: &mut Request<Incoming>) -> Result<(), &'static str> {
    let from_header = match request.headers().get(HOST) {
        Some(host) => Some(
            Authority::try_from(host.as_bytes()).map_err(|_| "the host header is not valid\n")?,
        ),
        None => None,
    };
    let mut parts = request.uri().clone().into_parts();
    let authority = match (from_header, parts.authority) {
        (Some(header), Some(own)) if header != own => {
            return Err("the host header contradicts the request's URI\n");
        }
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return Err("the request has no host header\n"),
    };
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| "the request's URI is not valid\n")?;
    Ok(())
}
