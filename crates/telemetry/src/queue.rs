//! Ended spans, waiting for their export.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

/// The spans of one instance that ended and are not exported yet: at most as many as it is made
/// for. What ends beyond that is dropped and counted.
///
/// The SDK's own processors can't be used in a component: one starts a thread, the other blocks.
/// This one only holds; [`super::export`] takes.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    spans: VecDeque<SpanData>,
    size: usize,
    overflowed: usize,
}

impl Queue {
    /// An empty queue for `size` spans.
    pub fn new(size: usize) -> Queue {
        Queue(Arc::new(Mutex::new(Inner { spans: VecDeque::new(), size, overflowed: 0 })))
    }

    /// Takes the oldest spans, at most `most`.
    pub fn take(&self, most: usize) -> Vec<SpanData> {
        let mut inner = self.lock();
        let count = most.min(inner.spans.len());
        inner.spans.drain(..count).collect()
    }

    /// Whether no span waits.
    pub fn is_empty(&self) -> bool {
        self.lock().spans.is_empty()
    }

    /// How many spans were dropped since this was last asked, because the queue was full.
    pub fn take_overflowed(&self) -> usize {
        std::mem::take(&mut self.lock().overflowed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that is done under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let mut inner = self.lock();
        if inner.spans.len() < inner.size {
            inner.spans.push_back(span);
        } else {
            inner.overflowed += 1;
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
