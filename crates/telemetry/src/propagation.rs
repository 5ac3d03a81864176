//! The caller's span, from a request's headers; and the own one, in the headers of a request to others.
//!
//! Headers are read by the letter of their specifications, which the SDK's propagators do not do. A
//! malformed header is no error: the request starts a trace of its own. In a list, a malformed or
//! superfluous member is left out, and the others stay.

mod b3;
mod baggage;
pub(crate) mod trace_context;

use http::header::HeaderMap;
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

use crate::settings::{Propagator, Settings};

/// Optional whitespace around the parts of a header (RFC 9110).
const SPACE: [char; 2] = [' ', '\t'];

/// Reads the caller's span from a request's headers, and writes the own one into those of another request.
#[derive(Debug)]
pub(crate) struct Propagation {
    propagators: Vec<Propagator>,
    /// Decides where a caller leaves the decision to this service.
    sampler: Sampler,
}

impl Propagation {
    pub(crate) fn new(settings: &Settings) -> Propagation {
        let (propagators, sampler) = (settings.propagators.clone(), settings.sampler.clone());
        Propagation { propagators, sampler }
    }

    /// Returns the context that the headers name, an empty one if they name none. Of several parents,
    /// that of the last propagator counts.
    pub(crate) fn parent(&self, headers: &HeaderMap) -> Context {
        self.propagators.iter().fold(Context::new(), |context, propagator| {
            let parent = match propagator {
                Propagator::TraceContext => trace_context::parent(headers),
                Propagator::B3 | Propagator::B3Multi => {
                    b3::parent(headers, |trace| self.decide(trace))
                }
                Propagator::Baggage => return context.with_baggage(baggage::members(headers)),
            };
            match parent {
                Some(parent) => with_parent(&context, parent),
                None => context,
            }
        })
    }

    /// Writes a context's span and baggage into the headers of a request to others.
    pub(crate) fn write(&self, context: &Context, headers: &mut HeaderMap) {
        for propagator in &self.propagators {
            match propagator {
                Propagator::TraceContext => trace_context::write(context, headers),
                Propagator::B3 => b3::write_one(context, headers),
                Propagator::B3Multi => b3::write_several(context, headers),
                Propagator::Baggage => baggage::write(context, headers),
            }
        }
    }

    /// Decides about sampling as for a trace that starts here.
    fn decide(&self, trace: TraceId) -> bool {
        let result = self.sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}

fn with_parent(context: &Context, parent: SpanContext) -> Context {
    let random = RandomTraceId(parent.trace_flags() & RandomTraceId::FLAG);
    context.with_remote_span_context(parent).with_value(random)
}

/// The flag that says that a caller's trace id is random (W3C Trace Context, level 2), if it is set.
///
/// It belongs to the trace, but the SDK forgets it where the trace is not sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomTraceId(TraceFlags);

impl RandomTraceId {
    const FLAG: TraceFlags = TraceFlags::new(0b10);

    /// Returns the flag of the caller's span that a context stems from; no flag without such a span.
    pub(crate) fn of(context: &Context) -> TraceFlags {
        context.get::<RandomTraceId>().map_or(TraceFlags::NOT_SAMPLED, |random| random.0)
    }
}

/// Returns the text of a header that may stand only once, without space around it.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().ok()?.trim_matches(SPACE)),
        _ => None,
    }
}

/// Returns the members of a list, which may be spread over several headers (RFC 9110), without space
/// around them. Those that are empty or not text are left out.
fn members<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let text = members.filter_map(|member| std::str::from_utf8(member).ok());
    text.map(|member| member.trim_matches(SPACE)).filter(|member| !member.is_empty())
}

/// True if a text is of lower-case hexadecimal digits, and has this length.
fn is_hexadecimal(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(is_digit)
}

/// Returns the id of a trace in 32 digits; all zeros are none.
fn trace_id(text: &str) -> Option<TraceId> {
    let id = TraceId::from_hex(text).ok().filter(|_| is_hexadecimal(text, 32))?;
    (id != TraceId::INVALID).then_some(id)
}

/// Returns the id of a span in 16 digits; all zeros are none.
fn span_id(text: &str) -> Option<SpanId> {
    let id = SpanId::from_hex(text).ok().filter(|_| is_hexadecimal(text, 16))?;
    (id != SpanId::INVALID).then_some(id)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::settings::Tracing;

    pub(super) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    pub(super) const SPAN: &str = "b7ad6b7169203331";

    /// Reads headers with some settings, as the caller's context.
    pub(super) fn parent_with(settings: &[(&str, &str)], headers: &[(&str, &str)]) -> Context {
        let lookup = |name: &str| match name {
            "jaeger_collector_host" => Some("collector".to_owned()),
            name => settings.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()),
        };
        let (Tracing::On(settings), warnings) = Tracing::read("test", lookup) else {
            panic!("off")
        };
        assert_eq!(warnings, Vec::<String>::new());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a name");
            // Not only text: a client sends what it wants.
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        Propagation::new(&settings).parent(&map)
    }

    pub(super) fn parent(headers: &[(&str, &str)]) -> Context {
        parent_with(&[], headers)
    }

    /// The id of the caller's trace, if it is taken from the headers.
    pub(super) fn trace_of(context: &Context) -> Option<String> {
        let span = context.span().span_context().clone();
        span.is_valid().then(|| span.trace_id().to_string())
    }

    #[test]
    fn propagators_follow_the_setting() {
        let (own, single) =
            (format!("00-{TRACE}-{SPAN}-01"), format!("{}-{SPAN}-1", "b".repeat(32)));
        let headers = [("traceparent", own.as_str()), ("baggage", "a=b"), ("b3", single.as_str())];
        let read = |propagators| {
            let context = parent_with(&[("otel_propagators", propagators)], &headers);
            let trace = trace_of(&context).map(|trace| trace[..1].to_owned());
            (trace.unwrap_or_default(), context.baggage().get("a").is_some())
        };
        for (propagators, trace, baggage) in [
            ("", "0", true),
            ("tracecontext", "0", false),
            ("baggage", "", true),
            ("none", "", false),
            ("b3", "b", false),
            ("B3Multi", "b", false),
            ("tracecontext,baggage,b3", "b", true),
            ("b3,baggage,tracecontext", "0", true),
        ] {
            assert_eq!(read(propagators), (trace.to_owned(), baggage), "{propagators}");
        }
        // The first one counts if the last one finds none.
        let setting = [("otel_propagators", "tracecontext,b3")];
        let context = parent_with(&setting, &[("traceparent", &own), ("b3", "malformed")]);
        assert_eq!(trace_of(&context).as_deref(), Some(TRACE));
    }

    #[test]
    fn names_of_headers_are_read_in_any_case_and_others_are_not() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        for name in ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
            assert_eq!(trace_of(&parent(&[(name, &own)])).as_deref(), Some(TRACE), "{name}");
        }
        for name in ["trace-parent", "trace.parent", "trace_parent"] {
            assert_eq!(trace_of(&parent(&[(name, &own)])), None, "{name}");
        }
        for (name, read) in [("TraceState", "a=1"), ("trace-state", ""), ("trace.state", "")] {
            let context = parent(&[("traceparent", &own), (name, "a=1")]);
            assert_eq!(context.span().span_context().trace_state().header(), read, "{name}");
        }
    }
}
