//! Servers in processes of their own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::client::first_answer;

/// Longest start.
const START: Duration = Duration::from_secs(120);
/// Longest end of a server that is asked to end.
const END: Duration = Duration::from_secs(30);
/// Interval at which a server that starts or ends is asked.
const POLL: Duration = Duration::from_millis(2);
/// Interval between two readings of the memory.
const INTERVAL: Duration = Duration::from_millis(200);

/// A server in a process of its own, with the processes that it starts. All are killed when this is dropped.
pub struct Process {
    child: Child,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl Process {
    /// Starts the component on the development host, with variables, and the host with an environment.
    pub fn component(
        variables: &[(String, String)],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["up", "--no-build", "--listen", &address.to_string()]);
        for (name, value) in variables {
            command.arg("--variable").arg(format!("{name}={value}"));
        }
        command.envs(environment.iter().copied());
        Process::spawn(command, address)
    }

    /// Starts a shell's command, in which `{port}` stands for the port to listen on. Spans go to
    /// `collector`.
    pub fn command(text: &str, collector: &str) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(text.replace("{port}", &address.port().to_string()));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        Process::spawn(command, address)
    }

    /// Starts a command that listens on an address.
    pub fn spawn(mut command: Command, address: SocketAddr) -> Result<Process> {
        // In a group of its own, by which the processes that it starts are found.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // The log has a line for each instance.
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot run {command:?}"))?;
        Ok(Process { child, address })
    }

    /// Returns the URL that it listens on.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it answers, asked every few milliseconds: its start is measured.
    pub fn first_answer(&mut self, answers: impl FnMut() -> bool) -> Result<()> {
        let ended = || self.child.try_wait().ok().flatten().map(|status| status.to_string());
        Ok(first_answer(START, POLL, answers, ended)?)
    }

    /// Returns its status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end (SIGTERM), and waits until it has ended, or is killed after [`END`].
    pub fn terminate(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().context("cannot run kill")?;
        let start = Instant::now();
        while self.ended()?.is_none() && start.elapsed() < END {
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Does some work, and returns its result with the highest memory in MB meanwhile: the proportional
    /// set size of all its processes together. `None` where the system does not measure it.
    pub fn peak_memory<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<f64>)> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let peak = scope.spawn(|| {
                let mut peak = None;
                while !over.load(Ordering::Relaxed) {
                    peak = peak.into_iter().chain(self.memory()).reduce(f64::max);
                    std::thread::sleep(INTERVAL);
                }
                peak
            });
            let done = work();
            over.store(true, Ordering::Relaxed);
            Ok((done?, peak.join().expect("no panic")))
        })
    }

    /// Returns its memory in MB, that of all its processes together. `None` where the system does not
    /// measure it.
    pub fn memory(&self) -> Option<f64> {
        let group = self.child.id();
        let mut sum = None;
        for process in std::fs::read_dir("/proc").ok()?.flatten() {
            let read = |file: &str| std::fs::read_to_string(process.path().join(file)).ok();
            // The process group is the third field after the name, which is in parentheses.
            let belongs = || {
                let stat = read("stat")?;
                let (_, fields) = stat.rsplit_once(") ")?;
                (fields.split(' ').nth(2)?.parse::<u32>().ok()? == group).then_some(())
            };
            let pss = || {
                belongs()?;
                let text = read("smaps_rollup")?;
                let line = text.lines().find(|line| line.starts_with("Pss:"))?;
                Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
            };
            if let Some(pss) = pss() {
                sum = Some(sum.unwrap_or(0.0) + pss);
            }
        }
        sum
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // With the processes that it has started.
        #[cfg(unix)]
        {
            let group = format!("-{}", self.child.id());
            _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns a free port of this machine.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
