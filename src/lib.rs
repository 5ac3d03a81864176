//! ASL letters from photos of hands: the HTTP service, as a WebAssembly component.
//!
//! A request takes one way through: [`api`] → [`vision`] → [`response`]. [`problem`] turns every
//! error into a response, [`settings`] reads the service's settings. All of it is plain Rust,
//! tested without a host. `entry` is built for WebAssembly alone: one thin file for each world that
//! the component is built for, and the only code that knows a host.

pub mod api;
pub mod problem;
pub mod response;
pub mod settings;

#[cfg(all(target_family = "wasm", not(test)))]
mod entry {
    mod p3;
}
