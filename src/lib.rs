//! ASL letters from photos of hands: the HTTP service, as a WebAssembly component.
//!
//! A request's way: `entry` → [`service`] → [`api`] (route) → [`body`] (photo, in a [`form`] or not) →
//! [`predict`] (letter, by [`vision`]) → [`response`]. [`problem`] turns every error into a response,
//! [`settings`] holds the service's settings, [`media`] says what is taken for a photo. All of it is plain Rust, tested without a
//! host. `entry` is built for WebAssembly alone: one thin file for each world that the component is
//! built for, and the only code that knows a host.

pub mod api;
pub mod body;
#[cfg(test)]
mod fake;
pub mod form;
pub mod media;
pub mod predict;
pub mod problem;
pub mod response;
pub mod service;
pub mod settings;

#[cfg(all(target_family = "wasm", not(test)))]
mod entry;
