//! Serving a component over HTTP/1.1, with instances reused as Spin reuses them.
//!
//! # Threads
//!
//! A server has two runtimes of its own. A guest that computes blocks the thread it is polled
//! on until it awaits something, so guests run on as many threads as there are cores, and
//! accepting, reading and writing connections happen on another thread that no guest can
//! block. That thread mostly sleeps, so the kernel runs it at once even when guests keep all
//! cores busy: a new connection is accepted, and the health check answered, within
//! milliseconds whatever the guests do. More guest threads than cores would only make requests
//! that compute take turns and finish later.
//!
//! # Instances
//!
//! A request goes to an instance that is free, or to a new one. An instance takes several
//! requests as long as it awaits; while it computes, or while the guest signals back-pressure,
//! it takes no other. The host learns of back-pressure when the guest next awaits, so a guest
//! should signal it before it first awaits anything.

use crate::engine;
use crate::front::{Application, accept};
use crate::guest::{GuestState, Shared, linker};
use crate::instances::{Counters, Instances};
use crate::log::LogSink;
use crate::options::{ComponentSource, Options};
use crate::registers::clear_upper_halves;
use anyhow::Context as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::handler::ProxyHandler;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// How a server came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// Whether the compiled code was there already.
    pub from_cache: bool,
    /// How long compiling or loading took.
    pub loading: Duration,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Stopped {
    /// Every request and all work after responses was finished.
    Finished,
    /// The grace period ended first.
    CutOff {
        /// Connections that were still open.
        connections: usize,
        /// Instances that still had work.
        instances: usize,
    },
}

/// A running server. Dropping it stops it at once, without waiting for anything.
pub struct Server {
    address: SocketAddr,
    startup: Startup,
    grace_period: Duration,
    log: LogSink,
    counters: Arc<Counters>,
    stopping: CancellationToken,
    connections: TaskTracker,
    instances: TaskTracker,
    front: Option<Runtime>,
    guests: Option<Runtime>,
}

impl Server {
    /// Loads the component and listens on the address of the options. When this returns,
    /// requests are answered.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, a component that cannot be read or compiled, that
    /// imports what this host does not have, or that does not export `wasi:http/handler@0.3`.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        Self::start_on(listener, options).await
    }

    /// Like [`Server::start`], on a socket that listens already; [`Options::listen`] is not
    /// used.
    ///
    /// # Errors
    ///
    /// As in [`Server::start`].
    pub async fn start_on(listener: TcpListener, options: Options) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let front_runtime = runtime("front", 1)?;
        let guest_runtime = runtime("guest", cores)?;
        let (front, guests) = (front_runtime.handle().clone(), guest_runtime.handle().clone());
        // From here on, every return drops the runtimes as a server does: without waiting.
        let mut server = Self {
            address,
            startup: Startup { from_cache: false, loading: Duration::ZERO },
            grace_period: options.limits.grace_period,
            log: options.log.clone(),
            counters: Arc::default(),
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
            instances: TaskTracker::new(),
            front: Some(front_runtime),
            guests: Some(guest_runtime),
        };
        let cache = options.cache;
        let component = options.component;
        let log = options.log.clone();
        let requests = options.limits.concurrent_requests;
        let loading =
            guests.spawn_blocking(move || load(&component, requests, cache.as_deref(), &log));
        let (service, startup) = loading.await??;
        server.startup = startup;

        let instances = Instances {
            service,
            shared: Arc::new(Shared {
                variables: Some(options.variables),
                allowed_hosts: options.allowed_hosts,
                allowed_hosts_setting: options.allowed_hosts_setting,
                own_address: Some(server.address),
                log: options.log.clone(),
            }),
            environment: options.environment.into_iter().collect(),
            limits: options.limits.clone(),
            counters: server.counters.clone(),
            stopping: server.stopping.clone(),
            instances: server.instances.clone(),
        };
        let application = Arc::new(Application {
            handler: ProxyHandler::new(instances),
            routes: options.routes,
            permits: Semaphore::new(options.limits.concurrent_requests),
            guests,
            log: options.log,
            on_response: options.on_response,
        });
        listener.set_nonblocking(true)?;
        let accepting =
            accept(listener, application, server.connections.clone(), server.stopping.clone());
        front.spawn(server.connections.track_future(accepting));
        Ok(server)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL without a slash at the end: `http://127.0.0.1:3000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it came up.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Instances that have been started since the start.
    pub fn instances_started(&self) -> u64 {
        self.counters.started.load(Ordering::Relaxed)
    }

    /// Instances that are alive now.
    pub fn instances_running(&self) -> usize {
        self.instances.len()
    }

    /// How long it took on average to make an instance; `None` before the first.
    pub fn mean_instantiation(&self) -> Option<Duration> {
        let nanoseconds = self.counters.instantiation_nanoseconds.load(Ordering::Relaxed);
        nanoseconds.checked_div(self.instances_started()).map(Duration::from_nanos)
    }

    /// Accepts no more requests, lets those in flight and the work after responses finish for
    /// up to the grace period, and ends. The caller's runtime needs its timer for that.
    pub async fn stop(mut self) -> Stopped {
        let deadline = Instant::now() + self.grace_period;
        self.stopping.cancel();
        self.connections.close();
        self.instances.close();
        let finished = tokio::time::timeout_at(deadline.into(), async {
            self.connections.wait().await;
            self.instances.wait().await;
        });
        let stopped = match finished.await {
            Ok(()) => Stopped::Finished,
            Err(_) => Stopped::CutOff {
                connections: self.connections.len(),
                instances: self.instances.len(),
            },
        };
        if let Stopped::CutOff { connections, instances } = stopped {
            self.log.host(format_args!(
                "{connections} connection(s) and {instances} instance(s) were cut off after \
                 {:?} of grace",
                self.grace_period
            ));
        }
        self.end();
        stopped
    }

    fn end(&mut self) {
        self.stopping.cancel();
        for runtime in [self.front.take(), self.guests.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        .worker_threads(threads)
        .on_thread_start(clear_upper_halves)
        .enable_all()
        .build()
}

/// Reads, compiles and links the component.
fn load(
    source: &ComponentSource,
    requests: usize,
    cache: Option<&Path>,
    log: &LogSink,
) -> anyhow::Result<(ServicePre<GuestState>, Startup)> {
    let engine = engine::serving_engine(requests)?;
    let loaded = engine::load(&engine, source, cache)
        .map_err(anyhow::Error::from)
        .context("cannot compile the component")?;
    if let Some(problem) = loaded.cache_problem {
        log.host(format_args!("no compiled code was kept: {problem}"));
    }
    let service = linker(&engine)?
        .instantiate_pre(&loaded.component)
        .map_err(anyhow::Error::from)
        .context("the component imports what this host does not have")?;
    let service = ServicePre::new(service)
        .map_err(anyhow::Error::from)
        .context("the component does not export wasi:http/handler in version 0.3")?;
    let startup = Startup { from_cache: loaded.from_cache, loading: loaded.took };
    Ok((service, startup))
}
