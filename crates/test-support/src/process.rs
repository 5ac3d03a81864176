//! Servers in processes of their own, free ports, waiting.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(50);

/// Time in which a server that has processes of its own must end with them.
const END: Duration = Duration::from_secs(10);

/// A running server, killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// True if it has processes of its own.
    is_parent: bool,
}

impl Process {
    /// Starts a command with its output in a file.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let file = File::create(log).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Process { child, log: log.to_owned(), is_parent: false }
    }

    /// Says that the server has processes of its own. Killed, it would leave them running, so it is asked to
    /// end first.
    #[must_use]
    pub fn with_processes(mut self) -> Process {
        self.is_parent = true;
        self
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// If the program `kill` is missing.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-s", name, &id]).status().expect("kill");
    }

    /// Kills the server and its processes, so that none of them ends in order.
    ///
    /// # Panics
    /// If they cannot be listed, which only Linux does.
    pub fn kill(mut self) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
            .expect("the processes of a process");
        // First the parent, which might start others.
        _ = self.child.kill();
        for child in children.split_whitespace() {
            Command::new("kill").args(["-s", "KILL", child]).status().expect("kill");
        }
        _ = self.child.wait();
    }

    /// Asks the server to stop, waits, and returns its exit code.
    ///
    /// # Panics
    /// If it does not stop in time.
    pub fn stop(mut self, within: Duration) -> Option<i32> {
        self.signal("TERM");
        match self.ends(within) {
            Some(status) => status.code(),
            None => panic!("it did not stop within {within:?}: {}", self.log()),
        }
    }

    /// Waits for its end.
    fn ends(&mut self, within: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait().expect("its status");
            if status.is_some() || start.elapsed() >= within {
                return status;
            }
            std::thread::sleep(POLL);
        }
    }

    /// True if it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Returns what it has written so far.
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_parent && !self.ended() {
            self.signal("TERM");
            _ = self.ends(END);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until a condition is met.
///
/// # Panics
/// If it is not met in time; `about` gives the message.
pub fn wait(seconds: u64, about: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < seconds, "not within {seconds} s: {}", about());
        std::thread::sleep(POLL);
    }
}

/// Returns a free port of 127.0.0.1. Nobody else gets it for a long while: it lies below those that
/// the system gives to outgoing connections (from 32768 on Linux), in a range that starts at a place of
/// this process's own.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 15_000;
    const COUNT: u32 = 17_000;
    loop {
        let start = std::process::id().wrapping_mul(97);
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + number % COUNT) as u16;
        if TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return port;
        }
    }
}
