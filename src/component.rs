//! The entry: a request comes in from the host, goes through the pipeline, and an answer goes out.
//!
//! The one file that knows the host, the HTTP side and the pipeline.

use std::sync::OnceLock;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use spin_sdk::http::{FullBody, IntoResponse, Request, Response};
use spin_sdk::{http_service, variables, wit_bindgen};

use crate::api::{self, BodyKind, Route, ServerTiming};
use crate::decode::decode;
use crate::pipeline::Pipeline;
use crate::problem::Problem;
use crate::response::Prediction;
use crate::settings::{self, Settings};

/// Called once, when the component is built: what is in memory after it becomes part of the
/// component.
///
/// Nothing in here may read the environment, a clock or random numbers, or print: whatever is
/// cached of these would be frozen into every instance. (A failure ends the build, so that a panic
/// may print.)
mod preinit {
    #![allow(missing_docs)]
    spin_sdk::wit_bindgen::generate!({
        inline: "package hand-gesture:preinit; world preinit { export wizer-initialize: func(); }",
        runtime_path: "spin_sdk::wit_bindgen::rt",
    });
    struct Preinit;
    impl Guest for Preinit {
        fn wizer_initialize() {
            let read = |name: &str| std::fs::read(format!("/models/{name}"));
            match crate::snapshot::without_leavings(|| super::Pipeline::load(read)) {
                Ok(pipeline) => _ = super::PIPELINE.set(pipeline),
                Err(error) => panic!("{error}"),
            }
        }
    }
    export!(Preinit);
}

/// The models, frozen into the component.
static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
/// The settings, read once for each instance: they can't change while it lives.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let route = api::route(&head.method, head.uri.path());
    // Before anything is awaited: the host looks when the guest first waits.
    let busy = matches!(route, Ok(Route::Predict)).then(Busy::new);
    let settings = settings().await;
    let response = match answer(route, &head, body, settings).await {
        Ok(response) => response,
        Err(problem) => {
            if let Problem::Internal(reason) = &problem {
                eprintln!("error: {reason}");
            }
            problem.response()
        }
    };
    drop(busy);
    let response = api::finish(&head.method, &head.headers, settings, response);
    Ok::<Response<FullBody<Bytes>>, spin_sdk::http::Error>(response.map(FullBody::new))
}

async fn settings() -> &'static Settings {
    if let Some(settings) = SETTINGS.get() {
        return settings;
    }
    let mut values = Vec::new();
    for name in settings::NAMES {
        // An undefined variable has its default, as one that the manifest leaves out.
        if let Ok(value) = variables::get(name).await {
            values.push((name, value));
        }
    }
    let (settings, complaints) = Settings::read(|name| {
        values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    });
    SETTINGS.get_or_init(|| {
        complaints.iter().for_each(|complaint| eprintln!("warning: {complaint}"));
        settings
    })
}

async fn answer<B>(
    route: Result<Route, Problem>,
    head: &Parts,
    body: B,
    settings: &Settings,
) -> Result<Response<Bytes>, Problem>
where
    B: http_body_util::BodyExt<Data = Bytes> + Unpin,
{
    match route? {
        Route::Index => Ok(api::index()),
        Route::Health => Ok(api::health(false)),
        Route::OpenApi => Ok(api::openapi()),
        Route::Options { allow } => Ok(api::options(allow)),
        Route::Predict => {
            let kind = BodyKind::of(&head.headers, settings.max_body_bytes)?;
            let body = read(body, settings.max_body_bytes).await?;
            predict(&kind.photo(body).await?, settings)
        }
    }
}

/// Photo in, letter out.
fn predict(photo: &[u8], settings: &Settings) -> Result<Response<Bytes>, Problem> {
    let pipeline = PIPELINE.get().ok_or_else(|| {
        Problem::Internal(
            "this component has no models: build it with `spin build` or `cargo xtask build`"
                .into(),
        )
    })?;
    let mut timing = ServerTiming::default();
    let decoded = stage(&mut timing, "image_preprocessing", || decode(photo, settings.max_pixels))?;
    let found = stage(&mut timing, "landmark_detection", || pipeline.find_hand(&decoded.photo))?;
    let hand = found.hand.as_ref();
    let letters = stage(&mut timing, "model_inference", || {
        hand.map(|hand| pipeline.read_letter(hand)).transpose()
    })?;
    let mut response = stage(&mut timing, "response_formatting", || {
        let answer = hand.zip(letters.flatten());
        let threshold = settings.low_confidence_threshold;
        let prediction = Prediction::new(&decoded.photo, answer, threshold, pipeline.version());
        api::json_response(&prediction)
    });
    timing.write(response.headers_mut());
    Ok(response)
}

fn stage<T>(timing: &mut ServerTiming, name: &'static str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    timing.add(name, start.elapsed().as_secs_f64() * 1000.0);
    done
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
