//! Zipkin's B3, as meshes and older applications send it: in the header `b3`, or in several that begin
//! with `x-b3-`. The former takes precedence.
//!
//! A decision without ids (`b3: 0`) names no span, and has no effect.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

use super::{is_hexadecimal, single, span_id, trace_id};

/// Returns the caller's span. `decide` is asked about sampling if the caller leaves that to others.
pub(super) fn parent(headers: &HeaderMap, decide: impl Fn(TraceId) -> bool) -> Option<SpanContext> {
    let (trace, span, sampled) = in_one(headers).or_else(|| in_several(headers))?;
    let sampled = sampled.unwrap_or_else(|| decide(trace));
    let flags = TraceFlags::NOT_SAMPLED.with_sampled(sampled);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

type Ids = (TraceId, SpanId, Option<bool>);

/// Reads `b3`: `trace-span`, `trace-span-state` or `trace-span-state-parent`.
fn in_one(headers: &HeaderMap) -> Option<Ids> {
    let mut fields = single(headers, "b3")?.split('-');
    let (trace, span) = (any_trace_id(fields.next()?)?, span_id(fields.next()?)?);
    let sampled = fields.next().map(state);
    let is_whole = fields.next().is_none_or(|parent| is_hexadecimal(parent, 16));
    match sampled {
        _ if !is_whole || fields.next().is_some() => None,
        // A state that is none.
        Some(None) => None,
        sampled => Some((trace, span, sampled.flatten())),
    }
}

/// Reads `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
fn in_several(headers: &HeaderMap) -> Option<Ids> {
    let trace = any_trace_id(single(headers, "x-b3-traceid")?)?;
    let span = span_id(single(headers, "x-b3-spanid")?)?;
    let debug = single(headers, "x-b3-flags").filter(|flags| *flags == "1").map(|_| true);
    Some((trace, span, debug.or_else(|| state(single(headers, "x-b3-sampled")?))))
}

/// Writes a context's span into `b3`.
pub(super) fn write_one(context: &Context, headers: &mut HeaderMap) {
    let [trace, span, sampled] = fields(context);
    insert(headers, "b3", format!("{trace}-{span}-{sampled}"));
}

/// Writes a context's span into several headers.
pub(super) fn write_several(context: &Context, headers: &mut HeaderMap) {
    for (name, value) in
        ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"].into_iter().zip(fields(context))
    {
        insert(headers, name, value);
    }
}

/// Returns the ids of a context's trace and span, and the decision about sampling.
fn fields(context: &Context) -> [String; 3] {
    let span = context.span();
    let own = span.span_context();
    let sampled = u8::from(own.is_sampled()).to_string();
    [own.trace_id().to_string(), own.span_id().to_string(), sampled]
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Returns the id of a trace, in 32 or in 16 digits.
fn any_trace_id(text: &str) -> Option<TraceId> {
    if is_hexadecimal(text, 16) { trace_id(&format!("{text:0>32}")) } else { trace_id(text) }
}

/// Returns the decision of a caller. Older ones write it in words; debugging means sampling, too.
fn state(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::super::tests::{SPAN, TRACE, parent_with, trace_of};

    /// Reads headers: the caller's trace and span, and its decision.
    fn read(sampler: &str, headers: &[(&str, &str)]) -> Option<(String, String, bool)> {
        let settings = [("otel_propagators", "b3"), ("otel_traces_sampler", sampler)];
        let context = parent_with(&settings, headers);
        let span = context.span().span_context().clone();
        let trace = trace_of(&context)?;
        assert!(span.is_remote());
        Some((trace, span.span_id().to_string(), span.is_sampled()))
    }

    #[test]
    fn span_is_read_from_one_header() {
        let short = &TRACE[16..];
        let long = |sampled| Some((TRACE.to_owned(), SPAN.to_owned(), sampled));
        for (value, expected) in [
            (format!("{TRACE}-{SPAN}-1"), long(true)),
            (format!(" {TRACE}-{SPAN}-1\t"), long(true)),
            (format!("{TRACE}-{SPAN}-d"), long(true)),
            (format!("{TRACE}-{SPAN}-0"), long(false)),
            (format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"), long(true)),
            (format!("{TRACE}-{SPAN}-0-05e3ac9a4f6e3b90"), long(false)),
            (format!("{short}-{SPAN}-1"), Some((format!("{short:0>32}"), SPAN.to_owned(), true))),
            ("0".into(), None),
            ("1".into(), None),
            ("d".into(), None),
            (String::new(), None),
            (TRACE.into(), None),
            (format!("{TRACE}-{SPAN}-2"), None),
            (format!("{TRACE}-{SPAN}-"), None),
            (format!("{TRACE}-{SPAN}-1-"), None),
            (format!("{TRACE}-{SPAN}-1-parent"), None),
            (format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90-more"), None),
            (format!("{}-{SPAN}-1", TRACE.to_uppercase()), None),
            (format!("{}-{SPAN}-1", &TRACE[1..]), None),
            (format!("{}-{SPAN}-1", "0".repeat(32)), None),
            (format!("{}-{SPAN}-1", "0".repeat(16)), None),
            (format!("{TRACE}-{}-1", "0".repeat(16)), None),
            (format!("{TRACE}-{}-1", &SPAN[1..]), None),
            (format!("{TRACE}_{SPAN}_1"), None),
        ] {
            assert_eq!(read("", &[("b3", &value)]), expected, "{value:?}");
        }
        let value = format!("{TRACE}-{SPAN}-1");
        assert_eq!(read("", &[("b3", &value), ("b3", &value)]), None, "two are none");
    }

    #[test]
    fn span_is_read_from_several_headers() {
        let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN)];
        let with = |more: &[(&str, &str)]| {
            let headers: Vec<_> = ids.iter().chain(more).copied().collect();
            read("parentbased_always_off", &headers).map(|(trace, span, sampled)| {
                assert_eq!((trace.as_str(), span.as_str()), (TRACE, SPAN));
                sampled
            })
        };
        assert_eq!(with(&[("X-B3-Sampled", "1")]), Some(true));
        assert_eq!(with(&[("X-B3-Sampled", "true")]), Some(true));
        assert_eq!(with(&[("X-B3-Sampled", "0"), ("X-B3-ParentSpanId", SPAN)]), Some(false));
        assert_eq!(with(&[("X-B3-Sampled", "false")]), Some(false));
        assert_eq!(with(&[("X-B3-Flags", "1")]), Some(true));
        assert_eq!(with(&[("X-B3-Flags", "1"), ("X-B3-Sampled", "0")]), Some(true));
        assert_eq!(with(&[("X-B3-Flags", "0"), ("X-B3-Sampled", "1")]), Some(true));
        // A malformed `b3` is none, a well-formed one takes precedence.
        assert_eq!(with(&[("b3", "0"), ("X-B3-Sampled", "1")]), Some(true));
        let single = format!("{TRACE}-{SPAN}-0");
        assert_eq!(with(&[("b3", &single), ("X-B3-Sampled", "1")]), Some(false));
        assert_eq!(read("", &ids[..1]), None);
        assert_eq!(read("", &ids[1..]), None);
        assert_eq!(with(&[("X-B3-TraceId", TRACE)]), None, "two are none");
    }

    #[test]
    fn decision_that_is_left_to_others_is_made_by_the_sampler() {
        let single = format!("{TRACE}-{SPAN}");
        let several = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "maybe")];
        for (sampler, sampled) in [
            ("", true),
            ("parentbased_always_on", true),
            ("parentbased_always_off", false),
            ("always_on", true),
            ("always_off", false),
        ] {
            for headers in [&[("b3", single.as_str())][..], &several] {
                let (_, _, decision) = read(sampler, headers).expect("a span");
                assert_eq!(decision, sampled, "{sampler}: {headers:?}");
            }
        }
    }
}
