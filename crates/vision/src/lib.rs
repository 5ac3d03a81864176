//! From a photo to a letter of American Sign Language.
//!
//! Three models run in sequence: palm detection and hand landmarks, both MediaPipe's, and a letter
//! classifier. A [`pipeline::Pipeline`] holds them:
//!
//! ```no_run
//! use vision::decode::{Limits, decode};
//! use vision::pipeline::Pipeline;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pipeline = Pipeline::load(|name| std::fs::read(format!("models/{name}")))?;
//! let decoded = decode(&std::fs::read("photo.jpg")?, Limits::DEFAULT)?;
//! let found = pipeline.find_hand(&decoded.photo, None, &mut ())?;
//! if let Some(hand) = found.hand
//!     && let Some(letters) = pipeline.read_letter(&hand)?
//! {
//!     println!("{}", letters.guesses[0].label);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The parts, in a photo's order
//!
//! | module | from → to |
//! |---|---|
//! | [`decode`] | bytes → upright [`Photo`](decode::Photo) |
//! | [`search`] | photo → [`Hand`](landmarks::Hand): which regions to look at, and when to stop |
//! | [`palm`] | photo → palms, each with the [`Region`](region::Region) of its hand |
//! | [`landmarks`] | region → 21 landmarks, presence, handedness |
//! | [`letter`] | hand → features → [`Letters`](letter::Letters) |
//! | `trust` | hand, letters → how far to trust them: what ends the search |
//! | [`movement`] | hands over time → the letter that was drawn, J or Z; a rule, no model |
//! | [`pipeline`] | all models of one build as a value |
//!
//! Below them: [`region`] and `warp` sample a rotated square of a photo, [`engine`] runs models (read by
//! tract, run by this project's kernels and operators). Models are values behind one small trait,
//! [`engine::Model`], so every part is tested with fakes.
//!
//! # How to
//!
//! - **Add an image format**: see [`decode`].
//! - **Change the search**, its attempts or thresholds: edit `Search::default` in [`search`]. The model
//!   card (`models/README.md`) has what was measured; `examples/features.rs` measures anew.
//! - **Use another classifier**: no code changes. It takes [`letter::features`] and returns one
//!   probability a label; the model card shows how to build with it.
//! - **Use another size of a MediaPipe model**: no code changes; [`pipeline::files`] names the files.
//! - **Use another palm or landmark model**: implement what [`palm`] or [`landmarks`] does with its
//!   outputs, and state its shapes there. [`engine::OnnxModel`] loads any ONNX model with one input of
//!   fixed shape; a model with layers that this project has no operator for runs in tract.
//! - **See every pass**: pass a [`search::Observer`].

pub mod decode;
pub mod engine;
pub mod landmarks;
pub mod letter;
pub mod movement;
pub mod palm;
pub mod pipeline;
pub mod region;
pub mod search;
mod trust;
mod warp;
