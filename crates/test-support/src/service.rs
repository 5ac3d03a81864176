//! The component under the development host, and HTTP requests to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::{LogSink, Manifest, Options, Server};
use serde_json::Value;

use crate::root;

/// A request that takes longer fails its test.
const TIMEOUT: Duration = Duration::from_secs(120);

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

/// The component served on a free port of 127.0.0.1, until this is dropped.
pub struct Service {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    url: String,
    log: Arc<Mutex<Vec<String>>>,
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
        let manifest = Manifest::read(&root().join("spin.toml")).expect("spin.toml");
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
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::start(options)).expect("a server");
        Service { url: server.url(), runtime, server: Some(server), log }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server().address()
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
        self.server.as_ref().expect("it runs until it is dropped")
    }

    /// Returns the log lines of host and guest that need attention: all but `info`.
    pub fn log(&self) -> Vec<String> {
        self.whole_log().into_iter().filter(|line| !line.starts_with("info: ")).collect()
    }

    /// Returns all log lines of host and guest.
    pub fn whole_log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
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
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(TIMEOUT))
            .build()
            .into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
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
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}
