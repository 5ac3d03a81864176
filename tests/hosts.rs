//! The component on hosts that others wrote: `wasmtime serve`, wasmCloud, and the Spin that is installed.
//! Answers, refusals and traces are those that the development host gives, which serves the component of
//! WASI alone here, too.

#[path = "../crates/vision/tests/files/mod.rs"]
mod files;
mod odd;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpStream};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use files::worst::{self, Worst};
use host::collector::{Behaviour, Collector};
use host::trace::Span;
use http::StatusCode;
use serde_json::{Value, json};
use test_support::bad_collector::response;
use test_support::photo_server::{PhotoServer, Reply};
use test_support::service::{Answer, FEEDBACK_TOKEN, OtherHost, Service, photo, plain_png};
use test_support::traces::{assert_trace, collector, spans, wait_until};
use test_support::{folder, root};

/// Returns the spans as those of a cold start. If instances are reused, the first prediction may come to the one that
/// answered the health check with which the start was awaited.
fn as_cold_start(spans: &[Span], reused: bool) -> Vec<Span> {
    let mut spans = spans.to_vec();
    let root = spans.iter_mut().find(|span| span.kind == "SERVER").expect("a root");
    if reused {
        root.attributes.insert("faas.coldstart".into(), "true".into());
    }
    spans
}

/// Spans of a prediction that finds the hand with one pass of each model: `prediction.txt`.
const LETTER: usize = 8;

#[test]
fn wasmtime_serves_the_component() {
    check(OtherHost::Wasmtime);
    ipv6_collector_gets_the_spans(OtherHost::Wasmtime);
    no_span_is_sent(OtherHost::Wasmtime);
}

#[test]
fn wasmcloud_serves_the_component() {
    check(OtherHost::Wasmcloud);
    ipv6_collector_gets_the_spans(OtherHost::Wasmcloud);
    no_span_is_sent(OtherHost::Wasmcloud);
}

/// The development host gives that component its settings as environment variables.
#[test]
fn development_host_serves_the_component_of_wasi_alone() {
    let collector = collector();
    let mut settings = settings(&collector.endpoint());
    settings.push(("collector_allowed_host", collector.endpoint()));
    let variables: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let service = Service::start_wasi(&variables);
    prediction_is_traced(&service, &collector, false);
    odd_inputs_are_answered(&service);
    retry_after_of_any_length_is_survived(&service, &collector);
    odd_settings_are_taken(&service);
}

/// Spin with the component for WASI 0.3.
mod on_spin {
    use super::*;

    #[test]
    fn component_is_served() {
        check(OtherHost::Spin);
    }

    #[test]
    fn instance_serves_many_requests() {
        let (instances, cold) = instances_of_requests(OtherHost::Spin);
        // Spin takes another one if the first one is not yet done with the request before.
        assert!(instances.len() <= REQUESTS / 2, "{instances:?}");
        // The health check may have been a cold start.
        assert!((instances.len() - 1..=instances.len()).contains(&cold), "{cold}: {instances:?}");
    }

    #[test]
    fn collector_is_reached_by_its_ipv6_address() {
        ipv6_collector_gets_the_spans(OtherHost::Spin);
    }

    #[test]
    fn tracing_that_is_off_sends_nothing() {
        no_span_is_sent(OtherHost::Spin);
    }

    #[test]
    fn tracing_of_spin_itself_leaves_the_trace_whole() {
        spin_traces_too(OtherHost::Spin);
    }

    #[test]
    fn corrections_survive_a_killed_host() {
        corrections_outlive_a_host(OtherHost::Spin);
    }

    #[test]
    fn memory_of_128_mib_is_enough() {
        limited_memory_is_enough(OtherHost::Spin);
    }
}

/// Spin with the component for WASI 0.2.
mod on_spin_p2 {
    use super::*;

    #[test]
    fn component_is_served() {
        check(OtherHost::SpinP2);
    }

    #[test]
    fn instance_serves_one_request() {
        let (instances, cold) = instances_of_requests(OtherHost::SpinP2);
        assert_eq!((instances.len(), cold), (REQUESTS, REQUESTS), "{instances:?}");
    }

    #[test]
    fn collector_is_reached_by_its_ipv6_address() {
        ipv6_collector_gets_the_spans(OtherHost::SpinP2);
    }

    #[test]
    fn tracing_that_is_off_sends_nothing() {
        no_span_is_sent(OtherHost::SpinP2);
    }

    #[test]
    fn tracing_of_spin_itself_leaves_the_trace_whole() {
        spin_traces_too(OtherHost::SpinP2);
    }

    #[test]
    fn corrections_survive_a_killed_host() {
        corrections_outlive_a_host(OtherHost::SpinP2);
    }

    #[test]
    fn memory_of_128_mib_is_enough() {
        limited_memory_is_enough(OtherHost::SpinP2);
    }
}

/// The settings that all hosts are tested with. Some are as people write them, not as they should.
fn settings(endpoint: &str) -> Vec<(&'static str, String)> {
    [
        ("otel_exporter_otlp_endpoint", format!("{endpoint}/v1/traces")),
        ("otel_traces_exporter", "OTLP".to_owned()),
        ("otel_traces_sampler", "ParentBased_Always_On".to_owned()),
        ("trace_excluded_routes", "/health,/,/feedback".to_owned()),
        ("cors_allowed_origins", "https://page.example".to_owned()),
        ("user_id_header", "X-User-Id".to_owned()),
        ("max_body_bytes", "10485760".to_owned()),
    ]
    .into()
}

fn odd_inputs_are_answered(service: &Service) {
    odd::inputs_are_answered(service);
    odd::preflight_allows_the_users_header(service, "https://page.example");
    odd::oversized_body_gets_the_413(service);
    odd::curl_and_python_read_the_413(service);
}

/// Checks everything on one server: each start of these hosts compiles the component.
fn check(host: OtherHost) {
    let collector = collector();
    let photos = photo_server();
    let mut settings = settings(&collector.endpoint());
    if host.is_spin() {
        // Spin lets a component send to what its manifest allows. This variable names it.
        settings.push(("collector_allowed_host", collector.endpoint()));
        // The component for WASI 0.3 waits for 90 s by default, and later spans wait with it.
        settings.push(("trace_retry_budget", "5000".to_owned()));
    }
    settings.extend([
        ("photo_url_allowed_host", photos.origin()),
        ("photo_url_allow_private", "true".to_owned()),
        ("photo_url_timeout", "1500".to_owned()),
        ("feedback", "true".to_owned()),
        ("feedback_token", FEEDBACK_TOKEN.to_owned()),
    ]);
    let variables: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let service = Service::start_on(host, &variables);
    prediction_is_traced(&service, &collector, instances_are_reused(host));
    caller_becomes_the_parent(&service, &collector);
    sample_photos_get_their_letters(&service);
    routes_and_headers_are_answered(&service);
    bad_input_is_refused(&service);
    if host.is_spin() {
        corrections_are_kept(&service);
    } else {
        corrections_are_refused(&service);
    }
    photo_is_fetched_by_its_url(&service, &collector, &photos);
    callers_who_leave_harm_nobody(&service);
    concurrent_predictions_are_answered(&service);
    odd_inputs_are_answered(&service);
    busy_collector_gets_every_span_later(&service, &collector);
    retry_after_of_any_length_is_survived(&service, &collector);
    odd_settings_are_taken(&service);
}

/// Requests of which each one is sent after the one before.
const REQUESTS: usize = 10;

/// Returns the ids of the instances that served some requests, and the number of cold starts.
fn instances_of_requests(host: OtherHost) -> (HashSet<String>, usize) {
    let collector = collector();
    let service = start_traced(host, &collector, &[], |_| {});
    for _ in 0..REQUESTS {
        assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
    }
    let spans = spans(&collector, REQUESTS * LETTER);
    let roots: Vec<_> = spans.iter().filter(|span| span.kind == "SERVER").collect();
    assert_eq!(roots.len(), REQUESTS);
    let instances: HashSet<_> =
        roots.iter().map(|span| span.resource["faas.instance"].clone()).collect();
    let cold = roots.iter().filter(|span| span.attributes["faas.coldstart"] == "true").count();
    (instances, cold)
}

/// Starts a host with the component's spans sent to a collector.
fn start_traced(
    host: OtherHost,
    collector: &Collector,
    more: &[(&str, &str)],
    change: impl FnOnce(&mut Command),
) -> Service {
    let endpoint = collector.endpoint();
    let own = [
        ("otel_exporter_otlp_endpoint", endpoint.as_str()),
        ("collector_allowed_host", endpoint.as_str()),
        // The start is awaited by health checks.
        ("trace_excluded_routes", "/health"),
    ];
    Service::start_on_with(host, &[&own, more].concat(), change)
}

/// A machine without IPv6 cannot run this.
fn ipv6_collector_gets_the_spans(host: OtherHost) {
    // The tests of several hosts run at once, and the port is the one that the setting means.
    static PORT: Mutex<()> = Mutex::new(());
    let _alone = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let spans_of = |collector| as_cold_start(&spans(collector, LETTER), instances_are_reused(host));
    let Ok(collector) = Collector::start((Ipv6Addr::LOCALHOST, 0).into(), |_| {}) else {
        return;
    };
    let service = start_traced(host, &collector, &[], |_| {});
    service.predict("image/jpeg", &photo("v.jpg"));
    assert_trace(&spans_of(&collector), "prediction");

    let Ok(collector) = Collector::start((Ipv6Addr::LOCALHOST, 4318).into(), |_| {}) else {
        return;
    };
    let settings = [("jaeger_collector_host", "::1"), ("trace_excluded_routes", "/health")];
    let service = Service::start_on(host, &settings);
    service.predict("image/jpeg", &photo("v.jpg"));
    assert_trace(&spans_of(&collector), "prediction");
}

fn no_span_is_sent(host: OtherHost) {
    for (name, value) in [("otel_traces_sampler", "ALWAYS_OFF"), ("otel_traces_exporter", "None")] {
        let collector = collector();
        let service = start_traced(host, &collector, &[(name, value)], |_| {});
        let answer = service.predict("image/jpeg", &photo("v.jpg"));
        assert_eq!(answer.json()["prediction"], "V");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!((collector.requests(), collector.spans().len()), (0, 0), "{name}={value}");
        let log = service.whole_log();
        assert!(!log.iter().any(|line| line.contains("setting ")), "{log:?}");
    }
}

/// Spin's own tracing is on. Its spans are in traces of their own, and it writes its own `traceparent` over
/// the component's when that fetches a photo: what the server sees is a span of Spin's.
fn spin_traces_too(host: OtherHost) {
    let (collector, of_spin) = (collector(), collector());
    let photos = photo_server();
    let allowed = [
        ("photo_url_allowed_host", photos.origin()),
        ("photo_url_allow_private", "true".to_owned()),
    ];
    let allowed: Vec<_> = allowed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let service = start_traced(host, &collector, &allowed, |spin| {
        spin.env("OTEL_EXPORTER_OTLP_ENDPOINT", of_spin.endpoint());
    });
    let body = format!("{{\"url\": \"{}/v.jpg\"}}", photos.origin());
    let answer = service.send("POST", "/predict", &[], Some(body.as_bytes()));
    assert_eq!(answer.json()["prediction"], "V");
    let spans = spans(&collector, LETTER + 1);
    assert_eq!(spans.len(), LETTER + 1);
    assert!(spans.iter().all(|span| span.trace_id == answer.json()["trace_id"]), "{spans:?}");
    let client = spans.iter().find(|span| span.kind == "CLIENT").expect("a request");
    let head = photos.heads().pop().expect("a request");
    let told = head.split_once("traceparent: ").expect("a parent").1;
    let (trace, parent) = (&told[3..35], &told[36..52]);
    assert!(trace != client.trace_id && parent != client.span_id, "{told}");
    let is_told = |span: &Span| span.trace_id == trace && span.span_id == parent;
    wait_until(|| of_spin.spans().iter().any(is_told), || format!("{told} of Spin"));
}

/// Corrections that were answered are in the export of the Spin that is started afterwards.
fn corrections_outlive_a_host(host: OtherHost) {
    const CORRECTIONS: usize = 20;
    let state = folder(&format!("spin-killed-{host:?}"));
    let settings = [("feedback", "true"), ("feedback_token", FEEDBACK_TOKEN)];
    let start = || {
        Service::start_on_with(host, &settings, |spin| {
            spin.arg("--state-dir").arg(&state);
        })
    };
    let service = start();
    let mut answer = service.predict("image/jpeg", &photo("v.jpg")).json();
    for number in 0..CORRECTIONS {
        answer["trace_id"] = json!(format!("{:032x}", number + 1));
        assert_eq!(correct(&service, &answer, "U").status, 200);
    }
    service.kill();
    assert_eq!(start().corrections().len(), CORRECTIONS);
}

/// As much as Akamai Functions gives an instance.
fn limited_memory_is_enough(host: OtherHost) {
    let memory = (128 << 20).to_string();
    let service = Service::start_on_with(host, &[], |spin| {
        spin.env("SPIN_MAX_INSTANCE_MEMORY", &memory);
    });
    for make in worst::ALL {
        let Worst { name, file, whole } = make();
        let answer = service.predict("application/octet-stream", &file);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == 200 || !whole && answer.status == 422, "{name}: {text}");
    }
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
}

/// WASI has no database: the setting is refused in the log, and the route answers.
fn corrections_are_refused(service: &Service) {
    let answer = service.send("POST", "/feedback", &[], Some(b"{}"));
    assert_eq!((answer.status, answer.header("content-type")), (501, "application/problem+json"));
    let log = service.whole_log();
    assert!(log.iter().any(|line| line.contains("setting feedback: ")), "{log:?}");
}

/// Spin has a database for the component.
fn corrections_are_kept(service: &Service) {
    let answer = service.predict("image/jpeg", &photo("v.jpg")).json();
    let id = answer["trace_id"].as_str().expect("an id").to_owned();
    for label in ["U", "K"] {
        let answer = correct(service, &answer, label);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["stored"], json!({"trace_id": id, "label": label}));
    }
    // The second label replaces the first one.
    let lines = service.corrections();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["trace_id"], &lines[0]["label"]), (&json!(id), &json!("K")));
    assert_eq!(lines[0]["hand"]["landmarks"], answer["hand"]["landmarks"]);
    assert_eq!(service.send("GET", "/feedback/export", &[], None).status, 401);
    let path = format!("/feedback/{id}");
    assert_eq!(service.send("DELETE", &path, &[], None).status, 200);
    assert_eq!(service.send("DELETE", &path, &[], None).status, 404);
    assert_eq!(service.corrections(), Vec::<Value>::new());
}

/// Corrects an answer to `v.jpg`, which is a square.
fn correct(service: &Service, answer: &Value, label: &str) -> Answer {
    let mut body = answer.clone();
    body["label"] = json!(label);
    body["aspect"] = json!(1);
    service.send("POST", "/feedback", &[], Some(body.to_string().as_bytes()))
}

/// True if an instance serves more than one request: in WASI 0.3.
fn instances_are_reused(host: OtherHost) -> bool {
    host == OtherHost::Spin
}

fn prediction_is_traced(service: &Service, collector: &Collector, reused: bool) {
    let answer = service.predict("image/jpeg", &photo("v.jpg"));
    let spans = spans(collector, LETTER);
    assert_trace(&as_cold_start(&spans, reused), "prediction");
    assert_eq!(answer.json()["trace_id"], spans[0].trace_id);
    let instances: Vec<_> =
        spans.iter().filter_map(|span| span.attributes.get("faas.instance")).collect();
    assert!(instances.len() <= 1, "{instances:?}");
}

fn caller_becomes_the_parent(service: &Service, collector: &Collector) {
    let before = collector.spans().len();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", parent), ("content-type", "image/jpeg")];
    let answer = service.send("POST", "/predict", &headers, Some(&photo("a.jpg")));
    assert_eq!(answer.json()["prediction"], "A");
    let spans = spans(collector, before + LETTER);
    for span in &spans[before..] {
        assert_eq!(span.trace_id, "0af7651916cd43dd8448eb211c80319c");
    }
}

fn sample_photos_get_their_letters(service: &Service) {
    let table = std::fs::read_to_string(root().join("tests/photos/expected.csv")).expect("a table");
    let mut photos = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        let answer = service.predict("image/jpeg", &photo(cells[0]));
        assert_eq!(
            (answer.status, &answer.json()["prediction"]),
            (200, &cells[3].into()),
            "{line}"
        );
        photos += 1;
    }
    assert_eq!(photos, 30);
    let grey = service.predict("image/png", &plain_png(96, 64, [128; 3]));
    assert_eq!((grey.status, grey.json()["prediction"].is_null()), (200, true));
}

fn routes_and_headers_are_answered(service: &Service) {
    assert_eq!(service.get("/health").json()["tracing"], "enabled");
    assert_eq!(service.get("/openapi.json").json()["openapi"], "3.1.0");
    assert_eq!(service.get("/?page=1").json()["name"], "hand-gesture-api");
    let head = service.send("HEAD", "/health", &[], None);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let preflight = [
        ("origin", "https://page.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = service.send("OPTIONS", "/predict", &preflight, None);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://page.example");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
}

fn bad_input_is_refused(service: &Service) {
    let jpeg = photo("v.jpg");
    for (path, media_type, body, status) in [
        ("/nothing", "image/jpeg", &jpeg[..], 404),
        ("/health", "image/jpeg", &jpeg, 405),
        ("/predict", "multipart/form-data", &jpeg, 400),
        ("/predict", "image/jpeg", &jpeg[..2000], 422),
        ("/predict", "image/png", b"\x89PNG\r\n\x1a\n", 422),
        ("/predict", "image/jpeg", &vec![0; 10_485_761], 413),
    ] {
        let answer = service.send("POST", path, &[("content-type", media_type)], Some(body));
        let about = format!("{path} {media_type}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.status, status, "{about}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{about}");
    }
    let mut random = Rng::with_seed(14);
    for _ in 0..40 {
        let mut broken = jpeg.clone();
        for _ in 0..20 {
            let at = random.usize(..broken.len());
            broken[at] = random.u8(..);
        }
        let status = service.predict("image/jpeg", &broken).status;
        assert!([200, 422].contains(&status), "{status}");
    }
}

/// Starts a server with a photo, and answers that are none.
fn photo_server() -> PhotoServer {
    PhotoServer::start(|_| {
        let whole = response("200 OK", &[], &photo("v.jpg"));
        let to = |place: &str| Reply::Bytes(response("302 Found", &[("location", place)], b""));
        let large = b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_vec();
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n".to_vec();
        vec![
            ("/ends", Reply::Bytes(whole[..whole.len() / 2].to_vec())),
            ("/stalls", Reply::Stall(whole[..whole.len() / 2].to_vec())),
            ("/silent", Reply::Stall(Vec::new())),
            ("/large", Reply::Flood(large, 100 << 20)),
            ("/endless", Reply::Flood(chunked, 100 << 20)),
            ("/moved", to("/v.jpg")),
            ("/elsewhere", to("http://127.0.0.1:1/v.jpg")),
            ("/v.jpg", Reply::Bytes(whole)),
        ]
    })
}

fn photo_is_fetched_by_its_url(service: &Service, collector: &Collector, photos: &PhotoServer) {
    // What was still on its way arrives before.
    std::thread::sleep(Duration::from_secs(1));
    let before = collector.spans().len();
    let send = |path: &str| {
        let body = format!("{{\"url\": \"{}{path}\"}}", photos.origin());
        service.send("POST", "/predict", &[], Some(body.as_bytes()))
    };
    let answer = send("/moved").json();
    assert_eq!(answer["prediction"], "V", "{answer}");
    let spans = spans(collector, before + LETTER + 2);
    let trace = &spans[before..];
    let root = trace.iter().find(|span| span.kind == "SERVER").expect("a root");
    let clients: Vec<_> = trace.iter().filter(|span| span.kind == "CLIENT").collect();
    assert_eq!((clients.len(), photos.heads().len()), (2, 2));
    for (head, span) in photos.heads().iter().zip(clients) {
        assert_eq!(span.parent_span_id, root.span_id);
        let parent = format!("\r\ntraceparent: 00-{}-{}-01\r\n", span.trace_id, span.span_id);
        assert!(head.contains(&parent), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
    for (path, status) in [
        ("/missing", 502),
        ("/ends", 502),
        ("/stalls", 504),
        ("/silent", 504),
        ("/large", 413),
        ("/endless", 413),
        ("/elsewhere", 403),
    ] {
        let answer = send(path);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}: {text}");
    }
    assert!(photos.flooded() < 100 << 20, "{}", photos.flooded());
}

/// Callers who leave before their request or their answer is complete.
fn callers_who_leave_harm_nobody(service: &Service) {
    let jpeg = photo("v.jpg");
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    for sent in [jpeg.len() / 2, jpeg.len()] {
        let mut stream = TcpStream::connect(service.address()).expect("a connection");
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(&jpeg[..sent]).expect("sent");
        _ = stream.shutdown(Shutdown::Both);
    }
    let mut stream = TcpStream::connect(service.address()).expect("a connection");
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn concurrent_predictions_are_answered(service: &Service) {
    let jpeg = photo("l.jpg");
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..8).map(|_| scope.spawn(|| service.predict("image/jpeg", &jpeg))).collect();
        for client in clients {
            let answer = client.join().expect("no panic");
            assert_eq!((answer.status, &answer.json()["prediction"]), (200, &"L".into()));
        }
    });
}

/// Each instance sends its own spans, after its answer.
fn busy_collector_gets_every_span_later(service: &Service, collector: &Collector) {
    // What was still on its way arrives before.
    std::thread::sleep(Duration::from_secs(1));
    let (before, requests) = (collector.spans().len(), collector.requests());
    collector.behave(Behaviour::Refuse(StatusCode::SERVICE_UNAVAILABLE, Some("1".into())));
    let answer = service.predict("image/jpeg", &photo("y.jpg"));
    assert_eq!(answer.json()["prediction"], "Y");
    wait_until(|| collector.requests() > requests, || "no export".into());
    collector.behave(Behaviour::Accept);
    wait_until(
        || collector.spans().len() >= before + LETTER,
        || format!("{} spans more", collector.spans().len() - before),
    );
}

/// The wait ends with the budget, and nothing traps.
fn retry_after_of_any_length_is_survived(service: &Service, collector: &Collector) {
    for value in ["18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT", "-1"] {
        let requests = collector.requests();
        collector.behave(Behaviour::Refuse(StatusCode::SERVICE_UNAVAILABLE, Some(value.into())));
        let answer = service.predict("image/jpeg", &photo("y.jpg"));
        assert_eq!(answer.json()["prediction"], "Y", "{value}");
        wait_until(|| collector.requests() > requests, || format!("{value}: no export"));
        collector.behave(Behaviour::Accept);
        let before = collector.spans().len();
        let answer = service.predict("image/jpeg", &photo("y.jpg"));
        assert_eq!(answer.json()["prediction"], "Y", "{value}");
        wait_until(|| collector.spans().len() >= before + LETTER, || format!("{value}: no spans"));
    }
}

/// Spans came, so the settings were taken; what is odd about them is in the log.
fn odd_settings_are_taken(service: &Service) {
    let log = service.whole_log();
    let named = |words: &str| log.iter().any(|line| line.contains(words));
    assert!(named("otel_exporter_otlp_endpoint: the path /v1/traces would be doubled"), "{log:?}");
    for name in ["otel_traces_exporter", "otel_traces_sampler", "user_id_header"] {
        assert!(!named(&format!("setting {name}: ")), "{log:?}");
    }
}
