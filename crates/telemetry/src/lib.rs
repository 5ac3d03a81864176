//! OpenTelemetry traces from a WebAssembly component.
//!
//! The SDK's spans and its OTLP exporter, in an order in which a component can use them: a request's
//! spans are recorded while it is answered, and leave after the response. The crate knows OpenTelemetry
//! and a [`Host`] trait; it has no word for what the service does.
//!
//! # Parts, in order
//!
//! | part | what it does |
//! |---|---|
//! | [`setting`] | a setting as data; reads values by their declarations |
//! | [`settings`] | the `OTEL_*` settings and a few more: their table, and [`Tracing`](settings::Tracing) made of it |
//! | [`host`] | what tracing needs of a host: random numbers, time, the network, a log |
//! | `provider` | [`Telemetry`]: sampler, ids, resource, queue and export of one instance |
//! | `propagation` | the caller's span, from a request's headers, and ours, for others: W3C Trace Context and Baggage, B3 |
//! | `span` | [`Span`], a value; it ends when it is dropped |
//! | `server` | a request's root span: [`Telemetry::server_span`], [`Span::respond`] |
//! | `client` | the span of a request to others: [`Telemetry::client_span`], [`Span::answered`] |
//! | `queue` | ended spans, bounded in number |
//! | [`export`] | batches to the collector, with retries, bounded in time |
//! | `answer` | the collector's answers: what becomes of the spans, what to do |
//!
//! # Use
//!
//! ```
//! use std::sync::Arc;
//! use std::time::SystemTime;
//! use telemetry::host::Host;
//! use telemetry::settings::Tracing;
//! use telemetry::{Incoming, Telemetry};
//!
//! async fn serve(
//!     request: http::Request<()>,
//!     lookup: impl Fn(&str) -> Option<String>,
//!     host: Arc<dyn Host>,
//! ) -> http::Response<String> {
//!     let mut response = http::Response::new("hello".to_owned());
//!     let (tracing, warnings) = Tracing::read("my-service", lookup);
//!     warnings.iter().for_each(|warning| host.log(format_args!("warning: {warning}")));
//!     let Tracing::On(settings) = tracing else { return response };
//!     // Once for each instance.
//!     let telemetry = Telemetry::start(&settings, "my-service", "1.0.0", host).expect("settings");
//!     let root = telemetry.server_span(Incoming {
//!         method: request.method(),
//!         uri: request.uri(),
//!         headers: request.headers(),
//!         route: Some("/hello"),
//!         started: SystemTime::now(),
//!         cold_start: true,
//!     });
//!     let work = root.child("greeting");
//!     work.set("greeting.language", "en");
//!     drop(work);
//!     root.respond(&mut response);
//!     drop(root);
//!     // After the response, in a task of its own.
//!     telemetry.export().await;
//!     response
//! }
//! # fn main() {}
//! ```
//!
//! **To add an attribute**, call [`Span::set`] on the span that it describes. Guard with
//! [`Span::is_recording`] what is computed for the attribute alone. **To add a setting**, declare a
//! constant [`Setting`](setting::Setting) in [`settings`], list it in [`settings::TABLE`], and read it
//! in [`settings::Tracing::read`]. **To run on another host**, implement [`Host`].
//!
//! # Rules of a component
//!
//! - **No threads, no blocking.** A component has one thread, and blocking it stops every request of
//!   its instance. The SDK's span processors do one or the other; [`Telemetry::export`] is a future that
//!   the service spawns after the response.
//! - **Nothing frozen.** A component may be initialised at build time, its memory kept. Environment,
//!   clock and random numbers read before that would be the same in every instance. Settings therefore
//!   come from a lookup, and ids from [`Host::random`] for each span.
//! - **Spans are values.** Requests take turns in one instance. There is no current span: a [`Span`] is
//!   passed on, and [`Span::child`] is the only way to a parent.
//! - **Bounded memory and time.** What an instance holds is bounded by the queue's size, and how long it
//!   lives after its last request by the retry budget. Dropped spans are counted, logged and reported in
//!   the attribute [`export::DROPPED_SPANS`] of a later span.

mod answer;
mod client;
pub mod export;
#[cfg(test)]
mod fake;
pub mod host;
mod propagation;
mod provider;
mod queue;
mod server;
pub mod setting;
pub mod settings;
mod span;

pub use client::Query;
pub use host::Host;
pub use provider::Telemetry;
pub use server::Incoming;
pub use span::Span;
