//! A collector's answer: what becomes of the spans, and the remedy that the log names.
//!
//! docs/tracing.md lists the answers; a test here compares it with this file.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use http::{StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::Value;

use crate::settings::{Settings, TRACES_PATH, shown};

/// Longest text of a collector that is logged, in characters.
const MAX_TEXT: usize = 1000;
/// Shortest word of a header's value that counts as secret: a shorter one is in every other sentence.
const MIN_SECRET: usize = 4;

/// The fate of the spans after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The collector has them.
    Taken,
    /// They are sent again.
    Retried,
    /// They are dropped: another attempt would fare no better.
    Dropped,
}

/// Returns what a status means for the spans (OTLP specification, "Failures" of OTLP over HTTP).
pub(crate) fn verdict(status: StatusCode) -> Verdict {
    match status {
        _ if status.is_success() => Verdict::Taken,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Retried,
        _ => Verdict::Dropped,
    }
}

/// Returns what to do about an answer that drops spans.
pub(crate) fn remedy(status: StatusCode, headers: &HeaderMap, settings: &Settings) -> String {
    let Settings { endpoint_setting, headers_setting, batch_size, .. } = settings;
    let (url, batch) = (settings.endpoint_shown(), "otel_bsp_max_export_batch_size");
    match status.as_u16() {
        300..400 => match location(headers, settings) {
            Some(place) => format!(
                "it sends requests on to {place:?}, which this service does not follow: if a \
                 collector is there, set otel_exporter_otlp_traces_endpoint to it"
            ),
            None => format!("it sends requests elsewhere: check {endpoint_setting}"),
        },
        400 if settings.endpoint.scheme_str() == Some("http") => format!(
            "it cannot read the request: check that a collector takes OTLP over HTTP there, and that \
             it is not https ({endpoint_setting})"
        ),
        401 | 407 if settings.headers.is_empty() => {
            format!("it asks for credentials: set {headers_setting}")
        }
        401 | 407 => format!("it refuses the credentials: check {headers_setting}"),
        403 => format!(
            "check the credentials ({headers_setting}), and the rules of a proxy or mesh between"
        ),
        404 | 405 | 410 => {
            let path = match *endpoint_setting {
                "otel_exporter_otlp_traces_endpoint" => format!(
                    "nothing is appended to {endpoint_setting}, and most collectors take spans at \
                     {TRACES_PATH}"
                ),
                _ => format!("{TRACES_PATH} is appended to {endpoint_setting}"),
            };
            format!("nothing takes spans at {url}: {path}")
        }
        408 => format!("the request took too long: lower {batch} ({batch_size} now)"),
        411 => format!(
            "it got no Content-Length, which a proxy between must have removed: check \
             {endpoint_setting}"
        ),
        413 => {
            let gzip = if settings.gzip { "" } else { ", set otel_exporter_otlp_compression=gzip" };
            format!(
                "lower {batch} ({batch_size} now){gzip}, or raise the limit of the collector or of \
                 a proxy before it"
            )
        }
        415 if settings.gzip => {
            "it may not take gzip: set otel_exporter_otlp_compression=none".to_owned()
        }
        415 => format!(
            "it does not take protobuf: check that a collector takes OTLP over HTTP there \
             ({endpoint_setting})"
        ),
        426 | 505 => format!(
            "it wants another version of HTTP: check that it is not the port of gRPC \
             ({endpoint_setting})"
        ),
        431 => format!("shorten {headers_setting}"),
        400..=499 | 501 => format!(
            "check that a collector takes OTLP over HTTP there ({endpoint_setting}), and see its log"
        ),
        _ => "see the collector's log".to_owned(),
    }
}

/// Returns the place that a redirection names, without what may be secret; `None` if it names none.
fn location(headers: &HeaderMap, settings: &Settings) -> Option<String> {
    let uri: Uri = headers.get(LOCATION)?.to_str().ok()?.trim().parse().ok()?;
    let mut place = shown(&uri);
    if uri.authority().is_none() {
        // Only a path: of the same host.
        let scheme = settings.endpoint.scheme_str().unwrap_or_default();
        let authority = settings.endpoint.authority()?;
        place = format!("{scheme}://{authority}{place}");
    }
    Some(told(&place, settings))
}

/// Returns a text of the collector as the log shows it: cut, and without the values of headers that it
/// repeats.
pub(crate) fn told(text: &str, settings: &Settings) -> String {
    let mut told = text.to_owned();
    for value in settings.headers.values() {
        let value = String::from_utf8_lossy(value.as_bytes());
        for secret in [&*value].into_iter().chain(value.split_ascii_whitespace()) {
            if secret.len() >= MIN_SECRET {
                told = told.replace(secret, "…");
            }
        }
    }
    // Cut before, the start of a secret could be left at the end.
    told.chars().take(MAX_TEXT).collect()
}

/// Reads `Retry-After` in both of its forms: seconds, or a date (RFC 9110). A fraction of seconds counts;
/// a number too large for any clock is the longest wait. Zero, a past date and anything else are no wait.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let wait = if is_digits(whole) && is_digits(fraction) {
        let seconds: f64 = value.parse().ok()?;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(SystemTime::now()).unwrap_or_default()
    };
    (!wait.is_zero()).then_some(wait)
}

/// The partial success of an accepted request: spans that the collector rejected all the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Their number, as it says.
    pub rejected: i64,
    /// Its message.
    pub message: String,
}

/// Reads the body of an answer, protobuf or JSON; `None` if it is neither.
pub(crate) fn partial(headers: &HeaderMap, body: &[u8]) -> Option<Partial> {
    // Some answer with JSON whatever they are sent.
    if media_type(headers).contains("json") {
        json(body).or_else(|| protobuf(body))
    } else {
        protobuf(body).or_else(|| json(body))
    }
}

fn protobuf(body: &[u8]) -> Option<Partial> {
    let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success;
    Some(partial.map_or_else(Partial::default, |partial| Partial {
        rejected: partial.rejected_spans,
        message: partial.error_message,
    }))
}

fn json(body: &[u8]) -> Option<Partial> {
    let Value::Object(answer) = serde_json::from_slice(body).ok()? else { return None };
    let either = |value: &Value, names: [&str; 2]| {
        names.into_iter().find_map(|name| value.get(name).filter(|value| !value.is_null()).cloned())
    };
    // By the rules of protobuf's JSON, names are read in both styles, and 64 bits are a string.
    let Some(partial) = either(&answer.into(), ["partialSuccess", "partial_success"]) else {
        return Some(Partial::default());
    };
    let rejected = match either(&partial, ["rejectedSpans", "rejected_spans"]) {
        Some(Value::String(text)) => text.trim().parse().unwrap_or(i64::MAX),
        // Larger ones, and fractions, are a number that cannot be.
        Some(Value::Number(number)) => number.as_i64().unwrap_or(i64::MAX),
        _ => 0,
    };
    let message = either(&partial, ["errorMessage", "error_message"]);
    let message = message.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
    Some(Partial { rejected, message })
}

/// True if an answer is a page for people: no collector has seen the spans.
pub(crate) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let is_markup = body.trim_ascii_start().starts_with(b"<");
    is_markup || (media_type(headers).contains("html") && !body.is_empty())
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;
    use crate::settings::Tracing;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let lookup = |name: &str| match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Some((*value).to_owned()),
            None => (name == "jaeger_collector_host").then(|| "jaeger".to_owned()),
        };
        let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
        *settings
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a value");
        HeaderMap::from_iter([(name, value)])
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    #[test]
    fn every_status_has_a_verdict_and_a_remedy() {
        let settings = settings(&[]);
        for code in 200..=999 {
            let expected = match code {
                200..300 => Verdict::Taken,
                429 | 502 | 503 | 504 => Verdict::Retried,
                _ => Verdict::Dropped,
            };
            assert_eq!(verdict(status(code)), expected, "{code}");
            let remedy = remedy(status(code), &HeaderMap::new(), &settings);
            assert!(!remedy.is_empty() && !remedy.ends_with('.'), "{code}: {remedy}");
        }
    }

    #[test]
    fn remedy_names_the_setting_to_change() {
        let host = settings(&[]);
        let hosted = settings(&[
            ("otel_exporter_otlp_traces_endpoint", "https://hosted.example/spans?key=hunter2"),
            ("otel_exporter_otlp_traces_headers", "authorization=Bearer hunter2"),
            ("otel_exporter_otlp_compression", "gzip"),
            ("otel_bsp_max_export_batch_size", "7"),
        ]);
        for (code, on_host, on_hosted) in [
            (301, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
            (
                400,
                "it is not https (jaeger_collector_host)",
                "(otel_exporter_otlp_traces_endpoint)",
            ),
            (401, "set otel_exporter_otlp_headers", "check otel_exporter_otlp_traces_headers"),
            (407, "set otel_exporter_otlp_headers", "check otel_exporter_otlp_traces_headers"),
            (403, "otel_exporter_otlp_headers", "otel_exporter_otlp_traces_headers"),
            (
                404,
                "at http://jaeger:4318/v1/traces: /v1/traces is appended to jaeger_collector_host",
                "at https://hosted.example/spans?…: nothing is appended to \
                 otel_exporter_otlp_traces_endpoint",
            ),
            (405, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
            (408, "otel_bsp_max_export_batch_size (512 now)", "batch_size (7 now)"),
            (411, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
            (413, "otel_exporter_otlp_compression=gzip", "batch_size (7 now), or"),
            (415, "jaeger_collector_host", "otel_exporter_otlp_compression=none"),
            (418, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
            (426, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
            (431, "otel_exporter_otlp_headers", "otel_exporter_otlp_traces_headers"),
            (501, "jaeger_collector_host", "otel_exporter_otlp_traces_endpoint"),
        ] {
            for (settings, expected) in [(&host, on_host), (&hosted, on_hosted)] {
                let remedy = remedy(status(code), &HeaderMap::new(), settings);
                assert!(remedy.contains(expected), "{code}: {remedy}");
                assert!(!remedy.contains("hunter2"), "{code}: {remedy}");
            }
        }
    }

    #[test]
    fn redirection_is_named_without_its_secrets() {
        let settings = settings(&[("otel_exporter_otlp_headers", "x-key=hunter2")]);
        for (value, expected) in [
            ("https://collector.example/v1/traces", "\"https://collector.example/v1/traces\""),
            ("https://someone:hunter3@c/v1/traces?token=hunter4#x", "\"https://c/v1/traces?…\""),
            ("/login?next=%2Fv1", "\"http://jaeger:4318/login?…\""),
            ("https://c/hunter2/v1/traces", "\"https://c/…/v1/traces\""),
        ] {
            for code in [301, 302, 303, 307, 308] {
                let remedy = remedy(status(code), &headers(LOCATION, value), &settings);
                let expected = format!("it sends requests on to {expected}, ");
                assert!(remedy.starts_with(&expected), "{remedy}");
                assert!(!remedy.contains("hunter"), "{remedy}");
            }
        }
        for value in ["", "ht tp://x", "http://[", "https://c:1:2/"] {
            let remedy = remedy(status(302), &headers(LOCATION, value), &settings);
            assert!(remedy.starts_with("it sends requests elsewhere: "), "{value}: {remedy}");
        }
    }

    #[test]
    fn texts_of_the_collector_are_cut_and_repeat_no_secret() {
        let settings = settings(&[("otel_exporter_otlp_headers", "a=Bearer hunter2,b=abc,c=grün")]);
        let text = "token hunter2 in \"Bearer hunter2\" of abc is bad";
        assert_eq!(told(text, &settings), "token … in \"…\" of abc is bad");
        assert_eq!(told(&"é".repeat(MAX_TEXT + 1), &settings), "é".repeat(MAX_TEXT));
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        let wait = |value: &str| retry_after(&headers(RETRY_AFTER, value));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait(" 86400\t"), Some(Duration::from_secs(86400)));
        assert_eq!(wait("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("007"), Some(Duration::from_secs(7)));
        let (max, beyond) = (u64::MAX.to_string(), "18446744073709551616");
        for long in [max.as_str(), beyond, &"9".repeat(400), &format!("{max}.9")] {
            assert_eq!(wait(long), Some(Duration::MAX), "{long}");
        }
        for none in [
            "0",
            "0.0",
            "",
            "-1",
            "+1",
            "1e3",
            "1,5",
            ".5",
            "1.",
            "1.5.1",
            "1 2",
            "soon",
            "inf",
            "NaN",
            "60s",
            "-18446744073709551616",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sat, 01 Jan 0000 00:00:00 GMT",
            "Fri, 31 Feb 2099 00:00:00 GMT",
            "Fri, 31 Dec 9999 24:00:00 GMT",
            "Fri, 31 Dec 99999 23:59:59 GMT",
            "Friday, ",
        ] {
            assert_eq!(wait(none), None, "{none:?}");
        }
        let now = SystemTime::now();
        let near = |value: &str, from_now: u64| {
            let wait = wait(value).unwrap_or_default().as_secs();
            assert!((from_now - 2..=from_now).contains(&wait), "{value}: {wait}");
        };
        near(&httpdate::fmt_http_date(now + Duration::from_secs(100)), 100);
        // The last second that the form can express, in each of its three forms.
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let last = last.duration_since(now).expect("years").as_secs();
        near("Fri, 31 Dec 9999 23:59:59 GMT", last);
        near("Fri Dec 31 23:59:59 9999", last);
        let of_2069 = SystemTime::UNIX_EPOCH + Duration::from_secs(3_155_759_999);
        let of_2069 = of_2069.duration_since(now).expect("years").as_secs();
        near("Tuesday, 31-Dec-69 23:59:59 GMT", of_2069);
        assert_eq!(retry_after(&HeaderMap::new()), None);
        let not_text = HeaderValue::from_bytes(b"1\xff").expect("a value");
        assert_eq!(retry_after(&HeaderMap::from_iter([(RETRY_AFTER, not_text)])), None);
    }

    #[test]
    fn rejected_spans_are_read_from_protobuf_and_json() {
        let none = HeaderMap::new();
        let of_json = headers(CONTENT_TYPE, "application/JSON; charset=utf-8");
        let of_protobuf = headers(CONTENT_TYPE, "application/x-protobuf");
        let said =
            |rejected: i64, message: &str| Some(Partial { rejected, message: message.to_owned() });
        // 123 bytes behind a byte that is a line break: as text, it would begin like JSON.
        let message = "x".repeat(119);
        let partial_success =
            ExportTracePartialSuccess { rejected_spans: 3, error_message: message.clone() };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial_success) };
        let bytes = answer.encode_to_vec();
        assert_eq!(bytes[..2], *b"\n{");
        for headers in [&none, &of_json, &of_protobuf] {
            assert_eq!(partial(headers, &bytes), said(3, &message), "{headers:?}");
            assert_eq!(partial(headers, b""), said(0, ""), "{headers:?}");
            for (text, expected) in [
                ("{}", said(0, "")),
                (" \n{ }\n", said(0, "")),
                (r#"{"partialSuccess":{}}"#, said(0, "")),
                (r#"{"partialSuccess":null}"#, said(0, "")),
                (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#, said(3, "no")),
                (r#"{"partial_success":{"rejected_spans":3,"error_message":"no"}}"#, said(3, "no")),
                (r#"{"partialSuccess":{"rejectedSpans":1e300}}"#, said(i64::MAX, "")),
                (
                    r#"{"partialSuccess":{"rejectedSpans":"18446744073709551615"}}"#,
                    said(i64::MAX, ""),
                ),
                (r#"{"partialSuccess":{"rejectedSpans":"-1"}}"#, said(-1, "")),
                (r#"{"partialSuccess":{"rejectedSpans":[],"errorMessage":7}}"#, said(0, "")),
                (r#"{"partialSuccess":"no"}"#, said(0, "")),
                ("[]", None),
                ("ok", None),
                ("{", None),
                ("<html>", None),
            ] {
                assert_eq!(partial(headers, text.as_bytes()), expected, "{headers:?}: {text}");
            }
            let nested = "[".repeat(60_000);
            assert_eq!(partial(headers, nested.as_bytes()), None);
        }
    }

    #[test]
    fn pages_are_told_from_answers() {
        let html = headers(CONTENT_TYPE, "Text/HTML; charset=utf-8");
        for body in ["<html>", "\n <!DOCTYPE html>", "<?xml version=\"1.0\"?>"] {
            assert!(is_page(&HeaderMap::new(), body.as_bytes()), "{body}");
        }
        assert!(is_page(&html, b"Please log in"));
        assert!(!is_page(&html, b""));
        assert!(!is_page(&HeaderMap::new(), b"ok"));
    }

    /// docs/tracing.md has a row for each status that is treated in its own way, with the verdict of this
    /// file.
    #[test]
    fn documented_verdicts_are_those_of_the_code() {
        let text = include_str!("../../../docs/tracing.md");
        let (_, table) = text.split_once("\n| the collector answers |").expect("the table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let mut documented = Vec::new();
        for row in rows {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let (answers, spans) = (cells.next().unwrap_or_default(), cells.next());
            let codes = answers.split('`').filter_map(|word| word.parse::<u16>().ok());
            for code in codes {
                let word = match verdict(status(code)) {
                    // A page is told by its body.
                    Verdict::Taken if row.contains("HTML") => "dropped",
                    Verdict::Taken => "taken",
                    Verdict::Retried => "sent again",
                    Verdict::Dropped => "dropped",
                };
                assert!(spans.is_some_and(|spans| spans.starts_with(word)), "{row}");
                documented.push(code);
            }
        }
        for code in [
            200, 202, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 407, 408, 410, 411,
            413, 415, 426, 429, 431, 500, 501, 502, 503, 504, 505,
        ] {
            assert!(documented.contains(&code), "{code} is not in docs/tracing.md");
        }
    }
}
