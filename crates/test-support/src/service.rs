//! The component under the development host or another one, and HTTP requests to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::client::{agent, first_answer};
use host::variables::Values;
use host::{LogSink, Manifest, Options, Server, others};
use serde_json::Value;

use crate::process::{Process, free_port};
use crate::{folder, root, target};

/// A request that takes longer fails its test.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The token of the exports of corrections: the setting `feedback_token`.
pub const FEEDBACK_TOKEN: &str = "0123456789-correct-horse";

/// Returns the bytes of a photo in `tests/photos`.
///
/// # Panics
/// If it is missing.
pub fn photo(name: &str) -> Vec<u8> {
    let path = root().join("tests/photos").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a PNG of one colour.
///
/// # Panics
/// If a side is 0.
pub fn plain_png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let mut png = Vec::new();
    image::RgbImage::from_pixel(width, height, image::Rgb(color))
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .expect("an encoder");
    png
}

/// The variable that names the world whose component [`Service::start`] serves: `spin`, the default, or
/// `spin-p2`.
const WORLD: &str = "TEST_WORLD";

/// Time after which another host must serve. It compiles the component first.
const START: Duration = Duration::from_secs(300);
/// Interval at which it is asked.
const INTERVAL: Duration = Duration::from_millis(50);

/// Returns the manifest of the world that the tests are for.
fn manifest() -> &'static str {
    match std::env::var(WORLD).as_deref() {
        Err(_) | Ok("spin") => "spin.toml",
        Ok("spin-p2") => "spin-p2.toml",
        Ok(other) => panic!("{WORLD}={other} names no world"),
    }
}

fn wasi_component() -> PathBuf {
    let component = root().join("target/hand-gesture-api-wasi.wasm");
    assert!(component.exists(), "{} is missing: cargo xtask build", component.display());
    component
}

/// True if an instance serves more than one request: in WASI 0.3.
pub fn instances_are_reused() -> bool {
    manifest() == "spin.toml"
}

/// Returns a folder for the database of one service. It is made when it is used.
fn state_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    target().join(format!("tmp/state-{}-{number}", std::process::id()))
}

/// A host that others wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherHost {
    /// `wasmtime serve`.
    Wasmtime,
    /// wasmCloud's `wash dev`.
    Wasmcloud,
    /// `spin up` with the component for WASI 0.3.
    Spin,
    /// `spin up` with the component for WASI 0.2.
    SpinP2,
}

impl OtherHost {
    /// True if the host is Spin, which gives a component variables and a database.
    pub fn is_spin(self) -> bool {
        matches!(self, OtherHost::Spin | OtherHost::SpinP2)
    }
}

/// The component served on a free port of 127.0.0.1, until this is dropped.
pub struct Service {
    running: Running,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// The folder of its database, if it is this service's own.
    state: Option<PathBuf>,
}

enum Running {
    Own {
        runtime: tokio::runtime::Runtime,
        server: Option<Box<Server>>,
    },
    Other(Process),
    /// Killed.
    Ended,
}

/// A response.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: ureq::http::HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns a header's value; empty if it is missing.
    ///
    /// # Panics
    /// If it is not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}): {}", String::from_utf8_lossy(&self.body))
        })
    }
}

/// Changes options so that an idle instance stays, for tests that count instances: a busy machine may pause for
/// longer than the default.
pub fn patient(options: &mut Options) {
    options.limits.idle_timeout = TIMEOUT;
}

impl Service {
    /// Serves the component that `cargo xtask build` built, with variables.
    ///
    /// # Panics
    /// If the component is missing or does not start.
    pub fn start(variables: &[(&str, &str)]) -> Service {
        Service::start_with(variables, |_| {})
    }

    /// Serves the component with variables and changed options.
    ///
    /// # Panics
    /// If the component is missing or does not start.
    pub fn start_with(variables: &[(&str, &str)], change: impl FnOnce(&mut Options)) -> Service {
        let manifest = Manifest::read(&root().join(manifest())).expect("a manifest");
        assert!(
            manifest.component.source.exists(),
            "{} is missing: run `cargo xtask build`, or all tests by `cargo xtask test`",
            manifest.component.source.display()
        );
        let given: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut options =
            Options::from_manifest(&manifest, &given, |_| Err(std::env::VarError::NotPresent))
                .expect("options");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        options.log = LogSink::new(move |line| lines.lock().expect("no panic").push(line.text));
        let state = state_folder();
        options.state_folder = Some(state.clone());
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::start(options)).expect("a server");
        let address = server.address();
        let running = Running::Own { runtime, server: Some(Box::new(server)) };
        Service { running, address, log, state: Some(state) }
    }

    /// Serves the component of WASI alone with the development host. Variables are passed on as its environment.
    ///
    /// # Panics
    /// If the component is missing or does not start.
    pub fn start_wasi(variables: &[(&str, &str)]) -> Service {
        let values: Values =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Service::start_with(variables, |options| {
            options.component = wasi_component();
            options.environment.extend(others::environment(&values));
            options.variables.clear();
        })
    }

    /// Serves a component with another host: Spin gets the one for its world, others that of WASI alone, with
    /// the variables as its environment.
    ///
    /// # Panics
    /// If the host or the component is missing or does not start.
    pub fn start_on(host: OtherHost, variables: &[(&str, &str)]) -> Service {
        Service::start_on_with(host, variables, |_| {})
    }

    /// Serves a component with another host, whose command is changed. A folder for Spin's database is added if
    /// the command names none.
    ///
    /// # Panics
    /// If the host or the component is missing or does not start.
    pub fn start_on_with(
        host: OtherHost,
        variables: &[(&str, &str)],
        change: impl FnOnce(&mut Command),
    ) -> Service {
        let given: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let environment = others::environment(&given.iter().cloned().collect());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = folder(&format!("other-host-{}", address.port()));
        let program = |name: &str| {
            let program = target().join("tools/hosts").join(name);
            assert!(program.exists(), "{name} is missing: run `cargo xtask tools hosts`");
            program
        };
        let spin = |manifest: &str| {
            let manifest = root().join(manifest);
            others::spin(Path::new("spin"), address, &manifest, &given, None)
        };
        let mut command = match host {
            OtherHost::Wasmtime => {
                let component = wasi_component();
                others::wasmtime(&program("wasmtime"), address, &component, &environment)
            }
            OtherHost::Wasmcloud => {
                let component = wasi_component();
                others::wasmcloud(&program("wash"), address, &component, &environment, &folder)
                    .expect("a configuration")
            }
            OtherHost::Spin => spin("spin.toml"),
            OtherHost::SpinP2 => spin("spin-p2.toml"),
        };
        change(&mut command);
        if host.is_spin() && command.get_args().all(|argument| argument != "--state-dir") {
            command.arg("--state-dir").arg(&folder);
        }
        let mut process = Process::start(&mut command, &folder.join("log"));
        if host.is_spin() {
            process = process.with_processes();
        }
        let agent = agent(TIMEOUT);
        let health = format!("http://{address}/health");
        first_answer(
            START,
            INTERVAL,
            || agent.get(&health).call().is_ok_and(|answer| answer.status() == 200),
            || process.ended().then(|| process.log()),
        )
        .unwrap_or_else(|error| panic!("{host:?}: {error}"));
        Service { running: Running::Other(process), address, log: Arc::default(), state: None }
    }

    /// Kills another host.
    ///
    /// # Panics
    /// If it is the development host, which is no process of its own.
    pub fn kill(mut self) {
        match std::mem::replace(&mut self.running, Running::Ended) {
            Running::Other(process) => process.kill(),
            Running::Own { .. } | Running::Ended => panic!("no process"),
        }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of instances started so far.
    pub fn instances_started(&self) -> u64 {
        self.server().instances_started()
    }

    /// Returns the number of instances that run now.
    pub fn instances_running(&self) -> usize {
        self.server().instances_running()
    }

    /// Returns the most linear memory that any instance had so far, in bytes.
    pub fn peak_instance_memory(&self) -> usize {
        self.server().peak_instance_memory()
    }

    fn server(&self) -> &Server {
        match &self.running {
            Running::Own { server, .. } => server.as_deref().expect("it runs until it is dropped"),
            Running::Other(_) | Running::Ended => panic!("another host does not count instances"),
        }
    }

    /// Returns the log lines of host and guest that need attention: all but `info`.
    pub fn log(&self) -> Vec<String> {
        self.whole_log().into_iter().filter(|line| !line.starts_with("info: ")).collect()
    }

    /// Returns all log lines of host and guest.
    pub fn whole_log(&self) -> Vec<String> {
        match &self.running {
            Running::Own { .. } => self.log.lock().expect("no panic").clone(),
            Running::Other(process) => process.log().lines().map(str::to_owned).collect(),
            Running::Ended => Vec::new(),
        }
    }

    /// Returns the lines of the export of corrections, with [`FEEDBACK_TOKEN`].
    ///
    /// # Panics
    /// If the service refuses it, or a line is no JSON.
    pub fn corrections(&self) -> Vec<Value> {
        let authorization = format!("Bearer {FEEDBACK_TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let answer = self.send("GET", "/feedback/export", &headers, None);
        let text = String::from_utf8(answer.body).expect("text");
        assert_eq!(answer.status, 200, "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Sends a request, without a body if `body` is `None`.
    ///
    /// # Panics
    /// If there is no response.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let agent = agent(TIMEOUT);
        let url = format!("http://{}{path}", self.address);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => agent.run(request.body(body).expect("a request")),
            None => agent.run(request.body(()).expect("a request")),
        };
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (head, mut body) = response.into_parts();
        let body = body.read_to_vec().expect("a body");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    /// Posts a body to `/predict`.
    pub fn predict(&self, media_type: &str, body: &[u8]) -> Answer {
        self.send("POST", "/predict", &[("content-type", media_type)], Some(body))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Running::Own { runtime, server } = &mut self.running
            && let Some(server) = server.take()
        {
            runtime.block_on(server.stop());
        }
        if let Some(state) = &self.state {
            // There is one only if it was used.
            _ = std::fs::remove_dir_all(state);
        }
    }
}
