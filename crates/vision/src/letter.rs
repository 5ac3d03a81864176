//! The letter: from a hand to a feature vector, and from that to a letter.
//!
//! [`features`] makes the vector, which does not depend on left or right, distance or position.
//! [`Classifier`] runs a model of one's choice on it; `models/train.py` trains this project's. Change
//! [`features`] and every classifier must be trained anew.

use thiserror::Error;

use crate::engine::{Input, Model, ModelError, OnnxModel};
use crate::landmarks::{
    Hand, Handedness, INDEX_FINGER_BASE, LANDMARKS, MIDDLE_FINGER_BASE, RING_FINGER_BASE, WRIST,
};

/// Indices of the landmarks at each finger's base and tip, thumb first.
const FINGERS: [(usize, usize); 5] =
    [(1, 4), (INDEX_FINGER_BASE, 8), (MIDDLE_FINGER_BASE, 12), (RING_FINGER_BASE, 16), (17, 20)];
/// Number of features that come from the landmarks: their coordinates, and the directions of palm
/// and fingers.
pub const GEOMETRY: usize = 3 * LANDMARKS + 2 * (1 + FINGERS.len());
/// Limit of these features' absolute values. Landmarks of a hand stay below it; it bounds those that
/// make no sense, such as a finger base on the wrist.
const GEOMETRY_LIMIT: f32 = 10.0;

/// The label for no hand: what only looks like one to the landmark model.
pub const NO_HAND: &str = "-";
/// Probability of [`NO_HAND`] from which there is no hand.
///
/// `models/train.py` shifts the logit of [`NO_HAND`] so that this balances the errors best.
pub const NO_HAND_LIMIT: f32 = 0.5;

/// Returns the classifier's input: [`GEOMETRY`] values, then the hand's pooled features.
///
/// 1. The landmarks, x, y and z of each: relative to the wrist, rotated so that the middle finger's
///    base is straight above it, in units of the distance between the two.
/// 2. The directions of the palm (wrist to middle finger's base) and of the five fingers (base to
///    tip) in the photo, as unit vectors. U and H, D and G, K and P differ only there.
/// 3. The landmark model's pooled features.
///
/// The landmarks of a left hand are mirrored, so that they become a right one's. Its pooled features
/// are those of a left hand: the classifier knows both.
pub fn features(hand: &Hand) -> Vec<f32> {
    let side = match hand.handedness {
        Handedness::Right => 1.0,
        Handedness::Left => -1.0,
    };
    let points = hand.landmarks.map(|[x, y, z]| [side * x, y, z]);
    let [wrist_x, wrist_y, wrist_z] = points[WRIST];
    let [base_x, base_y, _] = points[MIDDLE_FINGER_BASE];
    let (palm_x, palm_y) = direction([base_x - wrist_x, base_y - wrist_y]);
    let length = (base_x - wrist_x).hypot(base_y - wrist_y).max(f32::MIN_POSITIVE);

    let mut values = Vec::with_capacity(GEOMETRY + hand.features.len());
    for [x, y, z] in points {
        let (x, y) = ((x - wrist_x) / length, (y - wrist_y) / length);
        // The palm's direction (palm_x, palm_y) becomes (0, −1): straight up.
        values.extend([palm_x * y - palm_y * x, -palm_x * x - palm_y * y, (z - wrist_z) / length]);
    }
    values.extend([palm_x, palm_y]);
    for (base, tip) in FINGERS {
        let (x, y) =
            direction([points[tip][0] - points[base][0], points[tip][1] - points[base][1]]);
        values.extend([x, y]);
    }
    values.iter_mut().for_each(|value| *value = value.clamp(-GEOMETRY_LIMIT, GEOMETRY_LIMIT));
    values.extend_from_slice(&hand.features);
    values
}

/// Returns the unit vector of a direction, or straight up for a direction without length.
fn direction([x, y]: [f32; 2]) -> (f32, f32) {
    let length = x.hypot(y);
    if length > 0.0 { (x / length, y / length) } else { (0.0, -1.0) }
}

/// A model that tells letters apart, with its labels.
pub struct Classifier {
    model: Box<dyn Model>,
    labels: Vec<String>,
}

/// A label with its probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Guess {
    /// The label, a letter usually.
    pub label: String,
    /// Its probability among the letters, 0 to 1.
    pub confidence: f32,
}

/// The classifier's result for a hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// All labels except [`NO_HAND`], likeliest first. Their probabilities sum to 1.
    pub guesses: Vec<Guess>,
    /// Probability of [`NO_HAND`], 0 to 1; 0 for a classifier without that label.
    pub no_hand: f32,
}

/// The reason why a classifier cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ClassifierError {
    /// The model cannot be loaded, or has other shapes.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The number of labels is not that of the model's outputs.
    #[error(
        "the label file does not fit the letter model: it has {labels} labels (one a line), the \
         model {outputs} outputs"
    )]
    Labels {
        /// Number of labels in the file.
        labels: usize,
        /// Number of the model's outputs.
        outputs: usize,
    },
    /// A label occurs twice.
    #[error("the label {0:?} occurs twice in the label file")]
    DuplicateLabel(String),
}

impl Classifier {
    /// Loads a classifier from an ONNX file and its labels, one a line; empty lines are skipped.
    ///
    /// The model takes `[1, features]` and returns probabilities `[1, labels]`.
    ///
    /// # Errors
    /// Every [`ClassifierError`].
    pub fn load(onnx: &[u8], labels: &str, features: usize) -> Result<Classifier, ClassifierError> {
        let model = OnnxModel::load("letters", onnx)?;
        let labels: Vec<String> = labels
            .lines()
            .map(str::trim)
            .filter(|label| !label.is_empty())
            .map(Into::into)
            .collect();
        if let [output] = model.shapes().outputs.as_slice() {
            let outputs = output.iter().product();
            if outputs != labels.len() {
                return Err(ClassifierError::Labels { labels: labels.len(), outputs });
            }
        }
        let model = model.expect(&[1, features], &[vec![1, labels.len()]])?;
        Classifier::new(Box::new(model), labels)
    }

    /// Makes a classifier from a model and its labels.
    ///
    /// # Errors
    /// [`ClassifierError::DuplicateLabel`].
    pub fn new(model: Box<dyn Model>, labels: Vec<String>) -> Result<Classifier, ClassifierError> {
        for (i, label) in labels.iter().enumerate() {
            if labels[..i].contains(label) {
                return Err(ClassifierError::DuplicateLabel(label.clone()));
            }
        }
        Ok(Classifier { model, labels })
    }

    /// Returns the labels, in the order of the model's outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Classifies a hand by its [`features`].
    ///
    /// # Errors
    /// [`ModelError::Run`] if the model fails, or has another number of outputs than labels.
    pub fn classify(&self, features: Vec<f32>) -> Result<Letters, ModelError> {
        let outputs = self.model.run(Input::Values(features))?;
        let probabilities = match outputs.as_slice() {
            [only] if only.len() == self.labels.len() => only,
            _ => {
                return Err(ModelError::Run {
                    name: "letters".into(),
                    reason: "outputs of other lengths".into(),
                });
            }
        };
        let with_labels = || self.labels.iter().zip(probabilities);
        let no_hand =
            with_labels().filter(|(label, _)| *label == NO_HAND).map(|(_, p)| *p).sum::<f32>();
        let rest = (1.0 - no_hand).max(f32::MIN_POSITIVE);
        let mut guesses: Vec<Guess> = with_labels()
            .filter(|(label, _)| *label != NO_HAND)
            .map(|(label, p)| Guess { label: label.clone(), confidence: (p / rest).min(1.0) })
            .collect();
        guesses.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        Ok(Letters { guesses, no_hand })
    }
}

#[cfg(test)]
mod tests {
    use super::Handedness::{Left, Right};
    use super::*;
    use crate::region::Region;

    /// A hand with these landmarks.
    fn hand(landmarks: [[f32; 3]; LANDMARKS], handedness: Handedness) -> Hand {
        Hand {
            region: Region { center: [0.0, 0.0], size: 1.0, rotation: 0.0 },
            landmarks,
            presence: 1.0,
            handedness,
            handedness_score: 1.0,
            features: vec![0.25; 4],
        }
    }

    fn some_landmarks() -> [[f32; 3]; LANDMARKS] {
        std::array::from_fn(|i| {
            let i = i as f32;
            [50.0 + 7.0 * (i * 1.3).sin(), 90.0 - 3.0 * i, 2.0 * (i * 0.7).cos()]
        })
    }

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() < 1e-4, "feature {i}: {a} {b}");
        }
    }

    #[test]
    fn features_ignore_position_and_distance() {
        let here = features(&hand(some_landmarks(), Right));
        let there = some_landmarks().map(|[x, y, z]| [3.0 * x + 100.0, 3.0 * y - 40.0, 3.0 * z]);
        assert_eq!(here.len(), GEOMETRY + 4);
        near(&here, &features(&hand(there, Right)));
    }

    #[test]
    fn left_hand_s_landmarks_become_a_right_one_s() {
        let right = features(&hand(some_landmarks(), Right));
        let left = some_landmarks().map(|[x, y, z]| [-x, y, z]);
        near(&right, &features(&hand(left, Left)));
    }

    #[test]
    fn rotation_changes_only_the_directions() {
        let upright = features(&hand(some_landmarks(), Right));
        let turned = features(&hand(some_landmarks().map(|[x, y, z]| [-y, x, z]), Right));
        let points = 3 * LANDMARKS;
        near(&upright[..points], &turned[..points]);
        // A quarter turn clockwise: up becomes right.
        near(&[-upright[points + 1], upright[points]], &turned[points..points + 2]);
        // The middle finger's base lies straight above the wrist, at the distance 1.
        near(&upright[3 * MIDDLE_FINGER_BASE..][..2], &[0.0, -1.0]);
    }

    #[test]
    fn features_of_a_hand_without_extent_are_finite() {
        let values = features(&hand([[5.0, 5.0, 0.0]; LANDMARKS], Right));
        assert!(values.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn features_from_landmarks_are_limited() {
        let mut landmarks = some_landmarks();
        landmarks[MIDDLE_FINGER_BASE] = landmarks[WRIST];
        landmarks[MIDDLE_FINGER_BASE][1] -= 1e-3;
        let values = features(&hand(landmarks, Right));
        let max = values.iter().copied().map(f32::abs).fold(0.0, f32::max);
        assert_eq!(max, GEOMETRY_LIMIT);
    }

    /// A model that returns the same probabilities for every hand.
    struct Returns(Vec<f32>);

    impl Model for Returns {
        fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            Ok(vec![self.0.clone()])
        }
    }

    fn classifier(probabilities: &[f32], labels: &[&str]) -> Classifier {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Classifier::new(Box::new(Returns(probabilities.to_vec())), labels).expect("a classifier")
    }

    #[test]
    fn guesses_are_sorted_and_sum_to_one_without_no_hand() {
        let letters = classifier(&[0.1, 0.6, 0.1, 0.2], &["A", "B", "C", NO_HAND])
            .classify(vec![])
            .expect("a run");
        assert_eq!(letters.no_hand, 0.2);
        let labels: Vec<&str> = letters.guesses.iter().map(|g| g.label.as_str()).collect();
        assert_eq!(labels, ["B", "A", "C"]);
        assert!((letters.guesses[0].confidence - 0.75).abs() < 1e-6);
        let sum: f32 = letters.guesses.iter().map(|g| g.confidence).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }

    #[test]
    fn classifier_without_no_hand_label_reports_no_hand_zero() {
        let letters = classifier(&[0.3, 0.7], &["A", "B"]).classify(vec![]).expect("a run");
        assert_eq!(letters.no_hand, 0.0);
        assert!((letters.guesses[0].confidence - 0.7).abs() < 1e-6);
    }

    #[test]
    fn duplicate_label_is_refused() {
        let same = Classifier::new(Box::new(Returns(vec![])), vec!["A".into(), "A".into()]);
        assert_eq!(same.err(), Some(ClassifierError::DuplicateLabel("A".into())));
    }

    #[test]
    fn outputs_of_other_lengths_are_an_error() {
        let error = classifier(&[0.3, 0.7, 0.0], &["A", "B"]).classify(vec![]);
        assert!(matches!(error, Err(ModelError::Run { .. })), "{error:?}");
    }

    #[test]
    fn file_that_is_no_model_is_refused() {
        let no_onnx = Classifier::load(b"no ONNX", "A\nB", 7);
        assert!(matches!(no_onnx.err(), Some(ClassifierError::Model(ModelError::Load { .. }))));
    }
}
