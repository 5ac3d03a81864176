//! Jaeger in a process of its own, spans for it, and searches.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::charts::config;
use crate::http::{self, encode, get, post};
use crate::process::{Process, free_port, wait};
use crate::{folder, root, tool};

/// The ports in Jaeger's configurations, each written there as `":PORT"`.
const PORTS: [u16; 13] =
    [4317, 4318, 5778, 5779, 6831, 6832, 8889, 9411, 13133, 14250, 14268, 16685, 16686];
/// The port of its own metrics.
const METRICS: u16 = 8888;

/// A running Jaeger, or one role of it.
pub struct Jaeger {
    /// Its process.
    pub process: Process,
    /// The free port that each port of the configuration was replaced with.
    ports: BTreeMap<u16, u16>,
    login: Option<(String, String)>,
}

/// The start of a role with the configuration that the chart renders. Only addresses and folders are
/// replaced in it.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The rendered chart.
    pub rendered: &'a str,
    /// `collector`, `query`, `ingester` or `agent`.
    pub role: &'a str,
    /// The test's folder, which gets `/etc/jaeger` and `/var/lib/jaeger`.
    pub folder: &'a Path,
    /// Addresses in the configuration with their replacements.
    pub replace: &'a [(&'a str, String)],
    /// Environment variables.
    pub environment: &'a [(&'a str, String)],
}

impl<'a> Start<'a> {
    /// The collector, with nothing replaced.
    pub fn collector(rendered: &'a str, folder: &'a Path) -> Start<'a> {
        Start { rendered, role: "collector", folder, replace: &[], environment: &[] }
    }

    /// Writes the configuration and starts Jaeger, without waiting.
    ///
    /// # Panics
    /// If the configuration lacks something that is to be replaced.
    pub fn spawn(&self) -> Jaeger {
        let mut text = config(self.rendered, &format!("jaeger-{}", self.role), "config.yaml");
        let metrics = free_port();
        let address = |host: &str, port: u16| format!("{{host: {host:?}, port: {port}}}");
        assert!(text.contains(&address("", METRICS)), "{text}");
        text = text.replace(&address("", METRICS), &address("127.0.0.1", metrics));
        for (from, to) in self.replace {
            assert!(text.contains(from), "{from} is not in {text}");
            text = text.replace(from, to);
        }
        let folder = self.folder.display();
        text = text.replace("/etc/jaeger/", &format!("{folder}/etc/"));
        text = text.replace("/var/lib/jaeger/", &format!("{folder}/data/"));
        let strategies = self.folder.join("etc/sampling/strategies.json");
        std::fs::create_dir_all(strategies.parent().expect("a folder")).expect("a folder");
        let sampling = config(self.rendered, "jaeger-sampling", "strategies.json");
        std::fs::write(strategies, sampling).expect("written");
        let mut jaeger = Jaeger::spawn(&text, self.folder, self.role, self.environment);
        jaeger.ports.insert(METRICS, metrics);
        jaeger
    }

    /// Starts Jaeger and waits until it is healthy. Jaeger ends if its storage does not answer within
    /// five seconds, as on a busy machine. A pod would be restarted, so it is restarted here, twice at
    /// most.
    ///
    /// # Panics
    /// If it does not become healthy.
    pub fn start(&self) -> Jaeger {
        let mut jaeger = self.spawn();
        for _ in 0..2 {
            if jaeger.is_healthy_within(60) {
                return jaeger;
            }
            jaeger = self.spawn();
        }
        jaeger.wait_until_healthy(60);
        jaeger
    }
}

impl Jaeger {
    /// Starts Jaeger with `tests/jaeger.yaml`, which keeps spans in memory, and waits until it is healthy. `name` is
    /// that of its folder.
    ///
    /// # Panics
    /// If it does not become healthy.
    pub fn in_memory(name: &str) -> Jaeger {
        let configuration =
            std::fs::read_to_string(root().join("tests/jaeger.yaml")).expect("a configuration");
        let mut jaeger = Jaeger::spawn(&configuration, &folder(name), "jaeger", &[]);
        jaeger.wait_until_healthy(60);
        jaeger
    }

    /// Starts Jaeger with a configuration, without waiting. Each of its addresses `":PORT"` becomes a
    /// free port of 127.0.0.1. `name` names the files in the folder.
    ///
    /// # Panics
    /// If another address is open to everybody.
    pub fn spawn(
        configuration: &str,
        folder: &Path,
        name: &str,
        environment: &[(&str, String)],
    ) -> Jaeger {
        let mut text = configuration.to_owned();
        let mut ports = BTreeMap::new();
        for port in PORTS {
            let given = format!("\":{port}\"");
            if text.contains(&given) {
                ports.insert(port, free_port());
                text = text.replace(&given, &format!("\"127.0.0.1:{}\"", ports[&port]));
            }
        }
        let open = |(at, _)| text[at + 2..].starts_with(|c: char| c.is_ascii_digit());
        assert!(!text.contains("0.0.0.0") && !text.match_indices("\":").any(open), "{text}");
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(tool("jaeger"));
        command.arg("--config").arg(&file);
        for (name, value) in environment {
            command.env(name, value);
        }
        let process = Process::start(&mut command, &folder.join(format!("{name}.log")));
        Jaeger { process, ports, login: None }
    }

    /// Waits until it is healthy.
    ///
    /// # Panics
    /// If it ends, or is not healthy in time.
    pub fn wait_until_healthy(&mut self, seconds: u64) {
        let healthy = self.is_healthy_within(seconds);
        assert!(healthy, "Jaeger ended or is not healthy: {}", self.process.log());
    }

    /// True once it is healthy; false if it ends, or is not healthy in time.
    fn is_healthy_within(&mut self, seconds: u64) -> bool {
        let url = self.url(13133, "/status");
        for _ in 0..seconds * 10 {
            if get(&url, None).is_ok_and(|(status, _)| status == 200) {
                return true;
            }
            if self.process.ended() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// Reads with this login from now on.
    pub fn login(&mut self, name: &str, password: &str) {
        self.login = Some((name.into(), password.into()));
    }

    /// Returns the port that stands for one of the configuration.
    pub fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    /// Returns the URL of a path on one of the configuration's ports.
    pub fn url(&self, port: u16, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[&port])
    }

    /// Sends a span in OTLP. Returns the response's status.
    pub fn send(&self, span: &Span) -> u16 {
        post(&self.url(4318, "/v1/traces"), &span.otlp()).0
    }

    /// Searches as the UI does, by a service and further parameters. Returns the traces' ids.
    pub fn search(&self, service: &str, parameters: &str) -> Vec<String> {
        let path = format!("/api/traces?service={service}{parameters}&limit=100");
        let Ok(answer) = self.get(&path) else { return Vec::new() };
        let traces = answer["data"].as_array().cloned().unwrap_or_default();
        traces.iter().filter_map(|trace| trace["traceID"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until a span is found by service, operation and attribute, and by its trace's id.
    ///
    /// # Panics
    /// If it is not found in time.
    pub fn find(&self, span: &Span, seconds: u64) {
        let about = || format!("{span:?} is not found: {}", self.process.log());
        let tags = encode(&json!({ "letter": span.letter }).to_string());
        let parameters = format!("&operation={}&tags={tags}", span.operation);
        let found = || self.search(&span.service, &parameters).contains(&span.trace);
        wait(seconds, about, found);
        let found = self.get(&format!("/api/v3/traces/{}", span.trace)).expect("by its id");
        assert!(found.to_string().contains(&span.operation), "{found}");
    }

    /// Reads JSON from the API of `query`.
    ///
    /// # Errors
    /// Any response but 200 with JSON.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let login = self.login.as_ref().map(|(name, password)| (name.as_str(), password.as_str()));
        let (status, body) = get(&self.url(16686, path), login)?;
        if status != 200 {
            return Err(format!("{status} {body}"));
        }
        serde_json::from_str(&body).map_err(|error| error.to_string())
    }

    /// Returns the sampling probability that it serves to clients.
    ///
    /// # Panics
    /// If it serves none.
    pub fn sampling_probability(&self) -> f64 {
        let url = self.url(5778, "/api/sampling?service=any");
        let (_, body) = get(&url, None).expect("served");
        let strategy: Value = serde_json::from_str(&body).expect("JSON");
        strategy["probabilisticSampling"]["samplingRate"]
            .as_f64()
            .unwrap_or_else(|| panic!("{body}"))
    }

    /// Returns one of its own metrics: [`http::metric`].
    pub fn metric(&self, name: &str) -> f64 {
        http::metric(&self.url(METRICS, ""), name)
    }
}

/// A span in a trace of its own.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace's id.
    pub trace: String,
    /// The service's name.
    pub service: String,
    /// The span's name.
    pub operation: String,
    /// The value of its attribute `letter`.
    pub letter: String,
    /// Start in nanoseconds since 1970.
    pub start: u128,
}

impl Span {
    /// A span of a service. Trace id and letter are no other span's.
    pub fn new(service: &str) -> Span {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        Span {
            trace: format!("{:016x}{:016x}", now as u64, count),
            service: service.into(),
            operation: "predict".into(),
            letter: format!("letter-{count}"),
            start: now,
        }
    }

    /// Returns the request body of OTLP over HTTP, as JSON.
    pub fn otlp(&self) -> String {
        json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": self.service}}]},
            "scopeSpans": [{"spans": [{
                "traceId": self.trace, "spanId": &self.trace[16..], "name": self.operation, "kind": 2,
                "startTimeUnixNano": self.start.to_string(),
                "endTimeUnixNano": (self.start + 5_000_000).to_string(),
                "attributes": [{"key": "letter", "value": {"stringValue": self.letter}}]}]}]}]})
        .to_string()
    }
}
