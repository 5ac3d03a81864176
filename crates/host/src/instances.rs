//! Instances: makes them, decides which requests they take and when they end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::component::GuestTaskId;
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use crate::engine::SLICE_TICKS;
use crate::guest::{GuestState, Shared, describe};
use crate::log::LogSink;
use crate::memory::InstanceMemory;
use crate::options::Limits;

/// Time that an instance has to report that a request is overdue, before it is ended from outside. One
/// that computes cannot report.
const OVERDUE: Duration = Duration::from_millis(100);

/// Everything that instances are made from.
pub(crate) struct Instances {
    pub(crate) service: ProxyPre<GuestState>,
    pub(crate) engine: Engine,
    /// The pool's places for instances. Further instances wait: those that still send spans have places, too.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) limits: Limits,
    /// Instances that were started.
    pub(crate) started: Arc<AtomicU64>,
    /// The most memory that any of them had, in bytes.
    pub(crate) peak_memory: Arc<AtomicUsize>,
    pub(crate) stopping: CancellationToken,
    /// Instances that are alive.
    pub(crate) running: TaskTracker,
}

impl HandlerState for Instances {
    type StoreData = GuestState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(
        &self,
    ) -> wasmtime::Result<Instance<GuestState, Self::WorkerExpiration, Self::WorkerState>> {
        let place = self.places.clone().acquire_owned().await?;
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.environment);
        let (limit, log) = (self.limits.memory_per_instance, self.shared.log.clone());
        let memory = InstanceMemory::new(limit, number, log, self.peak_memory.clone());
        let guest = GuestState::new(self.shared.clone(), wasi, number, memory);
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.epoch_deadline_async_yield_and_update(SLICE_TICKS);
        store.set_epoch_deadline(SLICE_TICKS);
        let proxy = self.service.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: GuestState::http,
            expiration: Expiration {
                idle_timeout: self.limits.idle_timeout,
                request_timeout: self.limits.request_timeout,
                sleep: Box::pin(tokio::time::sleep(self.limits.idle_timeout)),
                stopping: Box::pin(self.stopping.clone().cancelled_owned()),
            },
            state: Worker {
                number,
                // Spin gives an instance of WASI 0.2 one request.
                requests: match self.service {
                    ProxyPre::P2(_) => 1,
                    ProxyPre::P3(_) => self.limits.requests_per_instance,
                },
                concurrent: self.limits.concurrent_requests_per_instance,
                request_timeout: self.limits.request_timeout,
                log: self.shared.log.clone(),
                _alive: self.running.token(),
                _place: place,
            },
        })
    }
}

/// Decides when an idle instance ends: after the idle timeout, or at once when the server stops.
/// Neither cuts off requests or work after responses. A request timeout, if there is one, ends an instance
/// that computes for longer.
pub(crate) struct Expiration {
    idle_timeout: Duration,
    request_timeout: Option<Duration>,
    sleep: Pin<Box<tokio::time::Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        let after = match status {
            WorkerStatus::Idle if self.stopping.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(());
            }
            WorkerStatus::Idle => Some(self.idle_timeout),
            WorkerStatus::Requests => self.request_timeout.map(|timeout| timeout + OVERDUE),
            WorkerStatus::PostReturn => None,
        };
        let Some(after) = after else {
            // The handler polls again when the status has changed.
            return Poll::Pending;
        };
        let deadline = tokio::time::Instant::from_std(since) + after;
        if self.sleep.deadline() != deadline {
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(cx)
    }
}

/// An instance as the handler sees it.
pub(crate) struct Worker {
    number: u64,
    requests: usize,
    concurrent: usize,
    request_timeout: Option<Duration>,
    log: LogSink,
    /// Counts the instance for as long as it lives.
    _alive: TaskTrackerToken,
    _place: OwnedSemaphorePermit,
}

impl WorkerState for Worker {
    type StoreData = GuestState;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.requests {
            ShouldAccept::Never
        } else if concurrent >= self.concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, GuestState>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        match self.request_timeout {
            Some(timeout) => Box::pin(tokio::time::sleep(timeout)),
            None => Box::pin(std::future::pending()),
        }
    }

    fn drop(&self, store: Store<GuestState>, result: Result<(), wasmtime::Error>) {
        // The store first, so that the guest's last line comes before the host's.
        drop(store);
        if let Err(error) = result {
            self.log.host(format_args!("instance {} failed: {}", self.number, describe(&error)));
        }
    }
}
