//! Trust: the probability that a candidate of the search is a hand, rightly seen.
//!
//! The landmark model's presence alone is a poor judge: a fist in the shade has less of it than a
//! dog's face. [`trust`] adds what else is known at that point: palm detection's score and what the
//! letter classifier makes of the candidate. It is a logistic regression, so it costs nothing beside
//! the pass that made the candidate.

use crate::letter::Letters;
use crate::search::Candidate;

/// The weights of the regression, in the order of [`trust`]'s terms, then the constant.
///
/// Measured: the table "The search" in the model card (`models/README.md`).
const WEIGHTS: [f32; 5] = [0.963, -0.116, 0.149, 5.006, 4.14];
const CONSTANT: f32 = -4.389;
/// Probabilities are limited to this and to 1 minus this, so that their logits are finite.
const LEAST: f32 = 1e-4;

/// Returns the probability, 0 to 1, that a candidate is a hand, rightly seen.
pub fn trust(candidate: &Candidate, letters: &Letters) -> f32 {
    let confidence = letters.guesses.first().map_or(0.0, |best| best.confidence);
    let terms = [
        logit(candidate.hand.presence),
        logit(letters.no_hand),
        logit(confidence),
        candidate.palm_score,
        f32::from(u8::from(candidate.palm_score == 0.0)),
    ];
    let sum: f32 = terms.iter().zip(WEIGHTS).map(|(term, weight)| term * weight).sum();
    1.0 / (1.0 + (-sum - CONSTANT).exp())
}

fn logit(probability: f32) -> f32 {
    let probability = probability.clamp(LEAST, 1.0 - LEAST);
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landmarks::{Hand, Handedness, LANDMARKS};
    use crate::letter::Guess;
    use crate::region::Region;

    /// Returns the trust of a candidate with these numbers.
    fn trust_of(presence: f32, no_hand: f32, confidence: f32, palm_score: f32) -> f32 {
        let hand = Hand {
            region: Region { center: [0.0, 0.0], size: 1.0, rotation: 0.0 },
            landmarks: [[0.0; 3]; LANDMARKS],
            presence,
            handedness: Handedness::Right,
            handedness_score: 1.0,
            features: Vec::new(),
        };
        let guesses = vec![Guess { label: "A".into(), confidence }];
        trust(&Candidate { palm_score, hand }, &Letters { guesses, no_hand })
    }

    #[test]
    fn clear_hand_is_trusted_and_a_face_is_not() {
        assert!(trust_of(0.995, 0.001, 0.95, 0.9) > 0.98);
        assert!(trust_of(0.5, 0.9, 0.4, 0.15) < 0.2);
    }

    #[test]
    fn each_sign_of_a_hand_adds_trust() {
        let base = trust_of(0.9, 0.1, 0.5, 0.5);
        for more in [
            trust_of(0.95, 0.1, 0.5, 0.5),
            trust_of(0.9, 0.05, 0.5, 0.5),
            trust_of(0.9, 0.1, 0.6, 0.5),
            trust_of(0.9, 0.1, 0.5, 0.6),
        ] {
            assert!(more > base, "{more} {base}");
        }
    }

    #[test]
    fn certain_numbers_stay_probabilities() {
        for certain in [0.0, 1.0] {
            let trust = trust_of(certain, certain, certain, certain);
            assert!((0.0..=1.0).contains(&trust), "{trust}");
        }
    }
}
