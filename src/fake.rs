//! A host for tests, which keeps its log. It has no network.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use telemetry::Host;
use telemetry::host::{Body, SendError};

#[derive(Debug, Default)]
pub struct Fake(Mutex<Vec<String>>);

impl Fake {
    /// Returns the lines of the log so far, and forgets them.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

#[async_trait]
impl Host for Fake {
    fn random(&self) -> u64 {
        7
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, _: Duration) {}

    async fn send(&self, _: Request<Bytes>) -> Result<Response<Body>, SendError> {
        Err(SendError::Denied)
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.0.lock().expect("no panic").push(line.to_string());
    }
}
