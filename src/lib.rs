//! ASL letters from photos of hands: the HTTP service, as a WebAssembly component.
//!
//! A request's way: an entry → [`service`] → [`api`] (route) → [`body`] (photo, in a [`form`] or not) →
//! [`predict`] (letter, by [`vision`]) → [`response`]. A photo by its URL ([`photo_url`]) is fetched by
//! [`fetch`]. What was answered is corrected by [`feedback`], in a [`database`]. [`problem`] turns every error
//! into a response, [`settings`] holds the service's settings, [`media`] says what is taken for a photo,
//! [`spell`] reads letters that are movements, [`sent`] checks hands that come back, [`server_timing`] tells
//! the client each stage's time, [`page`] is what a browser shows. All of it is plain Rust, tested without a host.
//!
//! The entries, in `src/entry`, are programs of their own, built for WebAssembly alone: one thin file for
//! each world that a component is built for, and the only code that knows a host. An entry turns the
//! host's request into one of [`http`], gives it to [`service`], and runs the export of spans after the
//! response. The models in the component are the same for all of them.

pub mod api;
pub mod body;
pub mod database;
#[cfg(test)]
mod fake;
pub mod feedback;
pub mod fetch;
pub mod form;
pub mod media;
pub mod page;
pub mod photo_url;
pub mod predict;
pub mod problem;
pub mod region;
pub mod response;
pub mod sent;
pub mod server_timing;
pub mod service;
pub mod settings;
pub mod spell;
