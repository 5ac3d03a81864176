//! Servers in processes of their own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A server in a process of its own, and those that it starts. They end with this.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Process {
    /// The component on this project's host, with variables.
    pub fn component(variables: &[(String, String)]) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["up", "--no-build", "--listen", &address.to_string()]);
        for (name, value) in variables {
            command.arg("--variable").arg(format!("{name}={value}"));
        }
        Process::spawn(command, address)
    }

    /// What a shell makes of a command, in which `{port}` is where it shall listen; spans go to
    /// `collector`.
    pub fn command(text: &str, collector: &str) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(text.replace("{port}", &address.port().to_string()));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        Process::spawn(command, address)
    }

    fn spawn(mut command: Command, address: SocketAddr) -> Result<Process> {
        // A group of its own, so that the processes it starts are known.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Its log has a line for each instance.
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot run {command:?}"))?;
        Ok(Process { child, url: format!("http://{address}") })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Does some work; also the most memory in MB (proportional set size, of all its processes
    /// together) that was seen meanwhile, `None` where the system does not tell.
    pub fn peak_memory<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<f64>)> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let peak = scope.spawn(|| {
                let mut peak = None;
                while !over.load(Ordering::Relaxed) {
                    peak = peak.into_iter().chain(self.memory()).reduce(f64::max);
                    std::thread::sleep(LOOK);
                }
                peak
            });
            let done = work();
            over.store(true, Ordering::Relaxed);
            Ok((done?, peak.join().expect("no panic")))
        })
    }

    fn memory(&self) -> Option<f64> {
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
        // The processes that it has started, too.
        #[cfg(unix)]
        {
            let group = format!("-{}", self.child.id());
            _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
