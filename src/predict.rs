//! The prediction: a photo in, a letter out, each stage timed for the client and a span for the
//! operator.
//!
//! Spans and attributes are listed in `docs/tracing.md`; a test compares that list with the expected
//! traces. To add an attribute: set it here, in the stage that knows it.

use std::time::Instant;

use bytes::Bytes;
use http::Response;

use telemetry::Span;
use vision::decode::{Decoded, decode};
use vision::landmarks::Hand;
use vision::letter::Letters;
use vision::pipeline::Pipeline;
use vision::region::Region;
use vision::search::{Found, Observer, Outcome, Pass};

use crate::api;
use crate::problem::Problem;
use crate::region::RegionInPhoto;
use crate::response::Prediction;
use crate::server_timing::ServerTiming;
use crate::settings::Settings;

/// Answers `POST /predict`. `known` is where a hand was before. `timing` has what came before the prediction.
/// `span` is that of the prediction; each stage becomes a child of it.
///
/// # Errors
/// [`Problem::NoPhoto`], [`Problem::Decode`] and [`Problem::Internal`].
pub fn predict(
    pipeline: &Pipeline,
    photo: &[u8],
    known: Option<RegionInPhoto>,
    settings: &Settings,
    timing: ServerTiming,
    span: &Span,
) -> Result<Response<Bytes>, Problem> {
    let mut stages = Stages { timing, span };
    let decoded = stages.run("image_preprocessing", |span| {
        span.set("image.size_bytes", photo.len() as i64);
        let decoded =
            decode(photo, settings.limits()).map_err(|error| Problem::undecoded(error, photo))?;
        describe_photo(span, &decoded);
        Ok(decoded)
    })?;
    let found = stages.run("landmark_detection", |span| {
        let mut passes = PassSpans { search: span, pass: Span::none() };
        let known = known.map(|known| known.of(&decoded.photo));
        let found = pipeline.find_hand(&decoded.photo, known, &mut passes).map_err(Problem::from);
        if let Err(problem) = &found {
            passes.pass.fail(problem.kind(), &problem.reason());
        }
        let found = found?;
        describe_search(span, &found);
        Ok(found)
    })?;
    let letters = match &found.hand {
        None => None,
        Some(hand) => stages.run("model_inference", |span| {
            let letters = pipeline.read_letter(hand)?;
            describe_letters(span, pipeline, letters.as_ref());
            Ok(letters)
        })?,
    };
    let mut response = stages.run("response_formatting", |_| {
        let answer = found.hand.as_ref().zip(letters);
        let threshold = settings.low_confidence_threshold;
        let mut prediction = Prediction::new(&decoded.photo, answer, threshold, pipeline.version());
        describe_prediction(span, &prediction);
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
    if !span.is_recording() {
        return;
    }
    span.set("hands.found", i64::from(found.hand.is_some()));
    span.set("palm_detection.passes", i64::from(found.passes.palm));
    span.set("palm_detection.score", decimal(found.palm_score));
    span.set("landmarks.passes", i64::from(found.passes.landmarks));
    span.set("hand.trust", decimal(found.trust));
    if let Some(hand) = &found.hand {
        describe_hand(span, hand);
    }
}

fn describe_hand(span: &Span, hand: &Hand) {
    span.set("hand.presence", decimal(hand.presence));
    span.set("hand.handedness", hand.handedness.name());
    span.set("hand.handedness_score", decimal(hand.handedness_score));
}

fn describe_letters(span: &Span, pipeline: &Pipeline, letters: Option<&Letters>) {
    if !span.is_recording() {
        return;
    }
    let model = pipeline.version();
    span.set("model.name", model.name.clone());
    span.set("model.version", model.version.clone());
    if let Some(best) = letters.and_then(|letters| letters.guesses.first()) {
        span.set("prediction.label", best.label.clone());
        span.set("prediction.confidence", decimal(best.confidence));
    }
}

fn describe_prediction(span: &Span, prediction: &Prediction) {
    if !span.is_recording() {
        return;
    }
    span.set("prediction.hand_detected", prediction.hand.is_some());
    span.set("prediction.confidence", decimal(prediction.confidence));
    span.set("prediction.low_confidence", prediction.low_confidence);
    if let Some(label) = &prediction.prediction {
        span.set("prediction.label", label.clone());
    }
}

/// Makes a span of every pass of a model, below the span of the search. Where that one is not
/// recorded, it does nothing.
struct PassSpans<'a> {
    search: &'a Span,
    /// The current pass. After a pass that failed, its span.
    pass: Span,
}

impl Observer for PassSpans<'_> {
    fn pass_started(&mut self, pass: &Pass) {
        if !self.search.is_recording() {
            return;
        }
        self.pass = match pass {
            Pass::Palm(view) => {
                let span = self.search.child("palm_detection");
                span.set("palm_detection.input_side", view.side as i64);
                describe_region(&span, &view.region);
                span
            }
            Pass::Landmarks { region, reason } => {
                let span = self.search.child("hand_landmarks");
                span.set("hand_landmarks.reason", reason.name());
                describe_region(&span, region);
                span.set("region.rotation", thousandths(region.rotation));
                span
            }
        };
    }

    fn pass_ended(&mut self, outcome: &Outcome<'_>) {
        let span = std::mem::replace(&mut self.pass, Span::none());
        if !span.is_recording() {
            return;
        }
        match outcome {
            Outcome::Palms(palms) => {
                span.set("palm_detection.palms", palms.len() as i64);
                if let Some(best) = palms.first() {
                    span.set("palm_detection.best_score", decimal(best.score));
                }
            }
            Outcome::Hand(hand) => describe_hand(&span, hand),
        }
    }
}

fn describe_region(span: &Span, region: &Region) {
    span.set("region.center_x", region.center[0].round() as i64);
    span.set("region.center_y", region.center[1].round() as i64);
    span.set("region.size", region.size.round() as i64);
}

/// Returns the number that the JSON shows: 0.9 as an f32 is 0.8999999761581421 as an f64.
pub(crate) fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// Returns a number rounded to three decimals.
fn thousandths(number: f32) -> f64 {
    (f64::from(number) * 1000.0).round() / 1000.0
}

/// The stages of a prediction: each is timed for the client and a span for the operator.
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
        self.timing.add(name, start.elapsed());
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use http::{HeaderMap, HeaderValue, Method, Uri};
    use telemetry::settings::Tracing;
    use telemetry::{Incoming, Telemetry};
    use vision::palm::{self, View};

    use super::*;
    use crate::fake::Fake;

    /// Starts a root span for a request with these headers. It is recorded as long as its provider
    /// lives.
    fn root_span(headers: &HeaderMap) -> (Telemetry, Span) {
        let lookup = |name: &str| (name == "enable_tracing").then(|| "true".to_owned());
        let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
        let telemetry = Telemetry::start(&settings, "test", "1", Arc::new(Fake::default()));
        let telemetry = telemetry.expect("settings");
        let (method, uri) = (&Method::POST, &Uri::from_static("/predict"));
        let (route, started, cold_start) = (Some("/predict"), SystemTime::now(), false);
        let incoming = Incoming { method, uri, headers, route, started, cold_start };
        let span = telemetry.server_span(incoming);
        (telemetry, span)
    }

    /// Runs a pass below a span. True if the pass is recorded: while it runs, and after its end.
    fn is_recorded(search: &Span) -> [bool; 2] {
        let mut passes = PassSpans { search, pass: Span::none() };
        let region = Region { center: [50.0; 2], size: 100.0, rotation: 0.0 };
        passes.pass_started(&Pass::Palm(View { side: palm::SMALL_SIDE, region }));
        let during = passes.pass.is_recording();
        passes.pass_ended(&Outcome::Palms(&[]));
        [during, passes.pass.is_recording()]
    }

    #[test]
    fn pass_is_recorded_until_its_end() {
        let (_telemetry, root) = root_span(&HeaderMap::new());
        assert!(root.is_recording());
        assert_eq!(is_recorded(&root), [true, false]);
    }

    #[test]
    fn pass_is_not_recorded_without_a_sampled_trace() {
        assert_eq!(is_recorded(&Span::none()), [false, false]);
        let mut headers = HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        headers.insert("traceparent", HeaderValue::from_static(parent));
        let (_telemetry, root) = root_span(&headers);
        assert!(!root.is_recording() && root.trace_id().is_some());
        assert_eq!(is_recorded(&root), [false, false]);
    }

    #[test]
    fn numbers_read_as_in_the_json() {
        assert_eq!(decimal(0.9), 0.9);
        assert_eq!(thousandths(-0.390_100_24), -0.39);
        assert_eq!(thousandths(0.123_456), 0.123);
    }
}
