//! The spans of what the service asks of others, by OpenTelemetry's semantic conventions for HTTP clients and
//! for databases.
//!
//! [`Telemetry::client_span`] starts that of a request and tells the receiver of it, [`Span::answered`] records
//! the response. [`Span::query`] starts that of a database's statement. docs/tracing.md lists their attributes.

use std::time::SystemTime;

use http::{Request, StatusCode, Uri};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};

use crate::provider::Telemetry;
use crate::server::cut;
use crate::span::Span;

/// The word that stands for what may be secret, as the conventions write it.
const REDACTED: &str = "REDACTED";

impl Telemetry {
    /// Starts the span of a request within `parent`, and names it to the receiver: the request gets the
    /// headers of the propagators. Where the parent is not recorded, there is no span, and the receiver is
    /// told of the parent.
    ///
    /// `resends` is the number of requests before this one that led to it, such as by a redirection. The
    /// URL is recorded without what may be secret: user name, password, and the values of the query.
    pub fn client_span<B>(&self, parent: &Span, request: &mut Request<B>, resends: u32) -> Span {
        let uri = request.uri();
        let mut attributes = vec![
            // The conventions want a method's own name, and all that are sent are known ones.
            KeyValue::new("http.request.method", request.method().as_str().to_owned()),
            KeyValue::new("url.full", cut(&redacted(uri))),
        ];
        if let Some(host) = uri.host() {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            attributes.push(KeyValue::new("server.address", cut(host)));
        }
        if let Some(port) = port(uri) {
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
        if resends > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(resends)));
        }
        let span = match parent.context() {
            Some(context) if parent.is_recording() => {
                // There is no template of the URL, so the method is the name.
                let (name, now) = (request.method().as_str().to_owned(), SystemTime::now());
                Span::start(&self.tracer, context, name, SpanKind::Client, now, attributes)
            }
            _ => Span::none(),
        };
        if let Some(context) = span.context().or(parent.context()) {
            self.propagation.write(context, request.headers_mut());
        }
        span
    }
}

/// A statement for a database, as its span describes it.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The kind of database, a value of `db.system.name`.
    pub system: &'static str,
    /// The operation, such as `INSERT`.
    pub operation: &'static str,
    /// The table.
    pub collection: &'static str,
    /// The statement's text, without values.
    pub text: &'static str,
}

impl Span {
    /// Starts the span of a statement within this one; none if this one is not recorded.
    pub fn query(&self, query: Query) -> Span {
        let Query { system, operation, collection, text } = query;
        let attributes = vec![
            KeyValue::new("db.system.name", system),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", collection),
            KeyValue::new("db.query.text", text),
        ];
        self.child_of_kind(SpanKind::Client, format!("{operation} {collection}"), attributes)
    }

    /// Records the status of the response to a request to others. One from 400 on is an error of the
    /// client.
    pub fn answered(&self, status: StatusCode) {
        let Some(context) = self.context() else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_client_error() || status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            // The conventions leave the description empty where the status code says it all.
            span.set_status(Status::error(""));
        }
    }
}

/// Returns the port of a URL, named or its scheme's.
fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    })
}

/// Returns a URL with everything replaced that may be a credential: the conventions name a few parameters of
/// queries, but any may be one.
fn redacted(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => (format!("{REDACTED}:{REDACTED}@"), host),
        Some((_, host)) => (format!("{REDACTED}@"), host),
        None => (String::new(), authority),
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let mut url = format!("{scheme}://{login}{host}{}", uri.path());
    for (index, parameter) in uri.query().into_iter().flat_map(|q| q.split('&')).enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        // Without a name, it is a value.
        if let Some((name, _)) = parameter.split_once('=') {
            url += name;
            url.push('=');
        }
        if !parameter.is_empty() {
            url += REDACTED;
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use http::{HeaderMap, Method};
    use opentelemetry_proto::tonic::trace::v1::Span as Exported;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;

    use super::*;
    use crate::Incoming;
    use crate::fake::{Fake, attribute};
    use crate::settings::Tracing;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";

    /// Sends a request within one that has these headers, and returns the headers that it got, and the
    /// exported spans.
    fn send(
        settings: &[(&str, &str)],
        incoming: &[(&'static str, &str)],
        url: &str,
        resends: u32,
        end: impl FnOnce(&Span),
    ) -> (HeaderMap, Vec<Exported>) {
        let host = Arc::new(Fake::new([]));
        let lookup = |name: &str| match name {
            "jaeger_collector_host" => Some("jaeger".to_owned()),
            name => settings.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()),
        };
        let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
        let telemetry = Telemetry::start(&settings, "test", "1", host.clone()).expect("settings");
        let headers = incoming.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), value.parse().expect("a value"))
        });
        let headers: HeaderMap = headers.collect();
        let parent = telemetry.server_span(Incoming {
            method: &Method::POST,
            uri: &Uri::from_static("/"),
            headers: &headers,
            route: Some("/"),
            started: SystemTime::now(),
            cold_start: false,
        });
        let mut request = Request::get(url).body(()).expect("a request");
        let span = telemetry.client_span(&parent, &mut request, resends);
        end(&span);
        drop(span);
        drop(parent);
        telemetry.export().now_or_never().expect("nothing to wait for");
        (request.headers().clone(), host.take_spans())
    }

    fn client(spans: &[Exported]) -> &Exported {
        spans.iter().find(|span| span.kind() == SpanKind::Client).expect("a CLIENT span")
    }

    fn id(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn client_span_has_the_attributes_of_its_request() {
        let url = "https://photos.example/a/v.jpg?size=2";
        let (headers, spans) = send(&[], &[], url, 0, |span| span.answered(StatusCode::OK));
        let span = client(&spans);
        assert_eq!(span.name, "GET");
        let mut names: Vec<&str> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
        names.sort_unstable();
        let expected = [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("server.address", "photos.example"),
            ("server.port", "443"),
            ("url.full", "https://photos.example/a/v.jpg?size=REDACTED"),
        ];
        assert_eq!(names, expected.map(|(name, _)| name));
        for (name, value) in expected {
            assert_eq!(attribute(span, name).as_deref(), Some(value), "{name}");
        }
        let root = spans.iter().find(|span| span.kind() == SpanKind::Server).expect("a root");
        assert_eq!(span.parent_span_id, root.span_id);
        let own = format!("00-{}-{}-01", id(&span.trace_id), id(&span.span_id));
        assert_eq!(headers["traceparent"], own);
        assert_eq!(headers.len(), 1, "{headers:?}");
    }

    #[test]
    fn redirected_request_has_its_number_and_port() {
        let (_, spans) = send(&[], &[], "http://[2001:db8::1]:8080/", 2, |_| {});
        let span = client(&spans);
        assert_eq!(attribute(span, "http.request.resend_count").as_deref(), Some("2"));
        assert_eq!(attribute(span, "server.address").as_deref(), Some("2001:db8::1"));
        assert_eq!(attribute(span, "server.port").as_deref(), Some("8080"));
    }

    #[test]
    fn status_from_400_on_fails_the_span() {
        for (status, fails) in [(200, false), (302, false), (404, true), (500, true)] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (_, spans) = send(&[], &[], "http://a.example/", 0, |span| span.answered(status));
            let span = client(&spans);
            let failed = span.status.as_ref().is_some_and(|status| status.code() == Code::Error);
            assert_eq!(failed, fails, "{status}");
            let error = attribute(span, "error.type");
            assert_eq!(error.as_deref(), fails.then_some(status.as_str()), "{status}");
        }
    }

    #[test]
    fn receiver_is_told_by_each_propagator() {
        let parent = format!("00-{TRACE}-{CALLER}-03");
        let baggage = "b=gr%C3%BCn%2C%20ja;p=1,a=1";
        let incoming =
            [("traceparent", &*parent), ("tracestate", "vendor=1"), ("baggage", baggage)];
        let send = |propagators| {
            let setting = [("otel_propagators", propagators)];
            let (headers, spans) = send(&setting, &incoming, "http://a.example/", 0, |_| {});
            (headers, id(&client(&spans).span_id))
        };
        let (headers, span) = send("tracecontext,baggage");
        // The flag of a random trace id stays.
        assert_eq!(headers["traceparent"], format!("00-{TRACE}-{span}-03"));
        assert_eq!(headers["tracestate"], "vendor=1");
        assert_eq!(headers["baggage"], "a=1,b=gr%C3%BCn%2C%20ja;p=1");
        assert_eq!(headers.len(), 3, "{headers:?}");
        let (headers, span) = send("tracecontext,b3");
        assert_eq!(headers["b3"], format!("{TRACE}-{span}-1"));
        assert!(headers.contains_key("traceparent") && !headers.contains_key("baggage"));
        let (headers, span) = send("tracecontext,b3multi");
        assert_eq!(headers["x-b3-traceid"], TRACE);
        assert_eq!(headers["x-b3-spanid"], *span);
        assert_eq!(headers["x-b3-sampled"], "1");
        assert!(!headers.contains_key("b3"), "{headers:?}");
        assert_eq!(send("none").0.len(), 0);
    }

    #[test]
    fn receiver_is_told_that_a_trace_is_not_sampled() {
        let parent = format!("00-{TRACE}-{CALLER}-00");
        let incoming = [("traceparent", &*parent)];
        let (headers, spans) = send(&[], &incoming, "http://a.example/", 0, |span| {
            assert!(!span.is_recording());
        });
        assert_eq!(spans.len(), 0);
        let told = headers["traceparent"].to_str().expect("text");
        assert!(told.starts_with(&parent[..36]) && told.ends_with("-00"), "{told}");
        assert!(!told.contains(CALLER), "the receiver's parent is this service: {told}");
        // Without tracing of the request, nobody is told anything.
        let (headers, _) =
            send(&[("trace_excluded_routes", "/")], &incoming, "http://a.example/", 0, |_| {});
        assert_eq!(headers.len(), 0);
    }

    #[test]
    fn statement_has_a_client_span() {
        let host = Arc::new(Fake::new([]));
        let lookup = |name: &str| (name == "jaeger_collector_host").then(|| "jaeger".to_owned());
        let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
        let telemetry = Telemetry::start(&settings, "test", "1", host.clone()).expect("settings");
        let parent = telemetry.server_span(Incoming {
            method: &Method::POST,
            uri: &Uri::from_static("/"),
            headers: &HeaderMap::new(),
            route: Some("/"),
            started: SystemTime::now(),
            cold_start: false,
        });
        let text = "DELETE FROM hands WHERE id = ?1";
        let query = Query { system: "sqlite", operation: "DELETE", collection: "hands", text };
        drop(parent.query(query));
        drop(parent);
        assert!(!Span::none().query(query).is_recording());
        telemetry.export().now_or_never().expect("nothing to wait for");
        let spans = host.take_spans();
        let span = client(&spans);
        assert_eq!(span.name, "DELETE hands");
        for (name, value) in [
            ("db.system.name", "sqlite"),
            ("db.operation.name", "DELETE"),
            ("db.collection.name", "hands"),
            ("db.query.text", text),
        ] {
            assert_eq!(attribute(span, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(span.attributes.len(), 4);
    }

    #[test]
    fn url_is_recorded_without_secrets() {
        for (url, recorded) in [
            ("https://a.example/v.jpg", "https://a.example/v.jpg"),
            ("https://ada:hunter2@a.example/", "https://REDACTED:REDACTED@a.example/"),
            ("https://ada@a.example:1/", "https://REDACTED@a.example:1/"),
            ("http://a.example/?sig=hunter2&w=1", "http://a.example/?sig=REDACTED&w=REDACTED"),
            ("http://a.example/?hunter2", "http://a.example/?REDACTED"),
            ("http://a.example/?a=&&b=hunter=2", "http://a.example/?a=REDACTED&&b=REDACTED"),
            ("http://a.example", "http://a.example/"),
        ] {
            assert_eq!(redacted(&url.parse().expect("a URL")), recorded, "{url}");
        }
    }
}
