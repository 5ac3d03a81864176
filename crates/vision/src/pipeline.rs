//! The pipeline as a value: all models of one build, loaded, and the two steps that use them.

use std::fmt;

use serde::Deserialize;

use crate::decode::Photo;
use crate::engine::{Model, ModelError, OnnxModel};
use crate::landmarks::{self, Hand};
use crate::letter::{self, Classifier, ClassifierError, Letters};
use crate::palm;
use crate::search::{self, Found, Observer, Search};

/// Names of the files that make up one build's models.
pub mod files {
    /// Palm detection (MediaPipe's lite or full model).
    pub const PALM: &str = "palm.onnx";
    /// Hand landmarks (MediaPipe's lite or full model).
    pub const LANDMARKS: &str = "landmarks.onnx";
    /// The letter classifier.
    pub const LETTERS: &str = "letters.onnx";
    /// Its labels, one a line.
    pub const LABELS: &str = "letters.txt";
    /// Name and version of the classifier: [`ModelVersion`](super::ModelVersion) as JSON.
    pub const VERSION: &str = "model.json";
    /// All of them.
    pub const ALL: [&str; 5] = [PALM, LANDMARKS, LETTERS, LABELS, VERSION];
}

/// Which letter model answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct ModelVersion {
    /// Its name.
    pub name: String,
    /// Its version, which changes whenever one of the model files does.
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

/// Why the models can't be used together.
#[derive(Debug)]
pub enum PipelineError {
    /// A file can't be read.
    File {
        /// Its name, one of [`files`].
        name: &'static str,
        /// What the system says.
        reason: String,
    },
    /// Palm detection or landmark model can't be loaded, or don't fit.
    Model(ModelError),
    /// The classifier can't be loaded, or doesn't fit the landmark model or its labels.
    Classifier(ClassifierError),
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PipelineError::File { name, reason } => write!(f, "{name}: {reason}"),
            PipelineError::Model(error) => error.fmt(f),
            PipelineError::Classifier(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PipelineError {}

impl From<ModelError> for PipelineError {
    fn from(error: ModelError) -> PipelineError {
        PipelineError::Model(error)
    }
}

impl Pipeline {
    /// Loads and optimises all models; `read` gives the bytes of each of [`files`], once.
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
            Classifier::load(&bytes(files::LETTERS)?, &labels, letter::GEOMETRY + features)
                .map_err(PipelineError::Classifier)?;
        let version = serde_json::from_slice(&bytes(files::VERSION)?)
            .map_err(|error| file_error(files::VERSION, &error))?;
        Ok(Pipeline::new(Box::new(palm), Box::new(landmarks), letters, version, Search::default()))
    }

    /// A pipeline from models as values.
    pub fn new(
        palm: Box<dyn Model>,
        landmarks: Box<dyn Model>,
        letters: Classifier,
        version: ModelVersion,
        search: Search,
    ) -> Pipeline {
        Pipeline { palm, landmarks, letters, version, search }
    }

    /// Which letter model answers.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    /// Searches a photo for a hand. The observer sees every pass; `&mut ()` ignores them.
    ///
    /// # Errors
    /// [`ModelError::Run`] if a model fails.
    pub fn find_hand(
        &self,
        photo: &Photo,
        observer: &mut (impl Observer + ?Sized),
    ) -> Result<Found, ModelError> {
        search::find(&*self.palm, &*self.landmarks, photo, &self.search, observer)
    }

    /// Tells the letter that a hand shows. `None` if the classifier takes it for no hand at all.
    ///
    /// # Errors
    /// [`ModelError::Run`].
    pub fn read_letter(&self, hand: &Hand) -> Result<Option<Letters>, ModelError> {
        let letters = self.letters.classify(letter::features(hand))?;
        Ok((letters.no_hand < letter::NO_HAND_LIMIT).then_some(letters))
    }
}
