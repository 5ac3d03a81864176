//! A host for the hand gesture component, **for development and tests**.
//!
//! Where Spin is not at hand, or a test needs a host that it controls, this one serves the same
//! component from the same `spin.toml`: it reads the [manifest], resolves the [variables],
//! enforces [`allowed_outbound_hosts`](outbound), [pre-initialises](preinit) components at
//! build time and [serves](serve) them over HTTP. It does what Spin does as far as this
//! project's component can tell, and refuses what it does not do. It is no replacement for
//! Spin in production: there is no TLS, no HTTP/2 and no limit on the time of a request.

pub mod collector;
pub mod command;
pub mod engine;
mod front;
mod guest;
mod instances;
pub mod log;
pub mod manifest;
pub mod options;
pub mod outbound;
pub mod preinit;
mod registers;
pub mod routes;
pub mod serve;
pub mod trace;
pub mod variables;

pub use collector::Collector;
pub use log::{LogLine, LogSink};
pub use manifest::Manifest;
pub use options::{ComponentSource, Limits, Options, ResponseHook};
pub use preinit::preinitialize;
pub use serve::{Server, Startup, Stopped};
