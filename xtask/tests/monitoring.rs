//! What Jaeger counts and keeps by the chart's values: metrics of spans, tail sampling, and writes that report
//! their result.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::charts::{config, documents, render, validate};
use test_support::folder;
use test_support::http::{get, post};
use test_support::jaeger::{Jaeger, Span, Start};
use test_support::process::wait;
use test_support::versions;

/// Renders the chart for the Jaeger under test.
fn rendered(test: &str, values: &[&Value]) -> String {
    let mut all = json!({"image": {"tag": versions::jaeger()}});
    for values in values {
        for (key, value) in values.as_object().expect("an object") {
            all[key] = value.clone();
        }
    }
    render(test, "jaeger", "jaeger", &all).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a role's configuration.
fn configuration(test: &str, rendered: &str, role: &str) -> Value {
    let text = config(rendered, &format!("jaeger-{role}"), "config.yaml");
    documents(&format!("{test}-config"), &text).remove(0)
}

fn span_metrics() -> Value {
    json!({"spanMetrics": {
        "enabled": true, "prometheusUrl": "http://prometheus.example:9090", "flushInterval": "1s",
        "dimensions": ["letter"],
    }})
}

fn tail_sampling() -> Value {
    json!({"tailSampling": {"enabled": true, "decisionWait": "1s"}})
}

fn elasticsearch() -> Value {
    json!({"storage": {"type": "elasticsearch", "kafka": {"brokers": ["kafka:9092"]}}})
}

#[test]
fn jaeger_accepts_metrics_and_tail_sampling_with_every_route_of_the_spans() {
    let folder = folder("monitoring-validated");
    let (metrics, sampling, search) = (span_metrics(), tail_sampling(), elasticsearch());
    let kafka = json!({"ingester": {"enabled": true}});
    for (values, roles) in [
        (&[&metrics][..], 1),
        (&[&sampling], 1),
        (&[&metrics, &sampling], 1),
        (&[&metrics, &sampling, &search], 2),
        (&[&metrics, &sampling, &search, &kafka], 3),
    ] {
        let rendered = rendered("monitoring", values);
        assert_eq!(validate(&rendered, &folder), roles);
        let collector = configuration("monitoring", &rendered, "collector");
        let pipelines = collector["service"]["pipelines"].to_string();
        let behind_kafka = values.contains(&&kafka);
        // Behind Kafka the ingesters decide: all spans of a trace reach the same one.
        let decides = values.contains(&&sampling) && !behind_kafka;
        assert_eq!(pipelines.contains("tail_sampling"), decides, "{pipelines}");
        assert_eq!(pipelines.contains("spanmetrics"), values.contains(&&metrics), "{pipelines}");
        if behind_kafka {
            assert_eq!(collector["exporters"]["kafka"]["partition_traces_by_id"], true);
            let ingester = configuration("monitoring", &rendered, "ingester");
            let processors = &ingester["service"]["pipelines"]["traces"]["processors"];
            assert_eq!(processors, &json!(["memory_limiter", "tail_sampling"]));
        }
    }
}

#[test]
fn several_collectors_that_would_split_a_trace_are_refused() {
    for several in [json!({"replicas": 2}), json!({"autoscaling": {"enabled": true}})] {
        let mut values = tail_sampling();
        values["collector"] = several;
        values["storage"] = elasticsearch()["storage"].clone();
        let error = render("monitoring-refused", "jaeger", "jaeger", &values).expect_err("refused");
        assert!(error.contains("Kafka leads all spans of a trace to one ingester"), "{error}");
        values["ingester"] = json!({"enabled": true});
        render("monitoring-refused", "jaeger", "jaeger", &values).expect("with Kafka");
    }
}

/// Prometheus as far as Jaeger's query needs it: it has no data, and keeps the questions.
fn prometheus() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let asked = Arc::new(Mutex::new(String::new()));
    let questions = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().expect("a number");
                }
                questions.lock().expect("no panic").push_str(&line);
                line.clear();
            }
            let mut body = vec![0; length];
            _ = reader.read_exact(&mut body);
            questions.lock().expect("no panic").push_str(&String::from_utf8_lossy(&body));
            let answer = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
            _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    (url, asked)
}

/// The collector counts every span, and query asks Prometheus for just those series.
#[test]
fn query_asks_for_the_metrics_that_the_collector_exports() {
    let folder = folder("span-metrics");
    let rendered = rendered("span-metrics-values", &[&span_metrics()]);
    let page = folder.join("etc/config");
    std::fs::create_dir_all(&page).expect("a folder");
    let ui = config(&rendered, "jaeger-collector", "ui.json");
    std::fs::write(page.join("ui.json"), ui).expect("written");
    let (url, asked) = prometheus();
    let replace = [("http://prometheus.example:9090", url)];
    let start = Start { replace: &replace, ..Start::collector(&rendered, &folder) };
    let jaeger = start.start();
    let spans: Vec<Span> = (0..3).map(|_| Span::new("counted")).collect();
    for span in &spans {
        assert_eq!(jaeger.send(span), 200);
    }
    let exported = || get(&jaeger.url(8889, "/metrics"), None).map(|(_, text)| text);
    let calls = || {
        let text = exported().unwrap_or_default();
        let of_letter = |line: &&str| {
            let names = ["service_name=\"counted\"", "span_name=\"predict\"", "letter=\"letter-"];
            line.contains("_calls_total{") && names.iter().all(|name| line.contains(name))
        };
        text.lines().filter(of_letter).count()
    };
    wait(30, || exported().unwrap_or_default(), || calls() == spans.len());

    let (status, page) = get(&jaeger.url(16686, "/"), None).expect("the page");
    assert!(status == 200 && page.contains("\"menuEnabled\":true"), "{page}");
    for kind in ["calls", "errors", "latencies"] {
        let quantile = if kind == "latencies" { "&quantile=0.95" } else { "" };
        let path = format!(
            "/api/metrics/{kind}?service=counted&groupByOperation=true&lookback=3600000&step=60000\
             &ratePer=600000&spanKind=server{quantile}"
        );
        let (status, answer) = get(&jaeger.url(16686, &path), None).expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
    let asked = asked.lock().expect("no panic").clone();
    let start = "traces_span_metrics_";
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let found = asked.match_indices(start).map(|(at, _)| &asked[at..]);
    let names: BTreeSet<&str> = found.filter_map(|text| text.split(end).next()).collect();
    assert!(names.len() >= 2, "{asked}");
    let exported = exported().expect("metrics");
    for name in names {
        assert!(exported.contains(&format!("\n{name}{{")), "no {name} in {exported}");
    }
}

/// Sends a trace of two spans, each in a request of its own, as two services would.
fn send_trace(jaeger: &Jaeger, kind: &str) {
    let root = Span::new(kind);
    let child = json!({
        "traceId": root.trace, "spanId": "00000000000000aa", "parentSpanId": &root.trace[16..],
        "name": "child", "kind": 1,
        "startTimeUnixNano": root.start.to_string(),
        "endTimeUnixNano": (root.start + if kind == "slow" { 2_000_000_000 } else { 1_000_000 }).to_string(),
        "status": if kind == "errors" { json!({"code": 2}) } else { json!({}) },
        "attributes": [{"key": "prediction.low_confidence", "value": {"boolValue": kind == "low"}}],
    });
    let child = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": kind}}]},
        "scopeSpans": [{"spans": [child]}],
    }]});
    assert_eq!(jaeger.send(&root), 200);
    assert_eq!(post(&jaeger.url(4318, "/v1/traces"), &child.to_string()).0, 200);
}

#[test]
fn whole_traces_are_kept_by_error_time_and_confidence_and_a_tenth_of_the_rest() {
    let folder = folder("tail-sampling");
    let rendered = rendered("tail-sampling-values", &[&tail_sampling()]);
    let jaeger = Start::collector(&rendered, &folder).start();
    let (some, rest) = (20, 200);
    for _ in 0..rest {
        send_trace(&jaeger, "rest");
    }
    for kind in ["errors", "slow", "low"] {
        for _ in 0..some {
            send_trace(&jaeger, kind);
        }
    }
    // The numbers of spans of the traces that were kept.
    let kept = |kind: &str| -> Vec<usize> {
        let answer =
            jaeger.get(&format!("/api/traces?service={kind}&limit=1000")).unwrap_or_default();
        let traces = answer["data"].as_array().cloned().unwrap_or_default();
        traces.iter().filter_map(|trace| trace["spans"].as_array().map(Vec::len)).collect()
    };
    for kind in ["errors", "slow", "low"] {
        let about = || format!("{kind}: {:?}", kept(kind));
        wait(30, about, || kept(kind) == vec![2; some]);
    }
    // The others were decided before, and may be on their way.
    std::thread::sleep(Duration::from_secs(3));
    let kept = kept("rest");
    assert!((1..rest / 2).contains(&kept.len()), "{} of {rest}", kept.len());
    assert!(kept.iter().all(|spans| *spans == 2), "{kept:?}");
}

/// Jaeger 2.21 and newer report the result of each write. The Jaeger under test is older and judges the rest.
#[test]
fn writes_report_their_result_where_jaeger_can() {
    let folder = folder("sync-writes");
    for (tag, sync) in [
        ("2.13.0", false),
        ("2.20.9", false),
        ("latest", false),
        ("2.21.0", true),
        ("v2.22.1", true),
        ("3.0.0", true),
    ] {
        for storage in ["elasticsearch", "opensearch", "cassandra"] {
            let sync = sync && storage != "cassandra";
            for kafka in [false, true] {
                let values = json!({
                    "image": {"tag": tag},
                    "storage": {"type": storage, "kafka": {"brokers": ["kafka:9092"]}},
                    "ingester": {"enabled": kafka},
                });
                let rendered = render("sync", "jaeger", "jaeger", &values).expect("rendered");
                let writer = if kafka { "ingester" } else { "collector" };
                let config = configuration("sync", &rendered, writer);
                let traces = &config["extensions"]["jaeger_storage"]["backends"]["traces"][storage];
                let exporter = &config["exporters"]["jaeger_storage_exporter"];
                let processors = config["service"]["pipelines"]["traces"]["processors"].to_string();
                let about = format!("{tag}, {storage}, {writer}: {config}");
                assert_eq!(traces["write_mode"] == "sync", sync, "{about}");
                assert_eq!(traces["poison_pill_handling"] == "drop", sync, "{about}");
                assert_eq!(exporter["queue"]["wait_for_result"] == true, sync, "{about}");
                if sync {
                    let batch = &exporter["queue"]["batch"];
                    let most = traces["bulk_processing"]["max_bytes"].as_u64();
                    assert!(
                        batch["max_size"].as_u64() <= most && batch["sizer"] == "bytes",
                        "{about}"
                    );
                    assert!(!processors.contains("batch"), "{about}");
                }
                if kafka {
                    let marking = &config["receivers"]["kafka"]["message_marking"];
                    assert_eq!(marking, &json!({"after": true, "on_error": false}), "{about}");
                    let retry = &exporter["retry_on_failure"]["max_elapsed_time"];
                    assert_eq!(retry, if sync { "0s" } else { "300s" }, "{about}");
                    // The collector in front batches: Kafka takes over.
                    let collector = configuration("sync", &rendered, "collector");
                    let processors = &collector["service"]["pipelines"]["traces"]["processors"];
                    assert_eq!(processors, &json!(["memory_limiter", "batch"]), "{about}");
                }
            }
        }
    }
    let values = json!({"configurationForm": "2.21"});
    let rendered = rendered("sync-validated", &[&values, &elasticsearch()]);
    let newer = ["write_mode: sync", "poison_pill_handling: drop"];
    assert!(newer.iter().all(|key| rendered.contains(key)), "{rendered}");
    let known = newer.iter().fold(rendered, |text, key| text.replace(key, "# newer"));
    assert_eq!(validate(&known, &folder), 2);
}
