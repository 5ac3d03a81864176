//! A span as a value.
//!
//! Requests take turns in one instance, so a "current" span would be another request's. A [`Span`] is
//! passed on instead, and [`Span::child`] is the only way to a parent.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::SystemTime;

use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

/// Longest message of an error that is recorded, in characters: a queue full of spans has to stay small.
const MAX_MESSAGE: usize = 1000;

/// A span, or nothing where there is no tracing. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Inner>);

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    context: Context,
}

impl Span {
    /// Returns no span. Everything that is done with it has no effect.
    pub fn none() -> Span {
        Span(None)
    }

    pub(crate) fn start(
        tracer: &SdkTracer,
        parent: &Context,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        started: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let span = tracer
            .span_builder(name)
            .with_kind(kind)
            .with_start_time(started)
            .with_attributes(attributes)
            .start_with_context(tracer, parent);
        Span(Some(Inner { tracer: tracer.clone(), context: parent.with_span(span) }))
    }

    /// Starts a span of kind INTERNAL within this one; none if this one is not recorded.
    pub fn child(&self, name: &'static str) -> Span {
        self.child_of_kind(SpanKind::Internal, name, Vec::new())
    }

    pub(crate) fn child_of_kind(
        &self,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        attributes: Vec<KeyValue>,
    ) -> Span {
        match self.recording() {
            Some(Inner { tracer, context }) => {
                Span::start(tracer, context, name, kind, SystemTime::now(), attributes)
            }
            None => Span(None),
        }
    }

    /// True if the span is recorded: there is tracing and the trace is sampled.
    ///
    /// Ask before anything is computed for [`set`](Span::set) alone.
    pub fn is_recording(&self) -> bool {
        self.recording().is_some()
    }

    /// Sets an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(inner) = self.recording() {
            inner.context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the span as failed, and records the error as an event `exception`.
    ///
    /// `kind` is the value of `error.type`: one of few words.
    pub fn fail(&self, kind: &'static str, error: &dyn Display) {
        let Some(inner) = self.recording() else { return };
        let message: String = error.to_string().chars().take(MAX_MESSAGE).collect();
        let span = inner.context.span();
        span.add_event(
            "exception",
            vec![
                KeyValue::new("exception.type", kind),
                KeyValue::new("exception.message", message.clone()),
            ],
        );
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(message));
    }

    /// Returns the trace's id, 32 hexadecimal digits; also of a trace that is not sampled.
    pub fn trace_id(&self) -> Option<String> {
        Some(self.context()?.span().span_context().trace_id().to_string())
    }

    pub(crate) fn context(&self) -> Option<&Context> {
        self.0.as_ref().map(|inner| &inner.context)
    }

    fn recording(&self) -> Option<&Inner> {
        self.0.as_ref().filter(|inner| inner.context.span().is_recording())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = self.context() {
            context.span().end();
        }
    }
}
