//! The entry: one thin file for each world that the component is built for, and the only code that
//! knows a host.
//!
//! An entry turns the host's request into one of [`http`], gives it to [`crate::service`], and runs the
//! export of spans after the response. The models in the component are the same for all of them.

mod models;
mod p3;
