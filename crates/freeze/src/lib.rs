//! Freezes a WebAssembly component: its initialiser runs once, at build time, and the memory that it
//! leaves becomes the component's initial memory. Every instance then starts initialised.
//!
//! # The method
//!
//! 1. **Freeze.** [`snapshot`] runs the component's export [`INITIALIZER`] in wasmtime and writes the
//!    component anew with the memory and the globals as they are then. [`wasmtime_wizer`] does the
//!    reading and the writing.
//! 2. **Zero.** `guest::Allocator` zeroes what the initialiser frees. A snapshot stores every page that
//!    is not zero; without this, parsed input files and all intermediate values stay in the component.
//! 3. **Fill holes.** `guest::initialize` takes all free memory before the snapshot. Freed blocks are
//!    scattered among the data that stays; reusing them would dirty copy-on-write pages, which the
//!    host then copies for each instance.
//! 4. **Prune.** [`prune`](prune()) removes the functions and statics that only the initialiser
//!    needed. Its [module](mod@prune) states why that is safe.
//!
//! # Parts
//!
//! | module | built for | holds |
//! |---|---|---|
//! | `guest` | WebAssembly | `Allocator`, and `initialize`, which wraps the initialiser's work |
//! | [`mod@snapshot`] | the build machine | [`snapshot`](snapshot()) and its engine's configuration |
//! | [`mod@prune`] | the build machine | [`prune`](prune()) |
//!
//! # In the component
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: freeze::guest::Allocator = freeze::guest::Allocator;
//!
//! static MODEL: OnceLock<Model> = OnceLock::new();
//!
//! // The export `wizer-initialize: func()`.
//! fn wizer_initialize() {
//!     let file = std::fs::read("/models/model.onnx").expect("a model");
//!     _ = MODEL.set(freeze::guest::initialize(|| Model::parse(file)));
//! }
//! ```
//!
//! The work inside `initialize` asks the host for nothing; what it needs is read before. Two link
//! arguments make pruning possible and effective: `--emit-relocs` keeps the linker's relocations, and
//! `--table-base=80000` starts the table at an index that few other numbers are near to.
//!
//! # On the build machine
//!
//! ```ignore
//! let engine = Engine::new(&freeze::snapshot::config())?;
//! let frozen = freeze::snapshot(&engine, &component, state, &linker).await?;
//! let pruned = freeze::prune(&component, &frozen, freeze::INITIALIZER)?;
//! ```
//!
//! # Limits
//!
//! - Whatever the initialiser reads from the host is frozen: environment, clocks, random numbers.
//!   Handles of files and streams are frozen too, and are not valid in any instance.
//! - The component must not change its tables (`table.set`, `table.grow`, …); wizer refuses it.
//! - Pruning needs one core module with the linker's symbols and relocations, one table that is not
//!   exported, and no linker-defined array of statics (`__start_…`). It refuses everything else.
//! - The snapshot drops no export: [`INITIALIZER`] stays, and traps when called in a pruned component.

#[cfg(target_family = "wasm")]
pub mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod prune;
#[cfg(not(target_family = "wasm"))]
pub mod snapshot;

#[cfg(not(target_family = "wasm"))]
pub use prune::{PruneError, Pruned, prune};
#[cfg(not(target_family = "wasm"))]
pub use snapshot::{INITIALIZER, SnapshotError, snapshot};
