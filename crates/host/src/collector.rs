//! A collector of spans for development and tests: OTLP over HTTP, protobuf, kept in memory.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use wasmtime_wasi_http::io::TokioIo;

use crate::trace::Span;

/// Bytes of a request, unpacked: the default limit of OpenTelemetry's own collector.
const MAX_REQUEST: usize = 20 * 1024 * 1024;

/// The way in which a collector treats requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Accepts them.
    Accept,
    /// Accepts them after a while.
    Delay(Duration),
    /// Refuses them with a status and, if there is one, a `Retry-After`.
    Refuse(StatusCode, Option<String>),
    /// Reports that it has rejected so many spans, with a message. It keeps them all.
    Partly(i64, String),
    /// Reads them and cuts the connection.
    Cut,
    /// Reads them and never answers.
    Silence,
    /// Accepts them and answers with something that is not OTLP.
    Garbage,
}

/// A request that was accepted.
#[derive(Debug, Clone)]
pub struct Export {
    /// The request's headers.
    pub headers: HeaderMap,
    /// The spans in it.
    pub spans: Vec<Span>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    exports: Mutex<Vec<Export>>,
    requests: AtomicUsize,
    on_export: Box<dyn Fn(&Export) + Send + Sync>,
}

/// A collector on a thread of its own. It ends when this is dropped.
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Collector {
    /// Starts a collector on `address` that shows every accepted request to `on_export`.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on.
    pub fn start(
        address: SocketAddr,
        on_export: impl Fn(&Export) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("collector")
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Accept),
            exports: Mutex::new(Vec::new()),
            requests: Default::default(),
            on_export: Box::new(on_export),
        });
        runtime.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Returns its endpoint: `http://127.0.0.1:4318`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the way in which it treats requests from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// Returns the number of requests so far, accepted or not.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Returns the requests accepted so far, in order.
    pub fn exports(&self) -> Vec<Export> {
        lock(&self.shared.exports).clone()
    }

    /// Returns the spans of all requests accepted so far.
    pub fn spans(&self) -> Vec<Span> {
        self.exports().into_iter().flat_map(|export| export.spans).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => _ = tokio::spawn(serve(stream, shared.clone())),
            // Too many open files, most likely: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(request, shared.clone()));
    // A client went away, or was cut off. Neither is worth a report.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Makes hyper cut the connection.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    // An endpoint may have a path in front.
    if !head.uri.path().ends_with("/v1/traces") {
        return Ok(status(StatusCode::NOT_FOUND));
    }
    if head.method != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    if head.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return Ok(status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let behaviour = lock(&shared.behaviour).clone();
    match &behaviour {
        Behaviour::Delay(time) => tokio::time::sleep(*time).await,
        Behaviour::Refuse(code, retry_after) => {
            let mut response = status(*code);
            if let Some(value) = retry_after.as_ref().and_then(|text| text.parse().ok()) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            return Ok(response);
        }
        Behaviour::Cut => return Err(Cut),
        Behaviour::Silence => std::future::pending().await,
        Behaviour::Accept | Behaviour::Partly(..) | Behaviour::Garbage => {}
    }
    let Some(spans) = read(&head.headers, &body.to_bytes()) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let export = Export { headers: head.headers, spans };
    (shared.on_export)(&export);
    lock(&shared.exports).push(export);
    let body = match behaviour {
        Behaviour::Garbage => b"<html>Welcome!</html>".to_vec(),
        Behaviour::Partly(rejected_spans, error_message) => ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans, error_message }),
        }
        .encode_to_vec(),
        _ => ExportTraceServiceResponse::default().encode_to_vec(),
    };
    let mut response = Response::new(Full::new(body.into()));
    let kind = HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Returns the spans of a body; `None` if it is not OTLP.
fn read(headers: &HeaderMap, body: &[u8]) -> Option<Vec<Span>> {
    let mut unpacked = Vec::new();
    let body = match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => body,
        Some(b"gzip") => {
            GzDecoder::new(body).take(MAX_REQUEST as u64).read_to_end(&mut unpacked).ok()?;
            &unpacked
        }
        Some(_) => return None,
    };
    Some(crate::trace::spans(ExportTraceServiceRequest::decode(body).ok()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
