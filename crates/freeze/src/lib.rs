//! Freezing: a component's initialiser runs once, at build time, and the memory that it leaves
//! becomes the component's initial memory.
//!
//! - [`guest`], built for WebAssembly: the allocator and the call that a component wraps its
//!   initialiser in.
//! - [`snapshot`] and [`prune`], built for the machine that freezes: run the initialiser, then remove
//!   all functions and statics that only the initialiser needed.

#[cfg(target_family = "wasm")]
pub mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod prune;
#[cfg(not(target_family = "wasm"))]
pub mod snapshot;

#[cfg(not(target_family = "wasm"))]
pub use prune::{Pruned, prune};
#[cfg(not(target_family = "wasm"))]
pub use snapshot::{INITIALIZER, SnapshotError, snapshot};
