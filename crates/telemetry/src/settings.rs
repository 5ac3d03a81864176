//! Settings of tracing: their table, and what is made of it.
//!
//! Names and meanings are OpenTelemetry's; some are older ones, and some this crate's own. The SDK
//! would read the standard ones itself, but from `std::env`. A component that is frozen at build time
//! carries the environment of its build there, so values come from a lookup instead, which the host
//! answers at run time.
//!
//! To add a setting: declare it as a constant, list it in [`TABLE`], read it in [`Tracing::read`].

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use crate::Host;
use crate::setting::{
    Choice, Choices, Flag, Form, Number, Relation, Setting, Text, Values, Whole, list, names,
    unquoted,
};

/// The port of OTLP over HTTP (OTLP specification).
const OTLP_HTTP_PORT: u16 = 4318;
/// The endpoint if none is set (OTLP exporter specification).
const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
/// The path of traces, appended to that of a base endpoint (OTLP exporter specification).
pub(crate) const TRACES_PATH: &str = "/v1/traces";
/// The port of OTLP over gRPC (OTLP specification), which this crate does not speak.
const OTLP_GRPC_PORT: u16 = 4317;

/// Headers that the host or the exporter sets: wasi:http refuses the host's from a component, and with
/// another value of the exporter's, no collector can read an export.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

const SWITCH: &str = "Tracing: on or off";
const DESTINATION: &str = "Tracing: destination";
const SAMPLING: &str = "Tracing: sampling and propagation";
const RESOURCE: &str = "Tracing: resource";
const EXPORT: &str = "Tracing: export";
const OLD: &str = "Tracing: old names";

const ENABLE_TRACING: Setting<Flag> = Setting::new(
    "enable_tracing",
    Flag { unset: "on if an endpoint is set" },
    SWITCH,
    "`true` turns tracing on, to `http://localhost:4318` if no endpoint is set. `false` turns it off.",
);
const SDK_DISABLED: Setting<Flag> = Setting::new(
    "otel_sdk_disabled",
    Flag { unset: "`false`" },
    SWITCH,
    "`true` turns tracing off. Takes precedence over every other setting.",
);
const EXPORTER: Setting<Choices> = Setting::new(
    "otel_traces_exporter",
    Choices { choices: &["otlp", "none"], default: "otlp" },
    SWITCH,
    "`none` turns tracing off, unless `otlp` is in the list, too.",
);

const ENDPOINT: Setting<Text> = Setting::new(
    "otel_exporter_otlp_endpoint",
    Text { form: Form::Url, unset: "" },
    DESTINATION,
    "The collector, such as `http://collector:4318`. `/v1/traces` is appended, unless it is there.",
);
const TRACES_ENDPOINT: Setting<Text> = ENDPOINT.for_traces(
    "otel_exporter_otlp_traces_endpoint",
    "The collector as a whole URL, path included. Nothing is appended.",
);
const COLLECTOR_HOST: Setting<Text> = Setting::new(
    "jaeger_collector_host",
    Text { form: Form::Host, unset: "" },
    DESTINATION,
    "Shorthand for `http://HOST:4318`. Lowest precedence.",
);
const ALLOWED_HOST: Setting<Text> = Setting::new(
    "collector_allowed_host",
    Text { form: Form::Origin, unset: "" },
    DESTINATION,
    "Where the component may send spans: `scheme://host:port` without a path. Needed for https and \
     for a port other than 4318. Name your collector's host rather than `*` in production.",
)
.declared("http://*:4318");
const HEADERS: Setting<Text> = Setting::new(
    "otel_exporter_otlp_headers",
    Text { form: Form::Pairs, unset: "" },
    DESTINATION,
    "Headers of every export: credentials of a hosted backend. Never logged.",
)
.secret();
const TRACES_HEADERS: Setting<Text> =
    HEADERS.for_traces("otel_exporter_otlp_traces_headers", FOR_TRACES);

const SAMPLER: Setting<Choice> = Setting::new(
    "otel_traces_sampler",
    Choice {
        choices: &[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ],
        default: "parentbased_always_on",
    },
    SAMPLING,
    "Which requests are traced. `parentbased_…` follows the caller's decision where there is one. \
     `parentbased_traceidratio` with an argument of `0.1` suits production.",
);
const SAMPLER_ARG: Setting<Number> = Setting::new(
    "otel_traces_sampler_arg",
    Number { default: 1.0, min: 0.0, max: 1.0, unit: "" },
    SAMPLING,
    "The fraction of traces that `traceidratio` keeps.",
);
const PROPAGATORS: Setting<Choices> = Setting::new(
    "otel_propagators",
    Choices {
        choices: &["tracecontext", "baggage", "b3", "b3multi", "none"],
        default: "tracecontext,baggage",
    },
    SAMPLING,
    "Headers that make a caller's span the parent, and that tell others of the service's own. Of several \
     that do the former, the last one in the list counts. `b3` and `b3multi` both read Zipkin's headers in \
     either form; `b3` writes one header, `b3multi` several. With `none` alone, every request starts a trace.",
);
const EXCLUDED_ROUTES: Setting<Text> = Setting::new(
    "trace_excluded_routes",
    Text { form: Form::List, unset: "" },
    SAMPLING,
    "Routes without traces, such as `/health` for a cluster's probes.",
);

const SERVICE_NAME: Setting<Text> = Setting::new(
    "otel_service_name",
    Text { form: Form::Any, unset: "the service's own name" },
    RESOURCE,
    "Resource attribute `service.name`.",
);
const RESOURCE_ATTRIBUTES: Setting<Text> = Setting::new(
    "otel_resource_attributes",
    Text { form: Form::Pairs, unset: "" },
    RESOURCE,
    "Further resource attributes.",
);
const INSTANCE_ID: Setting<Text> = Setting::new(
    "jaeger_hostname",
    Text { form: Form::Any, unset: "a random UUID for each instance" },
    RESOURCE,
    "Resource attribute `service.instance.id`, unless `otel_resource_attributes` has it.",
);

const RETRY_BUDGET: Setting<Whole> = Setting::new(
    "trace_retry_budget",
    milliseconds(90_000),
    EXPORT,
    "Time after a request in which its spans are sent again while the collector does not take them. \
     The default is 5000 in components for WASI 0.2, where each request has an instance of its own.",
);
/// The setting as hosts read it whose instances have one request each: an instance waits for a collector that
/// is away, so the memory of one for each request of so many seconds is the price.
const RETRY_BUDGET_OF_ONE_REQUEST: Setting<Whole> =
    Setting { kind: milliseconds(5_000), ..RETRY_BUDGET };
const QUEUE_SIZE: Setting<Whole> = Setting::new(
    "otel_bsp_max_queue_size",
    Whole { default: 2048, min: 1, max: 1_000_000, unit: "spans" },
    EXPORT,
    "Ended spans that an instance holds. Further ones are dropped and counted.",
);
const BATCH_SIZE: Setting<Whole> = Setting::new(
    "otel_bsp_max_export_batch_size",
    Whole { default: 512, min: 1, max: 1_000_000, unit: "spans" },
    EXPORT,
    "Spans of one export.",
);
/// 30 s as in OpenTelemetry's batch processor.
const EXPORT_TIMEOUT: Setting<Whole> = Setting::new(
    "otel_bsp_export_timeout",
    milliseconds(30_000),
    EXPORT,
    "Time that one attempt to export may take.",
);
const OTLP_TIMEOUT: Setting<Whole> = Setting::new(
    "otel_exporter_otlp_timeout",
    milliseconds(30_000),
    EXPORT,
    "Likewise. The shorter of this and `otel_bsp_export_timeout` counts.",
);
const TRACES_TIMEOUT: Setting<Whole> =
    OTLP_TIMEOUT.for_traces("otel_exporter_otlp_traces_timeout", FOR_TRACES);
const COMPRESSION: Setting<Choice> = Setting::new(
    "otel_exporter_otlp_compression",
    Choice { choices: &["none", "gzip"], default: "none" },
    EXPORT,
    "Compression of exports.",
);
const TRACES_COMPRESSION: Setting<Choice> =
    COMPRESSION.for_traces("otel_exporter_otlp_traces_compression", FOR_TRACES);
const PROTOCOL: Setting<Choice> = Setting::new(
    "otel_exporter_otlp_protocol",
    Choice { choices: &["http/protobuf"], default: "http/protobuf" },
    EXPORT,
    "There is no gRPC in the sandbox.",
);
const TRACES_PROTOCOL: Setting<Choice> =
    PROTOCOL.for_traces("otel_exporter_otlp_traces_protocol", FOR_TRACES);
const SCHEDULE_DELAY: Setting<Whole> = Setting::new(
    "otel_bsp_schedule_delay",
    milliseconds(5_000),
    EXPORT,
    "Accepted without effect: spans leave as soon as the export before them is done.",
);

const AGENT_HOST: Setting<Text> = old("jaeger_agent_host", "jaeger_collector_host");
const AGENT_PORT: Setting<Text> = old("jaeger_agent_port", "otel_exporter_otlp_endpoint");
const JAEGER_ENDPOINT: Setting<Text> =
    old("otel_exporter_jaeger_endpoint", "otel_exporter_otlp_endpoint");

const FOR_TRACES: &str = "The same for traces alone.";

/// A duration in milliseconds, at most one hour.
const fn milliseconds(default: usize) -> Whole {
    Whole { default, min: 1, max: 3_600_000, unit: "ms" }
}

/// A name of Jaeger's old clients: the log names its successor.
const fn old(name: &'static str, successor: &'static str) -> Setting<Text> {
    let help =
        "Without effect: Jaeger's agent and its protocol are gone. The log names the successor.";
    Setting::new(name, Text { form: Form::Any, unset: "" }, OLD, help)
        .relation(Relation::ReplacedBy(successor))
}

/// All settings of tracing, by group.
pub const TABLE: [Setting; 30] = [
    ENABLE_TRACING.any(),
    SDK_DISABLED.any(),
    EXPORTER.any(),
    ENDPOINT.any(),
    TRACES_ENDPOINT.any(),
    COLLECTOR_HOST.any(),
    ALLOWED_HOST.any(),
    HEADERS.any(),
    TRACES_HEADERS.any(),
    SAMPLER.any(),
    SAMPLER_ARG.any(),
    PROPAGATORS.any(),
    EXCLUDED_ROUTES.any(),
    SERVICE_NAME.any(),
    RESOURCE_ATTRIBUTES.any(),
    INSTANCE_ID.any(),
    RETRY_BUDGET.any(),
    QUEUE_SIZE.any(),
    BATCH_SIZE.any(),
    EXPORT_TIMEOUT.any(),
    OTLP_TIMEOUT.any(),
    TRACES_TIMEOUT.any(),
    COMPRESSION.any(),
    TRACES_COMPRESSION.any(),
    PROTOCOL.any(),
    TRACES_PROTOCOL.any(),
    SCHEDULE_DELAY.any(),
    AGENT_HOST.any(),
    AGENT_PORT.any(),
    JAEGER_ENDPOINT.any(),
];

/// The names of all settings of tracing.
pub const NAMES: [&str; TABLE.len()] = names(&TABLE);

/// Tracing as the settings ask for it.
#[derive(Clone, Debug)]
pub enum Tracing {
    /// Off.
    Off {
        /// The reason, for the log.
        reason: &'static str,
    },
    /// On.
    On(Box<Settings>),
}

/// The settings of tracing that is on, all valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector: a whole URL, without user name and password.
    pub endpoint: Uri,
    /// The name of the setting that the endpoint comes from, for messages about it.
    pub endpoint_setting: &'static str,
    /// The value of `collector_allowed_host`, for the message when the host denies the endpoint.
    pub allowed_host: String,
    /// Headers of every export. Their values are secret.
    pub headers: HeaderMap,
    /// The name of the setting that the headers come from, for messages about them.
    pub headers_setting: &'static str,
    /// True if exports are compressed with gzip.
    pub gzip: bool,
    /// Longest time of one attempt to export.
    pub attempt_timeout: Duration,
    /// Time after the end of its newest span in which a batch is sent again.
    pub retry_budget: Duration,
    /// Largest number of ended spans that an instance holds. Further ones are dropped.
    pub queue_size: usize,
    /// Largest number of spans of one export, at most the queue's size.
    pub batch_size: usize,
    /// Decides which requests are traced.
    pub sampler: Sampler,
    /// The sampler's name and argument, for the log.
    pub sampler_name: String,
    /// Resource attribute `service.name`.
    pub service_name: String,
    /// Resource attribute `service.instance.id`. Without one, an instance makes one up.
    pub service_instance_id: Option<String>,
    /// Resource attribute `faas.name`.
    pub faas_name: String,
    /// Further resource attributes.
    pub resource: BTreeMap<String, String>,
    /// The formats in which a request's headers carry a context, in the order that they are tried.
    pub propagators: Vec<Propagator>,
    /// Routes that are not traced.
    pub excluded_routes: Vec<String>,
}

/// Headers that tell of the caller's span, and that tell others of this service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `traceparent` and `tracestate`, W3C Trace Context.
    TraceContext,
    /// `baggage`, W3C Baggage.
    Baggage,
    /// Zipkin's B3: `b3`, or several that begin with `x-b3-`. Written as the former.
    B3,
    /// Likewise, and written as the latter.
    B3Multi,
}

impl Settings {
    /// Returns the endpoint as the log shows it: without its query, which may hold a key.
    pub fn endpoint_shown(&self) -> String {
        shown(&self.endpoint)
    }
}

impl Tracing {
    /// Reads the settings. Returns a warning for each invalid one, which counts as unset; no warning
    /// repeats a secret.
    ///
    /// `otel_sdk_disabled`, then `enable_tracing`, then `otel_traces_exporter`, then the presence of
    /// an endpoint decide about on and off. The endpoint is the first that is set of
    /// `otel_exporter_otlp_traces_endpoint`, `otel_exporter_otlp_endpoint`, `jaeger_collector_host`;
    /// `http://localhost:4318` if none is set and `enable_tracing` is true. A setting for traces alone
    /// (`otel_exporter_otlp_traces_*`) takes precedence over the one for all signals.
    pub fn read(
        service_name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Tracing, Vec<String>) {
        Tracing::read_with(&RETRY_BUDGET, service_name, lookup)
    }

    /// Reads the settings as [`Tracing::read`] does, with the defaults that a host needs.
    pub fn read_on(
        host: &dyn Host,
        service_name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Tracing, Vec<String>) {
        let retry_budget =
            if host.has_one_request() { &RETRY_BUDGET_OF_ONE_REQUEST } else { &RETRY_BUDGET };
        Tracing::read_with(retry_budget, service_name, lookup)
    }

    fn read_with(
        retry_budget: &'static Setting<Whole>,
        service_name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Tracing, Vec<String>) {
        let mut reader = Reader { values: Values::new(lookup), retry_budget };
        let tracing = reader.tracing(service_name);
        (tracing, reader.values.into_warnings())
    }
}

struct Reader<L> {
    values: Values<L>,
    retry_budget: &'static Setting<Whole>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn tracing(&mut self, service_name: &str) -> Tracing {
        for old in [&AGENT_HOST, &AGENT_PORT, &JAEGER_ENDPOINT] {
            if let Relation::ReplacedBy(successor) = old.relation
                && self.values.text(old).is_some()
            {
                let reason = format!(
                    "it is not used any more (Jaeger's agent and its protocol are gone): set \
                     {successor}"
                );
                self.values.warn(old, reason);
            }
        }
        if self.values.flag(&SDK_DISABLED) == Some(true) {
            return Tracing::Off { reason: "otel_sdk_disabled is true" };
        }
        let enabled = self.values.flag(&ENABLE_TRACING);
        if enabled == Some(false) {
            return Tracing::Off { reason: "enable_tracing is false" };
        }
        if !self.values.choices(&EXPORTER).contains(&"otlp") {
            return Tracing::Off { reason: "otel_traces_exporter is none" };
        }
        let endpoint = match self.endpoint() {
            Some(endpoint) => endpoint,
            None if enabled == Some(true) => (Uri::from_static(DEFAULT_ENDPOINT), ENDPOINT.name),
            None => {
                return Tracing::Off {
                    reason: "neither otel_exporter_otlp_endpoint nor jaeger_collector_host is set",
                };
            }
        };
        Tracing::On(Box::new(self.settings(service_name, endpoint)))
    }

    fn settings(
        &mut self,
        service_name: &str,
        (endpoint, endpoint_setting): (Uri, &'static str),
    ) -> Settings {
        // Read for its warning alone: there is one protocol.
        self.preferred([&TRACES_PROTOCOL, &PROTOCOL], Values::choice);
        let (sampler, sampler_name) = self.sampler();
        let propagator = |name: &&str| match *name {
            "tracecontext" => Some(Propagator::TraceContext),
            "baggage" => Some(Propagator::Baggage),
            "b3" => Some(Propagator::B3),
            "b3multi" => Some(Propagator::B3Multi),
            _ => None,
        };
        let propagators = self.values.choices(&PROPAGATORS).iter().filter_map(propagator).collect();
        let (headers, headers_setting) = self.headers();
        let mut resource = self.resource_attributes();
        let export_timeout = self.milliseconds(&EXPORT_TIMEOUT);
        let attempt_timeout = match self.values.first_set([&TRACES_TIMEOUT, &OTLP_TIMEOUT]) {
            Some(timeout) => self.milliseconds(timeout).min(export_timeout),
            None => export_timeout,
        };
        // Read for its warning alone.
        self.milliseconds(&SCHEDULE_DELAY);
        let queue_size = self.values.whole(&QUEUE_SIZE);
        Settings {
            headers,
            headers_setting,
            gzip: self.preferred([&TRACES_COMPRESSION, &COMPRESSION], Values::choice) == "gzip",
            attempt_timeout,
            retry_budget: self.milliseconds(self.retry_budget),
            queue_size,
            batch_size: self.values.whole(&BATCH_SIZE).min(queue_size),
            sampler,
            sampler_name,
            service_name: self
                .values
                .text(&SERVICE_NAME)
                .or(resource.remove("service.name"))
                .unwrap_or(service_name.to_owned()),
            service_instance_id: resource
                .remove("service.instance.id")
                .or(self.values.text(&INSTANCE_ID)),
            faas_name: resource.remove("faas.name").unwrap_or(service_name.to_owned()),
            resource,
            propagators,
            excluded_routes: self.values.list(&EXCLUDED_ROUTES),
            allowed_host: self.values.text(&ALLOWED_HOST).unwrap_or_default(),
            endpoint,
            endpoint_setting,
        }
    }

    /// Reads the setting for traces if it is set, else the one for all signals.
    fn preferred<K, T>(
        &mut self,
        settings: [&'static Setting<K>; 2],
        read: impl Fn(&mut Values<L>, &Setting<K>) -> T,
    ) -> T {
        let setting = self.values.first_set(settings).unwrap_or(settings[1]);
        read(&mut self.values, setting)
    }

    fn milliseconds(&mut self, setting: &Setting<Whole>) -> Duration {
        Duration::from_millis(self.values.whole(setting) as u64)
    }

    /// Returns the endpoint, and the name of the setting that it comes from.
    fn endpoint(&mut self) -> Option<(Uri, &'static str)> {
        for setting in [&TRACES_ENDPOINT, &ENDPOINT] {
            let Some(value) = self.values.text(setting) else { continue };
            let is_base = setting.name == ENDPOINT.name;
            let uri =
                endpoint(&value).and_then(|uri| if is_base { for_traces(&uri) } else { Ok(uri) });
            let uri = match uri {
                Ok(uri) => uri,
                Err(reason) => {
                    self.values.warn(setting, format!("{reason}; it is ignored"));
                    continue;
                }
            };
            if uri.port_u16() == Some(OTLP_GRPC_PORT) {
                let reason = format!(
                    "{OTLP_GRPC_PORT} is the port of OTLP over gRPC; spans are sent over HTTP, whose \
                     port is {OTLP_HTTP_PORT}"
                );
                self.values.warn(setting, reason);
            }
            if let Some(reason) = odd_path(&value, &uri, is_base) {
                self.values.warn(setting, reason);
            }
            return Some((uri, setting.name));
        }
        let host = self.values.text(&COLLECTOR_HOST)?;
        let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let inside = inside.unwrap_or(&host);
        let is_ipv6 = inside.parse::<Ipv6Addr>().is_ok();
        let host = if is_ipv6 { format!("[{inside}]") } else { host };
        // The whole URL is made from it, so nothing but a host may be in it.
        match endpoint(&format!("http://{host}:{OTLP_HTTP_PORT}{TRACES_PATH}")) {
            Ok(uri) if uri.host() == Some(&host) => Some((uri, COLLECTOR_HOST.name)),
            _ => {
                let reason = format!(
                    "expected a host's name or address, such as jaeger-collector; it is ignored. \
                     For a port other than {OTLP_HTTP_PORT} or a URL set {}",
                    ENDPOINT.name
                );
                self.values.warn(&COLLECTOR_HOST, reason);
                None
            }
        }
    }

    /// Returns the headers of exports, and the name of the setting that they come from. Their values
    /// are secret: warnings name an entry by its place, since even what seems a key may be a part of
    /// a value.
    fn headers(&mut self) -> (HeaderMap, &'static str) {
        let settings = [&TRACES_HEADERS, &HEADERS];
        let setting = self.values.first_set(settings).unwrap_or(settings[1]);
        let text = self.values.text(setting).unwrap_or_default();
        let mut headers = HeaderMap::new();
        let (mut malformed, mut reserved) = (Vec::new(), Vec::new());
        for (place, entry) in text.split(',').enumerate() {
            let entry = unquoted(entry.trim());
            if entry.is_empty() {
                continue;
            }
            let Some((name, value)) = header(entry) else {
                malformed.push(place + 1);
                continue;
            };
            if RESERVED_HEADERS.contains(&name.as_str()) {
                reserved.push(place + 1);
            } else if headers.try_append(name, value).is_err() {
                malformed.push(place + 1);
            }
        }
        let with_value = "expected key=value, the value percent-encoded (a comma is %2C)";
        let by_others = "the host or the exporter itself sets this header";
        for (places, reason) in [(malformed, with_value), (reserved, by_others)] {
            let places: Vec<String> = places.iter().map(usize::to_string).collect();
            let (entries, are) = match places.len() {
                0 => continue,
                1 => ("entry", "is"),
                _ => ("entries", "are"),
            };
            let places = places.join(", ");
            let reason = format!("{entries} {places} between the commas {are} left out: {reason}");
            self.values.warn(setting, reason);
        }
        (headers, setting.name)
    }

    fn resource_attributes(&mut self) -> BTreeMap<String, String> {
        let value = self.values.text(&RESOURCE_ATTRIBUTES).unwrap_or_default();
        // OpenTelemetry discards all of it, as half of what describes a service misleads.
        pairs(&value).map(|pairs| pairs.into_iter().collect()).unwrap_or_else(|| {
            let found = RESOURCE_ATTRIBUTES.shown(&value);
            let reason = format!(
                "expected key=value pairs with commas between, found {found}; it is ignored"
            );
            self.values.warn(&RESOURCE_ATTRIBUTES, reason);
            BTreeMap::new()
        })
    }

    /// Returns the sampler, and its name with its argument.
    fn sampler(&mut self) -> (Sampler, String) {
        let name = self.values.choice(&SAMPLER);
        let (parent_based, decision) = match name.strip_prefix("parentbased_") {
            Some(decision) => (true, decision),
            None => (false, name),
        };
        let (sampler, name) = match decision {
            "always_on" => (Sampler::AlwaysOn, name.to_owned()),
            "always_off" => (Sampler::AlwaysOff, name.to_owned()),
            _ => {
                let ratio = self.values.number(&SAMPLER_ARG);
                (Sampler::TraceIdRatioBased(ratio), format!("{name} {ratio}"))
            }
        };
        (if parent_based { Sampler::ParentBased(Box::new(sampler)) } else { sampler }, name)
    }
}

/// Returns the pairs of `key=value,key=value`, values percent-decoded (W3C Baggage, as the OTLP
/// exporter's specification says); `None` if the text is something else.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |text: String| {
        let (key, value) = text.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
    };
    list(text).into_iter().map(pair).collect()
}

/// Returns the header of an entry `key=value`; `None` if it is something else.
fn header(entry: &str) -> Option<(HeaderName, HeaderValue)> {
    let (key, value) = entry.split_once('=')?;
    let value = unquoted(value.trim());
    // W3C Baggage, which the OTLP exporter's specification refers to, has neither. An odd number of
    // quotes is left of a value with a comma in quotes.
    if !value.is_ascii() || value.matches('"').count() % 2 == 1 {
        return None;
    }
    let value: Vec<u8> = percent_decode_str(value).collect();
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(key.trim()).ok()?, value))
}

/// Returns the URL of an endpoint. The reason of a refusal repeats nothing of the value, which may hold
/// a password.
fn endpoint(value: &str) -> Result<Uri, &'static str> {
    let starts = |scheme: &str| {
        value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if !starts("http://") && !starts("https://") {
        return Err("expected a URL that begins with http:// or https://");
    }
    let Ok(uri) = value.parse::<Uri>() else {
        let authority = value.split('/').nth(2).unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        return Err(match host.matches(':').count() {
            2.. if !host.contains('[') => {
                "this is not a URL: an IPv6 address stands in brackets, as in http://[::1]:4318"
            }
            _ => "this is not a URL",
        });
    };
    let authority = uri.authority().ok_or("this is not a URL")?;
    if authority.as_str().contains('@') {
        return Err("a URL with a user name or password would be shown in logs: put credentials \
                    into otel_exporter_otlp_headers");
    }
    let host = authority.host();
    let is_bracketed_name = host
        .strip_prefix('[')
        .is_some_and(|rest| rest.trim_end_matches(']').parse::<Ipv6Addr>().is_err());
    if host.is_empty() || is_bracketed_name {
        return Err("expected a host's name or address after the two slashes");
    }
    // The parser takes any number for a port, and none after a colon.
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    let is_port = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|n| n > 0)
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err("expected a port from 1 to 65535 after the host");
    }
    Ok(uri)
}

/// Returns the endpoint of traces of a base endpoint: with [`TRACES_PATH`] appended, unless it is there.
fn for_traces(base: &Uri) -> Result<Uri, &'static str> {
    let path = base.path().trim_end_matches('/');
    let path = path.strip_suffix(TRACES_PATH).unwrap_or(path);
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or_default();
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let uri = format!("{scheme}://{authority}{path}{TRACES_PATH}{query}");
    uri.parse().map_err(|_| "this is not a URL")
}

/// Returns what is odd about the path of an endpoint that is used all the same: the path of traces is
/// doubled, or missing.
fn odd_path(value: &str, uri: &Uri, is_base: bool) -> Option<String> {
    let (base, whole) = (ENDPOINT.name, TRACES_ENDPOINT.name);
    let given = value.parse::<Uri>().ok()?;
    let given = given.path().trim_end_matches('/');
    let shown = shown(uri);
    if uri.path().contains(&format!("{TRACES_PATH}{TRACES_PATH}")) {
        return Some(format!("the path {TRACES_PATH} is doubled in {shown}"));
    }
    match (is_base, given) {
        (true, path) if path.ends_with(TRACES_PATH) => Some(format!(
            "the path {TRACES_PATH} would be doubled, since it is appended to this setting; spans are \
             sent to {shown}. Leave the path out, or set {whole} instead"
        )),
        (true, path) if path.ends_with("/v1") => Some(format!(
            "{TRACES_PATH} is appended to this setting; spans are sent to {shown}. Leave /v1 out if \
             it is doubled there"
        )),
        (false, "") => Some(format!(
            "the path is missing, and nothing is appended to this setting; spans are sent to {shown}. \
             Most collectors take them at {TRACES_PATH}: add it, or set {base} instead"
        )),
        _ => None,
    }
}

/// Returns a URL as the log shows it: without user name, password and query, which may hold secrets.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().map(|scheme| format!("{scheme}://")).unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let query = if uri.query().is_some() { "?…" } else { "" };
    format!("{scheme}{host}{}{query}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn read(values: &[(&str, &str)]) -> (Tracing, Vec<String>) {
        Tracing::read("test-service", |name| {
            assert!(NAMES.contains(&name), "{name} is no setting");
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn table_is_consistent() {
        for (row, setting) in TABLE.iter().enumerate() {
            let name = setting.name;
            assert!(!NAMES[..row].contains(&name), "{name} stands twice");
            assert!(setting.help.ends_with('.'), "{name}: {}", setting.help);
            if let Relation::Overrides(other) | Relation::ReplacedBy(other) = setting.relation {
                assert!(NAMES.contains(&other), "{name} relates to {other}");
            }
            if let (Some(range), Some(default)) = (setting.kind.range(), setting.kind.default()) {
                assert!(range.contains(&default.parse().expect("a number")), "{name}: {default}");
            }
            if let (Some(choices), Some(default)) = (setting.kind.choices(), setting.kind.default())
            {
                assert!(list(&default).iter().all(|word| choices.contains(&word.as_str())));
            }
        }
    }

    fn on(values: &[(&str, &str)]) -> Settings {
        match read(values) {
            (Tracing::On(settings), warnings) if warnings.is_empty() => *settings,
            other => panic!("{other:?}"),
        }
    }

    const COLLECTOR: (&str, &str) = ("otel_exporter_otlp_endpoint", "http://collector:4318");

    /// The settings with an endpoint and one more, and the warning that names it.
    fn refused(name: &str, value: &str) -> (Settings, String) {
        let (tracing, warnings) = read(&[COLLECTOR, (name, value)]);
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.contains(name), "{warning}");
        let Tracing::On(settings) = tracing else { panic!("off") };
        (*settings, warning.clone())
    }

    #[test]
    fn endpoint_turns_tracing_on_unless_a_switch_is_off() {
        for (values, is_on) in [
            (&[][..], false),
            (&[COLLECTOR], true),
            (&[("otel_exporter_otlp_endpoint", "  ")], false),
            (&[("jaeger_collector_host", "jaeger")], true),
            (&[("enable_tracing", "True")], true),
            (&[COLLECTOR, ("enable_tracing", "false")], false),
            (&[COLLECTOR, ("otel_traces_exporter", "none")], false),
            (&[("enable_tracing", "true"), ("otel_sdk_disabled", "true")], false),
        ] {
            let (tracing, warnings) = read(values);
            assert_eq!(matches!(tracing, Tracing::On(_)), is_on, "{values:?}");
            assert_eq!(warnings, Vec::<String>::new(), "{values:?}");
        }
    }

    #[test]
    fn endpoint_follows_precedence() {
        let traces = ("otel_exporter_otlp_traces_endpoint", "https://hosted.example/otlp/here");
        let host = ("jaeger_collector_host", "jaeger-collector.tracing.svc");
        for (values, endpoint) in [
            (&[("enable_tracing", "true")][..], "http://localhost:4318/v1/traces"),
            (&[("jaeger_collector_host", "::1")], "http://[::1]:4318/v1/traces"),
            (&[("jaeger_collector_host", "[2001:db8::7]")], "http://[2001:db8::7]:4318/v1/traces"),
            (&[("jaeger_collector_host", "10.0.0.7")], "http://10.0.0.7:4318/v1/traces"),
            (
                &[("otel_exporter_otlp_endpoint", "http://[::1]:4318")],
                "http://[::1]:4318/v1/traces",
            ),
            (
                &[("otel_exporter_otlp_endpoint", "HTTP://collector:80")],
                "http://collector:80/v1/traces",
            ),
            (&[("otel_exporter_otlp_endpoint", "'HttpS://[::1]'")], "https://[::1]/v1/traces"),
            (
                &[("otel_exporter_otlp_endpoint", "http://collector:4318/x/?key=1")],
                "http://collector:4318/x/v1/traces?key=1",
            ),
            (&[host], "http://jaeger-collector.tracing.svc:4318/v1/traces"),
            (&[host, COLLECTOR], "http://collector:4318/v1/traces"),
            (&[host, COLLECTOR, traces], "https://hosted.example/otlp/here"),
            (
                &[("otel_exporter_otlp_endpoint", "https://hosted.example/otlp/")],
                "https://hosted.example/otlp/v1/traces",
            ),
        ] {
            assert_eq!(on(values).endpoint, endpoint, "{values:?}");
        }
    }

    #[test]
    fn invalid_endpoint_is_reported_without_its_password() {
        for (name, value) in [
            ("otel_exporter_otlp_endpoint", "collector:4318"),
            ("otel_exporter_otlp_endpoint", "ftp://collector"),
            ("otel_exporter_otlp_endpoint", "http://someone:hunter2@collector:4318"),
            ("otel_exporter_otlp_endpoint", "https://hunter2@collector"),
            ("otel_exporter_otlp_endpoint", "http://hunter2:hunter2:hunter2@::1"),
            ("otel_exporter_otlp_endpoint", "http://::1:4318"),
            ("otel_exporter_otlp_endpoint", "http://[collector]:4318"),
            ("otel_exporter_otlp_endpoint", "http://collector:99999"),
            ("otel_exporter_otlp_endpoint", "http://collector:0"),
            ("otel_exporter_otlp_endpoint", "http://collector:"),
            ("otel_exporter_otlp_endpoint", "http://:4318"),
            ("otel_exporter_otlp_endpoint", "http://"),
            ("otel_exporter_otlp_endpoint", "http:/collector"),
            ("otel_exporter_otlp_endpoint", "http://jäger:4318"),
            ("otel_exporter_otlp_traces_endpoint", "http:// /"),
            ("jaeger_collector_host", "http://jaeger"),
            ("jaeger_collector_host", "jaeger:4317"),
            ("jaeger_collector_host", "someone:hunter2@jaeger"),
            ("jaeger_collector_host", "[jaeger]"),
            ("jaeger_collector_host", "[::1]:4318"),
            ("jaeger_collector_host", "[::1"),
            ("jaeger_collector_host", "::1%eth0"),
            ("jaeger_collector_host", "jaeger/path"),
            ("jaeger_collector_host", "jaeger?x"),
            ("jaeger_collector_host", ":"),
        ] {
            let (tracing, warnings) = read(&[(name, value)]);
            assert!(matches!(tracing, Tracing::Off { .. }), "{value}");
            assert_eq!(warnings.len(), 1, "{value}");
            assert!(warnings[0].contains(name), "{warnings:?}");
            assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
        }
        let (_, warnings) = read(&[("otel_exporter_otlp_endpoint", "http://collector:4317")]);
        assert!(warnings[0].contains("4318"), "{warnings:?}");
        let (_, warnings) = read(&[("otel_exporter_otlp_endpoint", "http://::1:4318")]);
        assert!(warnings[0].contains("http://[::1]:4318"), "{warnings:?}");
    }

    #[test]
    fn doubled_or_missing_path_is_reported_once_and_used() {
        let (base, whole) = ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint");
        for (name, value, used, word) in [
            (base, "http://c:4318/v1/traces", "http://c:4318/v1/traces", "doubled"),
            (base, "http://c:4318/v1/traces/", "http://c:4318/v1/traces", "doubled"),
            (base, "http://c/otlp/v1/traces?a=1", "http://c/otlp/v1/traces?a=1", "doubled"),
            (base, "http://c/v1/traces/v1/traces", "http://c/v1/traces/v1/traces", "doubled"),
            (base, "http://c/v1", "http://c/v1/v1/traces", "doubled"),
            (whole, "http://c/v1/traces/v1/traces", "http://c/v1/traces/v1/traces", "doubled"),
            (whole, "http://c:4318", "http://c:4318/", "missing"),
            (whole, "https://c/", "https://c/", "missing"),
            (whole, "https://c/?key=1", "https://c/?key=1", "missing"),
        ] {
            let (tracing, warnings) = read(&[(name, value)]);
            let Tracing::On(settings) = tracing else { panic!("{value}: off") };
            assert_eq!(settings.endpoint, used, "{value}");
            assert_eq!(settings.endpoint_setting, name, "{value}");
            let [warning] = warnings.as_slice() else { panic!("{value}: {warnings:?}") };
            assert!(warning.starts_with(&format!("setting {name}: ")), "{warning}");
            assert!(warning.contains(word) && warning.contains("/v1/traces"), "{warning}");
            assert!(!warning.contains("key=1"), "{warning}");
        }
        for (name, value) in [
            (base, "http://c:4318/v1/traces-of-others"),
            (base, "http://c:4318/otlp"),
            (whole, "http://c:4318/v1/traces"),
            (whole, "http://c:4318/otlp"),
        ] {
            on(&[(name, value)]);
        }
    }

    #[test]
    fn endpoint_is_shown_without_its_query() {
        let endpoint = "https://hosted.example/otlp?api-key=hunter2";
        let settings = on(&[("otel_exporter_otlp_traces_endpoint", endpoint)]);
        assert_eq!(settings.endpoint, endpoint);
        assert_eq!(settings.endpoint_shown(), "https://hosted.example/otlp?…");
        let location = Uri::from_static("http://someone:hunter2@elsewhere:1/x");
        assert_eq!(shown(&location), "http://elsewhere:1/x");
        assert_eq!(shown(&Uri::from_static("/login?next=1")), "/login?…");
    }

    #[test]
    fn old_name_is_reported_with_its_successor() {
        for name in ["jaeger_agent_host", "jaeger_agent_port", "otel_exporter_jaeger_endpoint"] {
            let (tracing, warnings) = read(&[(name, "old")]);
            assert!(matches!(tracing, Tracing::Off { .. }));
            assert!(warnings[0].contains(name) && warnings[0].contains(": set "));
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers = on(&[
            COLLECTOR,
            ("otel_exporter_otlp_headers", "Authorization=Basic%20c2VjcmV0, x-team = blue "),
        ])
        .headers;
        assert_eq!(headers["authorization"], "Basic c2VjcmV0");
        assert_eq!(headers["x-team"], "blue");
        assert!(!format!("{headers:?}").contains("c2VjcmV0"), "{headers:?}");

        let (settings, warning) = refused("otel_exporter_otlp_headers", "secret token");
        assert!(settings.headers.is_empty() && !warning.contains("token"), "{warning}");
    }

    /// Returns the headers that a value amounts to, as text, and the warnings.
    fn headers_of(value: &str) -> (Vec<(String, String)>, Vec<String>) {
        let (tracing, warnings) = read(&[COLLECTOR, ("otel_exporter_otlp_headers", value)]);
        let Tracing::On(settings) = tracing else { panic!("off") };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = settings.headers.iter();
        (headers.map(|(name, value)| (name.to_string(), text(value))).collect(), warnings)
    }

    #[test]
    fn good_headers_arrive_beside_bad_ones() {
        let long = format!("a={}", "x".repeat(10_000));
        for (value, expected) in [
            (
                "authorization=Basic dXNlcjpwYXNz==",
                &[("authorization", "Basic dXNlcjpwYXNz==")][..],
            ),
            ("a=b,,c=d,", &[("a", "b"), ("c", "d")]),
            (",", &[]),
            ("\"a=b,c=d\"", &[("a", "b"), ("c", "d")]),
            ("'a=b,c=d'", &[("a", "b"), ("c", "d")]),
            ("\"a=b\",\"c=d\"", &[("a", "b"), ("c", "d")]),
            ("a=\"b\", c = 'd' ", &[("a", "b"), ("c", "d")]),
            ("a=b%2Cc%20%3D%20%22d%22", &[("a", "b,c = \"d\"")]),
            ("a=gr%C3%BCn", &[("a", "grün")]),
            ("a=Digest user=\"x\"", &[("a", "Digest user=\"x\"")]),
            ("a=", &[("a", "")]),
            ("a=100%", &[("a", "100%")]),
            ("A=1,a=2", &[("a", "1"), ("a", "2")]),
            ("user-agent=mine", &[("user-agent", "mine")]),
            (long.as_str(), &[("a", &long[2..])]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(headers_of(value), (expected, vec![]), "{value}");
        }
        for (value, places) in [
            ("hunter2,a=b", "entry 1"),
            ("a=b,,hunter2", "entry 3"),
            ("a=b,=hunter2", "entry 2"),
            ("a=b,hunter 2=hunter2", "entry 2"),
            ("a=b,hünter=hunter2", "entry 2"),
            ("a=b,c=hünter2", "entry 2"),
            ("a=b,c=hunter2%0d%0ax: y", "entry 2"),
            ("a=b,c=hunter2%00", "entry 2"),
            ("a=b,hunter2,c=\"hunter2", "entries 2, 3"),
            ("c=\"hunter2,hunter2\",a=b", "entries 1, 2"),
            ("a=b,Host=hunter2", "entry 2"),
            ("content-length=22,a=b", "entry 1"),
            ("a=b,Content-Type=hunter2,transfer-encoding=hunter2", "entries 2, 3"),
        ] {
            let (headers, warnings) = headers_of(value);
            assert_eq!(headers, [("a".to_owned(), "b".to_owned())], "{value}");
            let [warning] = warnings.as_slice() else { panic!("{value}: {warnings:?}") };
            let start = format!("setting otel_exporter_otlp_headers: {places} between the commas ");
            assert!(warning.starts_with(&start), "{warning}");
            assert!(!warning.contains("hunter"), "{warning}");
            assert!(!warning.contains("hünter"), "{warning}");
        }
        // Cut by its comma, the first piece is a pair, too.
        let (headers, warnings) = headers_of("c=hunter1,hunter2");
        assert_eq!((headers.len(), warnings.len()), (1, 1));
        assert!(warnings[0].contains("%2C") && !warnings[0].contains("hunter"), "{warnings:?}");
    }

    #[test]
    fn sampler_is_named_with_its_argument() {
        let sampler = |name: &str, argument: &str| {
            let values =
                [COLLECTOR, ("otel_traces_sampler", name), ("otel_traces_sampler_arg", argument)];
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
    fn service_name_takes_precedence_over_resource_attributes() {
        let settings = on(&[COLLECTOR]);
        assert_eq!((settings.service_name, settings.faas_name), {
            ("test-service".to_owned(), "test-service".to_owned())
        });
        let settings = on(&[
            COLLECTOR,
            (
                "otel_resource_attributes",
                "service.name=one,deployment.environment.name=a%2Cb,service.instance.id=i",
            ),
            ("jaeger_hostname", "pod-1"),
            ("otel_service_name", "two"),
        ]);
        assert_eq!(settings.service_name, "two", "otel_service_name takes precedence");
        assert_eq!(settings.service_instance_id.as_deref(), Some("i"));
        assert_eq!(settings.resource["deployment.environment.name"], "a,b");
        let settings = on(&[COLLECTOR, ("jaeger_hostname", "pod-1")]);
        assert_eq!(settings.service_instance_id.as_deref(), Some("pod-1"));
    }

    #[test]
    fn retry_budget_is_shorter_where_an_instance_has_one_request() {
        let (many, one) = (Fake::new([]), Fake::new([]).of_one_request());
        let seconds = |host: &Fake, value: Option<&str>| {
            let lookup = |name: &str| match name {
                "jaeger_collector_host" => Some("collector".to_owned()),
                "trace_retry_budget" => value.map(str::to_owned),
                _ => None,
            };
            let (Tracing::On(settings), warnings) = Tracing::read_on(host, "test", lookup) else {
                panic!("off")
            };
            (settings.retry_budget.as_secs(), warnings.len())
        };
        for (value, many_requests, one_request) in [
            (None, (90, 0), (5, 0)),
            (Some(" "), (90, 0), (5, 0)),
            (Some("20000"), (20, 0), (20, 0)),
            (Some("long"), (90, 1), (5, 1)),
        ] {
            assert_eq!(seconds(&many, value), many_requests, "{value:?}");
            assert_eq!(seconds(&one, value), one_request, "{value:?}");
        }
    }

    #[test]
    fn invalid_setting_falls_back_to_default() {
        let (settings, _) = refused("otel_bsp_max_queue_size", "many");
        assert_eq!((settings.queue_size, settings.batch_size), (2048, 512));
        let (settings, _) = refused("trace_retry_budget", "-1");
        assert_eq!(settings.retry_budget, Duration::from_secs(90));
        assert!(!refused("otel_exporter_otlp_compression", "zstd").0.gzip);
        refused("otel_exporter_otlp_protocol", "grpc");
        refused("otel_resource_attributes", "what");
        refused("enable_tracing", "maybe");
        refused("otel_traces_exporter", "zipkin");
        let (settings, _) = refused("otel_traces_exporter", "otlp,console");
        assert_eq!(settings.endpoint, "http://collector:4318/v1/traces");
        for value in ["0", "10s", "-1", "1.5", "NaN", "inf", "3600001"] {
            let (settings, _) = refused("otel_bsp_export_timeout", value);
            assert_eq!(settings.attempt_timeout, Duration::from_secs(30), "{value}");
        }
        let ratio = |argument: &'static str| {
            let values = [
                COLLECTOR,
                ("otel_traces_sampler", "traceidratio"),
                ("otel_traces_sampler_arg", argument),
            ];
            let (tracing, warnings) = read(&values);
            let Tracing::On(settings) = tracing else { panic!("off") };
            (settings.sampler_name, warnings.len())
        };
        assert_eq!(ratio(".1"), ("traceidratio 0.1".to_owned(), 0));
        for invalid in ["10%", "1.01", "-.1", "NaN"] {
            assert_eq!(ratio(invalid), ("traceidratio 1".to_owned(), 1), "{invalid}");
        }
    }

    #[test]
    fn words_are_taken_in_any_case() {
        let off = |values: &[(&str, &str)]| {
            let (tracing, warnings) = read(values);
            assert_eq!(warnings, Vec::<String>::new(), "{values:?}");
            matches!(tracing, Tracing::Off { .. })
        };
        for word in ["None", "NONE", " none ", "\"none\""] {
            assert!(off(&[COLLECTOR, ("otel_traces_exporter", word)]), "{word}");
        }
        for word in ["OTLP", "Otlp", "otlp,none", "NONE, OTLP"] {
            assert!(!off(&[COLLECTOR, ("otel_traces_exporter", word)]), "{word}");
        }
        let (tracing, warnings) = read(&[COLLECTOR, ("otel_traces_exporter", "Console,None")]);
        assert!(matches!(tracing, Tracing::Off { .. }), "what is known counts");
        assert_eq!(warnings.len(), 1);
        let settings = on(&[
            COLLECTOR,
            ("otel_traces_sampler", "ALWAYS_OFF"),
            ("otel_exporter_otlp_compression", "GZIP"),
            ("otel_exporter_otlp_protocol", "HTTP/PROTOBUF"),
            ("otel_propagators", "TraceContext,Baggage"),
        ]);
        assert_eq!(format!("{:?}", settings.sampler), "AlwaysOff");
        assert!(settings.gzip);
        assert_eq!(settings.propagators, [Propagator::TraceContext, Propagator::Baggage]);
        let settings = on(&[COLLECTOR, ("otel_traces_sampler", "ParentBased_TraceIdRatio")]);
        assert_eq!(settings.sampler_name, "parentbased_traceidratio 1");
    }

    #[test]
    fn unknown_propagators_are_named_with_those_that_exist() {
        let (settings, warning) =
            refused("otel_propagators", "jaeger,tracecontext,xray,ottrace,B3Multi");
        assert_eq!(settings.propagators, [Propagator::TraceContext, Propagator::B3Multi]);
        assert_eq!(
            warning,
            "setting otel_propagators: expected tracecontext, baggage, b3, b3multi, none, found \
             \"jaeger\", \"xray\", \"ottrace\"; they are ignored"
        );
        let (settings, warning) = refused("otel_propagators", "jaeger");
        assert_eq!(settings.propagators, [Propagator::TraceContext, Propagator::Baggage]);
        assert!(warning.ends_with("found \"jaeger\"; tracecontext,baggage is used"), "{warning}");
        assert_eq!(on(&[COLLECTOR, ("otel_propagators", "b3")]).propagators, [Propagator::B3]);
        assert!(on(&[COLLECTOR, ("otel_propagators", "none")]).propagators.is_empty());
    }

    #[test]
    fn shorter_timeout_bounds_an_attempt() {
        let timeout = |values: &[(&str, &str)]| {
            on(&[&[COLLECTOR], values].concat()).attempt_timeout.as_millis()
        };
        assert_eq!(timeout(&[]), 30_000);
        assert_eq!(timeout(&[("otel_bsp_export_timeout", "50")]), 50);
        assert_eq!(timeout(&[("otel_exporter_otlp_timeout", "10000")]), 10_000);
        let both =
            [("otel_exporter_otlp_timeout", "10"), ("otel_exporter_otlp_traces_timeout", "20")];
        assert_eq!(timeout(&both), 20);
    }
}
