//! The provider: what makes and exports the spans of one instance.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId, TracerProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracer, SdkTracerProvider};

use crate::export::Export;
use crate::host::{self, Host};
use crate::propagation::Propagation;
use crate::queue::Queue;
use crate::settings::Settings;

/// Makes and exports the spans of one instance.
#[derive(Debug)]
pub struct Telemetry {
    pub(crate) tracer: SdkTracer,
    // Spans are recorded only while it lives.
    _provider: SdkTracerProvider,
    pub(crate) propagation: Propagation,
    pub(crate) excluded_routes: Vec<String>,
    export: Export,
    pub(crate) host: Arc<dyn Host>,
}

impl Telemetry {
    /// Starts tracing for this instance, and logs one line about it.
    ///
    /// `scope` is the name of the instrumentation scope, `version` the service's version.
    ///
    /// # Errors
    /// [`ExporterBuildError`] if the exporter rejects the settings.
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
            settings.endpoint_shown(),
            settings.sampler_name,
            settings.service_name,
        ));
        Ok(Telemetry {
            tracer: provider.tracer_with_scope(scope.build()),
            _provider: provider,
            propagation: Propagation::new(settings),
            excluded_routes: settings.excluded_routes.clone(),
            export,
            host,
        })
    }

    /// True if ended spans wait and no export runs.
    pub fn export_is_due(&self) -> bool {
        self.export.is_due()
    }

    /// Exports all spans that have ended.
    pub async fn export(&self) {
        self.export.run().await;
    }
}

/// Returns the attributes that all spans of an instance share.
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
    // Of two with the same name, the later one counts.
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.map(|(key, value)| KeyValue::new(key, value)))
        .with_attributes(given)
        .build()
}

/// Draws ids from the host.
///
/// The SDK's own generator draws its seed once. In a frozen component, every instance would have that
/// seed, and the same ids.
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
