//! The targets: what reads bytes that anybody may send.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;

use fuzz::{explore, seeds};
use hand_gesture_api::body::BodyKind;
use hand_gesture_api::media;
use hand_gesture_api::problem::Problem;
use hand_gesture_api::service::{Answer, Arrival, Service, setting_names};
use telemetry::host::{Body, SendError};
use telemetry::settings::Tracing;
use telemetry::{Host, Incoming, Telemetry};
use vision::decode::{Limits, decode as decode_photo};

const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// The photo in a file: [`vision::decode`].
#[test]
fn decode() {
    let seeds: Vec<_> = seeds::all().into_iter().map(|seed| seed.bytes).collect();
    explore("decode", FOLDER, &seeds, 3000, |bytes| {
        let Ok(decoded) = decode_photo(bytes, Limits::DEFAULT) else { return };
        let ((width, height), photo) = (decoded.source_size, &decoded.photo);
        assert_eq!(photo.pixels().len(), 3 * photo.width() * photo.height());
        assert!(u64::from(width) * u64::from(height) <= Limits::DEFAULT.max_pixels);
        assert!(width.max(height) <= Limits::DEFAULT.max_side);
        assert!(photo.width().max(photo.height()) <= width.max(height) as usize);
    });
}

/// The photo in a form or a bare body: a first line with the `Content-Type`, then the body.
#[test]
fn form() {
    explore("form", FOLDER, &forms(), 100_000, |bytes| {
        let (content_type, body) = split(bytes, b"\n");
        let Ok(content_type) = HeaderValue::from_bytes(content_type) else { return };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        let body = Bytes::copy_from_slice(body);
        match BodyKind::of(&headers, u64::MAX).and_then(|kind| kind.photo(body.clone())) {
            // A part of the body, not a copy.
            Ok(photo) => assert!(photo.is_empty() || body.as_ptr_range().contains(&photo.as_ptr())),
            Err(problem) => assert_is_clients(&problem),
        }
        if let Some(content) = media::recognize(&body) {
            assert!(!content.name.is_empty() && content.remedy.ends_with('.'));
        }
    });
}

/// A request as a whole, without models: route, headers, body, answer, and its spans.
#[test]
fn api() {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    let settings = [
        ("cors_allowed_origins", "https://a.example, null"),
        ("user_id_header", "x-user"),
        ("max_body_bytes", "2000"),
        ("otel_exporter_otlp_endpoint", "http://collector:4318"),
    ];
    let service =
        SERVICE.get_or_init(|| Service::start(lookup(&settings), Arc::new(Quiet::new()), None));
    explore("api", FOLDER, &requests(), 30_000, |bytes| {
        let Some(request) = request(bytes) else { return };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let arrival = Arrival { started: SystemTime::UNIX_EPOCH, cold_start: false };
        let answer = service.answer(None, request.map(Full::new), arrival).now_or_never();
        let Answer { response, rest } = answer.expect("nothing to wait for");
        assert_is_meant(&method, &path, &response);
        if let Some(rest) = rest {
            service.discard(rest).now_or_never().expect("nothing to wait for");
        }
        service.export().now_or_never().expect("nothing to wait for");
        assert!(!service.export_is_due());
    });
}

/// The caller's span in the headers: lines of `name: value`.
#[test]
fn trace_context() {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    let telemetry = TELEMETRY.get_or_init(|| {
        let settings = [
            ("otel_exporter_otlp_endpoint", "http://collector:4318"),
            ("otel_propagators", "tracecontext,baggage,b3"),
        ];
        let (tracing, warnings) = Tracing::read("fuzz", lookup(&settings));
        assert_eq!(warnings, Vec::<String>::new());
        let Tracing::On(settings) = tracing else { panic!("off") };
        Telemetry::start(&settings, "fuzz", "0", Arc::new(Quiet::new())).expect("settings")
    });
    explore("trace_context", FOLDER, &contexts(), 100_000, |bytes| {
        let mut headers = HeaderMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            add_header(&mut headers, line);
        }
        let span = telemetry.server_span(Incoming {
            method: &Method::GET,
            uri: &Uri::from_static("/health"),
            headers: &headers,
            route: Some("/health"),
            started: SystemTime::UNIX_EPOCH,
            cold_start: false,
        });
        let mut response = Response::new(());
        span.respond(&mut response);
        drop(span);
        let traceparent = response.headers()["traceparent"].to_str().expect("text");
        let parts: Vec<&str> = traceparent.split('-').collect();
        let [version, trace, id, flags] = parts[..] else { panic!("{traceparent}") };
        let is_hexadecimal =
            |text: &str| text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        assert_eq!((version, trace.len(), id.len(), flags.len()), ("00", 32, 16, 2));
        assert!([trace, id, flags].into_iter().all(is_hexadecimal), "{traceparent}");
        assert!([trace, id].iter().all(|id| id.bytes().any(|byte| byte != b'0')), "{traceparent}");
        telemetry.export().now_or_never().expect("nothing to wait for");
    });
}

/// The settings: lines of `name=value`.
#[test]
fn settings() {
    explore("settings", FOLDER, &setting_lines(), 20_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let pairs: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let host = Arc::new(Quiet::new());
        Service::start(lookup(&pairs), host.clone(), None);
        let log = host.log.lock().expect("no panic");
        assert!(log.last().is_some_and(|line| line.contains("traces: ")), "{log:?}");
        // A warning for each at most, and a line about tracing.
        assert!(log.len() <= setting_names().count() + 1, "{log:?}");
    });
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    match bytes.windows(at.len()).position(|window| window == at) {
        Some(place) => (&bytes[..place], &bytes[place + at.len()..]),
        None => (bytes, &[]),
    }
}

fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// Adds a line of `name: value` as a server takes it.
fn add_header(headers: &mut HeaderMap, line: &[u8]) {
    let (name, value) = split(line, b":");
    let name = HeaderName::from_bytes(name.trim_ascii());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
        headers.append(name, value);
    }
}

/// Reads a request: method and path, headers, an empty line, the body.
fn request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let (head, body) = split(bytes, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, path) = split(lines.next()?, b" ");
    let mut request = Request::new(Bytes::copy_from_slice(body));
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(path).ok()?;
    lines.for_each(|line| add_header(request.headers_mut(), line));
    Some(request)
}

fn assert_is_clients(problem: &Problem) {
    assert!(problem.status().is_client_error(), "{problem:?}");
    assert!(problem.to_string().ends_with('.'), "{problem}");
}

fn assert_is_meant(method: &Method, path: &str, response: &Response<Bytes>) {
    let (status, body) = (response.status().as_u16(), response.body());
    let about = format!("{method} {path}: {status} {body:?}");
    assert!([200, 204, 400, 404, 405, 413, 415, 500].contains(&status), "{about}");
    // There are no models, which is the service's own failure.
    assert_eq!(status == 500, status > 415, "{about}");
    if status == 500 {
        assert_eq!((method, path), (&Method::POST, "/predict"), "{about}");
    }
    if method != Method::HEAD && status != 204 {
        let length = response.headers()[CONTENT_LENGTH].to_str().expect("text");
        assert_eq!(length, body.len().to_string(), "{about}");
        let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        let is_problem = response.headers()[CONTENT_TYPE] == "application/problem+json";
        assert_eq!(is_problem, status >= 400, "{about}");
        assert!(!is_problem || json["status"] == status, "{about}");
    }
}

/// A host whose time stands still, whose collector takes everything, and which keeps its log.
#[derive(Debug)]
struct Quiet {
    start: Instant,
    log: Mutex<Vec<String>>,
}

impl Quiet {
    fn new() -> Quiet {
        Quiet { start: Instant::now(), log: Mutex::default() }
    }
}

#[async_trait]
impl Host for Quiet {
    fn random(&self) -> u64 {
        7
    }

    fn now(&self) -> Instant {
        self.start
    }

    async fn sleep(&self, _: Duration) {}

    async fn send(&self, _: Request<Bytes>) -> Result<Response<Body>, SendError> {
        Ok(Response::new(Box::pin(stream::empty())))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        let line = line.to_string();
        // One entry is one line, whatever a client or a setting holds.
        assert!(!line.contains(['\n', '\r']), "{line:?}");
        self.log.lock().expect("no panic").push(line);
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn forms() -> Vec<Vec<u8>> {
    let mut forms = texts(&[
        "multipart/form-data; boundary=edge\n--edge\r\nContent-Disposition: form-data; name=\"file\"; \
         filename=\"v.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\u{0}JFIF\r\n--edge--\r\n",
        "multipart/form-data; boundary=\"b/Qe:f\"\n--b/Qe:f\nContent-Disposition: form-data; name=\"user\"\n\n\
         ada\n--b/Qe:f\nContent-Disposition: form-data; name=\"image\"; filename*=UTF-8''h%C3%A4nd.jpg\n\n\
         photo\n--b/Qe:f--",
        "Multipart/Mixed; boundary=----=_Part_1_2.3; charset=utf-8\nBefore\r\n------=_Part_1_2.3\r\n\
         content-type: image/png;\r\n x=y\r\n\r\n\r\n------=_Part_1_2.3  \r\n\r\n\r\n------=_Part_1_2.3--",
        "multipart/form-data\n--edge\r\n\r\n",
        "image/jpeg\n\u{0}",
        "text/plain; charset=utf-8\ndata:image/jpeg;base64,/9j/4AAQSkZJRgABAQ==",
        "application/json\n{\"image\": \"/9j/\"}",
        "image/heic\n\u{0}\u{0}\u{0}\u{18}ftypheic\u{0}\u{0}\u{0}\u{0}mif1heic",
        "application/x-www-form-urlencoded\nimage=%ff%d8%ff",
        "\n<!DOCTYPE html><svg",
    ]);
    // One that holds a photo, which is no text.
    let photo = seeds::all().into_iter().find(|seed| seed.name == "jpeg-grey").expect("a seed");
    let head =
        b"multipart/form-data; boundary=edge\n--edge\r\nContent-Disposition: form-data\r\n\r\n";
    forms.push([&head[..], &photo.bytes, b"\r\n--edge--"].concat());
    forms
}

fn requests() -> Vec<Vec<u8>> {
    texts(&[
        "GET /\nhost: a.example\nuser-agent: curl/8.16.0\naccept: */*\n\n",
        "HEAD /health?deep=1\nhost: [::1]:3000\norigin: https://a.example\n\n",
        "OPTIONS /predict\norigin: https://a.example\naccess-control-request-method: POST\n\
         access-control-request-headers: content-type, x-user\n\n",
        "GET /openapi.json\norigin: null\n\n",
        "POST /predict\ncontent-type: image/jpeg\ncontent-length: 3\nx-user: ada\n\nabc",
        "POST /predict\ncontent-type: multipart/form-data; boundary=edge\nexpect: 100-continue\n\n\
         --edge\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc\r\n--edge--\r\n",
        "POST /predict\ncontent-encoding: gzip, identity\ncontent-length: 99999\n\nabc",
        "PUT /nothing\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n",
        "POST http://a.example:80/predict\ncontent-type: image/*\n\n<html>",
    ])
}

fn contexts() -> Vec<Vec<u8>> {
    texts(&[
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\
         tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,t@v=a b\n\
         baggage: user=ada%20l;secret;level=2, empty=, =none",
        "traceparent: cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more\ntracestate: a=1\n\
         tracestate: b=2,,c=3",
        "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-05e3ac9a4f6e3b90",
        "b3: 0",
        "x-b3-traceid: 463ac35c9f6413ad\nx-b3-spanid: a2fb4a1d1a96d312\nx-b3-sampled: 1\nx-b3-flags: 1",
        "traceparent: ff-00000000000000000000000000000000-0000000000000000-ff",
        "user-agent: a\u{e9}\nhost: user@a.example:99999",
    ])
}

fn setting_lines() -> Vec<Vec<u8>> {
    texts(&[
        "max_pixels=1e6\nmax_side= 300 \nmax_ratio=\"5\"\nlow_confidence_threshold=.5\nmax_body_bytes=1_000",
        "cors_allowed_origins=https://a.example:443/, HTTP://[::1]:80,*\nuser_id_header=X-User",
        "otel_exporter_otlp_endpoint=http://collector:4318\notel_exporter_otlp_headers=api-key=hunter2,a=b%20c\n\
         otel_exporter_otlp_compression=gzip\notel_exporter_otlp_protocol=http/protobuf",
        "jaeger_collector_host=::1\notel_traces_sampler=ParentBased_TraceIdRatio\notel_traces_sampler_arg=0.1",
        "enable_tracing=TRUE\notel_propagators=b3,tracecontext,none\notel_traces_exporter=otlp,none",
        "otel_exporter_otlp_traces_endpoint=https://ada:hunter2@collector/v1/traces?key=hunter2\n\
         otel_resource_attributes=service.name=one,deployment.environment.name=a%2Cb,=,%zz\n\
         trace_excluded_routes=/health,/\njaeger_hostname=pod-1\ntrace_retry_budget=99999999",
        "otel_sdk_disabled=maybe\njaeger_agent_host=a\nmax_pixels=\nmax_side=99999999999999999999",
    ])
}
