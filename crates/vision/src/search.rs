//! The search for a hand: palm detection and landmarks together, attempt by attempt.
//!
//! [`find`] works through the attempts of a [`Search`]. Each attempt yields regions: palm detection's,
//! or the whole photo. The landmark model looks at each region and reports a presence. The first
//! candidate with [`Search::stop_presence`] ends the search; otherwise the one with the highest
//! presence is the hand, if it has [`Search::min_presence`]. A left hand is then looked at once more,
//! mirrored.
//!
//! [`Search::default`] holds the attempts, their order and all thresholds. An [`Observer`] sees every
//! pass, such as for a trace.

use std::f32::consts::FRAC_PI_4;
use std::ops::ControlFlow;

use crate::decode::Photo;
use crate::engine::{Model, ModelError};
use crate::landmarks::{self, Hand, Handedness};
use crate::palm::{self, Palm, View};
use crate::region::Region;

/// One way to get regions that may hold a hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attempt {
    /// The regions of the palms that palm detection finds in a view of the photo.
    Palms(View),
    /// The whole photo as one region.
    ///
    /// It suits a hand that fills the photo, and one that palm detection misses: a fist, a hand in
    /// the shade, a photo without colours.
    WholePhoto {
        /// Clockwise rotation of the region, in radians.
        rotation: f32,
    },
}

/// The settings of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// Lowest score of a palm, 0 to 1. Palms below it are ignored.
    pub min_palm_score: f32,
    /// Largest number of palms that one attempt looks at, best score first.
    pub max_palms: usize,
    /// Border around the whole photo, on each side, as a fraction of its longer side.
    pub photo_border: f32,
    /// Presence from which a candidate in the whole photo is looked at again, closer: in the region
    /// that its landmarks give.
    pub retry_presence: f32,
    /// Presence from which a candidate ends the search.
    pub stop_presence: f32,
    /// Lowest presence of a hand. If every candidate is below it, no hand is found.
    pub min_presence: f32,
    /// True if a right hand, too, is looked at again in the region that its landmarks give. A left
    /// hand always is, since the classifier needs it mirrored.
    pub refine: bool,
}

impl Default for Search {
    /// Returns the settings that the service uses.
    ///
    /// They are measured: the tables "The search" and "No hand" in the model card
    /// (`models/README.md`).
    fn default() -> Search {
        Search {
            attempts: vec![
                Attempt::Palms(View { side: palm::SMALL_SIDE, border: 0.0 }),
                Attempt::WholePhoto { rotation: 0.0 },
                Attempt::WholePhoto { rotation: -FRAC_PI_4 },
                Attempt::WholePhoto { rotation: FRAC_PI_4 },
                Attempt::Palms(palm::MEDIAPIPE),
                Attempt::Palms(View { side: palm::SMALL_SIDE, border: 0.23 }),
            ],
            min_palm_score: 0.1,
            max_palms: 2,
            photo_border: 0.05,
            retry_presence: 0.1,
            stop_presence: 0.98,
            min_presence: 0.3,
            refine: false,
        }
    }
}

/// One run of a model during the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Palm detection looks at a view of the photo.
    Palm(View),
    /// The landmark model looks at a region.
    Landmarks {
        /// The region.
        region: Region,
        /// The reason to look there.
        reason: Reason,
        /// True if the model sees the region mirrored.
        mirrored: bool,
    },
}

/// The reason why the landmark model looks at a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Palm detection found a palm there.
    Palm,
    /// The attempt is at the whole photo.
    WholePhoto,
    /// A candidate in the whole photo reached [`Search::retry_presence`]: look closer.
    Retry,
    /// The hand is found; a closer look gives better landmarks, and a left hand is seen mirrored.
    Refine,
}

impl Reason {
    /// Returns the reason's name in lower case, such as `whole_photo`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Palm => "palm",
            Reason::WholePhoto => "whole_photo",
            Reason::Retry => "retry",
            Reason::Refine => "refine",
        }
    }
}

/// The result of one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// Palm detection's palms, best score first, before [`Search::max_palms`] applies.
    Palms(&'a [Palm]),
    /// The landmark model's report of its region, as this pass saw it.
    Hand(&'a Hand),
}

/// Watches the passes of a search.
///
/// Passes run one after the other: each start is followed by that pass's end. A pass that fails has
/// no end; the search returns its error. The observer `()` ignores everything and costs nothing.
pub trait Observer {
    /// Called before a pass samples the photo and runs its model.
    fn pass_started(&mut self, pass: &Pass) {
        _ = pass;
    }

    /// Called after a pass, with its result.
    fn pass_ended(&mut self, outcome: &Outcome<'_>) {
        _ = outcome;
    }
}

impl Observer for () {}

/// Number of passes of each model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// Passes of palm detection.
    pub palm: u32,
    /// Passes of the landmark model.
    pub landmarks: u32,
}

/// A region with what the landmark model reported for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Score of the palm that gave the region, 0 to 1; 0 for the whole photo.
    pub palm_score: f32,
    /// The landmark model's report. The model saw the region unmirrored, so a left hand is not
    /// mirrored here.
    pub hand: Hand,
}

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The hand, or `None` if no candidate has [`Search::min_presence`]. A left hand was seen
    /// mirrored, as a right one.
    pub hand: Option<Hand>,
    /// Score of the palm whose candidate has the highest presence, 0 to 1; 0 for the whole photo.
    pub palm_score: f32,
    /// The passes that it took.
    pub passes: Passes,
}

/// Searches a photo for a hand.
///
/// # Errors
/// [`ModelError::Run`] if a pass fails. The search ends there.
pub fn find(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    photo: &Photo,
    search: &Search,
    observer: &mut (impl Observer + ?Sized),
) -> Result<Found, ModelError> {
    let mut best: Option<Candidate> = None;
    let visit = |candidate: Candidate| {
        let stop = candidate.hand.presence >= search.stop_presence;
        if best.as_ref().is_none_or(|best| candidate.hand.presence > best.hand.presence) {
            best = Some(candidate);
        }
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut passes =
        for_each_candidate(palm_model, landmark_model, photo, search, observer, visit)?;
    let palm_score = best.as_ref().map_or(0.0, |best| best.palm_score);
    let hand = best.map(|best| best.hand).filter(|hand| hand.presence >= search.min_presence);
    let hand = match hand {
        Some(hand) if hand.handedness == Handedness::Left || search.refine => {
            passes.landmarks += 1;
            Some(refine(landmark_model, photo, hand, observer)?)
        }
        hand => hand,
    };
    Ok(Found { hand, palm_score, passes })
}

/// Makes one attempt after the other and visits every candidate, until `visit` breaks.
///
/// Only `attempts`, `min_palm_score`, `max_palms`, `photo_border` and `retry_presence` of the search
/// matter here: to stop at a presence, and to choose a candidate, is up to `visit`.
///
/// # Errors
/// [`ModelError::Run`] if a pass fails.
pub fn for_each_candidate(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    photo: &Photo,
    search: &Search,
    observer: &mut (impl Observer + ?Sized),
    mut visit: impl FnMut(Candidate) -> ControlFlow<()>,
) -> Result<Passes, ModelError> {
    let mut passes = Passes::default();
    for attempt in &search.attempts {
        let (mut palms, reason) = match *attempt {
            Attempt::Palms(view) => {
                passes.palm += 1;
                observer.pass_started(&Pass::Palm(view));
                let palms = palm::detect(palm_model, photo, view, search.min_palm_score)?;
                observer.pass_ended(&Outcome::Palms(&palms));
                (palms, Reason::Palm)
            }
            Attempt::WholePhoto { rotation } => {
                let region = Region { rotation, ..Region::letterbox(photo, search.photo_border) };
                (vec![Palm { score: 0.0, region }], Reason::WholePhoto)
            }
        };
        palms.truncate(search.max_palms);
        for Palm { score: palm_score, region } in palms {
            passes.landmarks += 1;
            let hand = landmark_pass(landmark_model, photo, region, reason, false, observer)?;
            let retry = reason == Reason::WholePhoto && hand.presence >= search.retry_presence;
            let closer = retry.then(|| landmarks::region_of(&hand.landmarks));
            if visit(Candidate { palm_score, hand }).is_break() {
                return Ok(passes);
            }
            if let Some(region) = closer {
                passes.landmarks += 1;
                let hand =
                    landmark_pass(landmark_model, photo, region, Reason::Retry, false, observer)?;
                if visit(Candidate { palm_score, hand }).is_break() {
                    return Ok(passes);
                }
            }
        }
    }
    Ok(passes)
}

/// Looks at a hand again in the region that its landmarks give; a left hand is seen mirrored.
///
/// Presence and handedness stay those of `first`, whose pass saw the hand unmirrored.
///
/// # Errors
/// [`ModelError::Run`] if the pass fails.
pub fn refine(
    model: &dyn Model,
    photo: &Photo,
    first: Hand,
    observer: &mut (impl Observer + ?Sized),
) -> Result<Hand, ModelError> {
    let region = landmarks::region_of(&first.landmarks);
    let mirrored = first.handedness == Handedness::Left;
    let second = landmark_pass(model, photo, region, Reason::Refine, mirrored, observer)?;
    let Hand { presence, handedness, handedness_score, .. } = first;
    Ok(Hand { presence, handedness, handedness_score, ..second })
}

fn landmark_pass(
    model: &dyn Model,
    photo: &Photo,
    region: Region,
    reason: Reason,
    mirrored: bool,
    observer: &mut (impl Observer + ?Sized),
) -> Result<Hand, ModelError> {
    observer.pass_started(&Pass::Landmarks { region, reason, mirrored });
    let hand = landmarks::find(model, photo, &region, mirrored)?;
    observer.pass_ended(&Outcome::Hand(&hand));
    Ok(hand)
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

    /// A landmark model that reports the same presence and handedness for every region.
    struct Reports {
        presence: f32,
        /// Probability of a right hand in the region as the model sees it.
        right: f32,
    }

    impl Model for Reports {
        fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            let points: Vec<f32> = (0..LANDMARKS)
                .flat_map(|i| [80.0 + i as f32, 150.0 - 3.0 * i as f32, 0.0])
                .collect();
            let world = vec![0.0; 3 * LANDMARKS];
            Ok(vec![points, vec![self.presence], vec![self.right], world, vec![0.5; 7]])
        }
    }

    /// A model that always fails.
    struct Fails;

    impl Model for Fails {
        fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            Err(ModelError::Run { name: "fake".into(), reason: "on purpose".into() })
        }
    }

    const RIGHT_HAND: Reports = Reports { presence: 0.98, right: 0.8 };

    fn photo() -> Photo {
        Photo::from_rgb(200, 100, vec![9; 200 * 100 * 3]).expect("a photo")
    }

    /// Searches with the palm detector that finds a palm from its n-th run on.
    fn find_with(palm_from: usize, landmarks: &Reports, search: &Search) -> Found {
        find(&PalmFrom::run(palm_from), landmarks, &photo(), search, &mut ()).expect("a search")
    }

    /// The default search without its attempts at the whole photo.
    fn palms_only() -> Search {
        let mut search = Search::default();
        search.attempts.retain(|attempt| matches!(attempt, Attempt::Palms(_)));
        search
    }

    /// Writes down starts and ends of passes.
    #[derive(Default)]
    struct Recorder {
        passes: Vec<Pass>,
        events: Vec<String>,
    }

    impl Observer for Recorder {
        fn pass_started(&mut self, pass: &Pass) {
            self.passes.push(*pass);
            self.events.push(match pass {
                Pass::Palm(View { side, border }) => format!("palm {side} {border}"),
                Pass::Landmarks { reason, mirrored, .. } => {
                    format!("landmarks {} {mirrored}", reason.name())
                }
            });
        }

        fn pass_ended(&mut self, outcome: &Outcome<'_>) {
            self.events.push(match outcome {
                Outcome::Palms(palms) => format!("{} palms", palms.len()),
                Outcome::Hand(hand) => format!("{} {:?}", hand.presence, hand.handedness),
            });
        }
    }

    #[test]
    fn visible_hand_takes_one_pass_of_each_model() {
        let found = find_with(1, &RIGHT_HAND, &Search::default());
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 1 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.handedness, hand.handedness_score), (Handedness::Right, 0.8));
        assert!(!hand.mirrored);
    }

    #[test]
    fn left_hand_is_refined_in_the_mirror_and_stays_left() {
        let found = find_with(1, &Reports { right: 0.25, ..RIGHT_HAND }, &Search::default());
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 2 });
        let hand = found.hand.expect("a hand");
        // The mirrored pass alone would report a right hand.
        assert_eq!((hand.handedness, hand.handedness_score), (Handedness::Left, 0.75));
        assert!(hand.mirrored);
    }

    #[test]
    fn right_hand_is_refined_unmirrored_on_request() {
        let search = Search { refine: true, ..Search::default() };
        let found = find_with(1, &RIGHT_HAND, &search);
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 2 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.handedness, hand.mirrored), (Handedness::Right, false));
    }

    #[test]
    fn palm_attempts_continue_until_a_palm_is_found() {
        let search = palms_only();
        let found = find_with(3, &RIGHT_HAND, &search);
        assert_eq!((found.passes.palm, found.hand.is_some()), (3, true));
        let found = find_with(99, &RIGHT_HAND, &search);
        assert_eq!(found.passes.palm as usize, search.attempts.len());
        assert_eq!((found.passes.landmarks, found.hand), (0, None));
    }

    #[test]
    fn whole_photo_is_searched_without_a_palm() {
        let found = find_with(99, &RIGHT_HAND, &Search::default());
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 1 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.region.center, hand.region.size), ([100.0, 50.0], 220.0));
        assert_eq!(found.palm_score, 0.0);
    }

    #[test]
    fn whole_photo_is_retried_from_retry_presence_on() {
        let weak = Reports { presence: 0.2, right: 0.8 };
        for (retry_presence, landmarks) in [(0.1, 6), (0.2, 6), (0.3, 3)] {
            let search = Search { retry_presence, ..Search::default() };
            let found = find_with(99, &weak, &search);
            assert_eq!(found.passes, Passes { palm: 3, landmarks }, "{retry_presence}");
        }
    }

    #[test]
    fn every_palm_is_searched_without_stop_presence() {
        let unsure = Reports { presence: 0.5, right: 0.8 };
        let found = find_with(1, &unsure, &palms_only());
        assert_eq!(found.passes, Passes { palm: 3, landmarks: 3 });
        assert_eq!(found.hand.map(|hand| hand.presence), Some(0.5));
    }

    #[test]
    fn palm_without_min_presence_is_no_hand() {
        let found = find_with(1, &Reports { presence: 0.1, right: 0.8 }, &Search::default());
        assert_eq!(found.hand, None);
        assert!(found.palm_score > 0.9);
    }

    #[test]
    fn observer_sees_every_pass_in_order() {
        let mut recorder = Recorder::default();
        let weak_left = Reports { presence: 0.5, right: 0.25 };
        let search = Search { stop_presence: 0.4, ..Search::default() };
        find(&PalmFrom::run(1), &weak_left, &photo(), &search, &mut recorder).expect("a search");
        let expected = [
            ("palm 128 0", "1 palms"),
            ("landmarks palm false", "0.5 Left"),
            // The model reports the same for the mirrored region, which makes it a right hand there.
            ("landmarks refine true", "0.5 Right"),
        ];
        let expected: Vec<_> = expected.iter().flat_map(|(start, end)| [*start, *end]).collect();
        assert_eq!(recorder.events, expected);
    }

    #[test]
    fn observer_sees_all_attempts_of_a_photo_without_hand() {
        let mut recorder = Recorder::default();
        let weak = Reports { presence: 0.2, right: 0.75 };
        let palms = PalmFrom::run(2);
        let found = find(&palms, &weak, &photo(), &Search::default(), &mut recorder);
        let found = found.expect("a search");
        let starts: Vec<_> = recorder.events.iter().step_by(2).map(String::as_str).collect();
        let expected = [
            "palm 128 0",
            "landmarks whole_photo false",
            "landmarks retry false",
            "landmarks whole_photo false",
            "landmarks retry false",
            "landmarks whole_photo false",
            "landmarks retry false",
            "palm 192 0",
            "landmarks palm false",
            "palm 128 0.23",
            "landmarks palm false",
        ];
        assert_eq!(starts, expected);
        assert_eq!(recorder.events[1], "0 palms");
        assert_eq!(found.passes, Passes { palm: 3, landmarks: 8 });
        let rotations = recorder.passes.iter().filter_map(|pass| match pass {
            Pass::Landmarks { region, reason: Reason::WholePhoto, .. } => Some(region.rotation),
            _ => None,
        });
        assert_eq!(rotations.collect::<Vec<_>>(), [0.0, -FRAC_PI_4, FRAC_PI_4]);
    }

    #[test]
    fn failed_pass_ends_the_search_without_an_end() {
        let mut recorder = Recorder::default();
        let found = find(&PalmFrom::run(1), &Fails, &photo(), &Search::default(), &mut recorder);
        assert!(matches!(found, Err(ModelError::Run { .. })), "{found:?}");
        assert_eq!(recorder.events, ["palm 128 0", "1 palms", "landmarks palm false"]);
    }

    #[test]
    fn visitor_stops_the_attempts() {
        let mut visits = 0;
        let visit = |_: Candidate| {
            visits += 1;
            ControlFlow::Break(())
        };
        let passes = for_each_candidate(
            &PalmFrom::run(1),
            &RIGHT_HAND,
            &photo(),
            &Search::default(),
            &mut (),
            visit,
        );
        assert_eq!(passes.expect("a search"), Passes { palm: 1, landmarks: 1 });
        assert_eq!(visits, 1);
    }
}
