//! Errors of frames. A file of their own, since [`crate::problem`] answers them.

use thiserror::Error;

/// Most frames: ten seconds at 30 a second.
pub const MAX_FRAMES: usize = 300;

/// The reason why frames are not read. The text is a sentence, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FramesError {
    /// The body is larger than the limit.
    #[error("The body is larger than {limit} bytes. Send fewer frames.")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body is not JSON.
    #[error("The body is not JSON: {0}. Send an object with frames; /openapi.json describes it.")]
    Syntax(String),
    /// The JSON has another shape.
    #[error("The frames cannot be read: {0}. /openapi.json describes them.")]
    Shape(String),
    /// There are no frames, or too many.
    #[error("There are {found} frames. Send 1 to {limit}.", limit = MAX_FRAMES)]
    Count {
        /// The number of frames.
        found: usize,
    },
    /// A frame's value is out of its range.
    #[error("Frame {index}: {what} is out of range. /openapi.json has the ranges.")]
    Range {
        /// The frame's index, from 0.
        index: usize,
        /// The value's name.
        what: &'static str,
    },
    /// The ratio of the sides is out of its range.
    #[error("The aspect is out of range. Send the frames' width by their height.")]
    Aspect,
    /// Times do not grow.
    #[error("Frame {index} is not later than the one before it. Send the frames in their order.")]
    Order {
        /// The frame's index, from 0.
        index: usize,
    },
}

impl FramesError {
    /// Returns the kind of error, one of few words: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        match self {
            FramesError::TooLarge { .. } => "too_large",
            FramesError::Syntax(_) => "json",
            _ => "frames",
        }
    }
}
