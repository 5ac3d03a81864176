//! The entry: a request comes in from the host, goes through the pipeline, an answer goes out, and
//! then the request's spans.
//!
//! The one file that knows the host, the HTTP side, the pipeline and tracing.

mod wasi;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use spin_sdk::http::{FullBody, IntoResponse, Request, Response};
use spin_sdk::{http_service, variables, wasip3, wit_bindgen};

use crate::api::{self, BodyKind, Route, ServerTiming};
use crate::problem::Problem;
use crate::response::Prediction;
use crate::settings::{self, Settings};
use self::wasi::Wasi;
use telemetry::settings::{self as telemetry_settings, Tracing};
use telemetry::{Incoming, Span, Telemetry};
use vision::decode::{Decoded, decode};
use vision::letter::Letters;
use vision::pipeline::Pipeline;
use vision::search::Found;

/// Called once, when the component is built: what is in memory after it becomes part of the
/// component.
///
/// Nothing in here may read the environment, a clock or random numbers, or print: whatever is
/// cached of these would be frozen into every instance. (A failure ends the build, so that a panic
/// may print.)
mod preinit {
    #![allow(missing_docs)]
    use std::io::ErrorKind;

    use vision::pipeline::files;

    spin_sdk::wit_bindgen::generate!({
        inline: "package hand-gesture:preinit; world preinit { export wizer-initialize: func(); }",
        runtime_path: "spin_sdk::wit_bindgen::rt",
    });
    struct Preinit;
    impl Guest for Preinit {
        fn wizer_initialize() {
            // Before: the C library gives back what the host has written here, past the allocator
            // that is to know all blocks.
            let mut read =
                files::ALL.map(|name| (name, Some(std::fs::read(format!("/models/{name}")))));
            let load = move || {
                super::Pipeline::load(|wanted| {
                    let file = read.iter_mut().find(|(name, _)| *name == wanted);
                    file.and_then(|(_, file)| file.take())
                        .unwrap_or(Err(ErrorKind::NotFound.into()))
                })
            };
            match freeze::guest::without_leavings(load) {
                Ok(pipeline) => _ = super::PIPELINE.set(pipeline),
                Err(error) => panic!("{error}"),
            }
        }
    }
    export!(Preinit);
}

#[global_allocator]
static ALLOCATOR: freeze::guest::Allocator = freeze::guest::Allocator;

/// The models, frozen into the component.
static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
/// What the settings make of an instance. They can't change while it lives.
static SERVICE: OnceLock<Service> = OnceLock::new();
/// Whether the instance has had a request.
static WARM: AtomicBool = AtomicBool::new(false);

struct Service {
    settings: Settings,
    /// None where tracing is off.
    telemetry: Option<Telemetry>,
}

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let started = SystemTime::now();
    let cold_start = !WARM.swap(true, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let route = api::route(&head.method, head.uri.path());
    // Before anything is awaited: the host looks when the guest first waits.
    let busy = matches!(route, Ok(Route::Predict)).then(Busy::new);
    let Service { settings, telemetry } = service().await;
    let span = telemetry.as_ref().map_or(Span::none(), |telemetry| {
        let Parts { method, uri, headers, .. } = &head;
        let route = api::known_path(uri.path());
        telemetry.server_span(Incoming { method, uri, headers, route, started, cold_start })
    });
    let response = match answer(route, &head, body, settings, telemetry.is_some(), &span).await {
        Ok(response) => response,
        Err(problem) => {
            if let Problem::Internal(reason) = &problem {
                eprintln!("error: {reason}");
            }
            problem.response(span.trace_id())
        }
    };
    drop(busy);
    let mut response = api::finish(&head.method, &head.headers, settings, response);
    span.respond(&mut response);
    drop(span);
    if let Some(telemetry) = telemetry
        && telemetry.export_is_due()
    {
        wasip3::spawn(async {
            // Let the response go first: encoding spans would keep the caller waiting.
            wit_bindgen::yield_async().await;
            telemetry.export().await;
        });
    }
    Ok::<Response<FullBody<Bytes>>, spin_sdk::http::Error>(response.map(FullBody::new))
}

/// Settings and telemetry, made with the instance's first request.
async fn service() -> &'static Service {
    if let Some(service) = SERVICE.get() {
        return service;
    }
    let environment = wasip3::cli::environment::get_environment();
    let mut values = Vec::new();
    for name in settings::NAMES.into_iter().chain(telemetry_settings::NAMES) {
        // An undefined variable is unset, as is one that the manifest leaves out.
        let variable = variables::get(name).await.ok().filter(|value| !value.trim().is_empty());
        let in_environment = || {
            let name = name.to_ascii_uppercase();
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        if let Some(value) = variable.or_else(in_environment) {
            values.push((name, value));
        }
    }
    let lookup = |name: &str| {
        values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    SERVICE.get_or_init(|| {
        let (settings, complaints) = Settings::read(lookup);
        let (tracing, more_complaints) = Tracing::read(api::NAME, lookup);
        for complaint in complaints.iter().chain(&more_complaints) {
            eprintln!("warning: {complaint}");
        }
        Service { settings, telemetry: telemetry(&tracing) }
    })
}

fn telemetry(tracing: &Tracing) -> Option<Telemetry> {
    let settings = match tracing {
        Tracing::On(settings) => settings,
        Tracing::Off { reason } => {
            let (name, version) = (api::NAME, api::VERSION);
            eprintln!("info: traces: off, since {reason}; service {name} {version}");
            return None;
        }
    };
    Telemetry::start(settings, api::NAME, api::VERSION, Arc::new(Wasi))
        .inspect_err(|error| eprintln!("warning: traces: off: {error}"))
        .ok()
}

async fn answer<B>(
    route: Result<Route, Problem>,
    head: &Parts,
    body: B,
    settings: &Settings,
    tracing: bool,
    span: &Span,
) -> Result<Response<Bytes>, Problem>
where
    B: http_body_util::BodyExt<Data = Bytes> + Unpin,
{
    match route? {
        Route::Index => Ok(api::index()),
        Route::Health => {
            let span = span.child("health_check");
            span.set("health.status", "ok");
            span.set("operation.success", true);
            Ok(api::health(tracing))
        }
        Route::OpenApi => Ok(api::openapi()),
        Route::Options { allow } => Ok(api::options(allow)),
        Route::Predict => {
            let kind = BodyKind::of(&head.headers, settings.max_body_bytes)?;
            let body = read(body, settings.max_body_bytes).await?;
            let photo = kind.photo(body).await?;
            let span = span.child("asl_prediction");
            if let Some(user) = settings.user_id(&head.headers) {
                span.set("prediction.user_id", user);
            }
            let response = predict(&photo, settings, &span);
            span.set("operation.success", response.is_ok());
            response.inspect_err(|problem| span.fail(problem.kind(), &problem.reason()))
        }
    }
}

/// Photo in, letter out.
fn predict(photo: &[u8], settings: &Settings, span: &Span) -> Result<Response<Bytes>, Problem> {
    let pipeline = PIPELINE.get().ok_or_else(|| {
        Problem::Internal(
            "this component has no models: build it with `spin build` or `cargo xtask build`"
                .into(),
        )
    })?;
    let mut stages = Stages { timing: ServerTiming::default(), span };
    let decoded = stages.run("image_preprocessing", |span| {
        span.set("image.size_bytes", photo.len() as i64);
        let decoded = decode(photo, settings.max_pixels)?;
        describe_photo(span, &decoded);
        Ok(decoded)
    })?;
    let found = stages.run("landmark_detection", |span| {
        let found = pipeline.find_hand(&decoded.photo, &mut ())?;
        describe_search(span, &found);
        Ok(found)
    })?;
    let letters = match &found.hand {
        None => None,
        Some(hand) => stages.run("model_inference", |span| {
            let letters = pipeline.read_letter(hand)?;
            let model = pipeline.version();
            span.set("model.name", model.name.clone());
            span.set("model.version", model.version.clone());
            describe_letters(span, letters.as_ref());
            Ok(letters)
        })?,
    };
    let mut response = stages.run("response_formatting", |_| {
        let answer = found.hand.as_ref().zip(letters);
        let threshold = settings.low_confidence_threshold;
        let mut prediction = Prediction::new(&decoded.photo, answer, threshold, pipeline.version());
        span.set("prediction.hand_detected", prediction.hand.is_some());
        span.set("prediction.confidence", decimal(prediction.confidence));
        span.set("prediction.low_confidence", prediction.low_confidence);
        if let Some(label) = &prediction.prediction {
            span.set("prediction.label", label.clone());
        }
        prediction.trace_id = span.trace_id();
        Ok(api::json_response(&prediction))
    })?;
    stages.timing.write(response.headers_mut());
    Ok(response)
}

fn describe_photo(span: &Span, decoded: &Decoded) {
    let (width, height) = decoded.source_size;
    span.set("image.format", decoded.format.media_type());
    span.set("image.source_width", i64::from(width));
    span.set("image.source_height", i64::from(height));
    span.set("image.orientation", i64::from(decoded.orientation));
    span.set("image.width", decoded.photo.width() as i64);
    span.set("image.height", decoded.photo.height() as i64);
}

fn describe_search(span: &Span, found: &Found) {
    span.set("hands.found", i64::from(found.hand.is_some()));
    span.set("palm_detection.passes", i64::from(found.passes.palm));
    span.set("palm_detection.score", decimal(found.palm_score));
    span.set("landmarks.passes", i64::from(found.passes.landmarks));
    if let Some(hand) = &found.hand {
        span.set("hand.presence", decimal(hand.presence));
        span.set("hand.handedness", hand.handedness.name());
        span.set("hand.handedness_score", decimal(hand.handedness_score));
    }
}

fn describe_letters(span: &Span, letters: Option<&Letters>) {
    if let Some(best) = letters.and_then(|letters| letters.guesses.first()) {
        span.set("prediction.label", best.label.clone());
        span.set("prediction.confidence", decimal(best.confidence));
    }
}

/// The number that the JSON shows: 0.9 of 32 bits would be 0.8999999761581421 of 64.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// The stages of a prediction: each is timed for the caller and is a span for the operator.
struct Stages<'a> {
    timing: ServerTiming,
    span: &'a Span,
}

impl Stages<'_> {
    fn run<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Span) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let start = Instant::now();
        let span = self.span.child(name);
        let done = work(&span);
        if let Err(problem) = &done {
            span.fail(problem.kind(), &problem.reason());
        }
        self.timing.add(name, start.elapsed().as_secs_f64() * 1000.0);
        done
    }
}

/// Reads a body; stops as soon as it is larger than the limit.
async fn read<B>(mut body: B, limit: u64) -> Result<Bytes, Problem>
where
    B: http_body_util::BodyExt<Data = Bytes> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Problem::CutOff) };
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(Problem::TooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// While this lives, the host gives the instance no further request but takes another instance.
///
/// A guest has one thread: two predictions in one instance would run one after the other while
/// another core is idle. Measured on two cores with four requests of 300 ms at once: 0.5 to 0.6 s
/// when this is made before the first `.await`, 1.3 s (all in one instance) when after it.
struct Busy;

impl Busy {
    fn new() -> Busy {
        wit_bindgen::backpressure_inc();
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        wit_bindgen::backpressure_dec();
    }
}
