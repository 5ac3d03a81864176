//! Errors of corrections. A file of their own, since [`crate::problem`] answers them.

use http::StatusCode;
use thiserror::Error;

use crate::database::DatabaseError;

/// The reason why a correction is not stored, deleted or given. The text is a sentence, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeedbackError {
    /// The setting is off.
    #[error(
        "Corrections are not stored here. They are where the service's setting feedback is true."
    )]
    Off,
    /// The component has no database.
    #[error(
        "This component has no database for corrections. Use one that is built for Spin, \
         or leave the setting feedback out."
    )]
    NoDatabase,
    /// The body is larger than the limit.
    #[error(
        "The body is larger than {limit} bytes. Send the answer, its label and its aspect alone."
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body is not JSON.
    #[error(
        "The body is not JSON: {0}. Send the answer of POST /predict with label and aspect added."
    )]
    Syntax(String),
    /// The JSON has another shape.
    #[error("The correction cannot be read: {0}. /openapi.json describes it.")]
    Shape(String),
    /// A part is missing.
    #[error(
        "The correction lacks {0}. The service keeps nothing of a photo: send the answer of \
         POST /predict, with label and aspect (the photo's width by its height) added."
    )]
    Missing(&'static str),
    /// The answer had no hand.
    #[error("The answer had no hand, so there is nothing to learn from. Send one that has.")]
    NoHand,
    /// The trace's id is none.
    #[error(
        "The trace_id is not 32 hexadecimal digits in lower case. Send the answer's; where it has none, \
         since tracing is off, draw one at random."
    )]
    TraceId,
    /// The label is not the model's.
    #[error("The label {found:?} is not one of this model's. Send one of {known}.")]
    Label {
        /// The label that was sent, cut.
        found: String,
        /// The labels of the model.
        known: String,
    },
    /// A value is out of its range.
    #[error("The correction's {0} is out of range. /openapi.json has the ranges.")]
    Range(&'static str),
    /// Somebody else has corrected the same trace.
    #[error("Another user has corrected this trace. Correct an answer of your own.")]
    Taken,
    /// There is no such correction.
    #[error("There is no such correction of yours. It may have expired.")]
    Unknown,
    /// The export has no token.
    #[error(
        "The export is off. Set the service's setting feedback_token to a secret of 16 characters or more."
    )]
    NoToken,
    /// The request has no token, or another one.
    #[error("The export needs the service's token. Send Authorization: Bearer, then the token.")]
    Token,
    /// There are as many corrections as the setting allows.
    #[error(
        "There are {limit} corrections already (feedback_max_rows). Try again after some have expired or \
         have been deleted."
    )]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The database does not serve. The client does not learn the reason.
    #[error(
        "The database of corrections does not serve. Try again; the service's log names the reason."
    )]
    Database(DatabaseError),
}

impl FeedbackError {
    /// Returns the response's status.
    pub fn status(&self) -> StatusCode {
        match self {
            FeedbackError::Off | FeedbackError::Unknown => StatusCode::NOT_FOUND,
            FeedbackError::NoDatabase => StatusCode::NOT_IMPLEMENTED,
            FeedbackError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            FeedbackError::Syntax(_) => StatusCode::BAD_REQUEST,
            FeedbackError::Shape(_)
            | FeedbackError::Missing(_)
            | FeedbackError::NoHand
            | FeedbackError::TraceId
            | FeedbackError::Label { .. }
            | FeedbackError::Range(_) => StatusCode::UNPROCESSABLE_ENTITY,
            FeedbackError::Taken => StatusCode::CONFLICT,
            FeedbackError::NoToken => StatusCode::FORBIDDEN,
            FeedbackError::Token => StatusCode::UNAUTHORIZED,
            FeedbackError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            FeedbackError::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the kind of error, one of few words: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        match self {
            FeedbackError::Off => "feedback_off",
            FeedbackError::NoDatabase => "no_database",
            FeedbackError::TooLarge { .. } => "too_large",
            FeedbackError::Syntax(_) => "json",
            FeedbackError::Shape(_)
            | FeedbackError::Missing(_)
            | FeedbackError::NoHand
            | FeedbackError::TraceId
            | FeedbackError::Range(_) => "correction",
            FeedbackError::Label { .. } => "label",
            FeedbackError::Taken => "taken",
            FeedbackError::Unknown => "no_correction",
            FeedbackError::NoToken | FeedbackError::Token => "token",
            FeedbackError::Full { .. } => "full",
            FeedbackError::Database(error) => error.kind(),
        }
    }
}

impl From<DatabaseError> for FeedbackError {
    fn from(error: DatabaseError) -> FeedbackError {
        FeedbackError::Database(error)
    }
}
