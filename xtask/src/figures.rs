//! Measured figures: how they are recorded, and the documents that show them.
//!
//! `cargo xtask bench --write` and `cargo xtask operators --write` put their figures into
//! `docs/benchmarks.json`. [`generate`] writes the tables of `docs/benchmarks.md` and the chart
//! `docs/benchmarks.svg` from that file alone, so that no figure is copied by hand.

mod chart;
mod tables;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::generated::{Generated, between};
use crate::root;

const JSON: &str = "docs/benchmarks.json";
const MARKDOWN: &str = "docs/benchmarks.md";
const CHART: &str = "docs/benchmarks.svg";

const START: &str = "<!-- Written by `cargo xtask generate` from benchmarks.json: start -->\n";
const END: &str = "<!-- Written by `cargo xtask generate` from benchmarks.json: end -->";

/// The content of `docs/benchmarks.json`.
#[derive(Default, Deserialize, Serialize)]
struct Figures {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bench: Option<Recorded<Bench>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operators: Option<Recorded<Operators>>,
}

/// Figures of one run.
#[derive(Deserialize, Serialize)]
pub struct Recorded<F> {
    run: Run,
    figures: F,
}

/// The circumstances of a run.
#[derive(Deserialize, Serialize)]
struct Run {
    /// The day, in UTC.
    date: String,
    /// The commit, with `-dirty` if files differed from it.
    commit: String,
    command: String,
    machine: Machine,
}

#[derive(Deserialize, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    rustc: String,
}

/// The figures of `cargo xtask bench`.
#[derive(Deserialize, Serialize)]
pub struct Bench {
    /// Size of the component in MB.
    pub component_mb: f64,
    /// First prediction of an instance, compared with those of a warm one.
    pub first_prediction_ms: Ratio,
    /// Page faults of an instance's first prediction, where the system counts them.
    pub first_prediction_page_faults: Option<f64>,
    /// Time of each stage, in their order.
    pub stages: Vec<Stage>,
    /// A photo of 12 megapixels, compared with a small one.
    pub large_photo_ms: Ratio,
    /// The cost of tracing.
    pub tracing: Tracing,
    /// This component first, then the other servers.
    pub servers: Vec<Server>,
    /// Photos of all kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// Traces that are lost when the host is killed under load.
    pub killed: Killed,
}

/// A value, and the value that it is compared with.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub struct Ratio {
    pub value: f64,
    pub against: f64,
    pub ratio: f64,
}

impl Ratio {
    pub fn new(value: f64, against: f64) -> Ratio {
        Ratio { value, against, ratio: value / against }
    }
}

/// A stage of a prediction.
#[derive(Deserialize, Serialize)]
pub struct Stage {
    pub name: String,
    pub ms: f64,
}

/// The cost of tracing to the caller, compared with tracing off.
#[derive(Deserialize, Serialize)]
pub struct Tracing {
    pub on: TracingCost,
    /// With one request of ten sampled.
    pub tenth: TracingCost,
    /// Spans that were exported, and the requests that carried them.
    pub spans: usize,
    pub exports: usize,
}

#[derive(Deserialize, Serialize)]
pub struct TracingCost {
    pub p50_ms: Ratio,
    /// Photos a second, on two connections.
    pub rate: Ratio,
}

/// A server under load.
#[derive(Deserialize, Serialize)]
pub struct Server {
    pub name: String,
    /// Process start to first answer, if the server was started for the run.
    pub start_ms: Option<f64>,
    pub loads: Vec<Load>,
    /// A photo of 12 megapixels.
    pub large_photo_p50_ms: f64,
}

/// A server's figures at a number of connections.
#[derive(Deserialize, Serialize)]
pub struct Load {
    pub connections: usize,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// Photos a second.
    pub rate: f64,
    /// Highest memory (PSS) of its processes together, where the system measures it.
    pub memory_mb: Option<f64>,
}

/// Photos of several kinds, as they come.
#[derive(Deserialize, Serialize)]
pub struct Mix {
    pub kinds: Vec<KindFigures>,
    /// Connections at which the rates are measured.
    pub connections: usize,
    pub rates: Vec<MixRate>,
}

/// The figures of one kind of photo, at one connection.
#[derive(Deserialize, Serialize)]
pub struct KindFigures {
    pub name: String,
    /// Their number.
    pub photos: usize,
    /// Passes of a model that this component needs for a photo, on average.
    pub passes: f64,
    /// This component first, then the other servers.
    pub servers: Vec<ServerOfKind>,
}

#[derive(Deserialize, Serialize)]
pub struct ServerOfKind {
    pub name: String,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// The share of the photos that get a letter.
    pub found: f64,
    /// The share that gets the letter that it shows, of those whose letter is known.
    pub right: Option<f64>,
}

/// Photos a second over all kinds.
#[derive(Deserialize, Serialize)]
pub struct MixRate {
    pub name: String,
    pub rate: f64,
}

#[derive(Deserialize, Serialize)]
pub struct Killed {
    pub answered: usize,
    pub traces: usize,
}

/// The figures of `cargo xtask operators`, as the example prints them.
#[derive(Deserialize, Serialize)]
pub struct Operators {
    runs: usize,
    models: Vec<Model>,
}

/// A model with one choice of operators.
#[derive(Deserialize, Serialize)]
struct Model {
    model: String,
    operators: String,
    /// Time of a pass.
    ms: f64,
    rows: Vec<Operator>,
}

/// All operators of one kind and one output shape.
#[derive(Deserialize, Serialize)]
struct Operator {
    operator: String,
    output: Vec<usize>,
    count: usize,
    macs: u64,
    ms: f64,
}

impl<F: Serialize> Recorded<F> {
    /// Records figures of this machine, this commit and this day.
    pub fn new(command: String, figures: F) -> Result<Recorded<F>> {
        let run = Run {
            date: output("date", &["-u", "+%Y-%m-%d"])?,
            commit: output("git", &["describe", "--always", "--dirty", "--exclude=*"])?,
            command,
            machine: Machine {
                cpu: cpu(),
                cores: std::thread::available_parallelism()?.get(),
                rustc: output("rustc", &["--version"])?,
            },
        };
        Ok(Recorded { run, figures })
    }

    /// Writes figures to a file of their own.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Puts the figures of `cargo xtask bench` into the documents.
pub fn write_bench(bench: Recorded<Bench>) -> Result<()> {
    write(|figures| figures.bench = Some(bench))
}

/// Puts the figures of `cargo xtask operators` into the documents.
pub fn write_operators(operators: Recorded<Operators>) -> Result<()> {
    write(|figures| figures.operators = Some(operators))
}

fn write(change: impl FnOnce(&mut Figures)) -> Result<()> {
    let mut figures = read()?;
    change(&mut figures);
    std::fs::write(root().join(JSON), serde_json::to_string_pretty(&figures)? + "\n")
        .with_context(|| format!("cannot write {JSON}"))?;
    println!("wrote {JSON}");
    for Generated { path, text } in generate()? {
        std::fs::write(root().join(path), text).with_context(|| format!("cannot write {path}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

fn read() -> Result<Figures> {
    match std::fs::read(root().join(JSON)) {
        Ok(json) => serde_json::from_slice(&json).with_context(|| format!("cannot parse {JSON}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Figures::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {JSON}")),
    }
}

/// Returns the documents that show the figures. Text outside the markers of `docs/benchmarks.md` is
/// written by hand and stays.
pub fn generate() -> Result<Vec<Generated>> {
    let figures = read()?;
    let mut files = Vec::new();
    let markdown = match std::fs::read_to_string(root().join(MARKDOWN)) {
        Ok(text) => text,
        Err(_) => format!("# Benchmarks\n\n{START}{END}\n"),
    };
    let text = between(&markdown, START, END, &tables::all(&figures)).context(MARKDOWN)?;
    files.push(Generated { path: MARKDOWN, text });
    if let Some(bench) = &figures.bench {
        files.push(Generated { path: CHART, text: chart::draw(&bench.figures.servers) });
    }
    Ok(files)
}

/// Returns a program's output in one line.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the CPU's name, where the system tells it, with family and model: virtual machines hide the
/// product's name.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        (Some(name), ..) => name,
        _ => std::env::consts::ARCH.to_owned(),
    }
}

/// Figures for tests: this server and another one.
#[cfg(test)]
fn sample() -> Vec<Server> {
    let server = |name: &str, factor: f64| Server {
        name: name.into(),
        start_ms: Some(50.0 * factor),
        loads: [1, 4]
            .map(|connections| Load {
                connections,
                p50_ms: 20.0 * factor,
                p95_ms: 30.0 * factor,
                p99_ms: 40.0 * factor,
                rate: 80.0 / factor,
                memory_mb: Some(40.0 * factor),
            })
            .into(),
        large_photo_p50_ms: 60.0 * factor,
    };
    vec![server("this", 1.0), server("a <b>", 2.0)]
}
