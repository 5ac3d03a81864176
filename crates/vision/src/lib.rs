//! From a photo to an ASL letter.
//!
//! One way through: [`decode`] → [`palm`] → [`region`] → [`landmarks`] → [`letter`]. [`search`] finds
//! the hand with palm detection and landmarks together, [`pipeline`] holds all models of one build,
//! [`engine`] runs them, [`warp`] samples photos. Nothing here knows HTTP, hosts or traces.

pub mod decode;
pub mod engine;
pub mod landmarks;
pub mod letter;
pub mod palm;
pub mod pipeline;
pub mod region;
pub mod search;
pub mod warp;
