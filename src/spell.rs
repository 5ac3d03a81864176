//! `POST /spell`: frames of a hand in, the letter that they show out. J and Z are movements, which one
//! photo cannot show; [`vision::movement`] has the rule. Any other letter is the one that most frames show,
//! as `POST /predict` answered it. Nothing is stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use serde::{Deserialize, Serialize};

use telemetry::Span;
use vision::landmarks::LANDMARKS;
use vision::movement::{self, recognize};

use crate::api;
use crate::predict::decimal;
use crate::problem::Problem;
use crate::sent;

pub mod error;
pub use error::{FramesError, MAX_FRAMES};

/// Most bytes of a body: those of [`MAX_FRAMES`] frames as JSON, with all digits.
pub const MAX_BYTES: u64 = 512 * 1024;
/// Longest label of a letter, in bytes.
const MAX_LABEL: usize = 16;

/// The body of a request.
#[derive(Debug, Deserialize)]
struct Frames {
    /// Width by height of the frames. 1 if landmarks have one unit in both directions.
    #[serde(default = "one")]
    aspect: f32,
    frames: Vec<Frame>,
}

/// A frame: the hand of an answer of `POST /predict`, its time, and what that answer was.
#[derive(Debug, Deserialize)]
struct Frame {
    /// The time in milliseconds, from any beginning.
    time: f64,
    landmarks: [[f32; 3]; LANDMARKS],
    #[serde(default)]
    letter: Option<String>,
    #[serde(default = "one")]
    confidence: f32,
}

fn one() -> f32 {
    1.0
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Spelled {
    /// The letter; none if the hand has drawn none and no frame names one.
    letter: Option<String>,
    /// For a movement its likeness, else the letter's part of all frames, weighted by their confidence.
    confidence: f32,
    /// True if the letter is a movement.
    moved: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

/// Answers `POST /spell`. `span` is that of the spelling.
///
/// # Errors
/// [`Problem::Frames`].
pub fn spell(body: &[u8], span: &Span) -> Result<Response<Bytes>, Problem> {
    let Frames { aspect, frames } = read(body)?;
    span.set("spelling.frames", frames.len() as i64);
    if let [first, .., last] = &frames[..] {
        span.set("spelling.duration_ms", last.time - first.time);
    }
    let mut spelled = letter_of(aspect, &frames);
    span.set("spelling.moved", spelled.moved);
    span.set("spelling.confidence", decimal(spelled.confidence));
    if let Some(letter) = &spelled.letter {
        span.set("spelling.letter", letter.clone());
    }
    spelled.trace_id = span.trace_id();
    Ok(api::json_response(&spelled))
}

/// Reads frames, all valid.
fn read(body: &[u8]) -> Result<Frames, FramesError> {
    let frames: Frames = sent::parse(body, FramesError::Shape, FramesError::Syntax)?;
    if !sent::is_aspect(frames.aspect) {
        return Err(FramesError::Aspect);
    }
    let found = frames.frames.len();
    if !(1..=MAX_FRAMES).contains(&found) {
        return Err(FramesError::Count { found });
    }
    let mut before = f64::NEG_INFINITY;
    for (index, frame) in frames.frames.iter().enumerate() {
        let range = |what| FramesError::Range { index, what };
        if !sent::are_near(&frame.landmarks) {
            return Err(range("a landmark"));
        }
        if !(0.0..=1.0).contains(&frame.confidence) {
            return Err(range("the confidence"));
        }
        if frame.letter.as_ref().is_some_and(|letter| letter.is_empty() || letter.len() > MAX_LABEL)
        {
            return Err(range("the letter"));
        }
        if !frame.time.is_finite() {
            return Err(range("the time"));
        }
        if frame.time <= before {
            return Err(FramesError::Order { index });
        }
        before = frame.time;
    }
    Ok(frames)
}

/// Returns the letter of some frames.
fn letter_of(aspect: f32, frames: &[Frame]) -> Spelled {
    // x and z are fractions of the width, y is one of the height: all become parts of the height.
    let in_one_unit = |frame: &Frame| movement::Frame {
        time: frame.time,
        landmarks: frame.landmarks.map(|[x, y, z]| [x * aspect, y, z * aspect]),
    };
    let moved = recognize(&frames.iter().map(in_one_unit).collect::<Vec<_>>());
    if let Some(movement) = moved {
        let letter = Some(movement.letter.name().to_owned());
        return Spelled { letter, confidence: movement.confidence, moved: true, trace_id: None };
    }
    let mut votes = BTreeMap::<&str, f32>::new();
    for frame in frames {
        if let Some(letter) = &frame.letter {
            *votes.entry(letter).or_default() += frame.confidence;
        }
    }
    let best = votes.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (letter, votes) = best.unzip();
    Spelled {
        letter: letter.map(str::to_owned),
        confidence: votes.unwrap_or(0.0) / frames.len() as f32,
        moved: false,
        trace_id: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns a frame of a hand that points with its little finger, at a place.
    fn frame(time: f64, x: f32, y: f32, letter: &str) -> Value {
        let mut landmarks = [[x, y, 0.0]; LANDMARKS];
        for (finger, (base, tip)) in [(5, 8), (9, 12), (13, 16), (17, 20)].into_iter().enumerate() {
            let side = x + 0.02 * finger as f32;
            landmarks[base] = [side, y - 0.1, 0.0];
            landmarks[tip] = [side, y - if tip == 20 { 0.2 } else { 0.08 }, 0.0];
        }
        json!({"time": time, "landmarks": landmarks, "letter": letter, "confidence": 0.9})
    }

    /// Returns the frames of a J, drawn in a square picture.
    fn j() -> Vec<Value> {
        (0..40)
            .map(|i| {
                let angle = std::f32::consts::PI * (i as f32 - 20.0).max(0.0) / 19.0;
                let x = 0.3 + 0.04 * (1.0 - angle.cos());
                let y = 0.4 + 0.1 * (i as f32).min(20.0) / 20.0 + 0.05 * angle.sin();
                frame(f64::from(i) * 40.0, x, y, "I")
            })
            .collect()
    }

    fn answer(body: &Value) -> Result<Value, String> {
        let response = spell(body.to_string().as_bytes(), &Span::none());
        let response = response.map_err(|problem| problem.to_string())?;
        Ok(serde_json::from_slice(response.body()).expect("JSON"))
    }

    #[test]
    fn movement_is_its_letter() {
        let spelled = answer(&json!({"frames": j()})).expect("a letter");
        assert_eq!((&spelled["letter"], &spelled["moved"]), (&json!("J"), &json!(true)));
        assert!(spelled["confidence"].as_f64().expect("a number") > 0.85, "{spelled}");
        // In a wide picture: x is half as much of the width.
        let narrowed: Vec<Value> = j()
            .into_iter()
            .map(|mut frame| {
                for point in frame["landmarks"].as_array_mut().expect("points") {
                    point[0] = json!(point[0].as_f64().expect("x") / 2.0);
                }
                frame
            })
            .collect();
        let wide = answer(&json!({"aspect": 2.0, "frames": narrowed})).expect("a letter");
        assert_eq!((&wide["letter"], &wide["moved"]), (&json!("J"), &json!(true)));
    }

    #[test]
    fn still_hand_is_the_letter_of_most_frames() {
        let frames = ["I", "I", "Y", "I"].iter().enumerate();
        let frames: Vec<Value> =
            frames.map(|(i, letter)| frame(i as f64, 0.5, 0.5, letter)).collect();
        let spelled = answer(&json!({"frames": frames})).expect("a letter");
        assert_eq!((&spelled["letter"], &spelled["moved"]), (&json!("I"), &json!(false)));
        let confidence = spelled["confidence"].as_f64().expect("a number");
        assert!((confidence - 0.9 * 3.0 / 4.0).abs() < 1e-4, "{confidence}");
        let mut unnamed = frame(0.0, 0.5, 0.5, "I");
        unnamed["letter"] = Value::Null;
        let spelled = answer(&json!({"frames": [unnamed]})).expect("no letter");
        assert_eq!(spelled, json!({"letter": null, "confidence": 0.0, "moved": false}));
    }

    #[test]
    fn invalid_frames_are_refused_and_named() {
        let with = |name: &str, value: Value| {
            let mut changed = frame(1.0, 0.5, 0.5, "I");
            changed[name] = value;
            json!({"frames": [frame(0.0, 0.5, 0.5, "I"), changed]})
        };
        let many: Vec<Value> = (0..=MAX_FRAMES).map(|i| frame(i as f64, 0.5, 0.5, "I")).collect();
        for (body, words) in [
            (json!({"frames": []}), "There are 0 frames. Send 1 to 300."),
            (json!({"frames": many}), "There are 301 frames."),
            (json!({"frames": [{}]}), "missing field `time`"),
            (json!([]), "The frames cannot be read: "),
            (with("landmarks", json!([[0.5, 0.5, 0.0]])), "The frames cannot be read: "),
            (with("landmarks", json!(vec![[11.0, 0.5, 0.0]; 21])), "Frame 1: a landmark is out"),
            (with("confidence", json!(1.5)), "Frame 1: the confidence is out"),
            (with("letter", json!("")), "Frame 1: the letter is out"),
            (with("letter", json!("x".repeat(17))), "Frame 1: the letter is out"),
            (with("time", json!(0.0)), "Frame 1 is not later"),
            (json!({"aspect": 0, "frames": [frame(0.0, 0.5, 0.5, "I")]}), "The aspect is out"),
        ] {
            let refused = answer(&body).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
        for (body, words) in [(&b""[..], "is not JSON: EOF"), (b"\xff", "is not JSON: ")] {
            let refused = spell(body, &Span::none()).expect_err(words);
            assert!(refused.to_string().contains(words), "{refused}");
            assert_eq!(refused.status(), 400);
        }
        let status = |error: FramesError| Problem::Frames(error).status().as_u16();
        assert_eq!(status(FramesError::TooLarge { limit: 1 }), 413);
        assert_eq!(status(FramesError::Count { found: 0 }), 422);
        // What a problem repeats is cut.
        let long = json!({"frames": [{"time": "x".repeat(5000)}]});
        assert!(answer(&long).expect_err("a problem").len() < 400);
    }

    #[test]
    fn largest_body_within_the_limits_is_small_enough() {
        let digits = json!(-9.123_456_f32);
        let mut frame = frame(1234.5678, 0.5, 0.5, "I");
        frame["landmarks"] = json!(vec![vec![digits; 3]; LANDMARKS]);
        let length = frame.to_string().len() * MAX_FRAMES;
        assert!(length < MAX_BYTES as usize, "{length}");
    }
}
