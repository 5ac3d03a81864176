//! Turns: bound how many requests compute at a time. More than the cores can serve would only be slower, each
//! in an instance of its own, and each with a trace that shows the others' time.
//!
//! A request takes its turn before it gets an instance. Where the body is not there soon, it gives the turn back,
//! and waits for another before the guest sees the body's end. So a slow client keeps nobody waiting. A request
//! without a body needs no turn.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;

/// Time in which a body must be there for its request to keep the turn. It is enough for one that has arrived and
/// only has to be read.
const SOON: Duration = Duration::from_millis(10);

/// A request's turn. It ends when this is dropped, even if the guest keeps the body.
pub(crate) struct Turn(Arc<Mutex<State>>);

enum State {
    /// The request computes, or needs no turn until its body's end.
    Held(Option<OwnedSemaphorePermit>),
    /// The request is answered.
    Over,
}

impl Turn {
    /// Waits for a turn among these, and makes the body give it back and take another. Without a body there is
    /// nothing to wait for.
    pub(crate) async fn of<B: Body>(turns: Arc<Semaphore>, body: B) -> (Self, InTurn<B>) {
        let permit = match body.is_end_stream() {
            true => None,
            // Nobody closes the semaphore.
            false => turns.clone().acquire_owned().await.ok(),
        };
        let state = Arc::new(Mutex::new(State::Held(permit)));
        let (turns, soon) = (PollSemaphore::new(turns), Box::pin(sleep(SOON)));
        (Self(state.clone()), InTurn { body, soon, turns, state, end: None })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0) = State::Over;
    }
}

/// The next frame of a body; `None` after the last one.
type Next<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// The body of a request that has a [`Turn`].
pub(crate) struct InTurn<B: Body> {
    body: B,
    /// The time in which it keeps its first turn.
    soon: Pin<Box<Sleep>>,
    turns: PollSemaphore,
    state: Arc<Mutex<State>>,
    /// The end of the body, which waits for a turn: the last frame, if it is known to be that, or `None`.
    end: Option<Next<B>>,
}

impl<B: Body> InTurn<B> {
    /// Waits until the request has a turn, or needs none any more.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !matches!(*lock(&self.state), State::Held(None)) {
            return Poll::Ready(());
        }
        let permit = ready!(self.turns.poll_acquire(context));
        if let State::Held(held) = &mut *lock(&self.state) {
            *held = permit;
        }
        Poll::Ready(())
    }
}

impl<B> Body for InTurn<B>
where
    B: Body + Unpin,
    B::Data: Unpin,
    B::Error: Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next<B>> {
        if self.end.is_none() {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.soon.as_mut().poll(context));
                if let State::Held(held) = &mut *lock(&self.state) {
                    *held = None;
                }
                return Poll::Pending;
            };
            if frame.is_some() && !self.body.is_end_stream() {
                return Poll::Ready(frame);
            }
            self.end = Some(frame);
        }
        ready!(self.poll_turn(context));
        Poll::Ready(self.end.take().flatten())
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.end {
            Some(Some(Ok(frame))) => SizeHint::with_exact(
                frame.data_ref().map_or(0, |data| bytes::Buf::remaining(data) as u64),
            ),
            _ => self.body.size_hint(),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tokio::sync::mpsc;

    use super::*;

    /// A body whose frames a test sends one by one. It ends when its sender is dropped.
    struct Sent(mpsc::UnboundedReceiver<Bytes>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    /// Polls a future once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn request_with_a_body_waits_for_the_turn_of_another() {
        let turns = Arc::new(Semaphore::new(1));
        let whole = || Full::new(Bytes::from_static(b"photo"));
        let (first, mut body) = now(Turn::of(turns.clone(), whole())).expect("a turn");
        assert!(now(Turn::of(turns.clone(), whole())).is_none());
        assert!(now(Turn::of(turns.clone(), Full::new(Bytes::new()))).is_some());
        let frame = now(body.frame()).expect("a frame").expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "photo");
        drop(first);
        assert!(now(Turn::of(turns, whole())).is_some());
    }

    #[tokio::test]
    async fn slow_body_gives_its_turn_back_and_waits_at_its_end() {
        let turns = Arc::new(Semaphore::new(1));
        let (client, sent) = mpsc::unbounded_channel();
        let (slow, mut body) = now(Turn::of(turns.clone(), Sent(sent))).expect("a turn");
        client.send(Bytes::from_static(b"half")).expect("sent");
        assert!(now(body.frame()).is_some());
        assert_eq!(turns.available_permits(), 0);
        assert!(now(body.frame()).is_none());
        assert_eq!(turns.available_permits(), 0, "the rest may come soon");
        sleep(2 * SOON).await;
        assert!(now(body.frame()).is_none());
        assert_eq!(turns.available_permits(), 1);

        let whole = Full::new(Bytes::from_static(b"photo"));
        let (other, _) = now(Turn::of(turns.clone(), whole)).expect("the slow one's turn");
        client.send(Bytes::from_static(b"other half")).expect("sent");
        assert!(now(body.frame()).is_some());
        drop(client);
        assert!(now(body.frame()).is_none(), "the end before its turn");
        assert!(!body.is_end_stream());
        drop(other);
        assert!(now(body.frame()).expect("the end").is_none());
        assert_eq!(turns.available_permits(), 0);
        drop(slow);
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn body_of_an_answered_request_needs_no_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let (client, sent) = mpsc::unbounded_channel();
        let (answered, mut body) = now(Turn::of(turns.clone(), Sent(sent))).expect("a turn");
        sleep(2 * SOON).await;
        assert!(now(body.frame()).is_none());
        drop(answered);
        let whole = Full::new(Bytes::from_static(b"photo"));
        let _other = now(Turn::of(turns.clone(), whole)).expect("a turn");
        drop(client);
        assert!(now(body.frame()).expect("the end").is_none());
        assert_eq!(turns.available_permits(), 0);
    }
}
