//! Tracing: spans of the OpenTelemetry SDK, made in a component and sent by OTLP over HTTP.
//!
//! What is here knows nothing of photos and letters. A request's root span is made from its head
//! ([`Telemetry::server_span`]), everything below it by [`Span::child`]; a [`Span`] is passed on as
//! a value, since up to 16 requests take turns in one instance and nothing may be kept "current"
//! while another one runs. Ended spans wait in a [`queue`]; after the response the entry runs
//! [`Telemetry::export`].

pub mod export;
pub mod host;
pub mod queue;
mod server;
pub mod settings;
pub mod values;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::{
    SpanId, SpanKind, Status, TraceContextExt, TraceId, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracer, SdkTracerProvider};

use export::Export;
use host::Host;
use queue::Queue;
pub use server::Incoming;
use settings::Settings;

/// Makes and exports the spans of one instance.
#[derive(Debug)]
pub struct Telemetry {
    tracer: SdkTracer,
    // Spans are made only while it lives.
    _provider: SdkTracerProvider,
    propagator: TextMapCompositePropagator,
    excluded_routes: Vec<String>,
    export: Export,
    host: Arc<dyn Host>,
}

impl Telemetry {
    /// Tracing for this instance; says so in the log. `scope` names the instrumentation scope,
    /// `version` is the service's.
    ///
    /// # Errors
    /// What the exporter doesn't take of the settings.
    pub fn start(
        settings: &Settings,
        scope: &'static str,
        version: &'static str,
        host: Arc<dyn Host>,
    ) -> Result<Telemetry, ExporterBuildError> {
        let resource = resource(settings, version, &*host);
        let queue = Queue::new(settings.queue_size);
        let export = Export::new(settings, &resource, queue.clone(), host.clone())?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler.clone())
            .with_id_generator(RandomIds(host.clone()))
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(scope).with_version(version);
        host.log(format_args!(
            "info: traces: on, to {}, sampler {}, service {} {version}",
            settings.endpoint, settings.sampler_name, settings.service_name,
        ));
        Ok(Telemetry {
            tracer: provider.tracer_with_scope(scope.build()),
            _provider: provider,
            propagator: server::propagator(settings),
            excluded_routes: settings.excluded_routes.clone(),
            export,
            host,
        })
    }

    /// Whether spans wait that nothing exports yet.
    pub fn export_is_due(&self) -> bool {
        self.export.is_due()
    }

    /// Exports all spans that have ended.
    pub async fn export(&self) {
        self.export.run().await;
    }
}

/// The resource: what is the same for all spans of an instance.
fn resource(settings: &Settings, version: &'static str, host: &dyn Host) -> Resource {
    let instance = settings.service_instance_id.clone().unwrap_or_else(|| host::uuid(host));
    let own = [
        ("service.version", version.to_owned()),
        ("service.name", settings.service_name.clone()),
        ("service.instance.id", instance.clone()),
        ("faas.name", settings.faas_name.clone()),
        ("faas.instance", instance),
    ];
    let given =
        settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    // The later one of two of the same name counts.
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.map(|(key, value)| KeyValue::new(key, value)))
        .with_attributes(given)
        .build()
}

/// Ids from the host's random source.
///
/// The SDK's own generator draws its seed once: a snapshot would freeze it into every instance.
#[derive(Debug)]
struct RandomIds(Arc<dyn Host>);

impl IdGenerator for RandomIds {
    fn new_trace_id(&self) -> TraceId {
        let half = || u128::from(self.0.random());
        // All zeros is not an id (W3C Trace Context).
        TraceId::from((half() << 64 | half()).max(1))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.0.random().max(1))
    }
}

/// A span, or nothing where there is no tracing. It ends when this is dropped.
#[derive(Debug)]
pub struct Span(Option<Recording>);

#[derive(Debug)]
struct Recording {
    tracer: SdkTracer,
    context: Context,
}

impl Span {
    /// No span: everything that is done with it does nothing.
    pub fn none() -> Span {
        Span(None)
    }

    fn start(
        tracer: &SdkTracer,
        parent: &Context,
        name: impl Into<std::borrow::Cow<'static, str>>,
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
        Span(Some(Recording { tracer: tracer.clone(), context: parent.with_span(span) }))
    }

    /// What goes on within this span.
    pub fn child(&self, name: &'static str) -> Span {
        match self.recording() {
            Some(Recording { tracer, context }) => {
                let now = SystemTime::now();
                Span::start(tracer, context, name, SpanKind::Internal, now, Vec::new())
            }
            None => Span(None),
        }
    }

    /// Sets an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(recording) = self.recording() {
            recording.context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the span as failed, and records the exception. `kind` is one of few (`error.type`).
    pub fn fail(&self, kind: &'static str, error: &dyn fmt::Display) {
        let Some(recording) = self.recording() else { return };
        let message = error.to_string();
        let span = recording.context.span();
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

    /// The id of the trace, 32 hexadecimal digits; also of one that is not sampled.
    pub fn trace_id(&self) -> Option<String> {
        let recording = self.0.as_ref()?;
        Some(recording.context.span().span_context().trace_id().to_string())
    }

    /// The span's context and tracer, if it is sampled: nothing else costs anything.
    fn recording(&self) -> Option<&Recording> {
        self.0.as_ref().filter(|recording| recording.context.span().is_recording())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Recording { context, .. }) = &self.0 {
            context.span().end();
        }
    }
}
