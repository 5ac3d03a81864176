//! `cargo xtask hosts`: measures the components on all hosts that are here, in one run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use host::trace::Span;
use host::{Collector, others};

use crate::bench::process::{Process, free_address};
use crate::bench::{PHOTO, agent, median, post, quantile, until_the_end};
use crate::build::{Models, World};
use crate::{build, root, spin, target, tools};

/// The photo's letter.
const LETTER: &str = "V";
/// The spans of a prediction of that photo: `tests/traces/prediction.txt`.
const SPANS: usize = 8;
/// Requests to each host before those that are measured.
const WARM_UP: usize = 5;
/// Time in which the last spans must arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for which a host serves before it is ended.
const BEFORE_THE_END: Duration = Duration::from_secs(5);
/// Time that a client waits after a refusal.
const REFUSED: Duration = Duration::from_millis(100);

/// Arguments of `cargo xtask hosts`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Photos that are sent to each host, one after another, the hosts in turns
    #[arg(long, value_name = "N", default_value_t = 100)]
    photos: usize,
    /// Connections that send photos at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    connections: usize,
    /// Time for which they send, in seconds; 0 leaves that out, and the hosts' ends
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    models: Models,
}

/// A host that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Own,
    Spin,
    Wasmtime,
    Wasmcloud,
}

/// A host with a component and what bounds the host's instances.
struct Row {
    host: Host,
    world: World,
    /// Arguments and environment that bound instances. None by default.
    bound: Option<Bound>,
}

/// A setting of a host that bounds instances.
#[derive(Clone, Copy)]
enum Bound {
    Argument(&'static str, &'static str),
    Environment(&'static str, &'static str),
}

impl Row {
    fn name(&self) -> String {
        let host = match self.host {
            Host::Own => "development host",
            Host::Spin => "Spin",
            Host::Wasmtime => "`wasmtime serve`",
            Host::Wasmcloud => "wasmCloud",
        };
        let component = self.world.component();
        let file = component.file_name().unwrap_or_default().display().to_string();
        let bound = match self.bound {
            None => String::new(),
            Some(Bound::Argument(name, value)) => format!(", `{name} {value}`"),
            Some(Bound::Environment(name, value)) => format!(", `{name}={value}`"),
        };
        format!("{host}{bound} | `{file}`")
    }

    /// Returns the command that serves it at an address. What the host compiles is cached in `folder`.
    fn command(&self, listen: SocketAddr, collector: &str, folder: &Path) -> Result<Command> {
        let names = ["otel_exporter_otlp_endpoint", "collector_allowed_host"];
        let variables: Vec<_> =
            names.iter().map(|name| ((*name).to_owned(), collector.to_owned())).collect();
        let environment = others::environment(&variables.iter().cloned().collect());
        let component = self.world.component();
        let mut command = match self.host {
            Host::Own => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["up", "--no-build", "--world", self.world.name()]);
                command.args(["--listen", &listen.to_string()]);
                for (name, value) in &variables {
                    command.arg("--variable").arg(format!("{name}={value}"));
                }
                command
            }
            Host::Spin => {
                let state = folder.join("state");
                let manifest = self.world.manifest();
                others::spin(Path::new(spin::PROGRAM), listen, &manifest, &variables, Some(&state))
            }
            Host::Wasmtime => {
                let program = tools::host_program("wasmtime")?;
                others::wasmtime(&program, listen, &component, &environment)
            }
            Host::Wasmcloud => {
                let program = tools::host_program("wash")?;
                others::wasmcloud(&program, listen, &component, &environment, folder)?
            }
        };
        match self.bound {
            Some(Bound::Argument(name, value)) => _ = command.args([name, value]),
            Some(Bound::Environment(name, value)) => _ = command.env(name, value),
            None => {}
        }
        // Where wasmtime's cache is.
        command.env("XDG_CACHE_HOME", folder.join("cache"));
        Ok(command)
    }

    fn serve(&self, folder: &Path) -> Result<Served> {
        let collector = Collector::start(([127, 0, 0, 1], 0).into(), |_| {})?;
        let address = free_address()?;
        let command = self.command(address, &collector.endpoint(), folder)?;
        let start = Instant::now();
        let mut process = Process::spawn(command, address)?;
        let (agent, url) = (agent(), format!("http://{address}"));
        process
            // wasmCloud answers with 404 until it has the component.
            .first_answer(|| {
                let answer = agent.get(format!("{url}/health")).call();
                answer.is_ok_and(|answer| answer.status() == 200)
            })
            .with_context(|| self.name())?;
        Ok(Served { process, collector, url, start: start.elapsed() })
    }
}

/// A host that serves, with its collector.
struct Served {
    process: Process,
    collector: Collector,
    url: String,
    /// Time from the start of its process to the first answer.
    start: Duration,
}

/// The answer to a photo: its status, its letter, its trace's id, and the time that it took.
struct Answer {
    status: u16,
    letter: String,
    trace_id: String,
    ms: f64,
}

/// Sends a photo. `None` if there is no answer.
fn predict(agent: &ureq::Agent, url: &str, photo: &[u8]) -> Option<Answer> {
    let (response, ms) = post(agent, url, "image/jpeg", photo).ok()?;
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let [letter, trace_id] = [text("prediction"), text("trace_id")];
    Some(Answer { status: response.status().as_u16(), letter, trace_id, ms })
}

/// Returns the rows of hosts that are here, and prints why others are not measured.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = World::ALL
        .iter()
        .map(|world| Row { host: Host::Own, world: *world, bound: None })
        .collect();
    for world in [World::Spin, World::SpinP2] {
        match spin::least(world).and_then(spin::lacking) {
            None => rows.push(Row { host: Host::Spin, world, bound: None }),
            Some(reason) => println!("not measured: {reason}"),
        }
    }
    for (host, program) in [(Host::Wasmtime, "wasmtime"), (Host::Wasmcloud, "wash")] {
        match tools::host_program(program) {
            Ok(_) => rows.push(Row { host, world: World::Wasi, bound: None }),
            Err(error) => println!("not measured: {error}"),
        }
    }
    rows
}

/// Measures all hosts and prints tables.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::run(World::ALL, &arguments.models, true)?;
    let photo = std::fs::read(root().join(PHOTO)).context(PHOTO)?;
    let rows = rows();
    one_after_another(&rows, arguments.photos, &photo)?;
    if arguments.seconds > 0 {
        let length = Duration::from_secs(arguments.seconds);
        at_once(&rows, arguments.connections, length, &photo)?;
        at_an_end(&rows, &photo)?;
    }
    Ok(())
}

/// Returns an empty folder for a row.
fn folder(number: usize) -> Result<PathBuf> {
    let folder = target().join(format!("tmp/hosts-{}-{number}", std::process::id()));
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Measures starts, first letters, letters of a host that is warm, and memory.
fn one_after_another(rows: &[Row], photos: usize, photo: &[u8]) -> Result<()> {
    let agent = agent();
    let mut served = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let folder = folder(number)?;
        let compiling = row.serve(&folder)?.start;
        let cached = row.serve(&folder)?;
        let first = predict(&agent, &cached.url, photo).with_context(|| row.name())?;
        served.push((compiling, cached, first));
    }
    let mut times: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    for turn in 0..WARM_UP + photos {
        for ((row, (_, served, _)), times) in rows.iter().zip(&served).zip(&mut times) {
            let answer = predict(&agent, &served.url, photo).with_context(|| row.name())?;
            if answer.letter != LETTER {
                bail!("{}: {} {:?}", row.name(), answer.status, answer.letter);
            }
            if turn >= WARM_UP {
                times.push(answer.ms);
            }
        }
    }
    println!(
        "\n| host | component | start, compiling | start, cached | first letter | p50 of {photos} | \
         letters right | traces whole | memory (PSS) |\n|---|---|---|---|---|---|---|---|---|"
    );
    let sent = 1 + WARM_UP + photos;
    for ((row, (compiling, served, first)), times) in rows.iter().zip(served).zip(times) {
        let whole = whole_traces(&served.collector, sent);
        let memory =
            served.process.memory().map_or("–".to_owned(), |memory| format!("{memory:.0} MB"));
        let right = if first.letter == LETTER { sent } else { sent - 1 };
        // The development host has a cache of its own, which the build may have filled.
        let compiling = match row.host {
            Host::Own => "–".to_owned(),
            _ => format!("{:.1} s", compiling.as_secs_f64()),
        };
        println!(
            "| {} | {compiling} | {:.2} s | {:.0} ms | {:.1} ms | {right} of {sent} | {whole} of {sent} | {memory} |",
            row.name(),
            served.start.as_secs_f64(),
            first.ms,
            median(times),
        );
    }
    Ok(())
}

/// Returns the number of predictions whose traces are whole, and waits for so many.
fn whole_traces(collector: &Collector, count: usize) -> usize {
    let start = Instant::now();
    loop {
        let whole = whole(&collector.spans()).len();
        if whole >= count || start.elapsed() > PATIENCE {
            return whole;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the ids of those traces of predictions that have all spans, each below another one of the trace.
fn whole(spans: &[Span]) -> HashSet<&str> {
    let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in spans {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    let is_whole = |spans: &&Vec<&Span>| {
        let ids: HashSet<_> = spans.iter().map(|span| span.span_id.as_str()).collect();
        let (roots, others): (Vec<&&Span>, Vec<&&Span>) =
            spans.iter().partition(|span| span.parent_span_id.is_empty());
        roots.len() == 1
            && roots[0].name == "POST /predict"
            && ids.len() == SPANS
            && others.iter().all(|span| ids.contains(span.parent_span_id.as_str()))
    };
    traces.into_iter().filter(|(_, spans)| is_whole(&spans)).map(|(id, _)| id).collect()
}

/// Measures many connections at once, with hosts as they are and with what bounds them.
fn at_once(rows: &[Row], connections: usize, length: Duration, photo: &[u8]) -> Result<()> {
    println!(
        "\n{connections} connections for {} s\n\n| host | component | letters a second | p50 | p99 | \
         other answers | instances at work at once | memory (PSS) |\n|---|---|---|---|---|---|---|---|",
        length.as_secs()
    );
    for (number, row) in rows.iter().enumerate() {
        let bounds: &[Bound] = match row.host {
            Host::Spin => &[Bound::Environment("SPIN_MAX_INSTANCE_COUNT", "8")],
            Host::Wasmtime => &[Bound::Argument("--max-concurrent-requests", "8")],
            Host::Own | Host::Wasmcloud => &[],
        };
        for bound in [None].into_iter().chain(bounds.iter().copied().map(Some)) {
            let row = Row { bound, ..*row };
            overload(&row, &folder(number)?, connections, length, photo)?;
        }
    }
    Ok(())
}

fn overload(
    row: &Row,
    folder: &Path,
    connections: usize,
    length: Duration,
    photo: &[u8],
) -> Result<()> {
    let served = row.serve(folder)?;
    let work = || {
        let start = Instant::now();
        let answers: Vec<(u16, f64)> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..connections)
                .map(|_| scope.spawn(|| client(&served.url, photo, start, length)))
                .collect();
            clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
        });
        Ok((answers, start.elapsed()))
    };
    let ((answers, took), memory) = served.process.peak_memory(work)?;
    let mut times: Vec<f64> =
        answers.iter().filter(|(status, _)| *status == 200).map(|(_, ms)| *ms).collect();
    times.sort_by(f64::total_cmp);
    let mut others: BTreeMap<u16, usize> = BTreeMap::new();
    for (status, _) in answers.iter().filter(|(status, _)| *status != 200) {
        *others.entry(*status).or_default() += 1;
    }
    let others: Vec<_> = others
        .iter()
        .map(|(status, count)| match status {
            0 => format!("{count} × none"),
            _ => format!("{count} × {status}"),
        })
        .collect();
    println!(
        "| {} | {:.1} | {:.0} ms | {:.0} ms | {} | {} | {} |",
        row.name(),
        times.len() as f64 / took.as_secs_f64(),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        if others.is_empty() { "none".to_owned() } else { others.join(", ") },
        instances_at_once(&served.collector.spans()),
        memory.map_or("–".to_owned(), |memory| format!("{memory:.0} MB")),
    );
    Ok(())
}

/// Sends photos on one connection. Returns status and time of each answer; the status is 0 without one.
fn client(url: &str, photo: &[u8], start: Instant, length: Duration) -> Vec<(u16, f64)> {
    let agent = agent();
    let mut answers = Vec::new();
    while start.elapsed() < length {
        let answer = predict(&agent, url, photo);
        let (status, ms) = answer.map_or((0, 0.0), |answer| (answer.status, answer.ms));
        answers.push((status, ms));
        if status != 200 {
            std::thread::sleep(REFUSED);
        }
    }
    answers
}

/// Ends each host under load, and counts the answers whose traces did not arrive whole.
fn at_an_end(rows: &[Row], photo: &[u8]) -> Result<()> {
    println!(
        "\n2 connections, an end after {} s: answers whose traces are lost\n\n\
         | host | component | SIGTERM | SIGKILL |\n|---|---|---|---|",
        BEFORE_THE_END.as_secs()
    );
    for (number, row) in rows.iter().enumerate() {
        let folder = folder(number)?;
        let terminated = lost(row, &folder, photo, Process::terminate)?;
        let killed = lost(row, &folder, photo, |process| {
            drop(process);
            Ok(())
        })?;
        println!("| {} | {terminated} | {killed} |", row.name());
    }
    Ok(())
}

/// Serves photos until the host is ended. Returns how many of the answers have no whole trace.
fn lost(
    row: &Row,
    folder: &Path,
    photo: &[u8],
    end: impl FnOnce(Process) -> Result<()>,
) -> Result<String> {
    let Served { process, collector, url, .. } = row.serve(folder)?;
    let ask = |agent: &ureq::Agent| {
        let answer = predict(agent, &url, photo)?;
        (answer.status == 200).then_some(answer.trace_id)
    };
    let answered = until_the_end(BEFORE_THE_END, ask, || end(process))?;
    // What the collector has been sent, it has taken by then.
    std::thread::sleep(Duration::from_secs(1));
    let spans = collector.spans();
    let whole = whole(&spans);
    let lost = answered.iter().filter(|id| !whole.contains(id.as_str())).count();
    Ok(format!("{lost} of {}", answered.len()))
}

/// Returns the largest number of instances that had a request at the same time, by the traces.
fn instances_at_once(spans: &[Span]) -> usize {
    let mut changes = Vec::new();
    for span in spans.iter().filter(|span| span.kind == "SERVER") {
        let instance = span.resource.get("faas.instance").map_or("", String::as_str);
        changes.push((span.start, 1, instance));
        changes.push((span.end, -1, instance));
    }
    // An end before a start of the same time.
    changes.sort_unstable();
    let (mut running, mut most) = (HashMap::new(), 0);
    for (_, change, instance) in changes {
        let requests: &mut i32 = running.entry(instance).or_default();
        *requests += change;
        if *requests == 0 {
            running.remove(instance);
        }
        most = most.max(running.len());
    }
    most
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn span(id: &str, parent: &str, instance: &str, start: u64, end: u64) -> Span {
        let attributes = [("faas.instance".to_owned(), instance.to_owned())];
        Span {
            trace_id: "trace".into(),
            span_id: id.into(),
            parent_span_id: parent.into(),
            trace_state: String::new(),
            name: "POST /predict".into(),
            kind: if parent.is_empty() { "SERVER" } else { "INTERNAL" },
            start,
            end,
            attributes: Default::default(),
            events: Vec::new(),
            error: None,
            resource: Arc::new(attributes.into()),
            scope: String::new(),
        }
    }

    #[test]
    fn trace_is_whole_with_all_its_spans_and_parents() {
        let mut spans = vec![span("0", "", "a", 0, 9)];
        spans.extend((1..SPANS).map(|i| span(&i.to_string(), &(i - 1).to_string(), "a", 0, 9)));
        assert_eq!(whole(&spans), HashSet::from(["trace"]));
        assert!(whole(&spans[1..]).is_empty(), "without its root");
        assert!(whole(&spans[..SPANS - 1]).is_empty(), "without its last span");
        spans[3].parent_span_id = "elsewhere".into();
        assert!(whole(&spans).is_empty(), "with a parent that is missing");
    }

    #[test]
    fn instances_at_once_are_those_with_a_request() {
        let requests = [
            span("0", "", "a", 0, 10),
            span("1", "", "a", 5, 15),
            span("2", "", "b", 8, 12),
            span("3", "", "c", 12, 20),
        ];
        assert_eq!(instances_at_once(&requests), 2);
        assert_eq!(instances_at_once(&requests[..2]), 1);
        assert_eq!(instances_at_once(&[]), 0);
    }
}
