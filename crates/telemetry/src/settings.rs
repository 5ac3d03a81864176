//! Tracing's settings: the standard OTEL_* names, those of the application that this one follows,
//! and a few of its own.
//!
//! Names are written here as Spin variables, `otel_service_name`; as an environment variable the
//! same setting is `OTEL_SERVICE_NAME`. An empty value is an unset one.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use crate::values::Values;

/// The port of OTLP over HTTP (OTLP specification).
const OTLP_HTTP_PORT: u16 = 4318;
/// Where spans go if nothing says where (OTLP exporter specification).
const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
/// The port of OTLP over gRPC (OTLP specification), which this component does not speak.
const OTLP_GRPC_PORT: u16 = 4317;

/// The names of all settings of this module, as Spin variables.
pub const NAMES: [&str; 30] = [
    "enable_tracing",
    "jaeger_agent_host",
    "jaeger_agent_port",
    "jaeger_collector_host",
    "jaeger_hostname",
    "otel_bsp_export_timeout",
    "otel_bsp_max_export_batch_size",
    "otel_bsp_max_queue_size",
    "otel_bsp_schedule_delay",
    "otel_exporter_jaeger_endpoint",
    "otel_exporter_otlp_compression",
    "otel_exporter_otlp_endpoint",
    "otel_exporter_otlp_headers",
    "otel_exporter_otlp_protocol",
    "otel_exporter_otlp_timeout",
    "otel_exporter_otlp_traces_compression",
    "otel_exporter_otlp_traces_endpoint",
    "otel_exporter_otlp_traces_headers",
    "otel_exporter_otlp_traces_protocol",
    "otel_exporter_otlp_traces_timeout",
    "otel_propagators",
    "otel_resource_attributes",
    "otel_sdk_disabled",
    "otel_service_name",
    "otel_traces_exporter",
    "otel_traces_sampler",
    "otel_traces_sampler_arg",
    // Not settings of OpenTelemetry's: this project's own.
    "collector_allowed_host",
    "trace_excluded_routes",
    "trace_retry_budget",
];

/// Whether and how requests are traced.
#[derive(Clone, Debug)]
pub enum Tracing {
    /// Not at all.
    Off {
        /// Why, for the log.
        reason: &'static str,
    },
    /// Like this.
    On(Box<Settings>),
}

/// How requests are traced, all valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where spans go: a whole URL, without user name and password.
    pub endpoint: Uri,
    /// What `collector_allowed_host` allows, for the message when the host denies the endpoint.
    pub allowed_host: String,
    /// Headers of every export. Their values are secret.
    pub headers: HeaderMap,
    /// Whether exports are compressed with gzip.
    pub gzip: bool,
    /// How long one attempt to export may take.
    pub attempt_timeout: Duration,
    /// How long after the end of its newest span a batch is tried again.
    pub retry_budget: Duration,
    /// How many ended spans an instance holds at most; what ends beyond it is dropped.
    pub queue_size: usize,
    /// How many spans one export has at most.
    pub batch_size: usize,
    /// Which requests are traced.
    pub sampler: Sampler,
    /// The sampler's name and argument, for the log.
    pub sampler_name: String,
    /// Resource attribute `service.name`.
    pub service_name: String,
    /// Resource attribute `service.instance.id`; an instance without one makes one up.
    pub service_instance_id: Option<String>,
    /// Resource attribute `faas.name`.
    pub faas_name: String,
    /// Further resource attributes.
    pub resource: BTreeMap<String, String>,
    /// Whether the W3C headers `traceparent` and `tracestate` make a caller's span the parent.
    pub trace_context: bool,
    /// Whether the W3C header `baggage` is taken along.
    pub baggage: bool,
    /// Routes that are not traced.
    pub excluded_routes: Vec<String>,
}

impl Tracing {
    /// Reads the settings. What is invalid is told in a sentence each, without any secret, and
    /// counts as unset.
    ///
    /// Order of precedence: `otel_sdk_disabled`, then `enable_tracing`, then whether there is an
    /// endpoint decide about on and off. The endpoint is the first that is set of
    /// `otel_exporter_otlp_traces_endpoint`, `otel_exporter_otlp_endpoint`,
    /// `jaeger_collector_host`, `http://localhost:4318`. A setting for traces alone
    /// (`otel_exporter_otlp_traces_*`) precedes the one for all signals.
    pub fn read(
        service_name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Tracing, Vec<String>) {
        let mut values = Values::new(lookup);
        let tracing = values.tracing(service_name);
        (tracing, values.into_complaints())
    }
}

/// How each setting of tracing is read.
impl<L: Fn(&str) -> Option<String>> Values<L> {
    fn tracing(&mut self, service_name: &str) -> Tracing {
        let successors = [
            ("jaeger_agent_host", "jaeger_collector_host"),
            ("jaeger_agent_port", "otel_exporter_otlp_endpoint"),
            ("otel_exporter_jaeger_endpoint", "otel_exporter_otlp_endpoint"),
        ];
        for (old, new) in successors {
            if self.value(old).is_some() {
                let reason = format!(
                    "it is not used any more (Jaeger's agent and its protocol are gone): set {new}"
                );
                self.complain(old, reason);
            }
        }
        if self.boolean("otel_sdk_disabled") == Some(true) {
            return Tracing::Off { reason: "otel_sdk_disabled is true" };
        }
        let enabled = self.boolean("enable_tracing");
        if enabled == Some(false) {
            return Tracing::Off { reason: "enable_tracing is false" };
        }
        match self.value("otel_traces_exporter").as_deref() {
            Some("none") => return Tracing::Off { reason: "otel_traces_exporter is none" },
            None | Some("otlp") => {}
            Some(other) => {
                let reason = format!("{other:?} is not known, otlp and none are; otlp is used");
                self.complain("otel_traces_exporter", reason);
            }
        }
        let endpoint = match self.endpoint() {
            Some(endpoint) => endpoint,
            None if enabled == Some(true) => Uri::from_static(DEFAULT_ENDPOINT),
            None => {
                return Tracing::Off {
                    reason: "neither otel_exporter_otlp_endpoint nor jaeger_collector_host is set",
                };
            }
        };
        Tracing::On(Box::new(self.settings(service_name, endpoint)))
    }

    fn settings(&mut self, service_name: &str, endpoint: Uri) -> Settings {
        self.protocol();
        let (sampler, sampler_name) = self.sampler();
        let (trace_context, baggage) = self.propagators();
        let mut resource = self.resource_attributes();
        let text = |value: Option<String>, default: &str| value.unwrap_or(default.to_owned());
        // OpenTelemetry's default is 30 s for an export of the batch processor.
        let export_timeout = self.milliseconds("otel_bsp_export_timeout", 30_000);
        let attempt_timeout = self
            .for_traces("timeout")
            .map_or(export_timeout, |name| self.milliseconds(&name, 30_000).min(export_timeout));
        // Nothing waits for it: spans go as soon as the one export before them is done.
        self.milliseconds("otel_bsp_schedule_delay", 5_000);
        let queue_size = self.whole("otel_bsp_max_queue_size", 2048, 1..=1_000_000);
        Settings {
            headers: self.headers(),
            gzip: self.gzip(),
            attempt_timeout,
            retry_budget: self.milliseconds("trace_retry_budget", 90_000),
            queue_size,
            batch_size: self
                .whole("otel_bsp_max_export_batch_size", 512, 1..=1_000_000)
                .min(queue_size),
            sampler,
            sampler_name,
            service_name: self
                .value("otel_service_name")
                .or(resource.remove("service.name"))
                .unwrap_or(service_name.to_owned()),
            service_instance_id: resource
                .remove("service.instance.id")
                .or(self.value("jaeger_hostname")),
            faas_name: text(resource.remove("faas.name"), service_name),
            resource,
            trace_context,
            baggage,
            excluded_routes: list(&text(self.value("trace_excluded_routes"), "")),
            allowed_host: text(self.value("collector_allowed_host"), ""),
            endpoint,
        }
    }

    /// The name of the exporter's setting that counts: the one for traces, else the one for all.
    fn for_traces(&self, what: &str) -> Option<String> {
        [format!("otel_exporter_otlp_traces_{what}"), format!("otel_exporter_otlp_{what}")]
            .into_iter()
            .find(|name| self.value(name).is_some())
    }

    /// A duration from 1 ms to one hour.
    fn milliseconds(&mut self, name: &str, default: usize) -> Duration {
        Duration::from_millis(self.whole(name, default, 1..=3_600_000) as u64)
    }

    fn endpoint(&mut self) -> Option<Uri> {
        let ways = [
            ("otel_exporter_otlp_traces_endpoint", ""),
            ("otel_exporter_otlp_endpoint", "/v1/traces"),
        ];
        for (name, path) in ways {
            let Some(value) = self.value(name) else { continue };
            match endpoint(&value, path) {
                Ok(uri) => {
                    if uri.port_u16() == Some(OTLP_GRPC_PORT) {
                        self.complain(
                            name,
                            format!(
                                "{OTLP_GRPC_PORT} is the port of OTLP over gRPC; spans are sent \
                                 over HTTP, whose port is {OTLP_HTTP_PORT}"
                            ),
                        );
                    }
                    return Some(uri);
                }
                Err(reason) => self.complain(name, format!("{reason}; it is ignored")),
            }
        }
        let name = "jaeger_collector_host";
        let host = self.value(name)?;
        // The whole URL is made from it: nothing but a host may be in it.
        let uri = endpoint(&format!("http://{host}:{OTLP_HTTP_PORT}"), "/v1/traces");
        match uri {
            Ok(uri) if uri.host() == Some(&host) => Some(uri),
            _ => {
                self.complain(
                    name,
                    format!(
                        "this is not a host's name or address, such as jaeger-collector; for a \
                         port other than {OTLP_HTTP_PORT} or a URL set \
                         otel_exporter_otlp_endpoint; it is ignored"
                    ),
                );
                None
            }
        }
    }

    fn protocol(&mut self) {
        let Some(name) = self.for_traces("protocol") else { return };
        let value = self.value(&name).unwrap_or_default();
        if value != "http/protobuf" {
            self.complain(&name, format!("{value:?} can't be spoken here; http/protobuf is used"));
        }
    }

    fn gzip(&mut self) -> bool {
        let Some(name) = self.for_traces("compression") else { return false };
        match self.value(&name).as_deref() {
            Some("gzip") => true,
            None | Some("none") => false,
            Some(other) => {
                let reason = format!("{other:?} is neither gzip nor none; none is used");
                self.complain(&name, reason);
                false
            }
        }
    }

    /// `key=value` pairs with commas between, values percent-encoded (W3C Baggage, as the OTLP
    /// exporter's specification says). The values are secret: no complaint repeats them.
    fn headers(&mut self) -> HeaderMap {
        let Some(name) = self.for_traces("headers") else { return HeaderMap::new() };
        let header = |(key, value): (String, String)| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_str(&key).ok()?, value))
        };
        let headers = pairs(&self.value(&name).unwrap_or_default())
            .and_then(|pairs| pairs.into_iter().map(header).collect());
        headers.unwrap_or_else(|| {
            let reason = "this is not a list of key=value pairs with commas between; \
                          no header is sent";
            self.complain(&name, reason);
            HeaderMap::new()
        })
    }

    fn resource_attributes(&mut self) -> BTreeMap<String, String> {
        let name = "otel_resource_attributes";
        let value = self.value(name).unwrap_or_default();
        pairs(&value).map(|pairs| pairs.into_iter().collect()).unwrap_or_else(|| {
            let reason = format!(
                "{value:?} is not a list of key=value pairs with commas between; it is ignored"
            );
            self.complain(name, reason);
            BTreeMap::new()
        })
    }

    fn sampler(&mut self) -> (Sampler, String) {
        let always = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        let default = "parentbased_always_on";
        let name = self.value("otel_traces_sampler").unwrap_or(default.to_owned());
        let sampler = match name.as_str() {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "parentbased_always_on" => always,
            "parentbased_always_off" => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
            "traceidratio" | "parentbased_traceidratio" => {
                let ratio = self.number("otel_traces_sampler_arg", 1.0, 0.0..=1.0);
                let by_ratio = Sampler::TraceIdRatioBased(ratio);
                let sampler = match name.as_str() {
                    "traceidratio" => by_ratio,
                    _ => Sampler::ParentBased(Box::new(by_ratio)),
                };
                return (sampler, format!("{name} {ratio}"));
            }
            other => {
                let reason = format!("{other:?} is no sampler known here; {default} is used");
                self.complain("otel_traces_sampler", reason);
                return (always, default.to_owned());
            }
        };
        (sampler, name)
    }

    /// Whether trace context, and whether baggage are taken from a request.
    fn propagators(&mut self) -> (bool, bool) {
        let name = "otel_propagators";
        let Some(value) = self.value(name) else { return (true, true) };
        let (mut trace_context, mut baggage) = (false, false);
        for propagator in list(&value) {
            match propagator.as_str() {
                "tracecontext" => trace_context = true,
                "baggage" => baggage = true,
                "none" => {}
                other => {
                    let reason = format!(
                        "{other:?} is not known here, tracecontext, baggage and none are; it is \
                         ignored"
                    );
                    self.complain(name, reason);
                }
            }
        }
        (trace_context, baggage)
    }
}

/// The parts of a list with commas between, empty ones left out.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The pairs of `key=value,key=value`, values percent-decoded; `None` if it is something else.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |text: String| {
        let (key, value) = text.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
    };
    list(text).into_iter().map(pair).collect()
}

/// The URL of an endpoint with a path added. The reason of a refusal has nothing of the value,
/// which may hold a password.
fn endpoint(value: &str, path: &str) -> Result<Uri, &'static str> {
    let uri: Uri = value.parse().map_err(|_| "this is not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("this is not a URL that begins with http:// or https://");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL with a user name or password is not taken, since it would be shown in \
                    logs: put credentials into otel_exporter_otlp_headers");
    }
    if path.is_empty() {
        return Ok(uri);
    }
    // OTLP exporter specification: the path is added to that of the base endpoint.
    let base = format!(
        "{}://{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |a| a.as_str())
    );
    format!("{base}{}{path}", uri.path().trim_end_matches('/'))
        .parse()
        .map_err(|_| "this is not a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> (Tracing, Vec<String>) {
        Tracing::read("test-service", |name| {
            assert!(NAMES.contains(&name), "{name} is no setting");
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
    }

    fn on(values: &[(&str, &str)]) -> Settings {
        match read(values) {
            (Tracing::On(settings), complaints) if complaints.is_empty() => *settings,
            other => panic!("{other:?}"),
        }
    }

    const ENDPOINT: (&str, &str) = ("otel_exporter_otlp_endpoint", "http://collector:4318");

    /// The settings with an endpoint and one more, which is complained of by its name.
    fn refused(name: &str, value: &str) -> (Settings, String) {
        let (tracing, complaints) = read(&[ENDPOINT, (name, value)]);
        let [complaint] = complaints.as_slice() else { panic!("{complaints:?}") };
        assert!(complaint.contains(name), "{complaint}");
        let Tracing::On(settings) = tracing else { panic!("off") };
        (*settings, complaint.clone())
    }

    #[test]
    fn an_endpoint_turns_tracing_on_unless_it_is_turned_off() {
        for (values, is_on) in [
            (&[][..], false),
            (&[ENDPOINT], true),
            (&[("otel_exporter_otlp_endpoint", "  ")], false),
            (&[("jaeger_collector_host", "jaeger")], true),
            (&[("enable_tracing", "True")], true),
            (&[ENDPOINT, ("enable_tracing", "false")], false),
            (&[ENDPOINT, ("otel_traces_exporter", "none")], false),
            (&[("enable_tracing", "true"), ("otel_sdk_disabled", "true")], false),
        ] {
            let (tracing, complaints) = read(values);
            assert_eq!(matches!(tracing, Tracing::On(_)), is_on, "{values:?}");
            assert_eq!(complaints, Vec::<String>::new(), "{values:?}");
        }
    }

    #[test]
    fn the_endpoint_from_each_of_the_ways() {
        let traces = ("otel_exporter_otlp_traces_endpoint", "https://hosted.example/otlp/here");
        let host = ("jaeger_collector_host", "jaeger-collector.tracing.svc");
        for (values, endpoint) in [
            (&[("enable_tracing", "true")][..], "http://localhost:4318/v1/traces"),
            (&[host], "http://jaeger-collector.tracing.svc:4318/v1/traces"),
            (&[host, ENDPOINT], "http://collector:4318/v1/traces"),
            (&[host, ENDPOINT, traces], "https://hosted.example/otlp/here"),
            (
                &[("otel_exporter_otlp_endpoint", "https://hosted.example/otlp/")],
                "https://hosted.example/otlp/v1/traces",
            ),
        ] {
            assert_eq!(on(values).endpoint, endpoint, "{values:?}");
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_is_told_without_its_password() {
        for (name, value) in [
            ("otel_exporter_otlp_endpoint", "collector:4318"),
            ("otel_exporter_otlp_endpoint", "ftp://collector"),
            ("otel_exporter_otlp_endpoint", "http://someone:hunter2@collector:4318"),
            ("otel_exporter_otlp_traces_endpoint", "http:// /"),
            ("jaeger_collector_host", "http://jaeger"),
            ("jaeger_collector_host", "jaeger:4317"),
            ("jaeger_collector_host", "someone:hunter2@jaeger"),
        ] {
            let (tracing, complaints) = read(&[(name, value)]);
            assert!(matches!(tracing, Tracing::Off { .. }), "{value}");
            assert_eq!(complaints.len(), 1, "{value}");
            assert!(complaints[0].contains(name), "{complaints:?}");
            assert!(!complaints[0].contains("hunter2"), "{complaints:?}");
        }
        let (_, complaints) = read(&[("otel_exporter_otlp_endpoint", "http://collector:4317")]);
        assert!(complaints[0].contains("4318"), "{complaints:?}");
    }

    #[test]
    fn names_of_old_have_a_successor() {
        for name in ["jaeger_agent_host", "jaeger_agent_port", "otel_exporter_jaeger_endpoint"] {
            let (tracing, complaints) = read(&[(name, "old")]);
            assert!(matches!(tracing, Tracing::Off { .. }));
            assert!(complaints[0].contains(name) && complaints[0].contains(": set "));
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers = on(&[
            ENDPOINT,
            ("otel_exporter_otlp_headers", "Authorization=Basic%20c2VjcmV0, x-team = blue "),
        ])
        .headers;
        assert_eq!(headers["authorization"], "Basic c2VjcmV0");
        assert_eq!(headers["x-team"], "blue");
        assert!(!format!("{headers:?}").contains("c2VjcmV0"), "{headers:?}");

        let (settings, complaint) = refused("otel_exporter_otlp_headers", "secret token");
        assert!(settings.headers.is_empty() && !complaint.contains("token"), "{complaint}");
    }

    #[test]
    fn samplers() {
        let sampler = |name: &str, argument: &str| {
            let values =
                [ENDPOINT, ("otel_traces_sampler", name), ("otel_traces_sampler_arg", argument)];
            let settings = on(&values);
            (format!("{:?}", settings.sampler), settings.sampler_name)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(sampler("", ""), pair("ParentBased(AlwaysOn)", "parentbased_always_on"));
        assert_eq!(sampler("always_off", ""), pair("AlwaysOff", "always_off"));
        assert_eq!(
            sampler("parentbased_traceidratio", "0.1"),
            pair("ParentBased(TraceIdRatioBased(0.1))", "parentbased_traceidratio 0.1")
        );
        let (settings, _) = refused("otel_traces_sampler", "jaeger_remote");
        assert_eq!(settings.sampler_name, "parentbased_always_on");
    }

    #[test]
    fn the_resource_names_the_service() {
        let settings = on(&[ENDPOINT]);
        assert_eq!((settings.service_name, settings.faas_name), {
            ("test-service".to_owned(), "test-service".to_owned())
        });
        let settings = on(&[
            ENDPOINT,
            (
                "otel_resource_attributes",
                "service.name=one,deployment.environment.name=a%2Cb,service.instance.id=i",
            ),
            ("jaeger_hostname", "pod-1"),
            ("otel_service_name", "two"),
        ]);
        assert_eq!(settings.service_name, "two", "the name of its own precedes");
        assert_eq!(settings.service_instance_id.as_deref(), Some("i"));
        assert_eq!(settings.resource["deployment.environment.name"], "a,b");
        let settings = on(&[ENDPOINT, ("jaeger_hostname", "pod-1")]);
        assert_eq!(settings.service_instance_id.as_deref(), Some("pod-1"));
    }

    #[test]
    fn what_cannot_be_is_told_and_has_its_default() {
        let (settings, _) = refused("otel_bsp_max_queue_size", "many");
        assert_eq!((settings.queue_size, settings.batch_size), (2048, 512));
        let (settings, _) = refused("trace_retry_budget", "-1");
        assert_eq!(settings.retry_budget, Duration::from_secs(90));
        assert!(!refused("otel_exporter_otlp_compression", "zstd").0.gzip);
        refused("otel_exporter_otlp_protocol", "grpc");
        refused("otel_resource_attributes", "what");
        refused("enable_tracing", "maybe");
        refused("otel_traces_exporter", "zipkin");
        let (settings, _) = refused("otel_propagators", "tracecontext,b3");
        assert!(settings.trace_context && !settings.baggage);
    }

    #[test]
    fn one_attempt_takes_no_longer_than_either_timeout() {
        let timeout = |values: &[(&str, &str)]| {
            on(&[&[ENDPOINT], values].concat()).attempt_timeout.as_millis()
        };
        assert_eq!(timeout(&[]), 30_000);
        assert_eq!(timeout(&[("otel_bsp_export_timeout", "50")]), 50);
        assert_eq!(timeout(&[("otel_exporter_otlp_timeout", "10000")]), 10_000);
        let both =
            [("otel_exporter_otlp_timeout", "10"), ("otel_exporter_otlp_traces_timeout", "20")];
        assert_eq!(timeout(&both), 20);
    }
}
