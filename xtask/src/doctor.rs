//! `cargo xtask doctor`: follows one request from the service on this machine to Jaeger, and names the first
//! broken hop, the evidence and the remedy.
//!
//! `infra/doctor.sh` does so on Kubernetes. Hops have the same numbers, which are the exit codes. Two of its
//! hops, the storage's login (7) and health (8), are Jaeger's own on one machine.

use std::hash::{BuildHasher, RandomState};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use host::client::agent;
use host::others::{OTLP_PORT, collector_url};
use host::trace::export_of_one;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use ureq::http::Uri;

use crate::traces::sampled_trace;

/// Arguments of `cargo xtask doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// URL of the service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// URL of Jaeger's UI
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:16686")]
    jaeger: String,
    /// URL of the collector, as the service has it [default: as SPIN_VARIABLE_OTEL_EXPORTER_OTLP_ENDPOINT
    /// and the like say, else http://localhost:4318]
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// Longest search for the traces, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,
}

/// The first broken hop.
#[derive(Debug)]
struct Broken {
    hop: u8,
    fault: String,
    repair: String,
}

type Hop<T = ()> = Result<T, Broken>;

fn broken<T>(hop: u8, fault: impl Into<String>, repair: impl Into<String>) -> Hop<T> {
    Err(Broken { hop, fault: fault.into(), repair: repair.into() })
}

fn ok(text: &str) {
    println!("ok      {text}");
}

/// An answer that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval at which a trace is searched for.
const POLL: Duration = Duration::from_millis(250);

/// Prints each hop. Returns the first broken one, or 0.
pub fn run(arguments: &Arguments) -> u8 {
    match follow(arguments) {
        Ok(()) => {
            println!("Every hop works.");
            0
        }
        Err(Broken { hop, fault, repair }) => {
            eprintln!("\nBROKEN: {fault}\nREPAIR: {repair}");
            hop
        }
    }
}

fn follow(arguments: &Arguments) -> Hop {
    let (service, jaeger) = (origin(&arguments.url), origin(&arguments.jaeger));
    let variable = |name: &str| {
        let value = std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok();
        value.filter(|value| !value.trim().is_empty())
    };
    let endpoint = endpoint(arguments.collector.as_deref(), variable);
    let headers = headers(variable);

    let health = service_answers(service)?;
    let trace = request_is_traced(service, &health)?;
    let addresses = name_resolves(&endpoint)?;
    let own = new_id();
    let answer = port_answers(&endpoint, &addresses, &headers, own)?;
    let own = takes_spans(&endpoint, answer)?.then(|| format!("{own:032x}"));
    let wait = Duration::from_secs(arguments.wait);
    traces_arrive(service, &endpoint, jaeger, &trace, own.as_deref(), wait)
}

/// Returns a URL without the slash at its end.
fn origin(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// Returns the URL that the service sends its spans to: from the command line, or from Spin's variables in the
/// environment.
fn endpoint(given: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> String {
    let whole = |base: &str| match origin(base) {
        base if base.ends_with("/v1/traces") => base.to_owned(),
        base => format!("{base}/v1/traces"),
    };
    if let Some(given) = given {
        return whole(given);
    }
    if let Some(traces) = variable("otel_exporter_otlp_traces_endpoint") {
        return traces;
    }
    if let Some(base) = variable("otel_exporter_otlp_endpoint") {
        return whole(&base);
    }
    let host = variable("jaeger_collector_host").unwrap_or_else(|| "localhost".to_owned());
    whole(&collector_url(&host))
}

/// Returns the headers of an export, from Spin's variables in the environment.
fn headers(variable: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let list = variable("otel_exporter_otlp_traces_headers")
        .or_else(|| variable("otel_exporter_otlp_headers"))
        .unwrap_or_default();
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Returns a random trace id.
fn new_id() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(SystemTime::now()));
    (half() << 64) | half()
}

/// Hop 2. Returns the answer of `/health`.
fn service_answers(service: &str) -> Hop<Value> {
    let repair = "start it: spin up, or cargo xtask up. --url names another address";
    let answer = match get(&format!("{service}/health"), None) {
        Ok(answer) => answer,
        Err(error) => {
            return broken(2, format!("the service does not answer at {service}: {error}"), repair);
        }
    };
    let health: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status != 200 || health["status"] != "ok" {
        let fault = format!("another program than the service answers at {service}: {answer}");
        return broken(2, fault, repair);
    }
    ok(&format!("2  the service answers: {health}"));
    Ok(health)
}

/// Hop 3: sends a request that must be traced, and returns its trace's id.
fn request_is_traced(service: &str, health: &Value) -> Hop<String> {
    if health["tracing"] != "enabled" {
        return broken(
            3,
            format!("tracing is off: {health}. The service's log says why (info: traces: off, …)"),
            format!(
                "spin up --variable otel_exporter_otlp_endpoint=http://localhost:{OTLP_PORT}; \
                 otel_sdk_disabled=true, enable_tracing=false and otel_traces_exporter=none turn it \
                 off all the same"
            ),
        );
    }
    let id = new_id();
    let parent = format!("00-{id:032x}-{:016x}-01", id as u64);
    let traceparent = match get(&format!("{service}/"), Some(&parent)) {
        Ok(answer) => answer.traceparent,
        Err(error) => {
            let fault = format!("the service does not answer at {service}: {error}");
            return broken(2, fault, "see its log");
        }
    };
    let Some(traceparent) = traceparent else {
        return broken(
            3,
            "tracing is on, but GET / is not traced: its answer has no traceparent",
            "leave / out of the variable trace_excluded_routes",
        );
    };
    let Some(trace) = sampled_trace(&traceparent) else {
        return broken(
            3,
            format!("tracing is on, but the sampler records nothing: traceparent {traceparent}"),
            "spin up --variable otel_traces_sampler=parentbased_always_on",
        );
    };
    ok("3  tracing is on");
    Ok(trace.to_owned())
}

/// Hop 4. Returns the addresses of the collector's name.
fn name_resolves(endpoint: &str) -> Hop<Vec<SocketAddr>> {
    let uri = endpoint.parse::<Uri>().ok();
    let Some((uri, host)) = uri.as_ref().and_then(|uri| Some((uri, uri.host()?))) else {
        return broken(
            1,
            format!("{endpoint} is no URL"),
            format!("write http://HOST:{OTLP_PORT}"),
        );
    };
    let port = uri.port_u16().unwrap_or(if is_https(endpoint) { 443 } else { 80 });
    match (host.trim_matches(['[', ']']), port).to_socket_addrs() {
        Ok(addresses) => {
            ok(&format!("4  the collector's name resolves: {host}"));
            Ok(addresses.collect())
        }
        Err(error) => broken(
            4,
            format!("the collector's name {host} is unknown on this machine: {error}"),
            format!(
                "a container's name is known to containers alone; its port is localhost's here: spin \
                 up --variable otel_exporter_otlp_endpoint=http://localhost:{OTLP_PORT}"
            ),
        ),
    }
}

/// Hop 5: sends a span as the service does, and returns the answer. A collector with https is only connected
/// to: this command has no TLS.
fn port_answers(
    endpoint: &str,
    addresses: &[SocketAddr],
    headers: &[(String, String)],
    id: u128,
) -> Hop<Option<Answer>> {
    let answer = if is_https(endpoint) {
        connect(addresses).map(|()| None)
    } else {
        let answer = post(endpoint, headers, &export_of_one("doctor", id));
        answer.map(Some).map_err(|error| error.to_string())
    };
    match answer {
        Ok(answer) => {
            ok("5  the collector's port answers");
            Ok(answer)
        }
        Err(error) => broken(
            5,
            format!("nobody answers at {endpoint}: {error}"),
            format!(
                "start it: jaeger, or cargo xtask up, which brings a collector of its own; its port for OTLP \
                 over HTTP is {OTLP_PORT} (4317 is gRPC's). In a container, publish the port"
            ),
        ),
    }
}

/// Connects to one of several addresses.
fn connect(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut error = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(refused) => error = refused.to_string(),
        }
    }
    Err(error)
}

/// Hop 6. Returns true if the span was sent.
fn takes_spans(endpoint: &str, answer: Option<Answer>) -> Hop<bool> {
    let Some(answer) = answer else {
        println!("-       6  not tried: the collector wants https, which this command lacks");
        return Ok(false);
    };
    // A proxy's login is a page with status 200.
    if !(200..300).contains(&answer.status) || answer.body.trim_start().starts_with('<') {
        return broken(
            6,
            format!("the collector at {endpoint} refuses spans: {answer}"),
            "status 401: the credentials in SPIN_VARIABLE_OTEL_EXPORTER_OTLP_HEADERS; 404, or a page: the \
             path and the port; 400: is it http where https is asked for?; 503: its memory is full",
        );
    }
    ok(&format!("6  the collector takes spans ({})", answer.status));
    Ok(true)
}

/// Hops 9 and 10: searches for the service's trace, and for the doctor's own where it was sent.
fn traces_arrive(
    service: &str,
    endpoint: &str,
    jaeger: &str,
    trace: &str,
    own: Option<&str>,
    wait: Duration,
) -> Hop {
    let start = Instant::now();
    loop {
        if missing(jaeger, trace)?.is_none() {
            ok(&format!("7–9 stored and found: the trace {trace} of a request to {service}"));
            println!("        {jaeger}/trace/{trace}");
            return Ok(());
        }
        if start.elapsed() >= wait {
            break;
        }
        std::thread::sleep(POLL);
    }
    if let Some(answer) = own.map(|own| missing(jaeger, own)).transpose()?.flatten() {
        return broken(
            9,
            format!(
                "the collector at {endpoint} takes spans, but {jaeger} does not have them: {answer}"
            ),
            "--collector and --jaeger must name the same Jaeger. A collector in a terminal (cargo xtask up \
             without Jaeger) shows traces there; another one must pass them on: see its log",
        );
    }
    let others = if own.is_some() { "spans of others arrive, those" } else { "the spans" };
    broken(
        10,
        format!("{others} of {service} don't: {jaeger} does not have the trace {trace}"),
        format!(
            "the service's log says why (warning: traces: …). Spin lets spans leave only to \
             collector_allowed_host, http and port {OTLP_PORT} by default: spin up --variable \
             otel_exporter_otlp_endpoint={base} --variable collector_allowed_host={base}; in a manifest \
             of your own, allowed_outbound_hosts. After a refusal the service tries again for a while",
            base = base(endpoint)
        ),
    )
}

/// Asks Jaeger for a trace. Returns its answer if it does not have the trace.
fn missing(jaeger: &str, trace: &str) -> Hop<Option<Answer>> {
    match get(&format!("{jaeger}/api/v3/traces/{trace}"), None) {
        Ok(Answer { status: 200, body, .. }) if body.contains("spanId") => Ok(None),
        Ok(answer) if [401, 403].contains(&answer.status) => broken(
            9,
            format!("query asks for a login: {answer}"),
            "--jaeger names another address, such as that behind the proxy",
        ),
        Ok(answer) => Ok(Some(answer)),
        Err(error) => broken(
            9,
            format!("query does not answer at {jaeger}: {error}"),
            "start Jaeger 2 (jaeger), with query in it; --jaeger names another address. Without Jaeger, \
             cargo xtask up shows traces in the terminal",
        ),
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https:")
}

/// Returns scheme, host and port of a URL.
fn base(url: &str) -> &str {
    let rest = url.find("://").map_or(0, |at| at + 3);
    url[rest..].find('/').map_or(url, |at| &url[..rest + at])
}

/// A response.
struct Answer {
    status: u16,
    traceparent: Option<String>,
    body: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        let start: String = line.chars().take(200).collect();
        let space = if start.is_empty() { "" } else { " " };
        write!(formatter, "{start}{space}status={}", self.status)
    }
}

impl Answer {
    fn of(response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
        let (head, mut body) = response.into_parts();
        let traceparent = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
        let traceparent = traceparent.map(str::to_owned);
        let body = String::from_utf8_lossy(&body.read_to_vec()?).into_owned();
        Ok(Answer { status: head.status.as_u16(), traceparent, body })
    }
}

fn get(url: &str, traceparent: Option<&str>) -> Result<Answer, ureq::Error> {
    let mut request = agent(PATIENCE).get(url);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    Answer::of(request.call()?)
}

fn post(url: &str, headers: &[(String, String)], body: &[u8]) -> Result<Answer, ureq::Error> {
    let mut request = agent(PATIENCE).post(url).header("content-type", "application/x-protobuf");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Answer::of(request.send(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_the_services() {
        let with = |given, variables: &[(&str, &str)]| {
            endpoint(given, |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(None, &[]), "http://localhost:4318/v1/traces");
        assert_eq!(with(Some("http://c:1/"), &[]), "http://c:1/v1/traces");
        assert_eq!(with(Some("http://c:1/v1/traces"), &[]), "http://c:1/v1/traces");
        let literal = [("jaeger_collector_host", "::1")];
        assert_eq!(with(None, &literal), "http://[::1]:4318/v1/traces");
        let mut variables = vec![("jaeger_collector_host", "a")];
        assert_eq!(with(None, &variables), "http://a:4318/v1/traces");
        variables.push(("otel_exporter_otlp_endpoint", "http://b:2"));
        assert_eq!(with(None, &variables), "http://b:2/v1/traces");
        variables.push(("otel_exporter_otlp_traces_endpoint", "http://c:3/spans"));
        assert_eq!(with(None, &variables), "http://c:3/spans");
        assert_eq!(with(Some("http://d"), &variables), "http://d/v1/traces");
    }

    #[test]
    fn headers_are_decoded() {
        let list = "authorization=Bearer%20a=b, x-tenant=c";
        let found = headers(|name| (name == "otel_exporter_otlp_headers").then(|| list.to_owned()));
        let expected = [("authorization", "Bearer a=b"), ("x-tenant", "c")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn base_is_scheme_host_and_port() {
        assert_eq!(base("http://[::1]:4318/v1/traces"), "http://[::1]:4318");
        assert_eq!(base("https://c"), "https://c");
    }
}
