//! The component's traces, as a collector receives them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use host::collector::{Behaviour, Collector};
use host::trace::Span;
use http::StatusCode;
use serde_json::json;
use test_support::bad_collector::{Answer as Odd, BadCollector, response};
use test_support::photo_server::{PhotoServer, Reply};
use test_support::service::{
    Answer, FEEDBACK_TOKEN, Service, instances_are_reused, patient, photo, plain_png,
};
use test_support::traces::{assert_trace, collector, service, service_at, spans, wait_until};
use test_support::{folder, root, target};

/// Spans of a prediction that finds the hand with one pass of each model: `prediction.txt`.
const LETTER: usize = 8;
/// Spans of a prediction without a hand: `no-hand.txt`.
const NO_HAND: usize = 6;
/// Spans of a prediction whose photo cannot be decoded: `broken-image.txt`.
const BROKEN: usize = 3;
/// Spans of a health check: `health.txt`.
const HEALTH: usize = 2;

/// Returns a picture without a hand.
fn grey() -> Vec<u8> {
    plain_png(96, 64, [128; 3])
}

/// The context of a caller's span.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns the trace id in an answer's `traceparent`.
fn trace_id(answer: &Answer) -> String {
    let header = answer.header("traceparent");
    let fields: Vec<&str> = header.split('-').collect();
    assert_eq!(fields.len(), 4, "no traceparent: {header:?}");
    fields[1].to_owned()
}

fn root_span(spans: &[Span]) -> &Span {
    spans.iter().find(|span| span.kind == "SERVER").expect("a SERVER span")
}

#[test]
fn prediction_has_a_span_for_each_stage_and_pass() {
    let collector = collector();
    let service = service(&collector, &[]);
    let answer = service.predict("image/jpeg", &photo("v.jpg"));
    let spans = spans(&collector, LETTER);
    assert_trace(&spans, "prediction");
    assert_eq!(answer.json()["trace_id"], spans[0].trace_id);
    assert_eq!(trace_id(&answer), spans[0].trace_id);
    assert!(answer.header("traceparent").contains(&root_span(&spans).span_id));
    assert_eq!(service.log(), Vec::<String>::new());
}

/// A caller that films: the hand is looked for where it was, without palm detection.
#[test]
fn known_hand_takes_one_pass() {
    let collector = collector();
    let service = service(&collector, &[]);
    let first = service.predict("image/jpeg", &photo("v.jpg")).json();
    let place = &first["hand"]["box"];
    let numbers = ["x", "y", "width", "height", "rotation"].map(|name| place[name].to_string());
    let path = format!("/predict?box={}", numbers.join("%2C"));
    let answer = service.send("POST", &path, &[], Some(&photo("v.jpg"))).json();
    assert_eq!(answer["prediction"], "V");
    let spans = spans(&collector, LETTER + LETTER - 1);
    assert_trace(&spans[LETTER..], "known-hand");
}

#[test]
fn other_requests_have_traces_of_their_own() {
    let collector = collector();
    let service = service(&collector, &[]);
    let trace = |count: usize, name: &str| {
        let before = collector.spans().len();
        match name {
            "no-hand" => _ = service.predict("image/png", &grey()),
            "broken-image" => {
                let answer = service.predict("image/jpeg", &photo("v.jpg")[..2000]);
                assert_eq!((answer.status, answer.json()["status"].as_u64()), (422, Some(422)));
                assert_eq!(answer.json()["trace_id"], trace_id(&answer));
            }
            "health" => _ = service.get("/health"),
            "spell" => {
                let landmarks = [[0.5; 3]; 21];
                let frame =
                    |time: u32| json!({"time": time, "landmarks": landmarks, "letter": "D"});
                let frames = json!({"frames": [frame(0), frame(40)]}).to_string();
                let answer = service.send("POST", "/spell", &[], Some(frames.as_bytes()));
                assert_eq!(answer.json()["trace_id"], trace_id(&answer));
            }
            "wrong-type" => _ = service.predict("text/plain", b"hello"),
            "no-such-route" => _ = service.send("BREW", "/coffee", &[], None),
            other => panic!("{other}"),
        }
        let spans = spans(&collector, before + count);
        assert_trace(&spans[before..], name);
    };
    // The first request is another one: the traces compared are not cold starts.
    service.get("/");
    spans(&collector, 1);
    trace(NO_HAND, "no-hand");
    trace(BROKEN, "broken-image");
    trace(HEALTH, "health");
    trace(2, "spell");
    trace(1, "wrong-type");
    trace(1, "no-such-route");
}

/// A database's part of a request: a span for each statement, without values. Each service is a new one, so that
/// its first request makes the table in every world.
#[test]
fn correction_has_a_span_for_each_statement() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let state = folder("traced-corrections");
    let landmarks = vec![[0.25, 0.125, -0.0625]; 21];
    let body = |label: &str| {
        let body = json!({
            "trace_id": TRACE, "label": label, "aspect": 1.5, "prediction": "B", "confidence": 0.61,
            "hand": {"handedness": "Left", "landmarks": landmarks},
            "model": {"name": "asl-letters", "version": "tuned-full-1"},
        });
        body.to_string().into_bytes()
    };
    let own =
        [("feedback", "true"), ("feedback_token", FEEDBACK_TOKEN), ("user_id_header", "x-user")];
    let trace =
        |name: &str, denied: bool, method: &str, path: &str, sent: Option<&[u8]>, count: usize| {
            let collector = collector();
            let endpoint = collector.endpoint();
            let service = service_at(&endpoint, &own, |options| {
                options.state_folder = Some(state.clone());
                if denied {
                    options.sqlite_databases.clear();
                }
            });
            // Neither the token nor the user's id gets into a trace, and the trace is no cold start.
            service.get("/");
            spans(&collector, 1);
            let authorization = format!("Bearer {FEEDBACK_TOKEN}");
            let headers = [("authorization", authorization.as_str()), ("x-user", "ada-lovelace")];
            let answer = service.send(method, path, &headers, sent);
            let all = spans(&collector, 1 + count);
            assert_trace(&all[1..], name);
            let text = format!("{all:?}");
            for secret in ["correct-horse", "ada-lovelace", "0.0625"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
            (answer.status, service.log())
        };
    let quiet = |status| (status, Vec::<String>::new());
    let of_trace = format!("/feedback/{TRACE}");
    let right = body("V");
    let stored = trace("feedback-store", false, "POST", "/feedback", Some(&right), 6);
    assert_eq!(stored, quiet(200));
    let exported = trace("feedback-export", false, "GET", "/feedback/export", None, 6);
    assert_eq!(exported, quiet(200));
    let deleted = trace("feedback-delete", false, "DELETE", &of_trace, None, 5);
    assert_eq!(deleted, quiet(200));
    let unknown = trace("feedback-unknown", false, "DELETE", &of_trace, None, 5);
    assert_eq!(unknown, quiet(404));
    let wrong = body("?");
    let refused = trace("feedback-refused", false, "POST", "/feedback", Some(&wrong), 2);
    assert_eq!(refused, quiet(422));
    let (status, log) = trace("feedback-denied", true, "POST", "/feedback", Some(&right), 3);
    assert!(status == 503 && log.len() == 1 && log[0].contains("sqlite_databases"), "{log:?}");
}

/// The network's part of a request: a span for each request that fetches the photo, which names it to the server.
#[test]
fn photo_at_a_url_has_a_span_for_each_request() {
    let to = [("location", "/v.jpg?sig=hunter2")];
    let server = PhotoServer::start(|_| {
        vec![
            ("/moved", Reply::Bytes(response("301 Moved Permanently", &to, b""))),
            ("/v.jpg", Reply::Bytes(response("200 OK", &[], &photo("v.jpg")))),
            ("/silent", Reply::Stall(Vec::new())),
        ]
    });
    let collector = collector();
    let origin = server.origin();
    let settings = [
        ("photo_url_allowed_host", origin.as_str()),
        ("photo_url_allow_private", "true"),
        ("photo_url_timeout", "1000"),
    ];
    let service = service(&collector, &settings);
    service.get("/");
    spans(&collector, 1);
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1"), ("baggage", "a=b")];
    let send = |path: &str, headers: &[(&str, &str)]| {
        let body = json!({"url": format!("{origin}{path}")}).to_string();
        service.send("POST", "/predict", headers, Some(body.as_bytes()))
    };

    let answer = send("/moved?token=hunter2", &headers);
    assert_eq!(answer.json()["prediction"], "V");
    let all = spans(&collector, 1 + LETTER + 2);
    let trace = &all[1..];
    assert_trace(trace, "photo-url");
    assert!(!format!("{trace:?}").contains("hunter2"), "{trace:?}");
    // Each request names its own span.
    let clients: Vec<_> = trace.iter().filter(|span| span.kind == "CLIENT").collect();
    for (head, span) in server.heads().iter().zip(&clients) {
        let parent = format!("\r\ntraceparent: 00-{}-{}-01\r\n", span.trace_id, span.span_id);
        assert!(head.contains(&parent), "{head}");
        assert!(head.contains("\r\ntracestate: vendor=1\r\n"), "{head}");
        assert!(head.contains("\r\nbaggage: a=b\r\n"), "{head}");
    }
    let prediction = trace.iter().find(|span| span.name == "asl_prediction").expect("a prediction");
    assert!(clients.iter().all(|span| span.end <= prediction.start), "the photo comes first");

    let before = all.len();
    assert_eq!(send("/missing", &[]).status, 502);
    let all = spans(&collector, before + 2);
    assert_trace(&all[before..], "photo-url-missing");
    let before = all.len();
    assert_eq!(send("/silent", &[]).status, 504);
    let all = spans(&collector, before + 2);
    assert_trace(&all[before..], "photo-url-timeout");
    let client = all[before..].iter().find(|span| span.kind == "CLIENT").expect("a CLIENT span");
    assert!(client.duration() >= Duration::from_millis(1000), "{:?}", client.duration());

    // A trace that is not sampled is named, too; the flag says that nothing is recorded.
    let parent = PARENT.replace("-01", "-00");
    assert_eq!(send("/v.jpg", &[("traceparent", &parent)]).status, 200);
    let head = server.heads().pop().expect("a request");
    let (_, told) = head.split_once("traceparent: ").expect("a parent");
    let told = told.lines().next().unwrap_or_default();
    assert!(told.starts_with(&parent[..36]) && told.ends_with("-00"), "{told}");
    assert_eq!(service.log(), Vec::<String>::new());
}

/// The compiled component, before the models are frozen into it.
#[test]
fn component_without_models_traces_its_error() {
    let collector = collector();
    let service = service_at(&collector.endpoint(), &[], |options| {
        let file = target().join("wasm32-wasip2/release/examples/spin.wasm");
        options.component = file;
    });
    assert_eq!(service.predict("image/png", &grey()).status, 500);
    assert_trace(&spans(&collector, 2), "server-error");
}

#[test]
fn caller_span_becomes_the_parent() {
    let collector = collector();
    let service = service(&collector, &[]);
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1"), ("baggage", "a=b")];
    service.get("/");
    spans(&collector, 1);
    let answer = service.send("GET", "/health", &headers, None);
    assert_eq!(trace_id(&answer), "0af7651916cd43dd8448eb211c80319c");
    let spans = spans(&collector, 3);
    assert_trace(&spans[1..], "parent-from-outside");
    let root = root_span(&spans[1..]);
    assert_eq!(root.trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(root.parent_span_id, "b7ad6b7169203331");
    assert_eq!(root.trace_state, "vendor=1");
}

/// W3C Trace Context: a malformed header is ignored and is no error.
#[test]
fn malformed_parent_is_ignored() {
    let collector = collector();
    let service = service(&collector, &[]);
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let ignored = [
        String::new(),
        "00".into(),
        format!("00-{trace}-{span}"),
        format!("00-{trace}-{span}-01-more"),
        format!("ff-{trace}-{span}-01"),
        format!("0-{trace}-{span}-01"),
        format!("00-{}-{span}-01", trace.to_uppercase()),
        format!("00-{}-{span}-01", "0".repeat(32)),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{}-{span}-01", &trace[1..]),
        format!("00-{trace}-{span}-1"),
        format!("00-{trace}-{span}-0x"),
    ];
    for parent in &ignored {
        let answer = service.send("GET", "/health", &[("traceparent", parent)], None);
        assert_eq!(answer.status, 200, "{parent}");
        assert_ne!(trace_id(&answer), trace, "{parent}");
    }
    // Two parents are none.
    let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
    assert_ne!(trace_id(&service.send("GET", "/health", &twice, None)), trace);
    // A later version may have more fields.
    let later = format!("01-{trace}-{span}-01-more");
    let answer = service.send("GET", "/health", &[("traceparent", &later)], None);
    assert_eq!(trace_id(&answer), trace);
    let later = format!("cc-{trace}-{span}-03-what-comes-later");
    let answer = service.send("GET", "/health", &[("traceparent", &later)], None);
    assert_eq!(trace_id(&answer), trace);
    assert!(answer.header("traceparent").ends_with("-03"), "the flag of a random id is kept");
    // A malformed `tracestate` does not lose the parent.
    let headers = [("traceparent", PARENT), ("tracestate", "??,=")];
    assert_eq!(trace_id(&service.send("GET", "/health", &headers, None)), trace);
}

/// A `tracestate` in several headers that is too long, with malformed members: whole ones are kept.
#[test]
fn tracestate_is_cut_between_members() {
    let collector = collector();
    let service = service(&collector, &[]);
    let state: Vec<String> = (10..50).map(|number| format!("k{number}={number}")).collect();
    let first = format!("{},FOO=1,", state[..20].join(","));
    let second = format!(" ,foo,\t{}", state[20..].join(" , "));
    let headers =
        [("traceparent", PARENT), ("tracestate", first.as_str()), ("tracestate", second.as_str())];
    service.send("GET", "/health", &headers, None);
    let spans = spans(&collector, HEALTH);
    assert_eq!(root_span(&spans).trace_state, state[..32].join(","));
}

#[test]
fn unsampled_request_is_not_exported() {
    let collector = collector();
    let service = service(&collector, &[]);
    let parent = PARENT.replace("-01", "-00");
    let answer = service.send("GET", "/health", &[("traceparent", &parent)], None);
    assert_eq!(trace_id(&answer), "0af7651916cd43dd8448eb211c80319c");
    assert!(answer.header("traceparent").ends_with("-00"));
    // The later request arrives, the one before it does not.
    let sampled = service.get("/health");
    let spans = spans(&collector, HEALTH);
    assert_eq!(collector.requests(), 1);
    assert_trace(&spans, "health");
    assert_eq!(spans[0].trace_id, trace_id(&sampled));
}

#[test]
fn sampler_ratio_decides_how_many_requests_are_traced() {
    let collector = collector();
    let sampler =
        [("otel_traces_sampler", "parentbased_traceidratio"), ("otel_traces_sampler_arg", "0.25")];
    let service = service(&collector, &sampler);
    let sampled =
        (0..200).filter(|_| service.get("/health").header("traceparent").ends_with("-01")).count();
    // 50 are expected, with a standard deviation of 6.1; the limits are five of them.
    assert!((20..=80).contains(&sampled), "{sampled} of 200");
    assert_eq!(spans(&collector, HEALTH * sampled).len(), HEALTH * sampled);
}

#[test]
fn disabled_tracing_sends_nothing_and_keeps_server_timing() {
    let collector = collector();
    let endpoint = collector.endpoint();
    for off in ["otel_sdk_disabled", ""] {
        let variables = [
            ("otel_exporter_otlp_endpoint", if off.is_empty() { "" } else { endpoint.as_str() }),
            ("collector_allowed_host", &endpoint),
            (if off.is_empty() { "otel_service_name" } else { off }, "true"),
        ];
        let service = Service::start(&variables);
        let answer = service.predict("image/png", &grey());
        assert_eq!(answer.header("traceparent"), "");
        assert_eq!(answer.json().get("trace_id"), None);
        assert!(answer.header("server-timing").contains("landmark_detection;dur="));
        assert_eq!(service.get("/health").json()["tracing"], "disabled");
        let [line] = service.whole_log().try_into().expect("one line");
        assert!(line.starts_with("info: traces: off"), "{line}");
    }
    assert_eq!(collector.requests(), 0);
}

#[test]
fn instance_logs_one_line_about_tracing() {
    let collector = collector();
    let settings = [
        ("otel_exporter_otlp_headers", "authorization=Bearer%20hunter2"),
        ("otel_service_name", "letters"),
        ("otel_traces_sampler", "always_on"),
    ];
    let service = service(&collector, &settings);
    assert_eq!(service.get("/health").json()["tracing"], "enabled");
    spans(&collector, 2);
    let endpoint = collector.endpoint();
    let expected = format!(
        "info: traces: on, to {endpoint}/v1/traces, sampler always_on, service letters {}",
        hand_gesture_api::api::VERSION
    );
    assert_eq!(service.whole_log(), [expected]);
    let export = &collector.exports()[0];
    assert_eq!(export.headers["authorization"], "Bearer hunter2");
    assert!(export.headers["user-agent"].to_str().expect("text").starts_with("OTel-OTLP-Exporter"));
    assert!(export.headers.contains_key("content-length"), "not in chunks");
    assert!(!format!("{:?}", export.spans).contains("hunter2"));
}

#[test]
fn excluded_routes_and_user_id_header_are_followed() {
    let collector = collector();
    let settings = [("trace_excluded_routes", "/health, /"), ("user_id_header", "X-User")];
    let service = service(&collector, &settings);
    for route in ["/health", "/"] {
        assert_eq!(service.get(route).header("traceparent"), "");
    }
    let headers = [("content-type", "image/png"), ("x-user", "ada"), ("cookie", "s=hunter2")];
    service.send("POST", "/predict?token=hunter2", &headers, Some(&grey()));
    let spans = spans(&collector, NO_HAND);
    let prediction = spans.iter().find(|span| span.name == "asl_prediction").expect("a prediction");
    assert_eq!(prediction.attributes["prediction.user_id"], "\"ada\"");
    let all = format!("{spans:?}");
    assert!(!all.contains("hunter2"), "neither the query nor other headers: {all}");
}

#[test]
fn ids_are_unique_across_instances() {
    let collector = collector();
    let service = service_at(&collector.endpoint(), &[], |options| {
        options.limits.requests_per_instance = 1;
    });
    for _ in 0..200 {
        service.get("/health");
    }
    let spans = spans(&collector, 200 * HEALTH);
    assert_eq!(service.instances_started(), 200);
    let count = |of: fn(&Span) -> &str| spans.iter().map(of).collect::<HashSet<_>>().len();
    assert_eq!(spans.len(), 400);
    assert_eq!(count(|span| &span.trace_id), 200);
    assert_eq!(count(|span| &span.span_id), 400);
    assert_eq!(count(|span| &span.resource["service.instance.id"]), 200);
    let roots = spans.iter().filter(|span| span.kind == "SERVER");
    assert!(roots.clone().all(|span| span.attributes["faas.coldstart"] == "true"));
    let invocations = roots.map(|span| &span.attributes["faas.invocation_id"]);
    assert_eq!(invocations.collect::<HashSet<_>>().len(), 200);
}

/// Starts the service with variables, and with environment variables.
fn start(variables: &[(&str, &str)], environment: &[(&str, &str)]) -> Service {
    Service::start_with(variables, |options| {
        options.environment =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    })
}

#[test]
fn endpoint_is_read_from_each_setting() {
    let collector = collector();
    let host = collector.endpoint();
    let allowed = ("collector_allowed_host", host.as_str());
    let with_path = format!("{host}/behind/a/path");
    let whole = format!("{host}/another/v1/traces");
    let ways = [
        start(&[allowed, ("otel_exporter_otlp_endpoint", &host)], &[]),
        start(&[allowed, ("otel_exporter_otlp_endpoint", &with_path)], &[]),
        start(&[allowed, ("otel_exporter_otlp_traces_endpoint", &whole)], &[]),
        start(&[allowed], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &host)]),
        start(&[allowed], &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole)]),
        // A variable takes precedence over the environment.
        start(
            &[allowed, ("otel_exporter_otlp_endpoint", &host)],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")],
        ),
    ];
    for (number, service) in ways.iter().enumerate() {
        service.get("/");
        assert_eq!(spans(&collector, number + 1).len(), number + 1);
        assert_eq!(service.log(), Vec::<String>::new());
    }
}

/// The setting implies port 4318, which the component may reach by default.
#[test]
fn collector_host_alone_enables_tracing() {
    let collector = Collector::start(([127, 0, 43, 18], 4318).into(), |_| {}).expect("a collector");
    let variable = start(&[("jaeger_collector_host", "127.0.43.18")], &[]);
    let environment =
        start(&[], &[("JAEGER_COLLECTOR_HOST", "127.0.43.18"), ("JAEGER_HOSTNAME", "pod-7")]);
    variable.get("/");
    spans(&collector, 1);
    environment.get("/");
    let spans = spans(&collector, 2);
    assert_eq!(spans[1].resource["service.instance.id"], "\"pod-7\"");
}

#[test]
fn denied_endpoint_is_logged_with_the_remedy() {
    let service = Service::start(&[("otel_exporter_otlp_endpoint", "https://hosted.example/otlp")]);
    assert_eq!(service.get("/health").status, 200);
    let denied = "warning: traces: dropped 2 spans: the host does not allow requests to \
                  https://hosted.example/otlp/v1/traces: set the variable \
                  collector_allowed_host=https://hosted.example:443 (it is http://*:4318 now)";
    wait_until(
        || service.log().iter().any(|line| line == denied),
        || format!("{:?}", service.log()),
    );
}

#[test]
fn gzip_setting_compresses_exports() {
    let collector = collector();
    let service = service(&collector, &[("otel_exporter_otlp_compression", "gzip")]);
    service.get("/health");
    spans(&collector, 2);
    assert_eq!(collector.exports()[0].headers["content-encoding"], "gzip");
}

/// As for hosted backends. The test sees the start of the TLS handshake: the host asks for a certificate
/// of a public authority, which no test can have.
#[test]
fn https_endpoint_is_reached_by_tls() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("https://{}", listener.local_addr().expect("its address"));
    let settings = [("collector_allowed_host", endpoint.as_str()), ("trace_retry_budget", "100")];
    let service =
        start(&[settings[0], settings[1], ("otel_exporter_otlp_endpoint", &endpoint)], &[]);
    service.get("/health");
    let mut start = [0; 3];
    listener.accept().expect("a connection").0.read_exact(&mut start).expect("bytes");
    // RFC 8446: a record of the type handshake (22), version 3.x.
    assert_eq!(start[..2], [22, 3]);
    wait_until(|| dropped(&service) == 2, || format!("{:?}", service.log()));
}

/// Returns the number of dropped spans in the service's log.
fn dropped(service: &Service) -> usize {
    let count = |line: &String| {
        let (_, rest) = line.split_once("dropped ")?;
        rest.split_once(" spans")?.0.parse::<usize>().ok()
    };
    service.log().iter().filter_map(count).sum()
}

#[test]
fn busy_collector_gets_every_span_later() {
    let collector = collector();
    let service = service(&collector, &[]);
    for code in [429, 502, 503, 504] {
        let code = StatusCode::from_u16(code).expect("a status");
        let (before, requests) = (collector.spans().len(), collector.requests());
        collector.behave(Behaviour::Refuse(code, Some("1".into())));
        assert_eq!(service.get("/health").status, 200);
        wait_until(|| collector.requests() > requests, || "no export".into());
        collector.behave(Behaviour::Accept);
        assert_eq!(spans(&collector, before + HEALTH).len(), before + HEALTH, "{code}");
    }
    assert_eq!(dropped(&service), 0);
}

#[test]
fn broken_connection_and_silence_are_retried() {
    for behaviour in [Behaviour::Cut, Behaviour::Silence] {
        let collector = collector();
        let service = service(&collector, &[("otel_bsp_export_timeout", "300")]);
        collector.behave(behaviour.clone());
        assert_eq!(service.get("/health").status, 200);
        wait_until(|| collector.requests() > 0, || "no export".into());
        collector.behave(Behaviour::Accept);
        assert_eq!(spans(&collector, HEALTH).len(), HEALTH, "{behaviour:?}");
        assert_eq!(dropped(&service), 0);
    }
}

/// One export hangs as long as it may. Every request is answered meanwhile.
#[test]
fn hanging_collector_delays_no_request() {
    let collector = collector();
    let service = service(&collector, &[]);
    collector.behave(Behaviour::Silence);
    service.get("/health");
    wait_until(|| collector.requests() == 1, || "no export".into());
    for _ in 0..20 {
        assert_eq!(service.predict("image/png", &grey()).status, 200);
    }
    assert_eq!((collector.requests(), service.instances_started()), (1, 1), "it still hangs");
    assert_eq!(service.log(), Vec::<String>::new());
}

/// The development host lets work after responses finish before it stops.
#[test]
fn stopping_host_loses_no_span() {
    let collector = collector();
    let service = service(&collector, &[]);
    collector.behave(Behaviour::Delay(Duration::from_millis(500)));
    let answers: Vec<Answer> = (0..10).map(|_| service.get("/health")).collect();
    assert!(collector.spans().is_empty(), "they are on their way");
    drop(service);
    let traces: HashSet<String> = collector.spans().into_iter().map(|span| span.trace_id).collect();
    assert_eq!(traces, answers.iter().map(trace_id).collect());
}

/// Spans that a collector refuses for good are dropped. The next export carries their number.
#[test]
fn refused_spans_are_dropped_and_counted() {
    let collector = collector();
    let service = service(&collector, &[]);
    collector.behave(Behaviour::Refuse(StatusCode::UNAUTHORIZED, None));
    service.get("/health");
    wait_until(|| dropped(&service) == 2, || format!("{:?}", service.log()));
    assert_eq!(
        service.log(),
        ["warning: traces: dropped 2 spans: the collector answers 401 Unauthorized: it asks for \
          credentials: set otel_exporter_otlp_headers"]
    );
    assert_eq!(collector.requests(), 1, "it is not tried again");
    collector.behave(Behaviour::Accept);
    service.get("/health");
    let told = |spans: &[Span]| {
        let count = spans.iter().filter_map(|span| {
            span.attributes.get(telemetry::export::DROPPED_SPANS)?.parse::<usize>().ok()
        });
        count.sum::<usize>()
    };
    assert_eq!(told(&spans(&collector, HEALTH)), HEALTH);
    service.get("/health");
    assert_eq!(told(&spans(&collector, 2 * HEALTH)), HEALTH, "told once");
}

#[test]
fn collector_messages_are_logged() {
    let collector = collector();
    let service = service(&collector, &[]);
    collector.behave(Behaviour::Partly(1, "too long".into()));
    service.get("/health");
    let partly = "warning: traces: the collector rejected 1 spans: \"too long\"";
    wait_until(|| service.log() == [partly], || format!("{:?}", service.log()));
    collector.behave(Behaviour::Garbage);
    service.get("/health");
    wait_until(|| service.log().len() == 2, || format!("{:?}", service.log()));
    assert!(service.log()[1].contains("something that is not OTLP"), "{:?}", service.log());
}

/// Returns an answer 200 of OTLP that tells of rejected spans.
fn partly(rejected: u64, message: &str) -> Odd {
    let mut body = vec![0x08];
    let mut rest = rejected;
    while rest > 0x7f {
        body.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    body.extend([rest as u8, 0x12, message.len() as u8]);
    body.extend(message.as_bytes());
    let body = [&[0x0a, body.len() as u8], body.as_slice()].concat();
    Odd::TakeAnd(response("200 OK", &[("content-type", "application/x-protobuf")], &body))
}

/// Returns the number of spans in log lines that were dropped or rejected.
fn lost(lines: &[String]) -> usize {
    let count = |line: &String| {
        let (_, rest) = line.split_once("dropped ").or(line.split_once("rejected "))?;
        rest.split_once(" spans")?.0.parse::<usize>().ok()
    };
    lines.iter().filter_map(count).sum()
}

/// Whatever a collector, a proxy or a load balancer answers: waits end, every span is delivered or counted
/// as lost, the log says what to do, and the next healthy answer ends the matter. docs/tracing.md has the
/// same table.
#[test]
fn every_answer_has_its_line_and_every_span_counts_once() {
    let collector = BadCollector::start();
    let settings = [("trace_retry_budget", "20000"), ("otel_bsp_export_timeout", "1500")];
    let service = service_at(&collector.endpoint(), &settings, patient);
    let refuse = |status: &str| Odd::Refuse(response(status, &[], b""));
    let to = |status: &str, place: &str| {
        Odd::Refuse(response(status, &[("location", place)], b"<html>moved</html>"))
    };
    let json = [("content-type", "application/json")];
    let html = [("content-type", "text/html")];
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n".to_vec();
    let said = br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}"#;
    let tenth = Duration::from_millis(100);
    // With the spans that the collector takes and those that the log counts, of two, and the attempts.
    let cases = [
        (Odd::Take, "", 2, 0, 1),
        (Odd::TakeAnd(response("202 Accepted", &[], b"")), "", 2, 0, 1),
        (Odd::TakeAnd(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "", 2, 0, 1),
        (Odd::TakeAnd(response("200 OK", &json, b"{}")), "", 2, 0, 1),
        (Odd::TakeAnd(response("200 OK", &json, said)), "rejected 1 spans: \"no\"", 2, 1, 1),
        (partly(1, "too long"), "rejected 1 spans: \"too long\"", 2, 1, 1),
        (partly(1 << 62, "x"), "rejected 2 spans (it says 4611686018427387904): \"x\"", 2, 2, 1),
        (partly(u64::MAX, "x"), "rejected 2 spans (it says -1): \"x\"", 2, 2, 1),
        (Odd::Refuse(response("200 OK", &html, b"<html>Log in</html>")), "but a page: ", 0, 2, 1),
        (Odd::TakeAnd(response("200 OK", &[], b"fine")), "is not OTLP; is a collector", 2, 0, 1),
        (Odd::TakeAnd([&head[..], b"..."].concat()), "stalls, breaks off or is too long", 2, 0, 1),
        (Odd::Drip(head.clone(), vec![b'x'; 100], tenth), "stalls, breaks off", 2, 0, 1),
        (Odd::Drip(head, vec![b' '; 100], 70 * tenth), "stalls, breaks off", 2, 0, 1),
        (Odd::Flood(chunked, 100 << 20), "or is too long; is a collector there?", 2, 0, 1),
        (to("301 Moved Permanently", "https://c/v1/traces"), "to \"https://c/v1/traces\"", 0, 2, 1),
        (
            to("307 Temporary Redirect", "/login?next=1"),
            "/login?…\", which this service does not follow",
            0,
            2,
            1,
        ),
        (to("308 Permanent Redirect", "https://c/"), "otel_exporter_otlp_traces_endpoint", 0, 2, 1),
        (refuse("400 Bad Request"), "(otel_exporter_otlp_endpoint)", 0, 2, 1),
        (refuse("401 Unauthorized"), "set otel_exporter_otlp_headers", 0, 2, 1),
        (refuse("403 Forbidden"), "(otel_exporter_otlp_headers)", 0, 2, 1),
        (refuse("404 Not Found"), "is appended to otel_exporter_otlp_endpoint", 0, 2, 1),
        (refuse("405 Method Not Allowed"), "nothing takes spans at http://127.0.0.1", 0, 2, 1),
        (refuse("408 Request Timeout"), "lower otel_bsp_max_export_batch_size", 0, 2, 1),
        (refuse("411 Length Required"), "check otel_exporter_otlp_endpoint", 0, 2, 1),
        (refuse("413 Content Too Large"), "set otel_exporter_otlp_compression=gzip", 0, 2, 1),
        (refuse("415 Unsupported Media Type"), "(otel_exporter_otlp_endpoint)", 0, 2, 1),
        (refuse("500 Internal Server Error"), "see the collector's log", 0, 2, 1),
        (refuse("501 Not Implemented"), "(otel_exporter_otlp_endpoint)", 0, 2, 1),
        (refuse("429 Too Many Requests"), "429 Too Many Requests; trying again", 2, 0, 2),
        (refuse("502 Bad Gateway"), "502 Bad Gateway; trying again", 2, 0, 2),
        (refuse("503 Service Unavailable"), "503 Service Unavailable; trying again", 2, 0, 2),
        (refuse("504 Gateway Timeout"), "504 Gateway Timeout; trying again", 2, 0, 2),
        (Odd::Refuse(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "; trying again", 2, 0, 2),
        (Odd::Refuse(b"HTTP/1.1 999999 \xff\r\n\r\n".to_vec()), "; trying again", 2, 0, 2),
        (Odd::Refuse(vec![]), "; trying again", 2, 0, 2),
        (Odd::Reset(vec![]), "; trying again", 2, 0, 2),
        (Odd::Reset(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()), "; trying again", 2, 0, 2),
        (Odd::Silence, "no answer within 1500 ms; trying again", 2, 0, 2),
    ];
    for (answer, line, taken, counted, attempts) in cases {
        let case: String = format!("{answer:?}").chars().take(200).collect();
        let (spans, requests) = (collector.spans(), collector.requests());
        let before = service.whole_log().len();
        let log = || service.whole_log()[before..].to_vec();
        collector.next([answer]);
        assert_eq!(service.get("/health").status, 200);
        let said = || log().iter().any(|entry| entry.contains(line));
        wait_until(
            || {
                let settled = (collector.spans() - spans, lost(&log())) == (taken, counted);
                settled && (line.is_empty() || said())
            },
            || format!("{case}: {} taken, {:?}", collector.spans() - spans, log()),
        );
        assert_eq!(collector.requests() - requests, attempts, "{case}: {:?}", log());
        // The next one is delivered.
        assert_eq!(service.get("/health").status, 200);
        let unwell = !line.is_empty() && !line.starts_with("rejected");
        let well = "info: traces: the collector takes spans again";
        wait_until(
            || {
                let ended = log().iter().filter(|entry| *entry == well).count();
                collector.spans() - spans == taken + HEALTH && ended == usize::from(unwell)
            },
            || format!("{case}: {} taken, {:?}", collector.spans() - spans, log()),
        );
        assert_eq!(lost(&log()), counted, "{case}: {:?}", log());
        if line.is_empty() {
            assert!(log().iter().all(|entry| entry.starts_with("info: traces: on")), "{case}");
        }
    }
    // Of 100 MiB, the systems' buffers took the most.
    assert!(collector.flooded() < 16 << 20, "{} bytes", collector.flooded());
    assert_eq!(service.instances_started(), 1, "none was lost");
}

/// No wait traps the instance, and none is longer than the budget.
#[test]
fn odd_retry_after_is_survived() {
    let collector = BadCollector::start();
    let service = service_at(&collector.endpoint(), &[("trace_retry_budget", "8000")], patient);
    let beyond = "9".repeat(100);
    for value in [
        "18446744073709551615",
        &beyond,
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "-1",
        "1.5",
        "soon",
        "",
    ] {
        let spans = collector.spans();
        let busy = response("503 Service Unavailable", &[("retry-after", value)], b"");
        collector.next([Odd::Refuse(busy)]);
        service.get("/health");
        wait_until(
            || collector.spans() - spans == HEALTH,
            || format!("{value}: {:?}", service.log()),
        );
    }
    assert_eq!(dropped(&service), 0, "{:?}", service.log());
    // A collector that stays busy loses what came first, and gets what comes when it is well.
    let spans = collector.spans();
    let busy = response("503 Service Unavailable", &[("retry-after", "86400")], b"");
    collector.next([Odd::Refuse(busy.clone()), Odd::Refuse(busy)]);
    service.get("/health");
    wait_until(|| dropped(&service) == HEALTH, || format!("{:?}", service.log()));
    service.get("/health");
    wait_until(|| collector.spans() - spans == HEALTH, || format!("{:?}", service.log()));
    assert_eq!(dropped(&service), HEALTH, "{:?}", service.log());
    assert_eq!(service.instances_started(), 1, "none was lost");
}

#[test]
fn doubled_and_missing_paths_are_named() {
    let collector = BadCollector::start();
    let host = collector.endpoint();
    let allowed = ("collector_allowed_host", host.as_str());
    let doubled = format!("{host}/v1/traces");
    let service = start(&[allowed, ("otel_exporter_otlp_endpoint", &doubled)], &[]);
    service.get("/health");
    wait_until(|| collector.spans() == HEALTH, || format!("{:?}", service.log()));
    let [line] = service.log().try_into().expect("one line");
    assert!(
        line.contains("otel_exporter_otlp_endpoint: the path /v1/traces would be doubled"),
        "{line}"
    );

    let service = start(&[allowed, ("otel_exporter_otlp_traces_endpoint", &host)], &[]);
    service.get("/health");
    wait_until(|| dropped(&service) == HEALTH, || format!("{:?}", service.log()));
    let [first, second] = service.log().try_into().expect("two lines");
    assert!(first.contains("otel_exporter_otlp_traces_endpoint: the path is missing"), "{first}");
    assert!(second.contains("404 Not Found: nothing takes spans at"), "{second}");
}

#[test]
fn odd_settings_are_taken_or_named_once() {
    let collector = collector();
    let host = collector.endpoint();
    let endpoint = host.replace("http:", "HTTP:");
    let settings = [
        ("collector_allowed_host", host.as_str()),
        ("otel_exporter_otlp_endpoint", endpoint.as_str()),
        ("otel_exporter_otlp_compression", "GZIP"),
        ("otel_exporter_otlp_headers", "\"authorization=Basic dXNlcjpwYXNz==,,hunter2,a=b%2Cc,\""),
        ("otel_traces_exporter", "OTLP,console"),
        ("otel_traces_sampler", "Always_On"),
        ("otel_propagators", "TraceContext,jaeger,xray"),
        ("otel_bsp_export_timeout", "10s"),
    ];
    let service = start(&settings, &[]);
    service.get("/health");
    spans(&collector, HEALTH);
    let headers = &collector.exports()[0].headers;
    assert_eq!(headers["authorization"], "Basic dXNlcjpwYXNz==");
    assert_eq!(headers["a"], "b,c");
    assert_eq!(headers["content-encoding"], "gzip");
    let log = service.log();
    assert_eq!(log.len(), 4, "{log:?}");
    for (name, part) in [
        ("otel_traces_exporter", "\"console\"; it is ignored"),
        ("otel_propagators", "\"jaeger\", \"xray\"; they are ignored"),
        ("otel_exporter_otlp_headers", "entry 3 "),
        ("otel_bsp_export_timeout", "the default 30000 is used"),
    ] {
        let line = log.iter().find(|line| line.contains(&format!("setting {name}: ")));
        assert!(line.is_some_and(|line| line.contains(part)), "{name}: {log:?}");
    }
    assert!(!service.whole_log().join("").contains("hunter2"), "{log:?}");
    for (name, value) in [
        ("otel_traces_exporter", "None"),
        ("otel_sdk_disabled", "TRUE"),
        ("enable_tracing", "False"),
    ] {
        let service = service_at(&collector.endpoint(), &[(name, value)], |_| {});
        assert_eq!(service.get("/health").json()["tracing"], "disabled", "{name}={value}");
    }
}

/// A machine without IPv6 cannot run this.
#[test]
fn collector_is_reached_by_its_ipv6_address() {
    let Ok(collector) = Collector::start(([0u16, 0, 0, 0, 0, 0, 0, 1], 0).into(), |_| {}) else {
        return;
    };
    let service = service(&collector, &[]);
    service.get("/health");
    assert_eq!(spans(&collector, HEALTH).len(), HEALTH);
    assert_eq!(service.log(), Vec::<String>::new());

    let Ok(collector) = Collector::start(([0u16, 0, 0, 0, 0, 0, 0, 1], 4318).into(), |_| {}) else {
        return;
    };
    let service = start(&[("jaeger_collector_host", "::1")], &[]);
    service.get("/health");
    assert_eq!(spans(&collector, HEALTH).len(), HEALTH);
    assert_eq!(service.log(), Vec::<String>::new());
}

/// Zipkin's headers, as meshes send them.
#[test]
fn b3_caller_becomes_the_parent() {
    let collector = collector();
    let service = service(&collector, &[("otel_propagators", "b3")]);
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let single = format!("{trace}-{span}-1");
    let ways = [
        &[("b3", single.as_str())][..],
        &[("X-B3-TraceId", trace), ("X-B3-SpanId", span), ("X-B3-Sampled", "1")],
    ];
    for (number, headers) in ways.into_iter().enumerate() {
        let answer = service.send("GET", "/health", headers, None);
        assert_eq!(trace_id(&answer), trace);
        let spans = spans(&collector, HEALTH * (number + 1));
        assert_eq!(root_span(&spans[HEALTH * number..]).parent_span_id, span);
    }
    assert_ne!(trace_id(&service.send("GET", "/health", &[("traceparent", PARENT)], None)), trace);
}

/// Nobody listens. Every answer is right, every span is counted, and no instance outlives its work by
/// more than the budget.
#[test]
fn absent_collector_changes_no_answer_and_drops_are_counted() {
    // A port that was free a moment ago.
    let endpoint = collector().endpoint();
    let settings = [("trace_retry_budget", "2000"), ("otel_bsp_max_queue_size", "30")];
    let service = service_at(&endpoint, &settings, |_| {});
    for _ in 0..30 {
        assert_eq!(service.predict("image/png", &grey()).json()["hand"], serde_json::Value::Null);
        assert_eq!(service.get("/health").status, 200);
    }
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
    wait_until(
        || service.instances_running() == 0,
        || format!("{} instances live", service.instances_running()),
    );
    assert_eq!(dropped(&service), 30 * (NO_HAND + HEALTH) + LETTER, "{:?}", service.log());
}

/// The queue is bounded, and dropped spans free their memory. 60,000 spans of some 800 bytes would not fit
/// into the memory that is left: with a queue for all of them, the instance was lost after some 20,000
/// requests.
#[test]
fn absent_collector_costs_no_memory() {
    let endpoint = collector().endpoint();
    let settings = [("trace_retry_budget", "5000"), ("otel_bsp_max_queue_size", "100")];
    let service = service_at(&endpoint, &settings, |options| {
        patient(options);
        // The component starts with 34 MB, some 20 of them free.
        options.limits.memory_per_instance = Some(40 << 20);
        options.limits.requests_per_instance = usize::MAX;
    });
    for _ in 0..30_000 {
        assert_eq!(service.get("/health").status, 200);
    }
    assert_eq!(service.instances_started(), 1);
}

/// Spans of requests on 8 connections arrive exactly once, in fewer posts than requests, although the
/// collector refuses them for three seconds.
#[test]
fn spans_under_load_arrive_once() {
    const REQUESTS: usize = 2_000;
    const CONNECTIONS: usize = 8;
    // One request in so many predicts a letter; the others take a millisecond.
    const PERIOD: usize = 20;
    let collector = collector();
    let service = service(&collector, &[("trace_retry_budget", "90000")]);
    let letter = photo("v.jpg");
    let traces: Vec<(String, usize)> = std::thread::scope(|scope| {
        let client = |client: usize| {
            let (service, letter) = (&service, &letter);
            move || {
                let ask = |number: usize| match number % PERIOD {
                    0 => {
                        let answer = service.predict("image/jpeg", letter);
                        assert_eq!(answer.json()["prediction"], "V");
                        (trace_id(&answer), LETTER)
                    }
                    1..5 => (trace_id(&service.predict("image/jpeg", &letter[..500])), BROKEN),
                    _ => (trace_id(&service.get("/health")), HEALTH),
                };
                (client..REQUESTS).step_by(CONNECTIONS).map(ask).collect::<Vec<_>>()
            }
        };
        let clients: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(client(number))).collect();
        wait_until(|| collector.requests() > 20, || "no export".into());
        collector.behave(Behaviour::Refuse(StatusCode::SERVICE_UNAVAILABLE, None));
        std::thread::sleep(Duration::from_secs(3));
        collector.behave(Behaviour::Accept);
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    assert_eq!(traces.len(), REQUESTS);
    let expected: usize = traces.iter().map(|(_, spans)| spans).sum();
    let spans = spans(&collector, expected);
    assert_eq!(spans.len(), expected);
    let ids: HashMap<&str, &Span> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    assert_eq!(ids.len(), expected, "none twice");
    for (trace, count) in &traces {
        let of_trace = || spans.iter().filter(|span| span.trace_id == *trace);
        assert_eq!(of_trace().count(), *count);
        // Requests share instances, and no span has a parent of another request.
        let inside = |span: &Span| ids.get(&*span.parent_span_id).map(|parent| &parent.trace_id);
        assert!(of_trace().all(|s| s.kind == "SERVER" || inside(s) == Some(trace)));
    }
    if instances_are_reused() {
        assert!(collector.exports().len() < REQUESTS, "{} posts", collector.exports().len());
    }
    assert_eq!(dropped(&service), 0);
}

/// The resource, a span or an event, with the name of one of its attributes.
type Attribute = (String, String);

/// Returns the attributes that docs/tracing.md lists, by its headings.
fn documented() -> BTreeSet<Attribute> {
    let text = std::fs::read_to_string(root().join("docs/tracing.md")).expect("a document");
    let (_, tables) = text.split_once("\n## Spans and attributes\n").expect("the tables");
    let (tables, _) = tables.split_once("\n## ").expect("their end");
    let mut attributes = BTreeSet::new();
    for section in tables.split("\n### ").skip(1) {
        let (heading, rows) = section.split_once('\n').expect("a section");
        let (_, rows) = rows.split_once("\n| attribute |").unwrap_or_default();
        for row in rows.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let name = row.split('`').nth(1).expect("a name");
            attributes.insert((heading.replace('`', ""), name.to_owned()));
        }
    }
    attributes
}

/// Returns the attributes of the expected traces, and the names of their spans.
fn expected() -> (BTreeSet<Attribute>, BTreeSet<String>) {
    let (mut attributes, mut spans) = (BTreeSet::new(), BTreeSet::new());
    for file in std::fs::read_dir(root().join("tests/traces")).expect("a folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a trace");
        let mut of = String::new();
        for line in text.lines() {
            let line = line.trim_start_matches(['│', '├', '└', '─', ' ']);
            if line == "resource" {
                of = "Resource".into();
            } else if line.starts_with("SERVER ") {
                of = "Root span".into();
                spans.insert(of.clone());
            } else if let Some(name) = line.strip_prefix("CLIENT ") {
                // A statement's name has its table, too.
                of = if name.contains(' ') { "Statement" } else { "Client span" }.into();
                spans.insert(of.clone());
            } else if let Some(name) = line.strip_prefix("INTERNAL ") {
                of = name.into();
                spans.insert(of.clone());
            } else if let Some(name) = line.strip_prefix("event ") {
                of = format!("Event {name}");
            } else if !line.starts_with("ERROR ")
                && let Some((name, _)) = line.split_once(" = ")
            {
                attributes.insert((of.clone(), name.to_owned()));
            }
        }
    }
    (attributes, spans)
}

/// docs/tracing.md lists the spans and attributes of the expected traces, no fewer and no more. Two
/// attributes are in no expected trace: other tests here check them.
#[test]
fn documented_spans_are_those_of_the_expected_traces() {
    let documented = documented();
    let (expected, spans) = expected();
    let any = |name: &str| ("Any span".to_owned(), name.to_owned());
    let mut expected: BTreeSet<Attribute> = expected
        .into_iter()
        .map(|(of, name)| match spans.contains(&of) && documented.contains(&any(&name)) {
            true => any(&name),
            false => (of, name),
        })
        .collect();
    expected.insert(any(telemetry::export::DROPPED_SPANS));
    expected.insert(("asl_prediction".into(), "prediction.user_id".into()));
    let missing: Vec<_> = expected.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/tracing.md: {missing:?}");
    let unknown: Vec<_> = documented.difference(&expected).collect();
    assert!(unknown.is_empty(), "in docs/tracing.md, but in no expected trace: {unknown:?}");

    let text = std::fs::read_to_string(root().join("docs/tracing.md")).expect("a document");
    let headings: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|h| h.replace('`', ""))
        .collect();
    assert!(spans.is_subset(&headings), "{spans:?} without {headings:?}");
}
