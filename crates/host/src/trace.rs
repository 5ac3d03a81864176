//! Exported spans as text: a trace as a tree.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self, ResourceSpans, ScopeSpans, span::SpanKind};
use prost::Message;

/// Attributes by name. Strings are in quotes, other values are not.
pub type Attributes = BTreeMap<String, String>;

/// An exported span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; empty for a span without a parent.
    pub parent_span_id: String,
    /// The `tracestate` header that came with its parent.
    pub trace_state: String,
    /// Its name.
    pub name: String,
    /// Its kind: `SERVER`, `INTERNAL` and so on.
    pub kind: &'static str,
    /// Its start, in nanoseconds since 1970.
    pub start: u64,
    /// Its end, in nanoseconds since 1970.
    pub end: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its events: name and attributes.
    pub events: Vec<(String, Attributes)>,
    /// The description of its error; `None` without error.
    pub error: Option<String>,
    /// The attributes of its resource.
    pub resource: Arc<Attributes>,
    /// Name and version of its instrumentation scope.
    pub scope: String,
}

impl Span {
    /// Returns the time from its start to its end.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }
}

/// Returns the body of an export, in protobuf: one span of a service, which bears the service's name and ends
/// now.
pub fn export_of_one(service: &str, trace_id: u128) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = Value::StringValue(service.to_owned());
    let name = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(name) }),
        ..KeyValue::default()
    };
    let span = v1::Span {
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: (trace_id as u64).to_be_bytes().to_vec(),
        name: service.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: (now - Duration::from_millis(1)).as_nanos() as u64,
        end_time_unix_nano: now.as_nanos() as u64,
        ..v1::Span::default()
    };
    let resource = Resource { attributes: vec![name], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let of_resource =
        ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![of_resource] }.encode_to_vec()
}

/// Returns all spans of an export.
pub(crate) fn spans(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in export.resource_spans {
        let resource = of_resource.resource.map(|resource| resource.attributes);
        let resource = Arc::new(attributes(&resource.unwrap_or_default()));
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap_or_default();
            let scope = format!("{} {}", scope.name, scope.version);
            spans.extend(of_scope.spans.into_iter().map(|span| {
                Span {
                    kind: span.kind().as_str_name().trim_start_matches("SPAN_KIND_"),
                    trace_id: hexadecimal(&span.trace_id),
                    span_id: hexadecimal(&span.span_id),
                    parent_span_id: hexadecimal(&span.parent_span_id),
                    trace_state: span.trace_state,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: attributes(&span.attributes),
                    events: span
                        .events
                        .into_iter()
                        .map(|event| (event.name, attributes(&event.attributes)))
                        .collect(),
                    error: span
                        .status
                        .filter(|status| status.code() == StatusCode::Error)
                        .map(|status| status.message),
                    name: span.name,
                    resource: resource.clone(),
                    scope: scope.clone(),
                }
            }));
        }
    }
    spans
}

fn attributes(list: &[KeyValue]) -> Attributes {
    list.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref()))).collect()
}

/// Returns a value as text: strings in quotes, everything else without.
fn value(any: Option<&AnyValue>) -> String {
    match any.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => format!("{text:?}"),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        // With a decimal point, unlike an integer.
        Some(Value::DoubleValue(value)) => format!("{value:?}"),
        other => format!("{other:?}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the spans of one trace as a tree, children in the order of their start. `line` returns the
/// text of a span; its first line stands at the branch.
pub fn tree(spans: &[Span], line: impl Fn(&Span) -> String) -> String {
    let known: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut text = String::new();
    let roots = sorted(spans, |span| !known.contains(span.parent_span_id.as_str()));
    for root in roots {
        branch(&mut text, spans, root, ["", "", ""], &line);
    }
    text
}

/// Writes a span and its children. The prefixes: of the lines above, of the span's first line, and of
/// the lines below.
fn branch(
    text: &mut String,
    spans: &[Span],
    span: &Span,
    [before, first, rest]: [&str; 3],
    line: &impl Fn(&Span) -> String,
) {
    let children = sorted(spans, |child| child.parent_span_id == span.span_id);
    let below = format!("{before}{rest}");
    for (number, part) in line(span).lines().enumerate() {
        let bar = if children.is_empty() { "  " } else { "│ " };
        _ = match number {
            0 => writeln!(text, "{before}{first}{part}"),
            _ => writeln!(text, "{below}{bar}{part}"),
        };
    }
    for (number, child) in children.iter().enumerate() {
        let shape =
            if number + 1 < children.len() { ["├─ ", "│  "] } else { ["└─ ", "   "] };
        branch(text, spans, child, [&below, shape[0], shape[1]], line);
    }
}

fn sorted(spans: &[Span], which: impl Fn(&Span) -> bool) -> Vec<&Span> {
    let mut chosen: Vec<&Span> = spans.iter().filter(|span| which(span)).collect();
    chosen.sort_by_key(|span| span.start);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str, start: u64) -> Span {
        Span {
            trace_id: "t".into(),
            span_id: id.into(),
            parent_span_id: parent.into(),
            trace_state: String::new(),
            name: id.into(),
            kind: "SERVER",
            start,
            end: start + 1,
            attributes: Attributes::new(),
            events: Vec::new(),
            error: None,
            resource: Arc::default(),
            scope: String::new(),
        }
    }

    #[test]
    fn export_of_one_is_read_back() {
        let body = export_of_one("doctor", 0x12);
        let export = ExportTraceServiceRequest::decode(&*body).expect("an export");
        let [span] = &spans(export)[..] else { panic!("one span") };
        let ids = (span.trace_id.as_str(), span.span_id.as_str());
        assert_eq!(ids, ("00000000000000000000000000000012", "0000000000000012"));
        assert_eq!(span.resource["service.name"], "\"doctor\"");
        assert_eq!((span.name.as_str(), span.kind), ("doctor", "INTERNAL"));
        assert_eq!(span.duration().as_millis(), 1);
    }

    #[test]
    fn tree_branches_are_in_order_of_start() {
        let spans = [
            span("c", "b", 4),
            span("b", "a", 2),
            span("e", "a", 5),
            span("a", "outside", 1),
            span("d", "b", 3),
        ];
        let text = tree(&spans, |span| format!("{}\nmore", span.name));
        let expected = "\
a
│ more
├─ b
│  │ more
│  ├─ d
│  │    more
│  └─ c
│       more
└─ e
     more
";
        assert_eq!(text, expected);
    }
}
