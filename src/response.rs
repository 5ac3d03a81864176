//! The answer to a photo, as JSON.

use serde::Serialize;

use vision::decode::Photo;
use vision::landmarks::{self, Hand, LANDMARKS};
use vision::letter::{Guess, Letters};
use vision::pipeline::ModelVersion;

use crate::region::RegionInPhoto;

/// Number of guesses in an answer.
const TOP: usize = 5;

/// The answer to `POST /predict`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The letter; `None` if there is no hand in the photo.
    pub prediction: Option<String>,
    /// The letter's probability, 0 to 1; 0 without a hand.
    pub confidence: f32,
    /// True if the confidence is below the threshold.
    pub low_confidence: bool,
    /// The likeliest letters, at most five, the likeliest first; none without a hand.
    pub top: Vec<Guess>,
    /// The hand, if there is one.
    pub hand: Option<HandInPhoto>,
    /// The classifier's name and version.
    pub model: ModelVersion,
    /// The id of the request's trace, where requests are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// A hand in the upright photo. Coordinates are fractions of its sides: 0 is left and top, 1 right and
/// bottom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandInPhoto {
    /// `Right` or `Left`: the signer's own.
    pub handedness: &'static str,
    /// The probability of that handedness, 0.5 to 1.
    pub handedness_score: f32,
    /// The probability that there is a hand, 0 to 1.
    pub presence: f32,
    /// The region of the hand, as its landmarks give it: where to look in a film's next frame.
    pub r#box: RegionInPhoto,
    /// x, y and z of each landmark. z is in units of x: smaller is nearer, 0 at the wrist.
    pub landmarks: [[f32; 3]; LANDMARKS],
}

impl Prediction {
    /// Returns the answer for what was found in a photo.
    pub fn new(
        photo: &Photo,
        found: Option<(&Hand, Letters)>,
        low_confidence_threshold: f32,
        model: &ModelVersion,
    ) -> Prediction {
        let (hand, top) = match found {
            Some((hand, mut letters)) => {
                letters.guesses.truncate(TOP);
                (Some(HandInPhoto::new(photo, hand)), letters.guesses)
            }
            None => (None, Vec::new()),
        };
        let confidence = top.first().map_or(0.0, |best| best.confidence);
        Prediction {
            prediction: top.first().map(|best| best.label.clone()),
            confidence,
            low_confidence: confidence < low_confidence_threshold,
            top,
            hand,
            model: model.clone(),
            trace_id: None,
        }
    }
}

impl HandInPhoto {
    fn new(photo: &Photo, hand: &Hand) -> HandInPhoto {
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        HandInPhoto {
            handedness: hand.handedness.name(),
            handedness_score: hand.handedness_score,
            presence: hand.presence,
            r#box: RegionInPhoto::new(photo, &landmarks::region_of(&hand.landmarks)),
            landmarks: hand.landmarks.map(|[x, y, z]| [x / width, y / height, z / width]),
        }
    }
}
