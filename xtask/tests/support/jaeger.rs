//! Jaeger's processes with rendered configurations, spans for them, and what they find.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::process::{Process, free_port, wait};

/// A role of Jaeger that runs with the configuration that the chart renders.
pub struct Jaeger {
    pub process: Process,
    /// Where each of the configuration's ports is now.
    ports: BTreeMap<u16, u16>,
    login: Option<(String, String)>,
}

/// How a role is started: only addresses and folders of its configuration are replaced.
pub struct Start<'a> {
    pub rendered: &'a str,
    pub role: &'a str,
    /// The test's folder; `/etc/jaeger` and `/var/lib/jaeger` are in it.
    pub folder: &'a Path,
    /// Addresses in the configuration, and what to put in their place.
    pub replace: &'a [(&'a str, String)],
    pub environment: &'a [(&'a str, String)],
}

impl<'a> Start<'a> {
    /// The collector, with nothing to replace.
    pub fn collector(rendered: &'a str, folder: &'a Path) -> Start<'a> {
        Start { rendered, role: "collector", folder, replace: &[], environment: &[] }
    }

    /// Writes the configuration and starts Jaeger, without waiting.
    pub fn spawn(&self) -> Jaeger {
        let mut text =
            super::config(self.rendered, &format!("jaeger-{}", self.role), "config.yaml");
        let mut ports = BTreeMap::new();
        for port in [4317, 4318, 5778, 5779, 6831, 6832, 9411, 13133, 14250, 14268, 16685, 16686] {
            let given = format!("\"0.0.0.0:{port}\"");
            if text.contains(&given) {
                ports.insert(port, free_port());
                text = text.replace(&given, &format!("\"127.0.0.1:{}\"", ports[&port]));
            }
        }
        ports.insert(8888, free_port());
        let metrics = "{host: 0.0.0.0, port: 8888}";
        assert!(text.contains(metrics), "{text}");
        text = text.replace(metrics, &format!("{{host: 127.0.0.1, port: {}}}", ports[&8888]));
        for (from, to) in self.replace {
            assert!(text.contains(from), "{from} is not in {text}");
            text = text.replace(from, to);
        }
        let folder = self.folder.display();
        text = text.replace("/etc/jaeger/", &format!("{folder}/etc/"));
        text = text.replace("/var/lib/jaeger/", &format!("{folder}/data/"));
        assert!(!text.contains("0.0.0.0"), "{text}");
        let strategies = self.folder.join("etc/sampling/strategies.json");
        std::fs::create_dir_all(strategies.parent().expect("a folder")).expect("a folder");
        let sampling = super::config(self.rendered, "jaeger-sampling", "strategies.json");
        std::fs::write(strategies, sampling).expect("written");
        let file = self.folder.join(format!("{}.yaml", self.role));
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(super::tool("jaeger"));
        command.arg("--config").arg(&file);
        for (name, value) in self.environment {
            command.env(name, value);
        }
        let log = self.folder.join(format!("{}.log", self.role));
        Jaeger { process: Process::start(&mut command, &log), ports, login: None }
    }

    /// Starts Jaeger and waits until it is healthy. It ends where its storage does not answer within
    /// five seconds, as on a busy machine; a pod is then started again, and so it is here, twice.
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
    pub fn wait_until_healthy(&mut self, seconds: u64) {
        let healthy = self.is_healthy_within(seconds);
        assert!(healthy, "Jaeger ended or is not healthy: {}", self.process.log());
    }

    /// Whether it becomes healthy; not if it ends.
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

    pub fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    pub fn url(&self, port: u16, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[&port])
    }

    /// Sends a span in OTLP; the answer's status.
    pub fn send(&self, span: &Span) -> u16 {
        post(&self.url(4318, "/v1/traces"), &span.otlp()).0
    }

    /// Searches as the page does: by service, operation and an attribute.
    pub fn search(&self, span: &Span) -> Vec<String> {
        let tags = json!({ "letter": span.letter }).to_string();
        let query = format!(
            "/api/traces?service={}&operation={}&tags={}&limit=100",
            span.service,
            span.operation,
            encode(&tags)
        );
        let Ok(answer) = self.get(&query) else { return Vec::new() };
        let traces = answer["data"].as_array().cloned().unwrap_or_default();
        traces.iter().filter_map(|trace| trace["traceID"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until the span is found by service, operation and attribute, and by its id.
    pub fn find(&self, span: &Span, seconds: u64) {
        let what = || format!("{span:?} is not found: {}", self.process.log());
        wait(seconds, what, || self.search(span).contains(&span.trace));
        let found = self.get(&format!("/api/v3/traces/{}", span.trace)).expect("by its id");
        assert!(found.to_string().contains(&span.operation), "{found}");
    }

    /// Reads from query's API.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let login = self.login.as_ref().map(|(name, password)| (name.as_str(), password.as_str()));
        let (status, body) = get(&self.url(16686, path), login)?;
        if status != 200 {
            return Err(format!("{status} {body}"));
        }
        serde_json::from_str(&body).map_err(|error| error.to_string())
    }

    /// How much of a service it tells clients to sample.
    pub fn sampling_probability(&self) -> f64 {
        let url = self.url(5778, "/api/sampling?service=any");
        let (_, body) = get(&url, None).expect("served");
        let strategy: Value = serde_json::from_str(&body).expect("JSON");
        strategy["probabilisticSampling"]["samplingRate"]
            .as_f64()
            .unwrap_or_else(|| panic!("{body}"))
    }

    /// As [`metric`], of this one.
    pub fn metric(&self, name: &str) -> f64 {
        metric(&self.url(8888, ""), name)
    }
}

/// A span of a trace of its own.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub service: String,
    pub operation: String,
    pub letter: String,
    /// In nanoseconds since 1970.
    pub start: u128,
}

impl Span {
    /// A span of a service that no other test uses.
    pub fn new(service: &str) -> Span {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        Span {
            trace: format!("{:016x}{:016x}", now as u64, count),
            service: service.into(),
            operation: "predict".into(),
            letter: format!("letter-{count}"),
            start: now,
        }
    }

    /// The request body of OTLP over HTTP, as JSON.
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

/// A folder of a test's own, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = super::root().join("target/tmp").join(name);
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

fn authorization(login: Option<(&str, &str)>) -> String {
    let (name, password) = login.unwrap_or_default();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// The sum of a metric over its labels, with or without `_total`: that differs by version.
pub fn metric(url: &str, name: &str) -> f64 {
    let (_, text) = get(&format!("{url}/metrics"), None).expect("metrics");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// GET: status and body.
pub fn get(url: &str, login: Option<(&str, &str)>) -> Result<(u16, String), String> {
    let mut request = agent().get(url);
    if login.is_some() {
        request = request.header("authorization", authorization(login));
    }
    let mut answer = request.call().map_err(|error| format!("{url}: {error}"))?;
    let body = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((answer.status().as_u16(), body))
}

/// POST of JSON: status and body; status 0 if there is no answer.
pub fn post(url: &str, body: &str) -> (u16, String) {
    post_as(url, "application/json", body.as_bytes())
}

/// POST of any media type.
pub fn post_as(url: &str, media_type: &str, body: &[u8]) -> (u16, String) {
    match agent().post(url).header("content-type", media_type).send(body) {
        Ok(mut answer) => {
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
        }
        Err(error) => (0, error.to_string()),
    }
}
