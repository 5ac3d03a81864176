//! Finding the hand: palm detection and landmarks together, with what to do when the first look
//! finds nothing.

use crate::decode::Photo;
use crate::engine::{Model, ModelError};
use crate::landmarks::{self, Hand, Handedness};
use crate::palm::{self, Palm};

/// How to look for a hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Borders around the photo, tried in this order until a hand is found; each as a part of the
    /// photo's longer side.
    pub borders: Vec<f32>,
    /// The least score of a palm.
    pub palm_score: f32,
    /// How many palms of one try are looked at.
    pub palms: usize,
    /// A hand with at least this presence ends the search.
    pub sure_presence: f32,
    /// If no hand ends the search, the one with the most presence is taken, if it has at least
    /// this.
    pub presence: f32,
    /// Whether a hand is looked at again in the region that its landmarks give. A left hand
    /// always is, since it has to be seen mirrored.
    pub refine: bool,
}

impl Default for Search {
    /// Measured: the tables "The search" and "No hand" in the model card.
    fn default() -> Search {
        Search {
            borders: vec![0.25, 0.0, 0.6],
            palm_score: 0.1,
            palms: 2,
            sure_presence: 0.97,
            presence: 0.3,
            refine: false,
        }
    }
}

/// What was found, and what it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The hand, if there is one. Seen as a right hand: a left one was mirrored.
    pub hand: Option<Hand>,
    /// Score of the palm with the most presence of a hand, 0 if there is no palm.
    pub palm_score: f32,
    /// How often the palm detection model ran.
    pub palm_passes: u32,
    /// How often the landmark model ran.
    pub landmark_passes: u32,
}

/// Looks for a hand in a photo.
///
/// # Errors
/// [`ModelError::Run`].
pub fn find(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    photo: &Photo,
    search: &Search,
) -> Result<Found, ModelError> {
    let mut found = Found::default();
    let mut best: Option<Hand> = None;
    'search: for &border in &search.borders {
        let palms = palm::detect(palm_model, photo, border, search.palm_score)?;
        found.palm_passes += 1;
        for Palm { score, region } in palms.into_iter().take(search.palms) {
            let hand = landmarks::find(landmark_model, photo, &region, false)?;
            found.landmark_passes += 1;
            if best.as_ref().is_none_or(|best| hand.presence > best.presence) {
                let sure = hand.presence >= search.sure_presence;
                found.palm_score = score;
                best = Some(hand);
                if sure {
                    break 'search;
                }
            }
        }
    }
    let Some(hand) = best.filter(|hand| hand.presence >= search.presence) else {
        return Ok(found);
    };
    let left = hand.handedness == Handedness::Left;
    found.hand = Some(if left || search.refine {
        found.landmark_passes += 1;
        refine(landmark_model, photo, hand, left)?
    } else {
        hand
    });
    Ok(found)
}

/// Looks again where the landmarks say that the hand is; a left hand is seen mirrored.
fn refine(model: &dyn Model, photo: &Photo, first: Hand, mirror: bool) -> Result<Hand, ModelError> {
    let region = landmarks::region_of(&first.landmarks);
    let second = landmarks::find(model, photo, &region, mirror)?;
    // Which hand it is was said by the first look, which saw the hand as it is.
    Ok(Hand { handedness: first.handedness, handedness_score: first.handedness_score, ..second })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::landmarks::LANDMARKS;

    /// A palm detector that finds a palm in the middle from its n-th run on.
    struct PalmFrom {
        run: usize,
        runs: AtomicUsize,
    }

    impl PalmFrom {
        fn run(run: usize) -> PalmFrom {
            PalmFrom { run, runs: AtomicUsize::new(0) }
        }
    }

    impl Model for PalmFrom {
        fn run(&self, _: Vec<f32>) -> Result<Vec<Vec<f32>>, ModelError> {
            let mut boxes = vec![0.0; palm::ANCHORS * 18];
            let mut scores = vec![-100.0; palm::ANCHORS];
            if self.runs.fetch_add(1, Ordering::Relaxed) + 1 >= self.run {
                boxes[600 * 18..][2..4].copy_from_slice(&[50.0, 50.0]);
                scores[600] = 3.0;
            }
            Ok(vec![boxes, scores])
        }
    }

    /// A landmark model that says the same every time.
    struct Says {
        presence: f32,
        right: f32,
    }

    impl Model for Says {
        fn run(&self, _: Vec<f32>) -> Result<Vec<Vec<f32>>, ModelError> {
            let points: Vec<f32> = (0..LANDMARKS)
                .flat_map(|i| [80.0 + i as f32, 150.0 - 3.0 * i as f32, 0.0])
                .collect();
            let world = vec![0.0; 3 * LANDMARKS];
            Ok(vec![points, vec![self.presence], vec![self.right], world, vec![0.5; 7]])
        }
    }

    fn photo() -> Photo {
        Photo::from_rgb(200, 100, vec![9; 200 * 100 * 3]).expect("a photo")
    }

    #[test]
    fn the_usual_case_takes_one_run_of_each_model() {
        let says = Says { presence: 0.98, right: 0.8 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!((found.palm_passes, found.landmark_passes), (1, 1));
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.handedness, hand.handedness_score), (Handedness::Right, 0.8));
        assert!(!hand.mirrored);
    }

    #[test]
    fn a_left_hand_is_looked_at_again_in_the_mirror() {
        let says = Says { presence: 0.98, right: 0.3 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!((found.palm_passes, found.landmark_passes), (1, 2));
        let hand = found.hand.expect("a hand");
        assert_eq!(hand.handedness, Handedness::Left, "what the first look said stands");
        assert!(hand.mirrored);
    }

    #[test]
    fn every_border_is_tried_until_a_palm_is_found() {
        let says = Says { presence: 0.98, right: 0.8 };
        let search = Search::default();
        let found = find(&PalmFrom::run(3), &says, &photo(), &search).expect("a run");
        assert_eq!((found.palm_passes, found.hand.is_some()), (3, true));
        let found = find(&PalmFrom::run(99), &says, &photo(), &search).expect("a run");
        assert_eq!(found.palm_passes as usize, search.borders.len());
        assert_eq!((found.landmark_passes, found.hand), (0, None));
    }

    #[test]
    fn without_a_sure_hand_every_palm_is_looked_at_and_the_likeliest_taken() {
        let says = Says { presence: 0.5, right: 0.8 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!((found.palm_passes, found.landmark_passes), (3, 3));
        assert_eq!(found.hand.map(|hand| hand.presence), Some(0.5));
    }

    #[test]
    fn a_palm_without_a_hand_is_none() {
        let says = Says { presence: 0.1, right: 0.8 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!(found.hand, None);
        assert!(found.palm_score > 0.9);
    }
}
