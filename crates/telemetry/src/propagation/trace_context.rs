//! W3C Trace Context, level 2: `traceparent` and `tracestate`.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};

use super::{RandomTraceId, is_hexadecimal, members, single, span_id, trace_id};

/// The header that names a span.
pub(crate) const PARENT: &str = "traceparent";

/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Longest `tracestate` that is kept, in characters: as much as everyone has to pass on.
const MAX_LENGTH: usize = 512;
/// Longer members go first where a `tracestate` is too long, in characters.
const LONG_MEMBER: usize = 128;
/// Longest key and longest value, in characters.
const MAX_WORD: usize = 256;

/// Returns the caller's span.
pub(super) fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    // Two parents are none.
    let text = single(headers, PARENT)?;
    let mut fields = text.splitn(5, '-');
    let version = fields.next().filter(|version| is_hexadecimal(version, 2))?;
    let (trace, span) = (trace_id(fields.next()?)?, span_id(fields.next()?)?);
    let flags = fields.next().filter(|flags| is_hexadecimal(flags, 2))?;
    // Only a later version may have more fields; of those it has, the known ones count.
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    // Flags without a meaning are cleared.
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let flags = flags & (TraceFlags::SAMPLED | RandomTraceId::FLAG);
    Some(SpanContext::new(trace, span, flags, true, trace_state(headers)))
}

/// Returns the `traceparent` that names a context's span.
///
/// A caller's flag of a random trace id is kept, also where the trace is not sampled.
pub(crate) fn traceparent(context: &Context) -> Option<HeaderValue> {
    let span = context.span();
    let own = span.span_context();
    let (trace, id) = (own.trace_id(), own.span_id());
    let flags = (own.trace_flags() | RandomTraceId::of(context)).to_u8();
    HeaderValue::try_from(format!("00-{trace}-{id}-{flags:02x}")).ok()
}

/// Writes a context's span.
pub(super) fn write(context: &Context, headers: &mut HeaderMap) {
    if let Some(value) = traceparent(context) {
        headers.insert(PARENT, value);
    }
    let state = context.span().span_context().trace_state().header();
    if let Ok(value) = HeaderValue::try_from(state)
        && !value.is_empty()
    {
        headers.insert("tracestate", value);
    }
}

/// Returns the `tracestate`: whole members only, the first ones, as the first is the latest.
fn trace_state(headers: &HeaderMap) -> TraceState {
    let mut kept: Vec<(&str, &str)> = Vec::new();
    for (key, value) in members(headers, "tracestate").filter_map(member) {
        if kept.len() == MAX_MEMBERS {
            break;
        }
        // Of two with the same key, the first is the later one.
        if kept.iter().all(|(known, _)| *known != key) {
            kept.push((key, value));
        }
    }
    let size = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    let length = |kept: &[_]| kept.iter().map(size).sum::<usize>() + kept.len().saturating_sub(1);
    // A single member may have 513 characters.
    while kept.len() > 1 && length(&kept) > MAX_LENGTH {
        let long = kept.iter().rposition(|member| size(member) > LONG_MEMBER);
        kept.remove(long.unwrap_or(kept.len() - 1));
    }
    TraceState::from_key_value(kept).unwrap_or_default()
}

/// Returns the key and the value of a member.
fn member(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let starts_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = |byte: u8| starts_key(byte) || b"_-*/@".contains(&byte);
    let is_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    let well_formed = key.bytes().next().is_some_and(starts_key)
        && key.bytes().all(is_key)
        && value.bytes().all(is_value)
        && !value.is_empty()
        && key.len() <= MAX_WORD
        && value.len() <= MAX_WORD;
    // The SDK refuses some keys that level 2 allows: those with several `@`, or more than 13 characters
    // behind one. It would refuse the others with them.
    let holds = || TraceState::from_key_value([(key, value)]).is_ok();
    (well_formed && holds()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SPAN, TRACE, parent, trace_of};
    use super::*;

    fn own() -> String {
        format!("00-{TRACE}-{SPAN}-01")
    }

    #[test]
    fn well_formed_traceparent_is_the_parent() {
        for (traceparent, sampled) in [
            (own(), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-02"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            // Flags that mean nothing yet.
            (format!("00-{TRACE}-{SPAN}-09"), true),
            (format!("00-{TRACE}-{SPAN}-ff"), true),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            // Later versions, with more fields and without.
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
            (format!("cc-{TRACE}-{SPAN}-00-.=, "), false),
            (format!("cc-{TRACE}-{SPAN}-01-"), true),
            (format!("fe-{TRACE}-{SPAN}-01"), true),
            // Space around it.
            (format!(" {}", own()), true),
            (format!("\t{}", own()), true),
            (format!("{} ", own()), true),
            (format!("{}\t", own()), true),
            (format!("\t {} \t", own()), true),
        ] {
            let context = parent(&[("traceparent", &traceparent)]);
            assert_eq!(trace_of(&context).as_deref(), Some(TRACE), "{traceparent:?}");
            let span = context.span().span_context().clone();
            assert_eq!(span.span_id().to_string(), SPAN, "{traceparent:?}");
            assert_eq!(span.is_sampled(), sampled, "{traceparent:?}");
            assert!(span.is_remote());
        }
    }

    #[test]
    fn unknown_flags_are_cleared_and_the_random_one_is_kept() {
        for (flags, kept) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0)] {
            let context = parent(&[("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}"))]);
            assert_eq!(context.span().span_context().trace_flags().to_u8(), kept, "{flags}");
        }
    }

    #[test]
    fn malformed_traceparent_is_ignored() {
        for malformed in [
            String::new(),
            "00".into(),
            "-".repeat(4),
            own()[..54].into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            // More behind version 00, or behind a later one without a dash.
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("00-{TRACE}-{SPAN}-01-what-comes-later"),
            format!("cc-{TRACE}-{SPAN}-01.what-comes-later"),
            format!("cc-{TRACE}-{SPAN}-011"),
            format!("cc-{TRACE}-{SPAN}"),
            // The version.
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01-what-comes-later"),
            format!("FE-{TRACE}-{SPAN}-01"),
            format!(".0-{TRACE}-{SPAN}-01"),
            format!("0.-{TRACE}-{SPAN}-01"),
            format!("+0-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("0000-{TRACE}-{SPAN}-01"),
            format!("-{TRACE}-{SPAN}-01"),
            // The id of the trace.
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-.{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}.-{SPAN}-01", &TRACE[1..]),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00--{SPAN}-01"),
            // The id of the span.
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-.{}-01", &SPAN[1..]),
            format!("00-{TRACE}-{}.-01", &SPAN[1..]),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("00-{TRACE}-{SPAN}0-01"),
            format!("00-{TRACE}--01"),
            // The flags.
            format!("00-{TRACE}-{SPAN}-.0"),
            format!("00-{TRACE}-{SPAN}-0."),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-001"),
            // Other separators.
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00 {TRACE} {SPAN} 01"),
            format!("00-{TRACE}-{SPAN} -01"),
            format!("00-{TRACE}-{SPAN}-0١"),
            format!("cc-{TRACE}-{SPAN}-01-später"),
            format!("{},{}", own(), own()),
        ] {
            let headers = [("traceparent", malformed.as_str()), ("tracestate", "a=1")];
            let context = parent(&headers);
            assert_eq!(trace_of(&context), None, "{malformed}");
            assert_eq!(context.span().span_context().trace_state().header(), "", "{malformed}");
        }
    }

    #[test]
    fn two_traceparents_are_none() {
        let (own, other) = (own(), format!("00-{}-{SPAN}-01", "1".repeat(32)));
        for second in [own.as_str(), &other, ""] {
            let headers = [("traceparent", own.as_str()), ("traceparent", second)];
            assert_eq!(trace_of(&parent(&headers)), None, "{second}");
        }
    }

    #[test]
    fn tracestate_without_traceparent_is_ignored() {
        for state in ["a=1", "a=1,b=2"] {
            let context = parent(&[("tracestate", state)]);
            assert_eq!(context.span().span_context().trace_state().header(), "");
        }
    }

    /// Reads a `tracestate` that comes in several headers. It never costs the parent.
    fn state(values: &[&str]) -> String {
        let own = own();
        let states = values.iter().map(|value| ("tracestate", *value));
        let headers: Vec<_> = [("traceparent", own.as_str())].into_iter().chain(states).collect();
        let context = parent(&headers);
        assert_eq!(trace_of(&context).as_deref(), Some(TRACE), "{values:?}");
        context.span().span_context().trace_state().header()
    }

    #[test]
    fn tracestate_is_read_member_by_member() {
        let all_values: String =
            (' '..='~').filter(|character| !",=".contains(*character)).collect();
        let every = format!("abcdefghijklmnopqrstuvwxyz0123456789_-*/={all_values}");
        let tenant = format!("abcdefghijklmnopqrstuvwxyz0123456789_-*/@a-z0-9_-*/={all_values}");
        for (values, kept) in [
            (&["foo=1,bar=2"][..], "foo=1,bar=2"),
            // Several headers are one list, in their order; empty members are allowed.
            (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
            (&[""], ""),
            (&["foo=1", ""], "foo=1"),
            (&["", "foo=1"], "foo=1"),
            (&["foo=1,,bar=2,", " , \t,baz=3"], "foo=1,bar=2,baz=3"),
            // Space around members.
            (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
            (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
            (&[" foo=1"], "foo=1"),
            (&["\tfoo=1"], "foo=1"),
            (&["foo=1 "], "foo=1"),
            (&["\t foo=1 \t"], "foo=1"),
            // A value keeps the space at its start.
            (&["foo=  1  ,bar=2"], "foo=  1,bar=2"),
            (&[every.as_str()], every.as_str()),
            (&[tenant.as_str()], tenant.as_str()),
            (&["0=1,1a=2,a@=3"], "0=1,1a=2,a@=3"),
            // Of a key that comes twice, the first place is the latest.
            (&["foo=1,foo=1"], "foo=1"),
            (&["foo=1,bar=3,foo=2"], "foo=1,bar=3"),
            (&["foo=1", "foo=2"], "foo=1"),
            // Malformed keys.
            (&["foo =1,bar=2"], "bar=2"),
            (&["FOO=1,bar=2"], "bar=2"),
            (&["foo.bar=1,bar=2"], "bar=2"),
            (&["@foo=1,bar=2"], "bar=2"),
            (&["-foo=1,_foo=1,*foo=1,/foo=1,bar=2"], "bar=2"),
            (&["=1,bar=2"], "bar=2"),
            (&["föö=1,bar=2"], "bar=2"),
            (&["foo,bar=2"], "bar=2"),
            // Malformed values.
            (&["foo=1=2,bar=2"], "bar=2"),
            (&["foo==1,bar=2"], "bar=2"),
            (&["foo=,bar=2"], "bar=2"),
            (&["foo=  ,bar=2"], "bar=2"),
            (&["foo=a\tb,bar=2"], "bar=2"),
            (&["foo=ö,bar=2"], "bar=2"),
            (&["??,="], ""),
            // Allowed by level 2, but the SDK cannot hold them.
            (&["foo@bar@baz=1,foo@@bar=1,bar=2"], "bar=2"),
        ] {
            assert_eq!(state(values), kept, "{values:?}");
        }
    }

    #[test]
    fn tracestate_is_cut_between_members_and_never_lost() {
        let numbered = |count: usize| -> Vec<String> {
            (1..=count).map(|number| format!("bar{number:02}={number:02}")).collect()
        };
        let all = |members: &[String]| state(&[members.join(",").as_str()]);
        assert_eq!(all(&numbered(32)), numbered(32).join(","));
        assert_eq!(all(&numbered(33)), numbered(32).join(","));
        assert_eq!(all(&numbered(50)), numbered(32).join(","));
        let in_four: Vec<String> = numbered(33).chunks(10).map(|part| part.join(",")).collect();
        let in_four: Vec<&str> = in_four.iter().map(String::as_str).collect();
        assert_eq!(state(&in_four), numbered(32).join(","));
        // Malformed and empty members do not count.
        let spoilt = format!("{},,FOO=1,{}", "?,".repeat(40), numbered(32).join(","));
        assert_eq!(state(&[&spoilt]), numbered(32).join(","));

        // Keys and values of up to 256 characters.
        let key = |length: usize| "z".repeat(length);
        assert_eq!(state(&["foo=1", &format!("{}=1", key(256))]), format!("foo=1,{}=1", key(256)));
        assert_eq!(state(&["foo=1", &format!("{}=1", key(257))]), "foo=1");
        assert_eq!(state(&["foo=1", &format!("a={}", key(256))]), format!("foo=1,a={}", key(256)));
        assert_eq!(state(&["foo=1", &format!("a={}", key(257))]), "foo=1");
        let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(13));
        assert_eq!(state(&["foo=1", &tenant]), format!("foo=1,{tenant}"));

        // 512 characters in all. The long ones go first, then those at the end.
        let longest = format!("a={},b={}", "x".repeat(252), "y".repeat(255));
        assert_eq!(longest.len(), MAX_LENGTH);
        assert_eq!(state(&[&longest]), longest);
        assert_eq!(state(&[&format!("{longest}y")]), format!("a={}", "x".repeat(252)));
        assert_eq!(state(&[&format!("{longest},c=1")]), format!("a={},c=1", "x".repeat(252)));
        assert_eq!(
            state(&[&format!("c=1,{longest},d=2")]),
            format!("c=1,a={},d=2", "x".repeat(252))
        );
        let medium: Vec<String> = (10..30).map(|i| format!("m{i}={}", "v".repeat(40))).collect();
        assert_eq!(all(&medium), medium[..11].join(","), "11 of 44 characters and 10 commas");
        // One alone may be longer.
        let alone = format!("{}={}", key(256), "v".repeat(256));
        assert_eq!(state(&[&alone]), alone);
        // A header of many thousands of members takes no time.
        let many = (0..100_000).map(|number| format!("k{number}=1,")).collect::<String>();
        assert_eq!(state(&[&many]).split(',').count(), MAX_MEMBERS);
    }
}
