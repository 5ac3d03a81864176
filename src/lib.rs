//! ASL letters from photos of hands, as a WebAssembly component.
//!
//! One way through: HTTP ([`api`]) → [`decode`] → [`palm`] → [`region`] → [`landmarks`] →
//! [`letter`] → [`response`]. [`hand`] and [`pipeline`] put the steps together, [`engine`] runs
//! the models, with layers of its own where [`kernels`] can do them, [`problem`] turns every error
//! into a response. [`telemetry`] makes spans and sends them, and knows nothing of all this. It is
//! plain Rust, tested without a host; only the component's entry, built for WebAssembly alone,
//! knows the host.

pub mod api;
pub mod decode;
pub mod engine;
mod frozen;
pub mod hand;
pub mod kernels;
pub mod landmarks;
pub mod letter;
mod operators;
pub mod palm;
pub mod pipeline;
pub mod problem;
pub mod region;
pub mod response;
mod rewrite;
pub mod settings;
pub mod telemetry;
mod values;

#[cfg(all(target_family = "wasm", not(test)))]
mod component;
#[cfg(all(target_family = "wasm", not(test)))]
mod snapshot;
