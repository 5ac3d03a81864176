//! The host as tracing needs it: a trait, so that everything else runs without a real one.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::Stream;
use http::{Request, Response};

/// The body of a response, piece by piece. An error ends it.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, SendError>> + Send>>;

/// Random numbers, time, the network and a log.
#[async_trait]
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Returns a random number, from a source that was not frozen at build time.
    fn random(&self) -> u64;

    /// Returns the monotonic clock's time.
    fn now(&self) -> Instant;

    /// Waits.
    async fn sleep(&self, duration: Duration);

    /// Sends a request and returns its response as soon as the head is there.
    ///
    /// The body may be slow, endless, or break: the caller bounds what it reads of it. The head says
    /// already if the request was taken.
    ///
    /// # Errors
    /// Every [`SendError`].
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError>;

    /// True if an instance has one request in its life, as in WASI 0.2. Others are reused.
    fn has_one_request(&self) -> bool {
        false
    }

    /// Writes a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}

/// The reason why a request was not sent, or its response not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host does not allow requests to that place.
    #[error("the host does not allow this request")]
    Denied,
    /// Anything else, such as a refused connection.
    #[error("{0}")]
    Failed(String),
}

/// Returns a random (version 4) UUID, RFC 9562.
pub(crate) fn uuid(host: &dyn Host) -> String {
    let bits = (u128::from(host.random()) << 64) | u128::from(host.random());
    // Four bits of version, two of variant.
    let bits = bits & !(0xf << 76) | (4 << 76);
    let bits = bits & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
