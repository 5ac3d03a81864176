//! A host for tests, which keeps its log and whose clock stands still between sleeps. It has no network.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use telemetry::Host;
use telemetry::host::{Body, SendError};

#[derive(Debug)]
pub struct Fake {
    log: Mutex<Vec<String>>,
    now: Mutex<Instant>,
    slept: Mutex<Duration>,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake { log: Mutex::default(), now: Instant::now().into(), slept: Mutex::default() }
    }
}

impl Fake {
    /// Returns the lines of the log so far, and forgets them.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("no panic"))
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        *self.now.lock().expect("no panic") += time;
    }

    /// Returns the time that was waited so far, and forgets it.
    pub fn take_slept(&self) -> Duration {
        std::mem::take(&mut self.slept.lock().expect("no panic"))
    }
}

#[async_trait]
impl Host for Fake {
    fn random(&self) -> u64 {
        7
    }

    fn now(&self) -> Instant {
        *self.now.lock().expect("no panic")
    }

    async fn sleep(&self, duration: Duration) {
        self.pass(duration);
        *self.slept.lock().expect("no panic") += duration;
    }

    async fn send(&self, _: Request<Bytes>) -> Result<Response<Body>, SendError> {
        Err(SendError::Denied)
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.log.lock().expect("no panic").push(line.to_string());
    }
}
