//! The component's traces in a real Jaeger, found as its users find them: by its HTTP API.

use std::collections::BTreeMap;

use serde_json::Value;
use test_support::jaeger::Jaeger;
use test_support::root;
use test_support::service::{Answer, photo, plain_png};
use test_support::traces::{service_at, wait_until};

const SERVICE: &str = "hand-gesture-api";

/// Returns a trace's spans as Jaeger shows them, sorted: name, parent's name, duration in microseconds.
fn trace(jaeger: &Jaeger, id: &str) -> Vec<(String, String, u64)> {
    let found = jaeger.get(&format!("/api/traces/{id}")).expect("a trace");
    let spans = found["data"][0]["spans"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        spans.iter().map(|span| (text(&span["spanID"]), text(&span["operationName"]))).collect();
    let row = |span: &Value| {
        let parent = text(&span["references"][0]["spanID"]);
        let parent = names.get(&parent).cloned().unwrap_or_default();
        (text(&span["operationName"]), parent, span["duration"].as_u64().unwrap_or(0))
    };
    let mut rows: Vec<_> = spans.iter().map(row).collect();
    rows.sort();
    rows
}

/// Returns the parameter of a search by one tag.
fn tag(name: &str, value: &str) -> String {
    format!("&tags=%7B%22{name}%22%3A%22{value}%22%7D")
}

/// Returns the searches of docs/tracing.md by their titles: parameters of the HTTP API, percent-encoded.
fn documented_searches() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("docs/tracing.md")).expect("a document");
    let (_, text) = text.split_once("\n## Searching traces\n").expect("the searches");
    let (_, rows) = text.split_once("\n|---|---|---|\n").expect("a table");
    let search = |row: &str| {
        let (title, _) = row.strip_prefix("| ")?.split_once(" |")?;
        let parameters = row.split('`').rev().nth(1)?;
        let encode = |text: String, (from, to)| text.replace(from, to);
        let encoded = [('{', "%7B"), ('}', "%7D"), ('"', "%22"), (':', "%3A")];
        Some((title.to_owned(), encoded.into_iter().fold(parameters.to_owned(), encode)))
    };
    rows.lines().map_while(search).collect()
}

#[test]
fn traces_are_found_by_the_documented_searches() {
    let jaeger = Jaeger::in_memory("jaeger");
    let service = service_at(&jaeger.url(4318, ""), &[("user_id_header", "x-user")], |_| {});
    let id = |answer: Answer| answer.json()["trace_id"].as_str().expect("id").to_owned();
    let ask = |headers: &[(&str, &str)], body: &[u8]| {
        id(service.send("POST", "/predict", headers, Some(body)))
    };
    let letter = ask(&[("x-user", "ada")], &photo("v.jpg"));
    let nothing = ask(&[], &plain_png(96, 64, [128; 3]));
    let broken = ask(&[], &photo("v.jpg")[..2000]);
    service.get("/health");
    let found = || jaeger.search(SERVICE, "").len();
    wait_until(|| found() == 4, || format!("{} traces: {}", found(), jaeger.process.log()));

    // By operation.
    let predictions = "&operation=asl_prediction";
    let mut all = jaeger.search(SERVICE, predictions);
    let mut expected = [letter.clone(), nothing.clone(), broken.clone()];
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(jaeger.search(SERVICE, "&operation=health_check").len(), 1);

    // The searches of docs/tracing.md.
    let search = |parameters: &str| jaeger.search(SERVICE, &format!("{predictions}{parameters}"));
    let searches = documented_searches();
    let found_by = |title: &str| search(&searches[title]);
    assert_eq!(found_by("low confidence"), [&*nothing]);
    assert_eq!(found_by("one letter"), [&*letter]);
    assert_eq!(found_by("one user's"), [&*letter]);
    assert_eq!(found_by("failed requests"), [&*broken]);
    assert!(searches["slow predictions"].contains("minDuration"), "{searches:?}");
    found_by("slow predictions");
    assert_eq!(searches.len(), 5, "{searches:?}");
    // `error=true` works where spans are in Elasticsearch. In memory, Jaeger 2.13.0 takes the text "true"
    // of the search for false and finds spans with the status OK.
    assert_eq!(search(&tag("error.type", "broken")), [&*broken]);
    let spans = trace(&jaeger, &letter);
    let duration =
        |name: &str| spans.iter().find(|span| span.0 == name).map(|span| span.2).expect("a span");
    let prediction = duration("asl_prediction");
    assert!(search(&format!("&minDuration={}us", prediction - 1)).contains(&letter));
    assert!(!search(&format!("&minDuration={}us", prediction + 1)).contains(&letter));

    // The tree, and the time that its stages took.
    let parents: Vec<(&str, &str)> =
        spans.iter().map(|(name, parent, _)| (name.as_str(), parent.as_str())).collect();
    let expected = [
        ("POST /predict", ""),
        ("asl_prediction", "POST /predict"),
        ("hand_landmarks", "landmark_detection"),
        ("image_preprocessing", "asl_prediction"),
        ("landmark_detection", "asl_prediction"),
        ("model_inference", "asl_prediction"),
        ("palm_detection", "landmark_detection"),
        ("response_formatting", "asl_prediction"),
    ];
    assert_eq!(parents, expected);
    let sum = |of: &str| spans.iter().filter(|span| span.1 == of).map(|span| span.2).sum::<u64>();
    assert!(sum("landmark_detection") <= duration("landmark_detection"), "{spans:?}");
    assert!(sum("asl_prediction") <= prediction, "{spans:?}");
    assert!(prediction <= duration("POST /predict"), "{spans:?}");
    let newer_api = jaeger.get(&format!("/api/v3/traces/{letter}")).expect("a trace");
    assert!(newer_api.to_string().contains("asl_prediction"));
    assert_eq!(service.log(), Vec::<String>::new());
}
