//! The search for a hand: palm detection and landmarks together, attempt by attempt.
//!
//! [`Searcher::find`] works through the attempts of a [`Search`]. Each attempt yields regions: palm detection's,
//! the whole photo, or one that the caller knows. The landmark model looks at each region, and a
//! [`Judge`] says how far the result can be trusted. The first candidate with [`Search::stop_trust`]
//! ends the search. A photo in which nothing looks like a hand ends it early: [`Search::give_up`].
//! Otherwise the candidate with the highest trust is the hand, if it has [`Search::min_presence`].
//!
//! [`Search::default`] holds the attempts, their order and all thresholds. An [`Observer`] sees every
//! pass, such as for a trace.

use std::ops::ControlFlow;

use crate::decode::Photo;
use crate::engine::{Model, ModelError};
use crate::landmarks::{self, Hand};
use crate::palm::{self, Palm, View};
use crate::region::Region;

/// Parts of the photo whose centres are nearer, as a fraction of their side, show the same.
const SAME_PART: f32 = 0.25;

/// One way to get regions that may hold a hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attempt {
    /// The regions of the palms that palm detection finds in the whole photo.
    Palms(Look),
    /// The regions of the palms that palm detection finds in parts of the photo, where the look at the
    /// whole photo before saw the best palms: closer, a hand is larger.
    ///
    /// It is left out once a candidate has [`Search::hopeful_trust`].
    CloserPalms(Look),
    /// The whole photo as one region.
    ///
    /// It suits a hand that fills the photo, and one that palm detection misses: a fist, a hand in
    /// the shade, a photo without colours.
    WholePhoto,
}

/// A look by palm detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Side of the model's input in pixels, one of [`palm::SIDES`].
    pub side: usize,
    /// Score from which the landmark model looks at a palm, 0 to 1.
    pub min_score: f32,
}

/// The settings of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// Lowest score of a palm, 0 to 1. Palms below it are ignored.
    pub min_palm_score: f32,
    /// Largest number of palms that the landmark model looks at after one look by palm detection, best
    /// score first.
    pub max_palms: usize,
    /// Side of a part of the photo, as a fraction of its longer side.
    pub part: f32,
    /// Largest number of parts.
    pub max_parts: usize,
    /// Trust from which a candidate is hopeful. Without one, the search looks closer, or gives up.
    pub hopeful_trust: f32,
    /// Border around the whole photo, on each side, as a fraction of its longer side.
    pub photo_border: f32,
    /// Presence from which a candidate in the whole photo is looked at again, closer: in the region
    /// that its landmarks give.
    pub retry_presence: f32,
    /// Trust from which a candidate ends the search.
    pub stop_trust: f32,
    /// When to end a search without a hopeful candidate.
    pub give_up: Vec<GiveUp>,
    /// Lowest presence of a hand. A candidate below it is none.
    pub min_presence: f32,
}

/// When to end a search without a hopeful candidate: after so many attempts, if no palm that the landmark
/// model has not looked at has the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GiveUp {
    /// Number of attempts that are made first.
    pub attempts: usize,
    /// Score that all palms are below which the landmark model has not looked at.
    pub palm_score: f32,
}

impl Default for Search {
    /// Returns the settings that the service uses.
    ///
    /// They are measured: the table "The search" in the model card (`models/README.md`).
    fn default() -> Search {
        Search {
            attempts: vec![
                Attempt::Palms(Look { side: palm::SMALL_SIDE, min_score: 0.7 }),
                Attempt::CloserPalms(Look { side: palm::PART_SIDE, min_score: 0.5 }),
                Attempt::Palms(Look { side: palm::LARGE_SIDE, min_score: 0.35 }),
                Attempt::WholePhoto,
            ],
            min_palm_score: 0.1,
            max_palms: 2,
            part: 0.5,
            max_parts: 2,
            hopeful_trust: 0.1,
            photo_border: 0.05,
            retry_presence: 0.1,
            stop_trust: 0.9,
            give_up: vec![
                GiveUp { attempts: 2, palm_score: 0.35 },
                GiveUp { attempts: 3, palm_score: f32::INFINITY },
            ],
            min_presence: 0.3,
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
    },
}

/// The reason why the landmark model looks at a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller knows it: a hand was there in the frame before.
    Known,
    /// Palm detection found a palm there.
    Palm,
    /// The attempt is at the whole photo.
    WholePhoto,
    /// A candidate in the whole photo reached [`Search::retry_presence`]: look closer.
    Retry,
}

impl Reason {
    /// Returns the reason's name in lower case, such as `whole_photo`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Known => "known",
            Reason::Palm => "palm",
            Reason::WholePhoto => "whole_photo",
            Reason::Retry => "retry",
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
    /// Score of the palm that gave the region, 0 to 1; 0 for any other region.
    pub palm_score: f32,
    /// The landmark model's report.
    pub hand: Hand,
}

/// Says how far a candidate can be trusted: the probability, 0 to 1, that it is a hand, rightly seen.
///
/// An error ends the search.
pub trait Judge {
    /// Returns the trust.
    ///
    /// # Errors
    /// [`ModelError::Run`] if a model fails.
    fn trust(&mut self, candidate: &Candidate) -> Result<f32, ModelError>;
}

impl<F: FnMut(&Candidate) -> Result<f32, ModelError>> Judge for F {
    fn trust(&mut self, candidate: &Candidate) -> Result<f32, ModelError> {
        self(candidate)
    }
}

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The hand, or `None` if no candidate has [`Search::min_presence`].
    pub hand: Option<Hand>,
    /// Trust in the hand, 0 to 1; 0 without one.
    pub trust: f32,
    /// Score of the palm that led to the hand, 0 to 1; 0 if none did.
    pub palm_score: f32,
    /// The passes that it took.
    pub passes: Passes,
}

/// A search's models and photo, and what it has done so far.
pub struct Searcher<'a, O: ?Sized> {
    palm_model: &'a dyn Model,
    landmark_model: &'a dyn Model,
    photo: &'a Photo,
    search: &'a Search,
    observer: &'a mut O,
    passes: Passes,
    /// The palms of the last look at the whole photo, best score first.
    palms: Vec<Palm>,
    /// The best score of a palm that the landmark model has not looked at, 0 to 1.
    best_unseen_score: f32,
}

impl<'a, O: Observer + ?Sized> Searcher<'a, O> {
    /// Returns a search that has done nothing yet. The observer sees every pass.
    pub fn new(
        palm_model: &'a dyn Model,
        landmark_model: &'a dyn Model,
        photo: &'a Photo,
        search: &'a Search,
        observer: &'a mut O,
    ) -> Searcher<'a, O> {
        let passes = Passes::default();
        Searcher {
            palm_model,
            landmark_model,
            photo,
            search,
            observer,
            passes,
            palms: Vec::new(),
            best_unseen_score: 0.0,
        }
    }

    /// Searches for a hand. `known` is a region where one was before: it is looked at first, and with
    /// [`Search::stop_trust`] there the search takes one pass.
    ///
    /// # Errors
    /// [`ModelError::Run`] if a pass or the judge fails. The search ends there.
    pub fn find(
        mut self,
        known: Option<Region>,
        judge: &mut (impl Judge + ?Sized),
    ) -> Result<Found, ModelError> {
        let mut best: Option<(f32, Candidate)> = None;
        let search = self.search;
        let mut visit = |candidate: Candidate| {
            if candidate.hand.presence < search.min_presence {
                return Ok(ControlFlow::Continue(0.0));
            }
            let trust = judge.trust(&candidate)?;
            if best.as_ref().is_none_or(|(most, _)| trust > *most) {
                best = Some((trust, candidate));
            }
            let stop = trust >= search.stop_trust;
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(trust) })
        };
        self.all_attempts(known, &mut visit)?;
        let Searcher { passes, .. } = self;
        Ok(match best {
            None => Found { passes, ..Found::default() },
            Some((trust, Candidate { palm_score, hand })) => {
                Found { hand: Some(hand), trust, palm_score, passes }
            }
        })
    }

    /// Makes one attempt after the other, until a visit breaks or the search gives up.
    fn all_attempts(
        &mut self,
        known: Option<Region>,
        visit: &mut impl FnMut(Candidate) -> Result<ControlFlow<(), f32>, ModelError>,
    ) -> Result<(), ModelError> {
        if let Some(region) = known {
            let hand = self.landmarks(region, Reason::Known)?;
            if visit(Candidate { palm_score: 0.0, hand })?.is_break() {
                return Ok(());
            }
        }
        let mut most = 0.0_f32;
        for (number, attempt) in self.search.attempts.iter().enumerate() {
            let hopeful = most >= self.search.hopeful_trust;
            if hopeful && matches!(attempt, Attempt::CloserPalms(_)) {
                continue;
            }
            let mut visit = |candidate| {
                Ok(match visit(candidate)? {
                    ControlFlow::Continue(trust) => {
                        most = most.max(trust);
                        ControlFlow::Continue(())
                    }
                    ControlFlow::Break(()) => ControlFlow::Break(()),
                })
            };
            if self.attempt(attempt, &mut visit)?.is_break() {
                return Ok(());
            }
            let hopeless = |limit: &GiveUp| {
                number + 1 == limit.attempts && self.best_unseen_score < limit.palm_score
            };
            if most < self.search.hopeful_trust && self.search.give_up.iter().any(hopeless) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes one attempt and visits each of its candidates, until `visit` breaks.
    ///
    /// # Errors
    /// [`ModelError::Run`] if a pass fails, and any error of `visit`.
    pub fn attempt(
        &mut self,
        attempt: &Attempt,
        visit: &mut impl FnMut(Candidate) -> Result<ControlFlow<()>, ModelError>,
    ) -> Result<ControlFlow<()>, ModelError> {
        match *attempt {
            Attempt::Palms(look) => {
                let palms = self.detect(View::whole(self.photo, look.side))?;
                let done = self.look_at(&palms, look.min_score, visit)?;
                self.palms = palms;
                Ok(done)
            }
            Attempt::CloserPalms(look) => {
                for region in self.parts() {
                    let palms = self.detect(View { side: look.side, region })?;
                    if self.look_at(&palms, look.min_score, visit)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Attempt::WholePhoto => {
                let region = Region::letterbox(self.photo, self.search.photo_border);
                let hand = self.landmarks(region, Reason::WholePhoto)?;
                let retry = hand.presence >= self.search.retry_presence;
                let closer = landmarks::region_of(&hand.landmarks);
                let done = visit(Candidate { palm_score: 0.0, hand })?;
                if done.is_break() || !retry {
                    return Ok(done);
                }
                let hand = self.landmarks(closer, Reason::Retry)?;
                visit(Candidate { palm_score: 0.0, hand })
            }
        }
    }

    /// Returns the parts of the photo to look at closer: around the best palms, apart from each other.
    fn parts(&self) -> Vec<Region> {
        let mut parts: Vec<Region> = Vec::new();
        for palm in &self.palms {
            let part = Region::part(self.photo, palm.region.center, self.search.part);
            let apart = |other: &Region| {
                let away = [0, 1].map(|axis| (part.center[axis] - other.center[axis]).abs());
                away[0] + away[1] >= SAME_PART * part.size
            };
            if parts.len() < self.search.max_parts && parts.iter().all(apart) {
                parts.push(part);
            }
        }
        parts
    }

    /// Runs palm detection on a view of the photo. Returns the palms, best score first.
    fn detect(&mut self, view: View) -> Result<Vec<Palm>, ModelError> {
        self.passes.palm += 1;
        self.observer.pass_started(&Pass::Palm(view));
        let min_score = self.search.min_palm_score;
        let palms = palm::detect(self.palm_model, self.photo, view, min_score)?;
        self.observer.pass_ended(&Outcome::Palms(&palms));
        Ok(palms)
    }

    /// Runs the landmark model on the best palms and visits the candidates, until `visit` breaks.
    fn look_at(
        &mut self,
        palms: &[Palm],
        min_score: f32,
        visit: &mut impl FnMut(Candidate) -> Result<ControlFlow<()>, ModelError>,
    ) -> Result<ControlFlow<()>, ModelError> {
        for (number, &Palm { score: palm_score, region }) in palms.iter().enumerate() {
            if palm_score < min_score || number >= self.search.max_palms {
                self.best_unseen_score = self.best_unseen_score.max(palm_score);
                break;
            }
            let hand = self.landmarks(region, Reason::Palm)?;
            if visit(Candidate { palm_score, hand })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Runs the landmark model on a region.
    fn landmarks(&mut self, region: Region, reason: Reason) -> Result<Hand, ModelError> {
        self.passes.landmarks += 1;
        self.observer.pass_started(&Pass::Landmarks { region, reason });
        let hand = landmarks::find(self.landmark_model, self.photo, &region)?;
        self.observer.pass_ended(&Outcome::Hand(&hand));
        Ok(hand)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::Input;
    use crate::landmarks::{Handedness, LANDMARKS};

    /// A palm detector that finds a palm in the middle from its n-th run on.
    struct PalmFrom {
        run: usize,
        /// The palm's score before the sigmoid.
        score: f32,
        runs: AtomicUsize,
    }

    impl PalmFrom {
        /// A palm that is looked at by every attempt.
        fn run(run: usize) -> PalmFrom {
            PalmFrom { run, score: 3.0, runs: AtomicUsize::new(0) }
        }
    }

    impl Model for PalmFrom {
        fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            let anchors = palm::anchor_count((input.len() / 3).isqrt());
            let mut boxes = vec![0.0; anchors * 18];
            let mut scores = vec![-100.0; anchors];
            if self.runs.fetch_add(1, Ordering::Relaxed) + 1 >= self.run {
                boxes[300 * 18..][2..4].copy_from_slice(&[50.0, 50.0]);
                scores[300] = self.score;
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

    const CLEAR: Reports = Reports { presence: 0.98, right: 0.75 };

    fn photo() -> Photo {
        Photo::from_rgb(200, 100, vec![9; 200 * 100 * 3]).expect("a photo")
    }

    /// Trusts a candidate as far as its presence.
    fn presence(candidate: &Candidate) -> Result<f32, ModelError> {
        Ok(candidate.hand.presence)
    }

    /// Searches with the palm detector that finds a palm from its n-th run on, and sees every pass.
    fn find_observed(
        palm_from: usize,
        landmark_model: &dyn Model,
        search: &Search,
        known: Option<Region>,
        observer: &mut dyn Observer,
    ) -> Result<Found, ModelError> {
        let palm_model = PalmFrom::run(palm_from);
        Searcher::new(&palm_model, landmark_model, &photo(), search, observer)
            .find(known, &mut presence)
    }

    /// Searches with the palm detector that finds a palm from its n-th run on.
    fn find_with(palm_from: usize, landmarks: &Reports, search: &Search) -> Found {
        find_observed(palm_from, landmarks, search, None, &mut ()).expect("a search")
    }

    /// The default search, which never gives up early.
    fn patient() -> Search {
        Search { give_up: Vec::new(), ..Search::default() }
    }

    /// The default search without its attempts at the whole photo.
    fn palms_only() -> Search {
        let mut search = patient();
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
                Pass::Palm(View { side, region }) => format!("palm {side} of {}", region.size),
                Pass::Landmarks { reason, .. } => format!("landmarks {}", reason.name()),
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
        for (right, handedness) in [(0.75, Handedness::Right), (0.25, Handedness::Left)] {
            let found = find_with(1, &Reports { right, ..CLEAR }, &Search::default());
            assert_eq!(found.passes, Passes { palm: 1, landmarks: 1 });
            assert_eq!((found.trust, found.palm_score > 0.9), (0.98, true));
            let hand = found.hand.expect("a hand");
            assert_eq!((hand.handedness, hand.handedness_score), (handedness, 0.75));
        }
    }

    #[test]
    fn known_region_takes_one_pass() {
        let known = Region { center: [80.0, 40.0], size: 60.0, rotation: 0.5 };
        let mut recorder = Recorder::default();
        let found = find_observed(1, &CLEAR, &Search::default(), Some(known), &mut recorder);
        let found = found.expect("a search");
        assert_eq!(found.passes, Passes { palm: 0, landmarks: 1 });
        assert_eq!(found.hand.map(|hand| hand.region), Some(known));
        assert_eq!(recorder.events[0], "landmarks known");
    }

    #[test]
    fn known_region_without_hand_is_followed_by_the_search() {
        let known = Region { center: [80.0, 40.0], size: 60.0, rotation: 0.5 };
        let nothing = Reports { presence: 0.1, right: 0.8 };
        let found = find_observed(9, &nothing, &patient(), Some(known), &mut ());
        let found = found.expect("a search");
        assert!(found.hand.is_none() && found.passes == Passes { palm: 2, landmarks: 3 });
    }

    #[test]
    fn palm_attempts_continue_until_a_palm_is_found() {
        let search = palms_only();
        let found = find_with(2, &CLEAR, &search);
        assert_eq!((found.passes.palm, found.hand.is_some()), (2, true));
        let found = find_with(99, &CLEAR, &search);
        assert_eq!(found.passes.palm as usize, search.attempts.len());
        assert_eq!((found.passes.landmarks, found.hand), (0, None));
    }

    #[test]
    fn whole_photo_is_searched_without_a_palm() {
        let found = find_with(99, &CLEAR, &patient());
        assert_eq!(found.passes, Passes { palm: 2, landmarks: 1 });
        let hand = found.hand.expect("a hand");
        assert_eq!((hand.region.center, hand.region.size), ([100.0, 50.0], 220.0));
        assert_eq!(found.palm_score, 0.0);
    }

    #[test]
    fn whole_photo_is_retried_from_retry_presence_on() {
        let weak = Reports { presence: 0.2, right: 0.8 };
        for (retry_presence, landmarks) in [(0.1, 2), (0.2, 2), (0.3, 1)] {
            let found = find_with(99, &weak, &Search { retry_presence, ..patient() });
            assert_eq!(found.passes, Passes { palm: 2, landmarks }, "{retry_presence}");
        }
    }

    #[test]
    fn every_palm_is_searched_without_stop_trust() {
        let unsure = Reports { presence: 0.5, right: 0.8 };
        let found = find_with(1, &unsure, &palms_only());
        assert_eq!(found.passes, Passes { palm: 2, landmarks: 2 });
        assert_eq!(found.hand.map(|hand| hand.presence), Some(0.5));
    }

    #[test]
    fn palm_without_min_presence_is_no_hand() {
        let found = find_with(1, &Reports { presence: 0.1, right: 0.8 }, &Search::default());
        assert_eq!((found.hand, found.trust, found.palm_score), (None, 0.0, 0.0));
    }

    #[test]
    fn photo_without_anything_like_a_hand_ends_the_search_early() {
        let nothing = Reports { presence: 0.001, right: 0.8 };
        let found = find_with(99, &nothing, &Search::default());
        assert_eq!(found.passes, Passes { palm: 1, landmarks: 0 });
        assert_eq!(find_with(99, &nothing, &patient()).passes, Passes { palm: 2, landmarks: 1 });
    }

    #[test]
    fn search_goes_on_with_a_good_palm_or_some_trust() {
        // A palm, but no hand in its region, from afar and from near.
        let nothing = Reports { presence: 0.001, right: 0.8 };
        let found = find_with(1, &nothing, &Search::default());
        assert_eq!(found.passes, Passes { palm: 2, landmarks: 2 });
        // A palm with a probability of 0.4, which the last look alone looks at.
        let palm_model = PalmFrom { score: (0.4_f32 / 0.6).ln(), ..PalmFrom::run(1) };
        let (photo, search) = (photo(), Search::default());
        let found = Searcher::new(&palm_model, &nothing, &photo, &search, &mut ())
            .find(None, &mut presence)
            .expect("a search");
        assert_eq!(found.passes, Passes { palm: 3, landmarks: 1 });
        // Something of a hand: no need to look closer, but at all else.
        let weak = Reports { presence: 0.39, right: 0.8 };
        let found = find_with(1, &weak, &Search::default());
        assert_eq!(found.passes, Passes { palm: 2, landmarks: 4 });
    }

    #[test]
    fn closer_look_is_around_the_palm() {
        let nothing = Reports { presence: 0.001, right: 0.8 };
        let mut recorder = Recorder::default();
        find_observed(1, &nothing, &Search::default(), None, &mut recorder).expect("a search");
        let [_, Pass::Landmarks { region: palm, .. }, Pass::Palm(view), _] = recorder.passes[..]
        else {
            panic!("{:?}", recorder.passes)
        };
        assert_eq!((view.side, view.region.size), (palm::PART_SIDE, 100.0));
        assert_eq!(view.region.center, [palm.center[0].clamp(50.0, 150.0), 50.0]);
    }

    #[test]
    fn parts_lie_apart_and_in_the_photo() {
        let (photo, search) = (photo(), Search::default());
        let mut observer = ();
        let mut searcher = Searcher::new(&Fails, &Fails, &photo, &search, &mut observer);
        let palm = |x: f32| Palm {
            score: 0.2,
            region: Region { center: [x, 20.0], size: 30.0, rotation: 1.0 },
        };
        searcher.palms = [10.0, 70.0, 140.0, 199.0].map(palm).to_vec();
        let centers: Vec<_> = searcher.parts().iter().map(|part| part.center).collect();
        assert_eq!(centers, [[50.0, 50.0], [140.0, 50.0]]);
    }

    #[test]
    fn most_trusted_candidate_is_the_hand() {
        let unsure = Reports { presence: 0.5, right: 0.8 };
        let mut trusts = [0.3, 0.8].into_iter();
        let found = Searcher::new(&PalmFrom::run(1), &unsure, &photo(), &palms_only(), &mut ())
            .find(None, &mut |_: &Candidate| Ok(trusts.next().expect("a trust")));
        assert_eq!(found.expect("a search").trust, 0.8);
    }

    #[test]
    fn observer_sees_all_attempts_of_a_photo_without_hand() {
        let mut recorder = Recorder::default();
        let weak = Reports { presence: 0.2, right: 0.75 };
        let found = find_observed(2, &weak, &patient(), None, &mut recorder).expect("a search");
        let starts: Vec<_> = recorder.events.iter().step_by(2).map(String::as_str).collect();
        let expected = [
            "palm 96 of 200",
            "palm 256 of 200",
            "landmarks palm",
            "landmarks whole_photo",
            "landmarks retry",
        ];
        assert_eq!(starts, expected);
        assert_eq!(recorder.events[1], "0 palms");
        assert_eq!(recorder.events[5], "0.2 Right");
        assert_eq!(found.passes, Passes { palm: 2, landmarks: 3 });
    }

    #[test]
    fn failed_pass_ends_the_search_without_an_end() {
        let mut recorder = Recorder::default();
        let found = find_observed(1, &Fails, &Search::default(), None, &mut recorder);
        assert!(matches!(found, Err(ModelError::Run { .. })), "{found:?}");
        assert_eq!(recorder.events, ["palm 96 of 200", "1 palms", "landmarks palm"]);
    }
}
