//! The doctor for one machine, with a real Jaeger.

use std::process::Command;

use test_support::jaeger::Jaeger;
use test_support::root;
use test_support::traces::{collector, service_at};

#[test]
fn doctor_follows_a_trace_into_jaeger_and_misses_one_that_the_host_keeps() {
    let jaeger = Jaeger::in_memory("doctor-jaeger");
    let (endpoint, query) = (jaeger.url(4318, ""), jaeger.url(16686, ""));
    let service = service_at(&endpoint, &[], |_| {});
    let doctor = |service: &str, collector: &str, wait: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["doctor", "--url", service, "--collector", collector]);
        command.args(["--jaeger", &query, "--wait", wait]);
        let output = command.current_dir(root()).output().expect("the doctor runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let url = format!("http://{}", service.address());

    let (code, text) = doctor(&url, &endpoint, "60");
    assert_eq!(code, Some(0), "{text}");
    let trace = text.split("the trace ").nth(1).and_then(|rest| rest.split(' ').next());
    let trace = trace.expect("its id");
    assert!(jaeger.search("hand-gesture-api", "").contains(&trace.to_owned()), "{text}");
    assert!(text.contains(&format!("{query}/trace/{trace}")), "{text}");

    // A collector that passes nothing on to this Jaeger.
    let elsewhere = collector();
    let other = service_at(&elsewhere.endpoint(), &[], |_| {});
    let other_url = format!("http://{}", other.address());
    let (code, text) = doctor(&other_url, &elsewhere.endpoint(), "1");
    assert_eq!(code, Some(9), "{text}");
    let (code, text) = doctor(&other_url, &endpoint, "1");
    assert_eq!(code, Some(10), "the service sends elsewhere: {text}");

    // A host that lets no span out.
    let kept =
        service_at(&endpoint, &[("collector_allowed_host", "http://elsewhere:4318")], |_| {});
    let (code, text) = doctor(&format!("http://{}", kept.address()), &endpoint, "1");
    assert_eq!(code, Some(10), "{text}");
    assert!(text.contains(&format!("--variable collector_allowed_host={endpoint}")), "{text}");
    let log = kept.log().join("\n");
    assert!(log.contains("warning: traces: ") && log.contains("does not allow"), "{log}");
}
