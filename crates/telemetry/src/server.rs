//! A request's root span, by OpenTelemetry's semantic conventions for HTTP servers and for functions
//! as a service.
//!
//! [`Telemetry::server_span`] makes it from the request's head, [`Span::respond`] completes it with
//! the response. docs/tracing.md lists its attributes.

use std::time::SystemTime;

use http::header::{HOST, HeaderMap, HeaderName, USER_AGENT};
use http::uri::Authority;
use http::{Method, Response, Uri};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};

use crate::host;
use crate::propagation::trace_context;
use crate::provider::Telemetry;
use crate::span::Span;

/// Longest attribute that is made of what others send, in characters: a queue full of spans has to
/// stay small. The longest usual `User-Agent` has some 300.
const MAX_ATTRIBUTE: usize = 512;

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The method.
    pub method: &'a Method,
    /// The URI.
    pub uri: &'a Uri,
    /// The headers. Only `Host`, `User-Agent` and those of propagation are read.
    pub headers: &'a HeaderMap,
    /// The route that the path leads to, if there is one: a path of the service, not the client's.
    pub route: Option<&'static str>,
    /// The time of its arrival.
    pub started: SystemTime,
    /// True for the instance's first request.
    pub cold_start: bool,
}

impl Telemetry {
    /// Starts the root span of a request: a child of the caller's span if the request names one.
    /// Returns no span for an excluded route.
    ///
    /// The query and the client's address are not recorded. A query may hold anything; an address is
    /// personal data.
    pub fn server_span(&self, incoming: Incoming<'_>) -> Span {
        let Incoming { method, uri, headers, route, .. } = incoming;
        if route.is_some_and(|route| self.excluded_routes.iter().any(|out| out == route)) {
            return Span::none();
        }
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let authority = uri.authority().map(Authority::as_str).or(text(HOST));
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
        if let Some(authority) = authority.and_then(|text| text.parse::<Authority>().ok()) {
            attributes.push(KeyValue::new("server.address", cut(authority.host())));
            if let Some(port) = authority.port_u16() {
                attributes.push(KeyValue::new("server.port", i64::from(port)));
            }
        }
        let verb = known.unwrap_or("HTTP");
        let name = route.map_or(verb.to_owned(), |route| format!("{verb} {route}"));
        let parent = self.propagation.parent(headers);
        Span::start(&self.tracer, &parent, name, SpanKind::Server, incoming.started, attributes)
    }
}

impl Span {
    /// Completes a request's root span with its response, and names the span to the caller in the
    /// header `traceparent`. Only a status from 500 on is an error of the server.
    ///
    /// A caller's flag of a random trace id is kept, also where the trace is not sampled (W3C Trace
    /// Context, level 2).
    pub fn respond<B>(&self, response: &mut Response<B>) {
        let Some(context) = self.context() else { return };
        let span = context.span();
        let status = response.status();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            // The conventions leave the description empty where the status code says it all.
            span.set_status(Status::error(""));
        }
        if let Some(value) = trace_context::traceparent(context) {
            response.headers_mut().insert(trace_context::PARENT, value);
        }
    }
}

/// Returns a method of RFC 9110 or RFC 5789. Others are `_OTHER`, since a name is one of few.
fn known_method(method: &Method) -> Option<&'static str> {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
}

pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_ATTRIBUTE).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use opentelemetry_proto::tonic::trace::v1::Span as Exported;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

    use super::*;
    use crate::fake::{Fake, attribute};
    use crate::settings::Tracing;

    struct Bench {
        host: Arc<Fake>,
        telemetry: Telemetry,
    }

    impl Bench {
        fn new(values: &[(&str, &str)]) -> Bench {
            let host = Arc::new(Fake::new([]));
            let lookup = |name: &str| match name {
                "jaeger_collector_host" => Some("jaeger".to_owned()),
                name => values.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()),
            };
            let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
            let telemetry =
                Telemetry::start(&settings, "test", "1.2.3", host.clone()).expect("settings");
            Bench { host, telemetry }
        }

        /// Answers a request and returns its root span as exported, and the response.
        fn serve(
            &self,
            request: &http::Request<()>,
            route: Option<&'static str>,
            status: u16,
        ) -> (Option<Exported>, Response<()>) {
            let span = self.telemetry.server_span(Incoming {
                method: request.method(),
                uri: request.uri(),
                headers: request.headers(),
                route,
                started: SystemTime::now(),
                cold_start: true,
            });
            let mut response = Response::builder().status(status).body(()).expect("a response");
            span.respond(&mut response);
            drop(span);
            self.telemetry.export().now_or_never().expect("nothing to wait for");
            let mut spans = self.host.take_spans();
            assert!(spans.len() <= 1, "{spans:?}");
            (spans.pop(), response)
        }

        fn root(
            &self,
            request: &http::Request<()>,
            route: Option<&'static str>,
            status: u16,
        ) -> Exported {
            self.serve(request, route, status).0.expect("a span")
        }
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> http::Request<()> {
        let request = http::Request::builder().method(method).uri(uri);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(())
            .expect("a request")
    }

    #[test]
    fn root_span_has_the_attributes_of_its_request() {
        let headers = [("host", "api.example:8080"), ("user-agent", "curl/8"), ("cookie", "s=1")];
        let request = request("POST", "/things/7?token=1", &headers);
        let span = Bench::new(&[]).root(&request, Some("/things/{id}"), 200);
        assert_eq!((span.name.as_str(), span.kind()), ("POST /things/{id}", SpanKind::Server));
        assert!(span.parent_span_id.is_empty());
        let mut names: Vec<&str> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
        names.sort_unstable();
        let expected = [
            ("faas.coldstart", "true"),
            ("faas.invocation_id", "7fffffff-ffff-4fff-bfff-ffffffffffff"),
            ("faas.trigger", "http"),
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("http.route", "/things/{id}"),
            ("server.address", "api.example"),
            ("server.port", "8080"),
            ("url.path", "/things/7"),
            ("url.scheme", "http"),
            ("user_agent.original", "curl/8"),
        ];
        // Neither the query nor another header.
        assert_eq!(names, expected.map(|(name, _)| name));
        for (name, value) in expected {
            assert_eq!(attribute(&span, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn authority_of_the_uri_takes_precedence_over_host() {
        let headers = [("host", "proxy.example")];
        let request = request("GET", "https://api.example/", &headers);
        let span = Bench::new(&[]).root(&request, Some("/"), 200);
        assert_eq!(attribute(&span, "server.address").as_deref(), Some("api.example"));
        assert_eq!(attribute(&span, "server.port"), None);
        assert_eq!(attribute(&span, "url.scheme").as_deref(), Some("https"));
    }

    #[test]
    fn unknown_method_is_other() {
        let bench = Bench::new(&[]);
        let span = bench.root(&request("BREW", "/coffee", &[]), None, 404);
        assert_eq!(span.name, "HTTP");
        assert_eq!(attribute(&span, "http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(attribute(&span, "http.request.method_original").as_deref(), Some("BREW"));
        assert_eq!(attribute(&span, "http.route"), None);
        // Methods are case-sensitive (RFC 9110).
        let span = bench.root(&request("get", "/", &[]), Some("/"), 405);
        assert_eq!(span.name, "HTTP /");
        let span = bench.root(&request("DELETE", "/", &[]), Some("/"), 405);
        assert_eq!(attribute(&span, "http.request.method").as_deref(), Some("DELETE"));
        assert_eq!(attribute(&span, "http.request.method_original"), None);
    }

    #[test]
    fn excluded_route_has_no_span() {
        let bench = Bench::new(&[("trace_excluded_routes", "/health, /")]);
        for route in ["/health", "/"] {
            let (span, response) = bench.serve(&request("GET", route, &[]), Some(route), 200);
            assert_eq!(span, None, "{route}");
            assert!(response.headers().is_empty(), "{route}");
        }
        bench.root(&request("GET", "/healthy", &[]), Some("/healthy"), 200);
        bench.root(&request("GET", "/health", &[]), None, 404);
    }

    #[test]
    fn only_server_errors_fail_the_span() {
        let bench = Bench::new(&[]);
        for (status, fails) in [(200, false), (404, false), (499, false), (500, true), (503, true)]
        {
            let span = bench.root(&request("GET", "/", &[]), Some("/"), status);
            let code = span.status.as_ref().map(|status| (status.code(), status.message.as_str()));
            let error_type = attribute(&span, "error.type");
            if fails {
                assert_eq!(code, Some((StatusCode::Error, "")), "{status}");
                assert_eq!(error_type, Some(status.to_string()));
            } else {
                assert!(code.is_none_or(|(code, _)| code == StatusCode::Unset), "{status}");
                assert_eq!(error_type, None, "{status}");
            }
        }
    }

    #[test]
    fn response_names_the_span() {
        let bench = Bench::new(&[]);
        let (span, response) = bench.serve(&request("GET", "/", &[]), Some("/"), 200);
        let span = span.expect("a span");
        let hexadecimal =
            |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (trace, id) = (hexadecimal(&span.trace_id), hexadecimal(&span.span_id));
        assert_eq!(response.headers()["traceparent"], format!("00-{trace}-{id}-01"));
    }

    #[test]
    fn caller_decides_about_sampling() {
        let bench = Bench::new(&[]);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
        let (sampled, not_sampled) = (format!("{parent}01"), format!("{parent}00"));
        let traced = |parent: &str| request("GET", "/", &[("traceparent", parent)]);
        let span = bench.root(&traced(&sampled), Some("/"), 200);
        assert_eq!(span.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        let (span, response) = bench.serve(&traced(&not_sampled), Some("/"), 200);
        assert_eq!(span, None);
        let own = response.headers()["traceparent"].to_str().expect("text").to_owned();
        assert!(own.starts_with(&parent[..36]) && own.ends_with("-00"), "{own}");
    }

    #[test]
    fn flag_of_a_random_trace_id_is_kept() {
        let bench = Bench::new(&[]);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
        for (flags, own, sampled) in
            [("00", "00", false), ("01", "01", true), ("02", "02", false), ("03", "03", true)]
        {
            let traced = request("GET", "/", &[("traceparent", &format!("{parent}{flags}"))]);
            let (span, response) = bench.serve(&traced, Some("/"), 200);
            assert_eq!(span.is_some(), sampled, "{flags}");
            let header = response.headers()["traceparent"].to_str().expect("text");
            assert!(header.ends_with(&format!("-{own}")), "{flags}: {header}");
        }
    }

    #[test]
    fn odd_hosts_of_a_client_are_no_harm() {
        let bench = Bench::new(&[]);
        for host in [
            "", "[", "[::1]:80", "a@[b]", "[a@b]", "a[b]c", ":80", "a:99999", "a:b", "a b", "a/b",
            "@",
        ] {
            bench.root(&request("GET", "/", &[("host", host)]), Some("/"), 200);
        }
    }

    #[test]
    fn attributes_of_a_client_are_cut() {
        let long = "é".repeat(MAX_ATTRIBUTE + 1);
        assert_eq!(cut(&long).chars().count(), MAX_ATTRIBUTE);
        let agent = "a".repeat(MAX_ATTRIBUTE + 1);
        let request = request("GET", "/", &[("user-agent", &agent)]);
        let span = Bench::new(&[]).root(&request, Some("/"), 200);
        let recorded = attribute(&span, "user_agent.original").expect("an agent");
        assert_eq!(recorded, agent[..MAX_ATTRIBUTE]);
    }

    #[test]
    fn span_begins_with_the_arrival_of_its_request() {
        let bench = Bench::new(&[]);
        let started = SystemTime::now() - Duration::from_secs(3);
        let request = request("GET", "/", &[]);
        drop(bench.telemetry.server_span(Incoming {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            route: None,
            started,
            cold_start: false,
        }));
        bench.telemetry.export().now_or_never().expect("nothing to wait for");
        let [span] = bench.host.take_spans().try_into().expect("one span");
        let nanoseconds = started.duration_since(SystemTime::UNIX_EPOCH).expect("now").as_nanos();
        assert_eq!(u128::from(span.start_time_unix_nano), nanoseconds);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano + 3_000_000_000);
        assert_eq!(attribute(&span, "faas.coldstart").as_deref(), Some("false"));
    }
}
