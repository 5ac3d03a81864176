//! The pipeline: all models of one build as a value, and the two steps that use them.
//!
//! [`Pipeline::load`] reads the [`files`] of a build and checks that its models fit together.
//! [`Pipeline::find_hand`] and [`Pipeline::read_letter`] take a photo to a letter.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decode::Photo;
use crate::engine::{Model, ModelError, OnnxModel};
use crate::landmarks::{self, Hand};
use crate::letter::{self, Classifier, ClassifierError, Letters};
use crate::palm;
use crate::region::Region;
use crate::search::{Candidate, Found, Observer, Search, Searcher};
use crate::trust::trust;

/// Names of the files of one build's models.
pub mod files {
    /// Palm detection: MediaPipe's lite or full model, as ONNX.
    pub const PALM: &str = "palm.onnx";
    /// Hand landmarks: MediaPipe's lite or full model, as ONNX.
    pub const LANDMARKS: &str = "landmarks.onnx";
    /// The letter classifier, as ONNX.
    pub const LETTERS: &str = "letters.onnx";
    /// The classifier's labels, one a line, in UTF-8.
    pub const LABELS: &str = "letters.txt";
    /// Name and version of the classifier: a [`ModelVersion`](super::ModelVersion) as JSON.
    pub const VERSION: &str = "model.json";
    /// All names.
    pub const ALL: [&str; 5] = [PALM, LANDMARKS, LETTERS, LABELS, VERSION];
}

/// Name and version of the models that answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ModelVersion {
    /// The classifier's name.
    pub name: String,
    /// A version that changes with any of the model files.
    pub version: String,
}

/// All models, ready to run.
pub struct Pipeline {
    palm: Box<dyn Model>,
    landmarks: Box<dyn Model>,
    letters: Classifier,
    version: ModelVersion,
    search: Search,
}

/// The reason why a build's models cannot be used together.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A file cannot be read or parsed.
    #[error("cannot read the model file {name}: {reason}")]
    File {
        /// The file's name, one of [`files`].
        name: &'static str,
        /// The message of the system or of the parser.
        reason: String,
    },
    /// Palm detection or the landmark model cannot be loaded, or has other shapes.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The classifier cannot be loaded, or fits neither the landmark model nor its labels.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
}

impl Pipeline {
    /// Loads and optimises all models, for the default search.
    ///
    /// `read` returns the bytes of a file; it is called once for each of [`files::ALL`].
    ///
    /// # Errors
    /// Every [`PipelineError`].
    pub fn load(
        mut read: impl FnMut(&'static str) -> std::io::Result<Vec<u8>>,
    ) -> Result<Pipeline, PipelineError> {
        let file_error = |name: &'static str, error: &dyn fmt::Display| PipelineError::File {
            name,
            reason: error.to_string(),
        };
        let mut bytes = |name| read(name).map_err(|error| file_error(name, &error));

        let palm = palm::load(files::PALM, &bytes(files::PALM)?, palm::OPERATORS)?;
        let landmarks = bytes(files::LANDMARKS)?;
        let landmarks = OnnxModel::load_with(files::LANDMARKS, &landmarks, landmarks::OPERATORS)?;
        let features = match landmarks.shapes().outputs.last().map(Vec::as_slice) {
            Some([1, features]) => *features,
            _ => 0,
        };
        let landmarks =
            landmarks.expect(&landmarks::INPUT_SHAPE, &landmarks::output_shapes(features))?;

        let labels = String::from_utf8(bytes(files::LABELS)?)
            .map_err(|error| file_error(files::LABELS, &error))?;
        let letters =
            Classifier::load(&bytes(files::LETTERS)?, &labels, letter::GEOMETRY + features)?;
        let version = serde_json::from_slice(&bytes(files::VERSION)?)
            .map_err(|error| file_error(files::VERSION, &error))?;
        Ok(Pipeline::new(Box::new(palm), Box::new(landmarks), letters, version, Search::default()))
    }

    /// Makes a pipeline from models as values, such as fakes.
    pub fn new(
        palm: Box<dyn Model>,
        landmarks: Box<dyn Model>,
        letters: Classifier,
        version: ModelVersion,
        search: Search,
    ) -> Pipeline {
        Pipeline { palm, landmarks, letters, version, search }
    }

    /// Returns name and version of the models.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    /// Returns the classifier's labels, with that of no hand.
    pub fn labels(&self) -> &[String] {
        self.letters.labels()
    }

    /// Searches a photo for a hand. The observer sees every pass; `&mut ()` ignores them.
    ///
    /// `known` is a region where a hand was before, such as in a film's previous frame: with a hand
    /// there, one pass is enough.
    ///
    /// # Errors
    /// [`ModelError::Run`] if a model fails.
    pub fn find_hand(
        &self,
        photo: &Photo,
        known: Option<Region>,
        observer: &mut (impl Observer + ?Sized),
    ) -> Result<Found, ModelError> {
        let searcher = Searcher::new(&*self.palm, &*self.landmarks, photo, &self.search, observer);
        searcher.find(known, &mut |candidate: &Candidate| {
            let letters = self.letters.classify(letter::features(&candidate.hand))?;
            Ok(trust(candidate, &letters))
        })
    }

    /// Reads the letter that a hand shows. Returns `None` if the probability of
    /// [`letter::NO_HAND`] reaches [`letter::NO_HAND_LIMIT`].
    ///
    /// # Errors
    /// [`ModelError::Run`] if the classifier fails.
    pub fn read_letter(&self, hand: &Hand) -> Result<Option<Letters>, ModelError> {
        let letters = self.letters.classify(letter::features(hand))?;
        Ok((letters.no_hand < letter::NO_HAND_LIMIT).then_some(letters))
    }
}
