//! Why a component cannot be pruned.

use std::convert::Infallible;
use std::ops::Range;

use wasm_encoder::reencode;
use wasmparser::BinaryReaderError;

/// An error of [`prune`](super::prune()).
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The component or one of its sections cannot be parsed.
    #[error("cannot parse the component")]
    Parse(#[from] BinaryReaderError),
    /// The module does something that reachability is not known for.
    #[error("cannot prune such a module: {0}")]
    Unsupported(String),
    /// The linker's relocations contradict the module.
    #[error("cannot follow the linker's relocations: {0}")]
    Relocations(&'static str),
    /// Two blocks of [`POINTER_FREE`](super::POINTER_FREE) overlap. One of them was freed without a
    /// record, and what is there now may hold pointers.
    #[error("cannot trust `POINTER_FREE`: it lists overlapping blocks {0:x?}")]
    OverlappingBlocks([Range<u32>; 2]),
    /// The module cannot be written anew.
    #[error("cannot write the pruned module")]
    Write(#[from] reencode::Error<Infallible>),
    /// The pruned component is not valid.
    #[error("the pruned component is not valid")]
    Invalid(#[source] BinaryReaderError),
}

pub(super) type Result<T, E = PruneError> = std::result::Result<T, E>;
