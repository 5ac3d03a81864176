//! The collector of `cargo xtask up`: the one that the variables name, one that runs already, a Jaeger
//! that can be started, or else the terminal.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::collector::{Collector, Export};
use host::trace::{Span, tree};

use crate::target;

/// The address of a collector on this machine, by OTLP over HTTP.
const COLLECTOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);
/// The address of Jaeger's UI on this machine.
const JAEGER: &str = "http://localhost:16686";
/// The variables that name a collector or turn tracing off. The first one is set where none is.
const DESTINATION: [&str; 5] = [
    "otel_exporter_otlp_endpoint",
    "otel_exporter_otlp_traces_endpoint",
    "jaeger_collector_host",
    "enable_tracing",
    "otel_sdk_disabled",
];
/// Jaeger starts in half a second, but takes long on a busy machine.
const JAEGER_START: Duration = Duration::from_secs(30);

/// The destination of the spans. A program started for it ends when this is dropped.
pub enum Traces {
    /// The collector that the variables name, if they do.
    Configured {
        /// The UI that is likely to show its traces.
        ui: Option<String>,
    },
    /// A collector that listened on this machine already.
    Running,
    /// A Jaeger that was started.
    Jaeger(Child),
    /// The terminal.
    Terminal(#[allow(dead_code, reason = "it listens until it is dropped")] Collector),
}

impl Traces {
    /// Chooses the destination by variables and environment, and starts what it needs. Adds the variable
    /// that leads the component's spans there.
    pub fn start(variables: &mut Vec<(String, String)>) -> Result<Traces> {
        let value = |name: &str| {
            let given = variables.iter().rev().find(|(known, _)| known == name);
            given
                .map(|(_, value)| value.clone())
                .or_else(|| std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok())
                .filter(|value| !value.trim().is_empty())
        };
        if DESTINATION.iter().any(|name| value(name).is_some()) {
            let host = value("jaeger_collector_host").or_else(|| {
                let url = value("otel_exporter_otlp_endpoint")?;
                let rest = url.strip_prefix("http://")?;
                Some(rest.split([':', '/']).next()?.to_owned())
            });
            return Ok(Traces::Configured { ui: host.map(|host| format!("http://{host}:16686")) });
        }
        variables.push((DESTINATION[0].into(), format!("http://{COLLECTOR}")));
        if collector_listens() {
            return Ok(Traces::Running);
        }
        match jaeger_on_path() {
            Some(jaeger) => start_jaeger(&jaeger).map(Traces::Jaeger),
            None => Collector::start(COLLECTOR, show)
                .map(Traces::Terminal)
                .with_context(|| format!("cannot listen on {COLLECTOR}")),
        }
    }

    /// Returns the address of the UI that shows the traces.
    pub fn ui(&self) -> Option<String> {
        match self {
            Traces::Configured { ui } => ui.clone(),
            Traces::Running | Traces::Jaeger(_) => Some(JAEGER.into()),
            Traces::Terminal(_) => None,
        }
    }

    /// Returns a sentence for the user.
    pub fn about(&self) -> String {
        match self {
            Traces::Configured { .. } => {
                "Traces go to the collector that the variables name.".into()
            }
            Traces::Running => format!("Traces go to the collector on {COLLECTOR}."),
            Traces::Jaeger(_) => format!("Traces go to a Jaeger started here: {JAEGER}"),
            Traces::Terminal(_) => "Each request's trace is shown here. (With Jaeger 2 on the \
                                    PATH as `jaeger`, it is started instead.)"
                .into(),
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Traces::Jaeger(jaeger) = self {
            // It may have ended already.
            _ = jaeger.kill();
            _ = jaeger.wait();
        }
    }
}

/// Returns the trace id in a response's `traceparent`, if the request was sampled.
pub fn sampled_trace(traceparent: &str) -> Option<&str> {
    let mut fields = traceparent.split('-');
    let trace = fields.nth(1)?;
    (fields.nth(1)? == "01").then_some(trace)
}

fn collector_listens() -> bool {
    TcpStream::connect_timeout(&COLLECTOR, Duration::from_millis(300)).is_ok()
}

fn jaeger_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("jaeger")).find(|file| file.is_file())
}

fn start_jaeger(jaeger: &std::path::Path) -> Result<Child> {
    let log_file = target().join("jaeger.log");
    let log_shown = log_file.display();
    println!("Starting {} (its log: {log_shown})", jaeger.display());
    let log = File::create(&log_file).with_context(|| log_shown.to_string())?;
    let mut command = Command::new(jaeger);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Ctrl-C must reach this command alone: its last spans are sent before Jaeger may end.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", jaeger.display()))?;
    let start = Instant::now();
    while !collector_listens() {
        if let Some(status) = child.try_wait()? {
            bail!("Jaeger ended ({status}): see {log_shown}");
        }
        if start.elapsed() > JAEGER_START {
            child.kill()?;
            child.wait()?;
            bail!("Jaeger did not listen on {COLLECTOR} within {JAEGER_START:?}: is it Jaeger 2?");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(child)
}

/// Prints the traces of an export.
fn show(export: &Export) {
    let mut spans = export.spans.clone();
    while let Some(trace) = spans.first().map(|span| span.trace_id.clone()) {
        let (of_trace, rest) = spans.into_iter().partition::<Vec<_>, _>(|s| s.trace_id == trace);
        println!("\ntrace {trace}\n{}", table(&of_trace));
        spans = rest;
    }
}

/// Returns a trace as a tree, with a column of durations.
fn table(spans: &[Span]) -> String {
    let rows = tree(spans, |span| {
        let milliseconds = span.duration().as_secs_f64() * 1000.0;
        // Noted on the operation alone, although a stage has them too.
        let prediction: &[&str] = match span.attributes.contains_key("operation.success") {
            true => &["prediction.label", "prediction.confidence"],
            false => &["http.response.status_code"],
        };
        let noted = prediction.iter().filter_map(|name| span.attributes.get(*name));
        let noted = noted.map(String::as_str);
        let error = span.error.as_ref().map(|error| format!("ERROR {error}"));
        let notes = error.iter().map(String::as_str).chain(noted).collect::<Vec<_>>().join("  ");
        format!("{}\t{milliseconds:.2} ms\t{notes}", span.name)
    });
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let (names, times) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    rows.iter()
        .map(|row| match row[..] {
            [name, time, notes] => format!("{name:names$}  {time:>times$}  {notes}\n"),
            _ => format!("{}\n", row.join(" ")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sampled_trace;

    #[test]
    fn sampled_trace_has_a_link_and_others_have_none() {
        let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(sampled_trace(sampled), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(sampled_trace(&sampled.replace("-01", "-00")), None);
        assert_eq!(sampled_trace("what"), None);
    }
}
