//! The caller's span: the W3C headers `traceparent`, `tracestate` and `baggage`.
//!
//! Headers are read as strictly as W3C Trace Context asks for, which the SDK's propagators are not. A
//! malformed header is no error: the request starts a trace of its own.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::settings::Settings;

/// Longest `tracestate` that is read. W3C Trace Context asks for at least 512 characters.
const MAX_TRACESTATE: usize = 512;

/// Reads the caller's span from a request's headers.
#[derive(Debug)]
pub(crate) struct Propagator(TextMapCompositePropagator);

impl Propagator {
    pub(crate) fn new(settings: &Settings) -> Propagator {
        let mut propagators: Vec<Box<dyn TextMapPropagator + Send + Sync>> = Vec::new();
        if settings.trace_context {
            propagators.push(Box::new(TraceContextPropagator::new()));
        }
        if settings.baggage {
            propagators.push(Box::new(BaggagePropagator::new()));
        }
        Propagator(TextMapCompositePropagator::new(propagators))
    }

    /// Returns the context that the headers name, an empty one if they name none.
    pub(crate) fn parent(&self, headers: &HeaderMap) -> Context {
        self.0.extract_with_context(&Context::new(), &Headers::read(headers))
    }
}

/// The headers of propagation, without those that are malformed or too long.
struct Headers {
    trace_parent: Option<String>,
    trace_state: Option<String>,
    baggage: Option<String>,
}

impl Headers {
    fn read(headers: &HeaderMap) -> Headers {
        // Several headers of a list are one list (RFC 9110).
        let list = |name| {
            let values: Option<Vec<&str>> =
                headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
            values.map(|values| values.join(","))
        };
        let mut parents = headers.get_all("traceparent").iter();
        let trace_parent = match (parents.next().map(HeaderValue::to_str), parents.next()) {
            (Some(Ok(parent)), None) if is_well_formed(parent) => Some(parent.to_owned()),
            _ => None,
        };
        Headers {
            trace_parent,
            trace_state: list("tracestate").filter(|list| list.len() <= MAX_TRACESTATE),
            // The SDK limits its length: 8192 bytes, as W3C Baggage asks for.
            baggage: list("baggage"),
        }
    }
}

/// True if a `traceparent` has the fields' lengths, in lower case. A later version may have more
/// after them. The SDK judges the fields' values.
fn is_well_formed(parent: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use opentelemetry::baggage::BaggageExt;
    use opentelemetry::trace::TraceContextExt;

    use super::*;
    use crate::settings::Tracing;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    /// Reads headers with the propagators of a setting, as the caller's context.
    fn parent_with(propagators: &str, headers: &[(&'static str, &str)]) -> Context {
        let lookup = |name: &str| match name {
            "jaeger_collector_host" => Some("collector".to_owned()),
            "otel_propagators" => Some(propagators.to_owned()),
            _ => None,
        };
        let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        Propagator::new(&settings).parent(&map)
    }

    fn parent(headers: &[(&'static str, &str)]) -> Context {
        parent_with("", headers)
    }

    /// The id of the caller's trace, if it is taken from the headers.
    fn trace_of(context: &Context) -> Option<String> {
        let span = context.span().span_context().clone();
        span.is_valid().then(|| span.trace_id().to_string())
    }

    #[test]
    fn well_formed_traceparent_is_the_parent() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        let context = parent(&[("traceparent", &own)]);
        assert_eq!(trace_of(&context).as_deref(), Some(TRACE));
        let span = context.span().span_context().clone();
        assert_eq!((span.span_id().to_string().as_str(), span.is_sampled()), (SPAN, true));
        assert!(span.is_remote());
        let later = format!("01-{TRACE}-{SPAN}-01-more");
        assert_eq!(trace_of(&parent(&[("traceparent", &later)])).as_deref(), Some(TRACE));
    }

    #[test]
    fn malformed_traceparent_is_ignored() {
        for malformed in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0x"),
        ] {
            assert_eq!(trace_of(&parent(&[("traceparent", &malformed)])), None, "{malformed}");
        }
    }

    #[test]
    fn two_traceparents_are_none() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(trace_of(&parent(&[("traceparent", &own), ("traceparent", &own)])), None);
    }

    #[test]
    fn tracestate_and_baggage_are_read_up_to_their_limits() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        let state = |members: &[&str]| {
            let headers = members.iter().map(|member| ("tracestate", *member));
            let headers: Vec<_> = headers.chain([("traceparent", own.as_str())]).collect();
            let context = parent(&headers);
            assert_eq!(trace_of(&context).as_deref(), Some(TRACE), "the parent stays");
            context.span().span_context().trace_state().header()
        };
        assert_eq!(state(&["a=1", "b=2"]), "a=1,b=2", "two headers are one list");
        // A value may have 256 characters (W3C Trace Context).
        let longest = format!("a={},b={}", "x".repeat(252), "y".repeat(255));
        assert_eq!(longest.len(), MAX_TRACESTATE);
        assert_eq!(state(&[&longest]), longest);
        assert_eq!(state(&[&format!("{longest}y")]), "");
        assert_eq!(state(&["??,="]), "");

        let baggage = |value: &str| {
            let context = parent(&[("baggage", value)]);
            context.baggage().get("a").map(|value| value.as_str().len())
        };
        let longest = format!("a={}", "x".repeat(8190));
        assert_eq!(baggage(&longest), Some(8190));
        assert_eq!(baggage(&format!("{longest}x")), None);
    }

    #[test]
    fn propagators_follow_the_setting() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        let headers = [("traceparent", own.as_str()), ("baggage", "a=b")];
        let read = |propagators| {
            let context = parent_with(propagators, &headers);
            (trace_of(&context).is_some(), context.baggage().get("a").is_some())
        };
        assert_eq!(read(""), (true, true));
        assert_eq!(read("tracecontext"), (true, false));
        assert_eq!(read("baggage"), (false, true));
        assert_eq!(read("none"), (false, false));
    }
}
