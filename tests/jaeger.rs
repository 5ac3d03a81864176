//! The component's traces in a real Jaeger, found as its users find them: by its HTTP API.

#[allow(dead_code, reason = "the tests of infra/ use more of it")]
#[path = "../xtask/tests/support/process.rs"]
mod process;
mod support;

use std::collections::BTreeMap;
use std::process::Command;

use process::{Process, free_port};
use serde_json::Value;
use support::traced::{service_at, wait_until};
use support::{photo, plain_png, root};

/// A Jaeger on loopback, until it is dropped.
struct Jaeger {
    process: Process,
    otlp: u16,
    query: u16,
}

impl Jaeger {
    fn start() -> Jaeger {
        let tool = root().join("target/tools/jaeger");
        assert!(tool.exists(), "{} is missing: run `cargo xtask tools jaeger`", tool.display());
        let (otlp, query, health) = (free_port(), free_port(), free_port());
        let log = root().join("target/tmp/jaeger-of-the-component.log");
        std::fs::create_dir_all(root().join("target/tmp")).expect("a folder");
        let mut command = Command::new(tool);
        command
            .arg("--config")
            .arg(root().join("tests/support/jaeger.yaml"))
            .env("OTLP_PORT", otlp.to_string())
            .env("QUERY_PORT", query.to_string())
            .env("QUERY_GRPC_PORT", free_port().to_string())
            .env("HEALTH_PORT", health.to_string());
        let jaeger = Jaeger { process: Process::start(&mut command, &log), otlp, query };
        let healthy = || ureq::get(format!("http://127.0.0.1:{health}/status")).call().is_ok();
        wait_until(healthy, || jaeger.process.log());
        jaeger
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.query);
        let text = ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.unwrap_or_else(|error| panic!("{url}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
    }

    /// The ids of the traces that a search finds, as on Jaeger's page.
    fn search(&self, parameters: &str) -> Vec<String> {
        let path = format!("/api/traces?service=hand-gesture-api&limit=100{parameters}");
        let found = self.get(&path)["data"].as_array().cloned().unwrap_or_default();
        found.iter().filter_map(|trace| trace["traceID"].as_str().map(str::to_owned)).collect()
    }

    /// A trace's spans by name: parent's name, and duration in microseconds.
    fn trace(&self, id: &str) -> BTreeMap<String, (String, u64)> {
        let trace = self.get(&format!("/api/traces/{id}"))["data"][0].clone();
        let spans = trace["spans"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, String> = spans
            .iter()
            .map(|span| (text(&span["spanID"]), text(&span["operationName"])))
            .collect();
        let row = |span: &Value| {
            let parent = text(&span["references"][0]["spanID"]);
            let parent = names.get(&parent).cloned().unwrap_or_default();
            (text(&span["operationName"]), (parent, span["duration"].as_u64().unwrap_or(0)))
        };
        spans.iter().map(row).collect()
    }
}

/// A search by one tag.
fn tag(name: &str, value: &str) -> String {
    format!("&tags=%7B%22{name}%22%3A%22{value}%22%7D")
}

#[test]
fn traces_are_found_in_jaeger() {
    let jaeger = Jaeger::start();
    let endpoint = format!("http://127.0.0.1:{}", jaeger.otlp);
    let service = service_at(&endpoint, &[("user_id_header", "x-user")], |_| {});
    let id = |answer: support::Answer| answer.json()["trace_id"].as_str().expect("id").to_owned();
    let ask = |headers: &[(&str, &str)], body: &[u8]| {
        id(service.send("POST", "/predict", headers, Some(body)))
    };
    let letter = ask(&[("x-user", "ada")], &photo("v.jpg"));
    let nothing = ask(&[], &plain_png(96, 64, [128; 3]));
    let broken = ask(&[], &photo("v.jpg")[..2000]);
    service.get("/health");
    let found = || jaeger.search("").len();
    wait_until(|| found() == 4, || format!("{} traces: {}", found(), jaeger.process.log()));

    // By operation.
    let predictions = "&operation=asl_prediction";
    let mut all = jaeger.search(predictions);
    let mut expected = [letter.clone(), nothing.clone(), broken.clone()];
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(jaeger.search("&operation=health_check").len(), 1);

    // The searches of the README: low confidence, one user's, failed, slow.
    let search = |parameters: &str| jaeger.search(&format!("{predictions}{parameters}"));
    assert_eq!(search(&tag("prediction.low_confidence", "true")), [&*nothing]);
    assert_eq!(search(&tag("prediction.label", "V")), [&*letter]);
    assert_eq!(search(&tag("prediction.user_id", "ada")), [&*letter]);
    assert_eq!(search(&tag("operation.success", "false")), [&*broken]);
    // (`error=true` is found too where spans are in Elasticsearch. In memory, Jaeger 2.13 takes the
    // text "true" of the search for a false and finds spans with the status OK.)
    assert_eq!(search(&tag("error.type", "broken")), [&*broken]);
    let tree = jaeger.trace(&letter);
    let (_, duration) = tree["asl_prediction"];
    assert!(search(&format!("&minDuration={}us", duration - 1)).contains(&letter));
    assert!(!search(&format!("&minDuration={}us", duration + 1)).contains(&letter));

    // The tree, and where the time went.
    let parents: Vec<(&str, &str)> =
        tree.iter().map(|(name, (parent, _))| (name.as_str(), parent.as_str())).collect();
    let expected = [
        ("POST /predict", ""),
        ("asl_prediction", "POST /predict"),
        ("image_preprocessing", "asl_prediction"),
        ("landmark_detection", "asl_prediction"),
        ("model_inference", "asl_prediction"),
        ("response_formatting", "asl_prediction"),
    ];
    assert_eq!(parents, expected);
    let stages = tree.values().filter(|(parent, _)| parent == "asl_prediction");
    let sum: u64 = stages.map(|(_, microseconds)| microseconds).sum();
    assert!(sum <= duration && duration <= tree["POST /predict"].1, "{tree:?}");
    // The newer API knows it too.
    assert!(jaeger.get(&format!("/api/v3/traces/{letter}")).to_string().contains("asl_prediction"));
    assert_eq!(service.log(), Vec::<String>::new());
}
