//! The letter: from a hand to numbers that don't care for left or right, distance or position,
//! and from these to a letter.

use std::fmt;

use crate::engine::{Input, Model, ModelError, OnnxModel};
use crate::landmarks::{Hand, INDEX_FINGER_BASE, LANDMARKS, MIDDLE_FINGER_BASE, WRIST};

/// The landmarks of the fingers' bases and tips, thumb first.
const FINGERS: [(usize, usize); 5] = [(1, 4), (INDEX_FINGER_BASE, 8), (9, 12), (13, 16), (17, 20)];
/// Numbers that come from the landmarks: the landmarks themselves, and the directions of palm and
/// fingers.
pub const GEOMETRY: usize = 3 * LANDMARKS + 2 * (1 + FINGERS.len());

/// The label of what looks like a hand to the landmark model, but is none.
pub const NO_HAND: &str = "-";
/// From this probability of [`NO_HAND`] on, the answer is that there is no hand.
///
/// Measured: the table "No hand" in the model card.
pub const NO_HAND_LIMIT: f32 = 0.5;

/// The classifier's input, of length [`GEOMETRY`] plus the number of the landmark model's
/// features:
///
/// 1. the landmarks (x, y, z of each) seen from the wrist, turned so that the middle finger's base
///    is straight above it, at the distance 1;
/// 2. the directions in the photo of the palm (wrist to middle finger's base) and of the five
///    fingers (base to tip), as sine and cosine each: U and H, D and G, K and P differ only there;
/// 3. the landmark model's own features.
///
/// A left hand is mirrored.
pub fn features(hand: &Hand) -> Vec<f32> {
    let side = if hand.mirrored { -1.0 } else { 1.0 };
    let points = hand.landmarks.map(|[x, y, z]| [side * x, y, z]);
    let [wrist_x, wrist_y, wrist_z] = points[WRIST];
    let [base_x, base_y, _] = points[MIDDLE_FINGER_BASE];
    let (palm_x, palm_y) = direction([base_x - wrist_x, base_y - wrist_y]);
    let length = (base_x - wrist_x).hypot(base_y - wrist_y).max(f32::MIN_POSITIVE);

    let mut numbers = Vec::with_capacity(GEOMETRY + hand.features.len());
    for [x, y, z] in points {
        let (x, y) = ((x - wrist_x) / length, (y - wrist_y) / length);
        // The palm's direction (palm_x, palm_y) becomes (0, −1): straight up.
        numbers.extend([palm_x * y - palm_y * x, -palm_x * x - palm_y * y, (z - wrist_z) / length]);
    }
    numbers.extend([palm_x, palm_y]);
    for (base, tip) in FINGERS {
        let (x, y) =
            direction([points[tip][0] - points[base][0], points[tip][1] - points[base][1]]);
        numbers.extend([x, y]);
    }
    // A photo can't make the model say more than this; a broken one can make it say anything.
    numbers.iter_mut().for_each(|number| *number = number.clamp(-10.0, 10.0));
    numbers.extend_from_slice(&hand.features);
    numbers
}

/// The unit vector of a direction; straight up if there is none.
fn direction([x, y]: [f32; 2]) -> (f32, f32) {
    let length = x.hypot(y);
    if length > 0.0 { (x / length, y / length) } else { (0.0, -1.0) }
}

/// Tells letters apart.
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

/// What the classifier says of a hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// All labels but [`NO_HAND`], the likeliest first; their probabilities add up to 1.
    pub guesses: Vec<Guess>,
    /// The probability that this is no hand at all; 0 for a classifier that doesn't know
    /// [`NO_HAND`].
    pub no_hand: f32,
}

/// Why a classifier can't be used.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassifierError {
    /// The model can't be loaded, or its shapes don't fit.
    Model(ModelError),
    /// The label file does not fit the model.
    Labels {
        /// Labels in the file.
        labels: usize,
        /// Outputs of the model.
        outputs: usize,
    },
    /// The label file has the same label twice.
    TwiceTheSame(String),
}

impl fmt::Display for ClassifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassifierError::Model(error) => error.fmt(f),
            ClassifierError::Labels { labels, outputs } => write!(
                f,
                "the label file has {labels} labels (one a line), the letter model {outputs} outputs"
            ),
            ClassifierError::TwiceTheSame(label) => {
                write!(f, "the label file has the label {label:?} twice")
            }
        }
    }
}

impl std::error::Error for ClassifierError {}

impl From<ModelError> for ClassifierError {
    fn from(error: ModelError) -> ClassifierError {
        ClassifierError::Model(error)
    }
}

impl Classifier {
    /// A classifier from an ONNX file and its labels, one a line.
    ///
    /// The model takes `[1, features]` and gives probabilities `[1, labels]`.
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

    /// A classifier from a model as a value.
    ///
    /// # Errors
    /// [`ClassifierError::TwiceTheSame`].
    pub fn new(model: Box<dyn Model>, labels: Vec<String>) -> Result<Classifier, ClassifierError> {
        for (i, label) in labels.iter().enumerate() {
            if labels[..i].contains(label) {
                return Err(ClassifierError::TwiceTheSame(label.clone()));
            }
        }
        Ok(Classifier { model, labels })
    }

    /// The letters that a hand may show.
    ///
    /// # Errors
    /// [`ModelError::Run`].
    pub fn classify(&self, features: Vec<f32>) -> Result<Letters, ModelError> {
        let outputs = self.model.run(Input::Numbers(features))?;
        let probabilities = match outputs.as_slice() {
            [only] if only.len() == self.labels.len() => only,
            _ => {
                return Err(ModelError::Run {
                    name: "letters".into(),
                    reason: "outputs of other sizes".into(),
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
    use super::*;
    use crate::landmarks::Handedness;
    use crate::region::Region;

    /// A hand whose landmarks lie at these places.
    fn hand(landmarks: [[f32; 3]; LANDMARKS], mirrored: bool) -> Hand {
        Hand {
            region: Region { center: [0.0, 0.0], size: 1.0, rotation: 0.0 },
            landmarks,
            presence: 1.0,
            handedness: if mirrored { Handedness::Left } else { Handedness::Right },
            handedness_score: 1.0,
            mirrored,
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
            assert!((a - b).abs() < 1e-4, "number {i}: {a} {b}");
        }
    }

    #[test]
    fn position_and_distance_do_not_count() {
        let here = features(&hand(some_landmarks(), false));
        let there = some_landmarks().map(|[x, y, z]| [3.0 * x + 100.0, 3.0 * y - 40.0, 3.0 * z]);
        assert_eq!(here.len(), GEOMETRY + 4);
        near(&here, &features(&hand(there, false)));
    }

    #[test]
    fn a_left_hand_is_a_right_one_in_the_mirror() {
        let right = features(&hand(some_landmarks(), false));
        let left = some_landmarks().map(|[x, y, z]| [-x, y, z]);
        near(&right, &features(&hand(left, true)));
    }

    #[test]
    fn turning_the_hand_changes_the_directions_only() {
        let upright = features(&hand(some_landmarks(), false));
        let turned = features(&hand(some_landmarks().map(|[x, y, z]| [-y, x, z]), false));
        let points = 3 * LANDMARKS;
        near(&upright[..points], &turned[..points]);
        // A quarter turn clockwise: up becomes right.
        near(&[-upright[points + 1], upright[points]], &turned[points..points + 2]);
        // The middle finger's base lies straight above the wrist, at the distance 1.
        near(&upright[3 * MIDDLE_FINGER_BASE..][..2], &[0.0, -1.0]);
    }

    #[test]
    fn a_hand_without_extent_gives_numbers_still() {
        let numbers = features(&hand([[5.0, 5.0, 0.0]; LANDMARKS], false));
        assert!(numbers.iter().all(|number| number.is_finite()));
    }

    struct Says(Vec<f32>);

    impl Model for Says {
        fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            Ok(vec![self.0.clone()])
        }
    }

    fn classifier(probabilities: &[f32], labels: &[&str]) -> Classifier {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Classifier::new(Box::new(Says(probabilities.to_vec())), labels).expect("a classifier")
    }

    #[test]
    fn letters_come_in_order_and_add_up_to_one() {
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
    fn a_classifier_that_knows_hands_only() {
        let letters = classifier(&[0.3, 0.7], &["A", "B"]).classify(vec![]).expect("a run");
        assert_eq!(letters.no_hand, 0.0);
        assert!((letters.guesses[0].confidence - 0.7).abs() < 1e-6);
    }

    #[test]
    fn labels_that_do_not_fit() {
        let same = Classifier::new(Box::new(Says(vec![])), vec!["A".into(), "A".into()]);
        assert_eq!(same.err(), Some(ClassifierError::TwiceTheSame("A".into())));
        assert!(classifier(&[0.3, 0.7, 0.0], &["A", "B"]).classify(vec![]).is_err());
        let no_onnx = Classifier::load(b"no ONNX", "A\nB", 7);
        assert!(matches!(no_onnx.err(), Some(ClassifierError::Model(ModelError::Load { .. }))));
    }
}
