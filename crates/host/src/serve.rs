//! Serves a component over HTTP/1.1, with instances reused as Spin reuses them.
//!
//! # Threads
//!
//! A server has two runtimes. A guest that computes blocks the thread that polls it until it awaits
//! something, so guests run on as many threads as there are cores. Connections are accepted, read and
//! written on another thread, which no guest can block. That thread mostly sleeps, so the kernel runs
//! it at once even when guests keep all cores busy, and the health check is answered at once. More
//! guest threads than cores would only make requests that compute take turns and finish later.
//!
//! # Instances
//!
//! A request goes to a free instance, or to a new one. An instance takes several requests as long as it
//! awaits. While it computes, or signals back-pressure, it takes no other. The host learns of
//! back-pressure when the guest next awaits, so a guest should signal it before it first awaits.
//!
//! As many requests compute at a time as keep the cores busy ([`COMPUTING_PER_CORE`]); the rest waits for its
//! turn, before it gets an instance if its body is there. Spin makes an instance for each at once.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime_wasi_http::handler::{ProxyHandler, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use crate::connections::{Application, accept};
use crate::engine;
use crate::guest::{GuestState, Shared};
use crate::instances::Instances;
use crate::linker::linker;
use crate::log::LogSink;
use crate::options::Options;
use crate::registers::clear_upper_halves;
use crate::sqlite::Databases;

/// Requests that compute at a time, for each core. A second one computes while the first one's photo is fetched
/// or its response is handed over.
const COMPUTING_PER_CORE: usize = 2;

/// Facts about a server's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// True if the compiled code was cached.
    pub from_cache: bool,
    /// The time that compiling or loading took.
    pub loading: Duration,
}

/// A running server. Dropping it stops it at once, without waiting for anything.
pub struct Server {
    address: SocketAddr,
    startup: Startup,
    grace_period: Duration,
    log: LogSink,
    instances_started: Arc<AtomicU64>,
    peak_memory: Arc<AtomicUsize>,
    stopping: CancellationToken,
    connections: TaskTracker,
    instances: TaskTracker,
    /// Runs connections.
    front: Option<Runtime>,
    /// Runs guests.
    guests: Option<Runtime>,
}

impl Server {
    /// Loads the component and listens on the address of the options. Once this returns, requests are
    /// answered.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on; a component that cannot be read or compiled, that imports
    /// what this host does not have, or that exports neither `wasi:http/handler@0.3` nor
    /// `wasi:http/incoming-handler@0.2`.
    pub fn start(options: Options) -> Pin<Box<dyn Future<Output = anyhow::Result<Self>>>> {
        // Boxed, so that the server is compiled here and not in each program that awaits it.
        Box::pin(Self::load_and_listen(options))
    }

    async fn load_and_listen(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let front_runtime = runtime("front", 1)?;
        let guest_runtime = runtime("guest", cores)?;
        let (front, guests) = (front_runtime.handle().clone(), guest_runtime.handle().clone());
        // From here on, every return drops the runtimes as the server does: without waiting.
        let mut server = Self {
            address,
            startup: Startup { from_cache: false, loading: Duration::ZERO },
            grace_period: options.limits.grace_period,
            log: options.log.clone(),
            instances_started: Arc::default(),
            peak_memory: Arc::default(),
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
        let turns = options.limits.computing_requests.unwrap_or(COMPUTING_PER_CORE * cores);
        let loading =
            guests.spawn_blocking(move || load(&component, requests, cache.as_deref(), &log));
        let (engine, service, startup) = loading.await??;
        server.startup = startup;

        let instances = Instances {
            service,
            engine,
            places: Arc::new(Semaphore::new(engine::places(options.limits.concurrent_requests))),
            shared: Arc::new(Shared {
                variables: Some(options.variables),
                allowed_hosts: options.allowed_hosts,
                databases: Databases {
                    allowed: options.sqlite_databases,
                    folder: options.state_folder,
                },
                log: options.log.clone(),
            }),
            environment: options.environment.into_iter().collect(),
            limits: options.limits.clone(),
            started: server.instances_started.clone(),
            peak_memory: server.peak_memory.clone(),
            stopping: server.stopping.clone(),
            running: server.instances.clone(),
        };
        let application = Arc::new(Application {
            handler: ProxyHandler::new(instances),
            permits: Semaphore::new(options.limits.concurrent_requests),
            permits_with_body: Semaphore::new(requests.div_ceil(2)),
            turns: Arc::new(Semaphore::new(turns)),
            guests,
            request_timeout: options.limits.request_timeout,
            log: options.log,
            on_response: options.on_response,
        });
        let accepting =
            accept(listener, application, server.connections.clone(), server.stopping.clone());
        front.spawn(server.connections.track_future(accepting));
        Ok(server)
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address as a URL without a slash at the end: `http://127.0.0.1:3000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how the server started.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Returns the number of instances started so far.
    pub fn instances_started(&self) -> u64 {
        self.instances_started.load(Ordering::Relaxed)
    }

    /// Returns the number of instances that are alive now.
    pub fn instances_running(&self) -> usize {
        self.instances.len()
    }

    /// Returns the most linear memory that any instance had so far, in bytes.
    pub fn peak_instance_memory(&self) -> usize {
        self.peak_memory.load(Ordering::Relaxed)
    }

    /// Stops: accepts no more requests, and leaves up to the grace period to those in flight and to work
    /// after responses. Logs what had to be cut off. The caller's runtime needs its timer.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + self.grace_period;
        self.stopping.cancel();
        self.connections.close();
        self.instances.close();
        let finished = tokio::time::timeout_at(deadline.into(), async {
            self.connections.wait().await;
            self.instances.wait().await;
        });
        if finished.await.is_err() {
            self.log.host(format_args!(
                "{} connection(s) and {} instance(s) were cut off after {:?} of grace",
                self.connections.len(),
                self.instances.len(),
                self.grace_period
            ));
        }
        self.end();
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

/// Compiles and links the component.
fn load(
    component: &Path,
    requests: usize,
    cache: Option<&Path>,
    log: &LogSink,
) -> anyhow::Result<(Engine, ProxyPre<GuestState>, Startup)> {
    let engine = engine::serving_engine(requests)?;
    let loaded = engine::load(&engine, component, cache)
        .map_err(anyhow::Error::from)
        .context("cannot compile the component")?;
    if let Some(problem) = loaded.cache_problem {
        log.host(format_args!("cannot keep compiled code: {problem}"));
    }
    let service = linker(&engine)?
        .instantiate_pre(&loaded.component)
        .map_err(anyhow::Error::from)
        .context("the component imports what this host does not have")?;
    let service = match p3::bindings::ServicePre::new(service.clone()) {
        Ok(service) => ProxyPre::P3(service),
        Err(_) => p2::bindings::ProxyPre::new(service)
            .map(ProxyPre::P2)
            .map_err(anyhow::Error::from)
            .context(
                "the component exports neither wasi:http/handler in version 0.3 nor \
                 wasi:http/incoming-handler in version 0.2",
            )?,
    };
    let startup = Startup { from_cache: loaded.from_cache, loading: loaded.took };
    Ok((engine, service, startup))
}
