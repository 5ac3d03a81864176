//! A request's root span, by OpenTelemetry's semantic conventions for HTTP servers and for
//! functions as a service.

use std::time::SystemTime;

use http::header::{HOST, HeaderMap, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Response, Uri};
use opentelemetry::propagation::{Extractor, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use super::settings::Settings;
use super::{Span, Telemetry, host};

/// Attributes made of what a client sends are cut here, in characters: a queue full of spans has
/// to stay small. The longest that a usual `User-Agent` gets is some 300.
const LONGEST_ATTRIBUTE: usize = 512;
/// A longer `tracestate` is left out; the W3C Trace Context asks for 512 characters at least.
const LONGEST_TRACESTATE: usize = 512;
/// A longer `baggage` is left out; the W3C Baggage asks for 8192 bytes at least.
const LONGEST_BAGGAGE: usize = 8192;

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its URI.
    pub uri: &'a Uri,
    /// Its headers. Only those that are named in this module are looked at.
    pub headers: &'a HeaderMap,
    /// The route that it takes, if there is one: a path of the service, not of the client.
    pub route: Option<&'static str>,
    /// When it came in.
    pub started: SystemTime,
    /// Whether it is the instance's first.
    pub cold_start: bool,
}

impl Telemetry {
    /// The root span of a request: a child of the caller's span if the request names one. None for
    /// a route that is left out.
    ///
    /// The query and the client's address are not recorded: no route has a query, so that one can
    /// only hold what is not meant for this service; an address is personal data.
    pub fn server_span(&self, incoming: Incoming<'_>) -> Span {
        let Incoming { method, uri, headers, route, .. } = incoming;
        if route.is_some_and(|route| self.excluded_routes.iter().any(|out| out == route)) {
            return Span::none();
        }
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let authority = uri.authority().map(|authority| authority.as_str()).or(text(HOST));
        let known = known_method(method);

        let mut attributes = vec![
            KeyValue::new("http.request.method", known.unwrap_or("_OTHER")),
            KeyValue::new("url.path", cut(uri.path())),
            KeyValue::new("url.scheme", uri.scheme_str().unwrap_or("http").to_owned()),
            KeyValue::new("faas.trigger", "http"),
            KeyValue::new("faas.coldstart", incoming.cold_start),
            KeyValue::new("faas.invocation_id", host::uuid(&*self.host)),
        ];
        if known.is_none() {
            attributes.push(KeyValue::new("http.request.method_original", cut(method.as_str())));
        }
        if let Some(route) = route {
            attributes.push(KeyValue::new("http.route", route));
        }
        if let Some(agent) = text(USER_AGENT) {
            attributes.push(KeyValue::new("user_agent.original", cut(agent)));
        }
        if let Some(authority) =
            authority.and_then(|text| text.parse::<http::uri::Authority>().ok())
        {
            attributes.push(KeyValue::new("server.address", cut(authority.host())));
            if let Some(port) = authority.port_u16() {
                attributes.push(KeyValue::new("server.port", i64::from(port)));
            }
        }
        let verb = known.unwrap_or("HTTP");
        let name = route.map_or(verb.to_owned(), |route| format!("{verb} {route}"));
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers::read(headers));
        Span::start(&self.tracer, &parent, name, SpanKind::Server, incoming.started, attributes)
    }
}

impl Span {
    /// Completes a request's root span with its response, and tells the caller which span it was
    /// (header `traceparent`, as for a request). Only a status from 500 on is an error of the server.
    pub fn respond<B>(&self, response: &mut Response<B>) {
        let Some(context) = self.0.as_ref().map(|recording| &recording.context) else { return };
        let span = context.span();
        let status = response.status();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            // The conventions leave the description empty where the status code says it all.
            span.set_status(Status::error(""));
        }
        let own = span.span_context();
        let (trace, id, flags) = (own.trace_id(), own.span_id(), own.trace_flags().to_u8());
        if let Ok(value) = HeaderValue::try_from(format!("00-{trace}-{id}-{flags:02x}")) {
            response.headers_mut().insert("traceparent", value);
        }
    }
}

/// What takes a parent from a request's headers.
pub(super) fn propagator(settings: &Settings) -> TextMapCompositePropagator {
    let mut propagators: Vec<Box<dyn TextMapPropagator + Send + Sync>> = Vec::new();
    if settings.trace_context {
        propagators.push(Box::new(TraceContextPropagator::new()));
    }
    if settings.baggage {
        propagators.push(Box::new(BaggagePropagator::new()));
    }
    TextMapCompositePropagator::new(propagators)
}

/// The methods of RFC 9110 and RFC 5789; others are `_OTHER`, since a name must be one of few.
fn known_method(method: &Method) -> Option<&'static str> {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_ATTRIBUTE).collect()
}

/// The headers of propagation, as strict as W3C Trace Context is with them and the SDK is not.
struct Headers {
    trace_parent: Option<String>,
    trace_state: Option<String>,
    baggage: Option<String>,
}

impl Headers {
    fn read(headers: &HeaderMap) -> Headers {
        // Several headers of a list are one list (RFC 9110).
        let list = |name, longest| {
            let values: Option<Vec<&str>> =
                headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
            values.map(|values| values.join(",")).filter(|list| list.len() <= longest)
        };
        let mut parents = headers.get_all("traceparent").iter();
        let trace_parent = match (parents.next().map(HeaderValue::to_str), parents.next()) {
            (Some(Ok(parent)), None) if well_formed(parent) => Some(parent.to_owned()),
            _ => None,
        };
        Headers {
            trace_parent,
            trace_state: list("tracestate", LONGEST_TRACESTATE),
            baggage: list("baggage", LONGEST_BAGGAGE),
        }
    }
}

/// Whether a `traceparent` has the fields' lengths, in lower case; a later version may have more
/// after them. What the fields say is left to the SDK.
fn well_formed(parent: &str) -> bool {
    let mut fields = parent.split('-');
    let hexadecimal = |field: Option<&str>, length| {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        field.is_some_and(|field| field.len() == length && field.bytes().all(lower))
    };
    [2, 32, 16, 2].into_iter().all(|length| hexadecimal(fields.next(), length))
        && (fields.next().is_none() || !parent.starts_with("00"))
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.trace_parent.as_deref(),
            "tracestate" => self.trace_state.as_deref(),
            "baggage" => self.baggage.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        ["traceparent", "tracestate", "baggage"].to_vec()
    }
}
