//! The doctor for one machine, with each hop broken in turn. Jaeger's query is a server of prepared answers; the
//! real one is in `doctor_jaeger.rs`.

use std::process::Command;

use test_support::bad_collector::{Answer, BadCollector, response};
use test_support::process::free_port;
use test_support::root;
use test_support::service::Service;
use test_support::traces::{collector, service};

/// Runs the doctor with environment variables. Returns its exit code and all that it printed.
fn doctor(environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("doctor").args(arguments).current_dir(root()).envs(environment.iter().copied());
    let output = command.output().expect("the doctor runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a code"), String::from_utf8_lossy(&text).into_owned())
}

/// Asserts that the doctor ends with a code, and prints evidence and remedy.
fn assert_says(arguments: &[&str], code: i32, words: &[&str]) {
    let (found, text) = doctor(&[], arguments);
    assert_eq!(found, code, "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: no {word:?} in {text}");
    }
}

/// Returns an address at which nobody listens.
fn nobody() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

fn url(service: &Service) -> String {
    format!("http://{}", service.address())
}

#[test]
fn silent_service_and_another_program_are_hop_2() {
    assert_says(&["--url", &nobody()], 2, &["does not answer", "REPAIR: start it: spin up"]);
    let other = BadCollector::start();
    other.next([Answer::Refuse(response("200 OK", &[], b"<h1>Welcome</h1>"))]);
    let words = ["another program", "<h1>Welcome</h1> status=200"];
    assert_says(&["--url", &other.endpoint()], 2, &words);
}

#[test]
fn request_without_a_trace_is_hop_3() {
    let collector = collector();
    for (setting, value, evidence, remedy) in [
        ("enable_tracing", "false", "tracing is off", "--variable otel_exporter_otlp_endpoint="),
        ("otel_traces_sampler", "always_off", "-00", "otel_traces_sampler=parentbased_always_on"),
        ("trace_excluded_routes", "/", "GET / is not traced", "trace_excluded_routes"),
    ] {
        let service = service(&collector, &[(setting, value)]);
        let words = ["ok      2  the service answers", "BROKEN: tracing is", evidence, remedy];
        assert_says(&["--url", &url(&service)], 3, &words);
    }
}

#[test]
fn absent_collector_is_hop_4_or_5_and_one_that_refuses_hop_6() {
    let healthy = collector();
    let service = service(&healthy, &[]);
    let service = url(&service);
    let with = |collector: &str, code, words: &[&str]| {
        assert_says(&["--url", &service, "--collector", collector], code, words);
    };
    with("http://jaeger.invalid:4318", 4, &["jaeger.invalid is unknown", "localhost:4318"]);
    with("4318", 1, &["4318/v1/traces is no URL"]);
    with(&nobody(), 5, &["nobody answers at http://127.0.0.1:", "4317 is gRPC's"]);
    let bad = BadCollector::start();
    let refusal = |answer: Vec<u8>, code, word: &str| {
        bad.next([Answer::Refuse(answer)]);
        with(&bad.endpoint(), code, &[word, &bad.endpoint()]);
    };
    // The first bytes of a server of gRPC.
    refusal(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80".to_vec(), 5, "nobody answers");
    refusal(response("401 Unauthorized", &[], b"who?"), 6, "refuses spans: who? status=401");
    refusal(response("404 Not Found", &[], b""), 6, "status=404");
    refusal(response("200 OK", &[], b"<html>Log in"), 6, "<html>Log in status=200");
    assert_eq!(bad.spans(), 0);
}

#[test]
fn query_that_is_silent_or_reads_elsewhere_is_hop_9() {
    let collector = collector();
    let service = service(&collector, &[]);
    let query = BadCollector::start();
    let (service, endpoint) = (url(&service), collector.endpoint());
    let with = |jaeger: &str, words: &[&str]| {
        let arguments =
            ["--url", &service, "--collector", &endpoint, "--jaeger", jaeger, "--wait", "0"];
        assert_says(&arguments, 9, words);
    };
    with(&nobody(), &["ok      6  the collector takes spans (200)", "query does not answer"]);
    query.next([Answer::Refuse(response("401 Unauthorized", &[], b""))]);
    with(&query.endpoint(), &["query asks for a login"]);
    let unknown = Answer::Refuse(response("404 Not Found", &[], b"no such trace"));
    query.next([unknown.clone(), unknown]);
    with(&query.endpoint(), &["does not have them: no such trace status=404", "the same Jaeger"]);
    let own = collector.spans().into_iter().filter(|span| span.name == "doctor").count();
    assert_eq!(own, 3, "the doctor's spans arrived");
}

#[test]
fn missing_trace_of_the_service_is_hop_10_and_a_found_one_the_end() {
    let collector = collector();
    let service = service(&collector, &[]);
    let query = BadCollector::start();
    let (service, endpoint) = (url(&service), collector.endpoint());
    let found = Answer::Refuse(response("200 OK", &[], br#"{"spanId": "1"}"#));
    let unknown = Answer::Refuse(response("404 Not Found", &[], b""));
    let jaeger = query.endpoint();
    let arguments = ["--url", &service, "--collector", &endpoint, "--jaeger", &jaeger];
    let at_once = [&arguments[..], &["--wait", "0"]].concat();
    query.next([unknown.clone(), found.clone()]);
    let allowed = format!("--variable collector_allowed_host={endpoint}");
    assert_says(&at_once, 10, &["spans of others arrive, those of", &allowed]);
    // A trace may be late.
    query.next([unknown.clone(), unknown.clone(), found]);
    assert_says(&arguments, 0, &["ok      7–9 stored and found", "Every hop works."]);
    // Only a connection can be made where TLS is wanted.
    let secure = endpoint.replace("http:", "https:");
    query.next([unknown]);
    let mut arguments = at_once;
    arguments[3] = &secure;
    let words = ["-       6  not tried", "BROKEN: the spans of", "ok      5"];
    assert_says(&arguments, 10, &words);
}

/// Commands that begin with the same `export` as `spin up` need no further options.
#[test]
fn spins_variables_name_the_collector_and_its_credentials() {
    let collector = collector();
    let service = service(&collector, &[]);
    let environment = [
        ("SPIN_VARIABLE_OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()),
        ("SPIN_VARIABLE_OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
    ];
    let (code, text) =
        doctor(&environment, &["--url", &url(&service), "--jaeger", &nobody(), "--wait", "0"]);
    assert_eq!(code, 9, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let exports = collector.exports();
    let own = exports.iter().find(|export| export.spans[0].name == "doctor").expect("its span");
    assert_eq!(own.headers["authorization"], "Bearer hunter2");
}

#[test]
fn unknown_option_is_no_hop() {
    assert_says(&["--colector", "http://c"], 1, &["--colector"]);
}
