//! Jaeger counts and keeps spans as the chart's values say: metrics of spans with their dashboard and alerts, tail
//! sampling, and writes that report their result.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::charts::{config, documents, render, validate};
use test_support::http::{get, post};
use test_support::jaeger::{Jaeger, Span, Start};
use test_support::process::wait;
use test_support::prometheus::Prometheus;
use test_support::service::{photo, plain_png};
use test_support::traces::service_at;
use test_support::{folder, output, root, target, tool, versions};

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

/// Returns the document of a kind in a rendered chart.
fn document(test: &str, rendered: &str, kind: &str) -> Value {
    let documents = documents(&format!("{test}-{kind}"), rendered);
    documents.into_iter().find(|document| document["kind"] == kind).expect(kind)
}

/// Renders the chart of the service with its dashboard and alerts.
fn rendered_service(test: &str, alerts: &Value) -> String {
    let mut values = json!({
        "image": {"repository": "registry.example.com/api"},
        "monitoring": {"dashboard": {"enabled": true}, "alerts": {"enabled": true}},
    });
    for (key, value) in alerts.as_object().expect("an object") {
        values["monitoring"]["alerts"][key] = value.clone();
    }
    render(test, "hand-gesture-api", "hand-gesture-api", &values)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Writes the rules of a rendered chart as Prometheus reads them. JSON is YAML.
fn write_rules(test: &str, rendered: &str, file: &Path) -> Value {
    let rules = document(test, rendered, "PrometheusRule")["spec"].clone();
    std::fs::write(file, rules.to_string()).expect("written");
    rules
}

/// Prometheus takes the alerts of both charts, which fire when they should, and not otherwise.
#[test]
fn alerts_of_both_charts_pass_their_unit_tests() {
    let folder = folder("alerts");
    let values = json!({
        "fullnameOverride": "jaeger", "monitoring": {"enabled": true}, "spanMetrics": span_metrics()["spanMetrics"],
    });
    let jaeger = rendered("alerts-jaeger", &[&values]);
    write_rules("alerts-jaeger", &jaeger, &folder.join("jaeger.rules"));
    let service = rendered_service("alerts-service", &json!({}));
    write_rules("alerts-service", &service, &folder.join("service.rules"));
    let tests = "infra/tests/alerts.yaml";
    std::fs::copy(root().join(tests), folder.join("alerts.yaml")).expect(tests);
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new(tool("promtool"));
        command.args(arguments).current_dir(&folder);
        output(&mut command).unwrap_or_else(|error| panic!("{error}"))
    };
    let checked = promtool(&["check", "rules", "jaeger.rules", "service.rules"]);
    assert_eq!(checked.matches("5 rules found").count(), 2, "{checked}");
    promtool(&["test", "rules", "alerts.yaml"]);
}

/// The service's spans, counted by Jaeger, in a real Prometheus: all queries of the dashboard have a result, the
/// alerts see what happens, and the tab Monitor has the service's operations.
#[test]
fn service_is_seen_in_dashboard_alerts_and_monitor() {
    let folder = folder("monitored");
    let mut values = span_metrics();
    values["spanMetrics"].as_object_mut().expect("an object").remove("dimensions");
    let jaeger_chart = rendered("monitored-jaeger", &[&values]);
    let limits = json!({"p95Milliseconds": 1, "lowConfidenceShare": 0.1});
    let service_chart = rendered_service("monitored-service", &limits);
    let rules = folder.join("service.rules");
    let groups = write_rules("monitored-service", &service_chart, &rules);

    let page = folder.join("etc/config");
    std::fs::create_dir_all(&page).expect("a folder");
    let ui = config(&jaeger_chart, "jaeger-collector", "ui.json");
    std::fs::write(page.join("ui.json"), ui).expect("written");
    let address = Prometheus::address();
    let replace = [("http://prometheus.example:9090", format!("http://{address}"))];
    let start = Start { replace: &replace, ..Start::collector(&jaeger_chart, &folder) };
    let jaeger = start.start();
    let targets = [8888, 8889].map(|port| format!("127.0.0.1:{}", jaeger.port(port)));
    let prometheus =
        Prometheus::start(&folder, &address, &targets, "jaeger-collector-0", &[&rules]);

    // A letter, a photo without a hand, and a component without models, which answers 500.
    let collector = jaeger.url(4318, "");
    let services = [(); 2].map(|()| service_at(&collector, &[], |_| {}));
    let broken = service_at(&collector, &[], |options| {
        options.component = target().join("wasm32-wasip2/release/examples/spin.wasm");
    });
    let grey = plain_png(96, 64, [128; 3]);
    let ask = || {
        for service in &services {
            assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).status, 200);
            assert_eq!(service.predict("image/png", &grey).status, 200);
            assert_eq!(service.get("/health").status, 200);
        }
        assert_eq!(broken.predict("image/png", &grey).status, 500);
    };
    let counted = || {
        let calls = prometheus.query(
            "sum by (status_code) (traces_span_metrics_calls_total{span_name=\"POST /predict\"})",
        );
        let number = |code: &str| {
            let found = calls.iter().find(|(labels, _)| labels["status_code"] == code);
            found.map_or(0.0, |(_, number)| *number)
        };
        [number("STATUS_CODE_UNSET"), number("STATUS_CODE_ERROR")]
    };
    ask();
    // A series has no rate before its second value.
    wait(60, || format!("{:?}", counted()), || counted() == [4.0, 1.0]);
    // The instances of the service share a series. One of each instance's own would hardly have a rate.
    let of_photos = "traces_span_metrics_calls_total{span_name=\"POST /predict\", status_code=\"STATUS_CODE_UNSET\"}";
    assert_eq!(prometheus.query(of_photos).len(), 1);
    // A collector that hangs costs spans, which a later request reports.
    let hurried = [("otel_bsp_export_timeout", "1000"), ("trace_retry_budget", "1000")];
    let hurried = service_at(&collector, &hurried, |options| {
        options.limits.idle_timeout = Duration::from_secs(60);
    });
    jaeger.process.signal("STOP");
    assert_eq!(hurried.get("/health").status, 200);
    let given_up = || hurried.log().iter().any(|line| line.contains("dropped"));
    wait(30, || format!("{:?}", hurried.log()), given_up);
    jaeger.process.signal("CONT");
    ask();
    // After failures, the service leaves a collector alone for a while.
    let reports = "traces_span_metrics_calls_total{telemetry_dropped_spans!=\"\"}";
    let reported = || {
        assert_eq!(hurried.get("/health").status, 200);
        !prometheus.query(reports).is_empty()
    };
    wait(60, || format!("{:?}", hurried.log()), reported);

    let dashboard = document("monitored-service", &service_chart, "ConfigMap");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard = dashboard["data"]["hand-gesture-api.json"].as_str().expect("the dashboard");
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("a query");
            let variables = [
                ("$service", "hand-gesture-api"),
                ("$jaeger", "jaeger-.*"),
                ("$__rate_interval", "1m"),
            ];
            let put = |text: String, (name, value)| text.replace(name, value);
            let expression = variables.into_iter().fold(expression.to_owned(), put);
            assert!(!expression.contains('$'), "{expression}");
            queries.push((panel["title"].as_str().expect("a title").to_owned(), expression));
        }
    }
    assert!(queries.len() >= 15, "{queries:?}");
    for (title, query) in &queries {
        let result = || prometheus.query(query);
        let finite =
            || !result().is_empty() && result().iter().all(|(_, number)| number.is_finite());
        wait(30, || format!("{title}: {query}: {:?}", result()), finite);
    }
    let value = |title: &str| {
        let (_, query) = queries.iter().find(|(of, _)| of == title).expect(title);
        prometheus.query(query)
    };
    for share in ["Server errors", "Low confidence"] {
        let share = value(share)[0].1;
        assert!(share > 0.0 && share < 1.0, "{share}");
    }
    assert!(value("Requests")[0].1 > 0.0 && value("p95")[0].1 > 1.0);
    let routes = value("Requests by route");
    let routes: BTreeSet<&str> =
        routes.iter().filter_map(|(labels, _)| labels["span_name"].as_str()).collect();
    assert_eq!(routes, BTreeSet::from(["GET /health", "POST /predict"]));
    // A series begins with 0.
    let dropped = || value("Spans that the service dropped");
    let once = || dropped().first().is_some_and(|(_, reports)| *reports == 1.0);
    wait(30, || format!("{:?}", dropped()), once);
    let lost = dropped()[0].0["telemetry_dropped_spans"].clone();
    assert!(lost.as_str().is_some_and(|lost| lost.parse::<u32>().is_ok_and(|lost| lost > 0)));

    // What each alert asks, at once instead of after minutes.
    let rules = groups["groups"][0]["rules"].as_array().expect("rules");
    for rule in rules {
        let (name, query) = (&rule["alert"], rule["expr"].as_str().expect("a query"));
        let seen = || prometheus.query(query);
        if name == "HandGestureNotTraced" {
            assert_eq!(seen(), [], "{query}");
        } else {
            wait(30, || format!("{name}: {query}"), || !seen().is_empty());
        }
    }
    let firing = || {
        let alerts = prometheus.get("/api/v1/alerts").to_string();
        alerts.contains("hand-gesture-api dropped spans")
    };
    wait(30, || prometheus.get("/api/v1/alerts").to_string(), firing);

    let (status, page) = get(&jaeger.url(16686, "/"), None).expect("the page");
    assert!(status == 200 && page.contains("\"menuEnabled\":true"), "{page}");
    for kind in ["calls", "errors", "latencies"] {
        let quantile = if kind == "latencies" { "&quantile=0.95" } else { "" };
        let path = format!(
            "/api/metrics/{kind}?service=hand-gesture-api&groupByOperation=true&lookback=3600000\
             &step=60000&ratePer=600000&spanKind=server{quantile}"
        );
        let points = || {
            let answer = jaeger.get(&path).unwrap_or_default();
            let metrics = answer["metrics"].as_array().cloned().unwrap_or_default();
            let of_photos =
                |metric: &&Value| metric["labels"].to_string().contains("POST /predict");
            let photos = metrics.iter().find(of_photos).cloned().unwrap_or_default();
            let points = photos["metricPoints"].as_array().cloned().unwrap_or_default();
            points
                .iter()
                .filter_map(|point| point["gaugeValue"]["doubleValue"].as_f64())
                .fold(0.0, f64::max)
        };
        wait(30, || format!("{:?}", jaeger.get(&path)), || points() > 0.0);
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
    for (tag, newer) in [
        ("2.13.0", false),
        ("2.20.9", false),
        ("latest", false),
        ("2.21.0", true),
        ("v2.22.1", true),
        ("3.0.0", true),
    ] {
        for storage in ["elasticsearch", "opensearch", "cassandra"] {
            let sync = newer && storage != "cassandra";
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
                    // The collector in front answers after Kafka has the spans, whatever stands behind it.
                    let collector = configuration("sync", &rendered, "collector");
                    let processors = &collector["service"]["pipelines"]["traces"]["processors"];
                    let waits =
                        &collector["exporters"]["kafka"]["sending_queue"]["wait_for_result"];
                    let (batch, wait) = (processors.to_string().contains("batch"), waits == true);
                    assert_eq!((batch, wait), (!newer, newer), "{about}: {collector}");
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
