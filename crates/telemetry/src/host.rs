//! What tracing needs of the host, so that everything else can be tested without one.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

/// Random numbers, time and the network.
#[async_trait]
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// A random number, from a source that no snapshot has frozen.
    fn random(&self) -> u64;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Waits.
    async fn sleep(&self, duration: Duration);

    /// Sends a request and reads the response, of its body at most [`MOST_RESPONSE_BYTES`].
    ///
    /// # Errors
    /// Every [`SendError`].
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError>;

    /// Writes a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}

/// So much of a collector's response is read. Its message about rejected spans is a sentence; what
/// is longer than this is no collector's.
pub const MOST_RESPONSE_BYTES: usize = 64 * 1024;

/// Why a request could not be sent, or its response not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The host does not let the component send requests there.
    Denied,
    /// Anything else, such as a refused connection.
    Failed(String),
}

/// A random (version 4) UUID, RFC 9562.
pub fn uuid(host: &dyn Host) -> String {
    let bits = (u128::from(host.random()) << 64) | u128::from(host.random());
    // Four bits of version, two of variant.
    let bits = bits & !(0xf << 76) | (4 << 76);
    let bits = bits & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
