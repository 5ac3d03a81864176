//! Finding the hand: palm detection and landmarks together, with what to do when the first look
//! finds nothing.

use std::f32::consts::FRAC_PI_4;
use std::ops::ControlFlow;

use crate::decode::Photo;
use crate::engine::{Model, ModelError};
use crate::landmarks::{self, Hand, Handedness};
use crate::palm::{self, Palm, View};
use crate::region::Region;

/// Where to look for a hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Where palm detection sees palms.
    Palms(View),
    /// The whole photo, turned clockwise by this (radians): a hand that fills the photo, or that
    /// palm detection doesn't know as one (a fist, a shadow, a photo without colours).
    Photo {
        /// How far it is turned.
        rotation: f32,
    },
}

/// How to look for a hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Where, in this order, until a hand is found.
    pub places: Vec<Place>,
    /// The least score of a palm.
    pub palm_score: f32,
    /// How many palms of one place are looked at.
    pub palms: usize,
    /// How much wider than the photo the whole photo is looked at, as a part of its longer side on
    /// each side.
    pub photo_border: f32,
    /// If the whole photo has at least this presence of a hand, it is looked at again where the
    /// landmarks say that the hand is.
    pub trace_presence: f32,
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
            places: vec![
                Place::Palms(View { side: palm::SMALL_SIDE, border: 0.0 }),
                Place::Photo { rotation: 0.0 },
                Place::Photo { rotation: -FRAC_PI_4 },
                Place::Photo { rotation: FRAC_PI_4 },
                Place::Palms(palm::MEDIAPIPE),
                Place::Palms(View { side: palm::SMALL_SIDE, border: 0.23 }),
            ],
            palm_score: 0.1,
            palms: 2,
            photo_border: 0.05,
            trace_presence: 0.1,
            sure_presence: 0.98,
            presence: 0.3,
            refine: false,
        }
    }
}

/// How often each model ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// Palm detection.
    pub palm: u32,
    /// Landmarks.
    pub landmarks: u32,
}

/// A hand that may be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Score of the palm that it belongs to; 0 for one that was found without.
    pub palm_score: f32,
    /// What the landmark model says of it, seen as it is: a left hand is not mirrored.
    pub hand: Hand,
}

/// What was found, and what it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The hand, if there is one. Seen as a right hand: a left one was mirrored.
    pub hand: Option<Hand>,
    /// Score of the palm with the most presence of a hand, 0 if that one was found without.
    pub palm_score: f32,
    /// How often each model ran.
    pub passes: Passes,
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
    let mut best: Option<Candidate> = None;
    let mut passes = look(palm_model, landmark_model, photo, search, |candidate| {
        let sure = candidate.hand.presence >= search.sure_presence;
        if best.as_ref().is_none_or(|best| candidate.hand.presence > best.hand.presence) {
            best = Some(candidate);
        }
        if sure { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let palm_score = best.as_ref().map_or(0.0, |best| best.palm_score);
    let hand = match best.map(|best| best.hand).filter(|hand| hand.presence >= search.presence) {
        Some(hand) if hand.handedness == Handedness::Left || search.refine => {
            passes.landmarks += 1;
            Some(refine(landmark_model, photo, hand)?)
        }
        hand => hand,
    };
    Ok(Found { hand, palm_score, passes })
}

/// Looks at one place after the other and shows what is there, until it is told to stop.
///
/// # Errors
/// [`ModelError::Run`].
pub fn look(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    photo: &Photo,
    search: &Search,
    mut show: impl FnMut(Candidate) -> ControlFlow<()>,
) -> Result<Passes, ModelError> {
    let mut passes = Passes::default();
    for place in &search.places {
        let mut regions = match *place {
            Place::Palms(view) => {
                passes.palm += 1;
                palm::detect(palm_model, photo, view, search.palm_score)?
            }
            Place::Photo { rotation } => {
                let region = Region { rotation, ..Region::letterbox(photo, search.photo_border) };
                vec![Palm { score: 0.0, region }]
            }
        };
        regions.truncate(search.palms);
        let trace = matches!(place, Place::Photo { .. });
        for Palm { score: palm_score, region } in regions {
            let hand = landmarks::find(landmark_model, photo, &region, false)?;
            passes.landmarks += 1;
            let again = trace && hand.presence >= search.trace_presence;
            let nearer = again.then(|| landmarks::region_of(&hand.landmarks));
            if show(Candidate { palm_score, hand }).is_break() {
                return Ok(passes);
            }
            if let Some(region) = nearer {
                let hand = landmarks::find(landmark_model, photo, &region, false)?;
                passes.landmarks += 1;
                if show(Candidate { palm_score, hand }).is_break() {
                    return Ok(passes);
                }
            }
        }
    }
    Ok(passes)
}

/// Looks again where the landmarks say that the hand is; a left hand is seen mirrored.
///
/// # Errors
/// [`ModelError::Run`].
pub fn refine(model: &dyn Model, photo: &Photo, first: Hand) -> Result<Hand, ModelError> {
    let region = landmarks::region_of(&first.landmarks);
    let mirror = first.handedness == Handedness::Left;
    let second = landmarks::find(model, photo, &region, mirror)?;
    // Whether it is a hand, and which one, was said by the first look, which saw it as it is.
    let Hand { presence, handedness, handedness_score, .. } = first;
    Ok(Hand { presence, handedness, handedness_score, ..second })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::Input;
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
        fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            let anchors = palm::anchor_count((input.len() / 3).isqrt());
            let mut boxes = vec![0.0; anchors * 18];
            let mut scores = vec![-100.0; anchors];
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
        fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
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
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 1 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.handedness, hand.handedness_score), (Handedness::Right, 0.8));
        assert!(!hand.mirrored);
    }

    #[test]
    fn a_left_hand_is_looked_at_again_in_the_mirror() {
        let says = Says { presence: 0.98, right: 0.3 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 2 });
        let hand = found.hand.expect("a hand");
        assert_eq!(hand.handedness, Handedness::Left, "what the first look said stands");
        assert!(hand.mirrored);
    }

    /// The default search without the looks at the whole photo.
    fn palms_only() -> Search {
        let mut search = Search::default();
        search.places.retain(|place| matches!(place, Place::Palms(_)));
        search
    }

    #[test]
    fn every_border_is_tried_until_a_palm_is_found() {
        let says = Says { presence: 0.98, right: 0.8 };
        let search = palms_only();
        let found = find(&PalmFrom::run(3), &says, &photo(), &search).expect("a run");
        assert_eq!((found.passes.palm, found.hand.is_some()), (3, true));
        let found = find(&PalmFrom::run(99), &says, &photo(), &search).expect("a run");
        assert_eq!(found.passes.palm as usize, search.places.len());
        assert_eq!((found.passes.landmarks, found.hand), (0, None));
    }

    #[test]
    fn without_a_palm_the_whole_photo_is_looked_at() {
        let says = Says { presence: 0.98, right: 0.8 };
        let found = find(&PalmFrom::run(99), &says, &photo(), &Search::default()).expect("a run");
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 1 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.region.center, hand.region.size), ([100.0, 50.0], 220.0));
        assert_eq!(found.palm_score, 0.0);
    }

    #[test]
    fn a_trace_of_a_hand_in_the_whole_photo_is_looked_at_again() {
        let search = |trace_presence| Search { trace_presence, ..Search::default() };
        let says = Says { presence: 0.2, right: 0.8 };
        for (trace_presence, passes) in [(0.1, 6), (0.3, 3)] {
            let found = find(&PalmFrom::run(99), &says, &photo(), &search(trace_presence));
            assert_eq!(found.expect("a run").passes, Passes { palm: 3, landmarks: passes });
        }
    }

    #[test]
    fn without_a_sure_hand_every_palm_is_looked_at_and_the_likeliest_taken() {
        let says = Says { presence: 0.5, right: 0.8 };
        let found = find(&PalmFrom::run(1), &says, &photo(), &palms_only()).expect("a run");
        assert_eq!(found.passes, Passes { palm: 3, landmarks: 3 });
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
