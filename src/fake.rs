//! A host for tests, which keeps its log and whose clock stands still between sleeps. Its network is one of
//! prepared answers; without any, it allows no request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use telemetry::Host;
use telemetry::host::{Body, SendError};

/// An answer of the network. None never comes.
pub type Answer = Option<Result<Response<Body>, SendError>>;

pub struct Fake {
    log: Mutex<Vec<String>>,
    now: Mutex<Instant>,
    slept: Mutex<Duration>,
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<Request<Bytes>>>,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake {
            log: Mutex::default(),
            now: Instant::now().into(),
            slept: Mutex::default(),
            answers: Mutex::default(),
            requests: Mutex::default(),
        }
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    /// Returns a host whose network gives these answers.
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Fake {
        Fake { answers: Mutex::new(answers.into_iter().collect()), ..Fake::default() }
    }

    /// Returns the requests that were sent so far, and forgets them.
    pub fn take_requests(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }

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

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError> {
        self.requests.lock().expect("no panic").push(request);
        let answer = self.answers.lock().expect("no panic").pop_front();
        match answer.unwrap_or(Some(Err(SendError::Denied))) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.log.lock().expect("no panic").push(line.to_string());
    }
}
