//! The queue: ended spans that wait for their export.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

/// The ended spans of one instance, up to a number. Further ones are dropped and counted.
///
/// It is a span processor that only holds; [`Export`](crate::export::Export) takes. The SDK's own
/// processors do not work in a component: one starts a thread, the other blocks.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    spans: VecDeque<SpanData>,
    size: usize,
    overflowed: usize,
}

impl Queue {
    /// Returns an empty queue for `size` spans.
    pub(crate) fn new(size: usize) -> Queue {
        Queue(Arc::new(Mutex::new(Inner { spans: VecDeque::new(), size, overflowed: 0 })))
    }

    /// Takes the oldest spans, at most `max`.
    pub(crate) fn take(&self, max: usize) -> Vec<SpanData> {
        let mut inner = self.lock();
        let count = max.min(inner.spans.len());
        inner.spans.drain(..count).collect()
    }

    /// True if no span waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().spans.is_empty()
    }

    /// Returns the number of spans that were dropped since the last call.
    pub(crate) fn take_overflowed(&self) -> usize {
        std::mem::take(&mut self.lock().overflowed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can leave it half done.
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
            inner.overflowed = inner.overflowed.saturating_add(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
