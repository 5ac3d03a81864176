//! The component with a collector beside it, and traces as text to compare.

use std::collections::BTreeSet;

use host::Options;
use host::collector::Collector;
use host::trace::{Attributes, Span, tree};

use crate::expected::assert_expected;
use crate::process::wait;
use crate::root;
use crate::service::{Service, instances_are_reused};

/// Spans that take longer will not come.
const PATIENCE: u64 = 60;

/// Starts a collector on a free port of 127.0.0.1.
///
/// # Panics
/// If there is none.
pub fn collector() -> Collector {
    Collector::start(([127, 0, 0, 1], 0).into(), |_| {}).expect("a collector")
}

/// Starts the service with its spans sent to a collector, and more variables.
pub fn service(collector: &Collector, more: &[(&str, &str)]) -> Service {
    service_at(&collector.endpoint(), more, |_| {})
}

/// Starts the service with its spans sent to an endpoint, more variables and changed options.
pub fn service_at(
    endpoint: &str,
    more: &[(&str, &str)],
    change: impl FnOnce(&mut Options),
) -> Service {
    let own = [("otel_exporter_otlp_endpoint", endpoint), ("collector_allowed_host", endpoint)];
    Service::start_with(&[&own, more].concat(), change)
}

/// Waits until a condition is met, a minute at most.
///
/// # Panics
/// If it is not met in time; `about` gives the message.
pub fn wait_until(done: impl Fn() -> bool, about: impl Fn() -> String) {
    wait(PATIENCE, about, done);
}

/// Waits until a collector has that many spans or more, and returns all of them.
pub fn spans(collector: &Collector, count: usize) -> Vec<Span> {
    wait_until(
        || collector.spans().len() >= count,
        || format!("{count} spans, but {}", collector.spans().len()),
    );
    collector.spans()
}

/// Compares a trace with the file `tests/traces/NAME.txt`: [`crate::expected`]. Values that are never the
/// same twice are replaced by placeholders.
///
/// # Panics
/// If they differ.
pub fn assert_trace(spans: &[Span], name: &str) {
    let path = root().join("tests/traces").join(name).with_extension("txt");
    let text = text(spans);
    if instances_are_reused() {
        return assert_expected(&path, &text);
    }
    // Every request is the first one of its instance.
    let expected = std::fs::read_to_string(&path).expect("an expected trace");
    assert_eq!(text, expected.replace("faas.coldstart = false", "faas.coldstart = true"), "{name}");
}

/// Returns all of a trace as text: its resource, then its tree.
fn text(spans: &[Span]) -> String {
    let resources: BTreeSet<_> = spans.iter().map(|span| span.resource.clone()).collect();
    let scopes: BTreeSet<_> = spans.iter().map(|span| &span.scope).collect();
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!((resources.len(), scopes.len(), traces.len()), (1, 1, 1), "one of each");
    let mut text = format!("resource{}\n", attributes(&spans[0].resource, "\n  "));
    let scope = spans[0].scope.split_whitespace().next().unwrap_or_default();
    text += &format!("scope {scope} <version>\n\n");
    text += &tree(spans, |span| {
        assert!(span.end >= span.start, "time goes on");
        let mut line = format!("{} {}", span.kind, span.name);
        if let Some(error) = &span.error {
            line += &format!("\nERROR {error}");
        }
        line += &attributes(&span.attributes, "\n");
        for (name, of_event) in &span.events {
            line += &format!("\nevent {name}{}", attributes(of_event, "\n  "));
        }
        line
    });
    text
}

fn attributes(attributes: &Attributes, before: &str) -> String {
    attributes
        .iter()
        .map(|(name, value)| format!("{before}{name} = {}", stable(name, value)))
        .collect()
}

/// Returns a value, or a placeholder if it is never the same twice or depends on a version.
fn stable(name: &str, value: &str) -> String {
    match name {
        "faas.instance" | "faas.invocation_id" | "service.instance.id" => {
            let fields: Vec<_> = value.trim_matches('"').split('-').map(str::len).collect();
            assert_eq!(fields, [8, 4, 4, 4, 12], "{name} is no UUID: {value}");
            "<uuid>".into()
        }
        "server.port" => "<port>".into(),
        // A server of the test's own.
        "url.full" => match value.split_once("://127.0.0.1:") {
            Some((scheme, rest)) => {
                let path = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{scheme}://127.0.0.1:<port>{path}")
            }
            None => value.to_owned(),
        },
        "model.version" | "service.version" | "telemetry.sdk.version" => "<version>".into(),
        "user_agent.original" => "<user agent>".into(),
        _ => match value.parse::<f64>() {
            Ok(number) if value.contains('.') && (0.0..=1.0).contains(&number) => "<0 to 1>".into(),
            _ => value.to_owned(),
        },
    }
}
