//! Measures every operator of a model: `operators [--json] MODEL.onnx...`.
//!
//! `cargo xtask operators` runs it in the sandbox. Each model runs with this project's fused operators
//! and with tract's. All of them take turns, so that what else the machine does meets all alike. After
//! the tables, `--json` prints the same figures as one line of JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use vision::engine::{Fallback, Input, Model, OnnxModel, OperatorTime, Operators};
use vision::{landmarks, palm};

/// Runs of each model. Every figure is a median of these.
const RUNS: usize = 30;

fn main() {
    let (options, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let json = match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--json"] => true,
        _ => panic!("unknown options {options:?}: operators [--json] MODEL.onnx..."),
    };
    let mut subjects: Vec<Subject> = paths.iter().flat_map(|path| Subject::load(path)).collect();
    for _ in 0..RUNS {
        subjects.iter_mut().for_each(Subject::run);
    }
    let reports: Vec<Report> = subjects.into_iter().map(Subject::report).collect();
    reports.iter().for_each(Report::print);
    if json {
        println!("{}", serde_json::json!({ "runs": RUNS, "models": reports }));
    }
}

/// A model with one choice of operators, and its times so far.
struct Subject {
    path: String,
    operators: String,
    model: OnnxModel,
    /// One for each run, each operator by itself.
    profiles: Vec<Vec<OperatorTime>>,
    /// One for each run, the model as a whole.
    times: Vec<Duration>,
}

impl Subject {
    /// Loads a model twice: with the operators that the service uses, and with tract's.
    fn load(path: &str) -> [Subject; 2] {
        let onnx =
            std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let palm = path.contains("palm");
        let fused = if palm { palm::OPERATORS } else { landmarks::OPERATORS };
        [fused, Operators::Tract].map(|operators| {
            let load = if palm { palm::load } else { OnnxModel::load_with };
            let model = load(path, &onnx, operators).unwrap_or_else(|error| panic!("{error}"));
            for Fallback { node, op, reason } in model.fallbacks() {
                println!("{path}: {op} {node} is left to tract because of {reason}");
            }
            let operators = match operators {
                Operators::Fused(precision) => format!("fused {precision:?}").to_lowercase(),
                Operators::Tract => "tract f32".into(),
            };
            let (profiles, times) = (Vec::new(), Vec::new());
            Subject { path: path.to_owned(), operators, model, profiles, times }
        })
    }

    fn run(&mut self) {
        let length = self.model.shapes().input.iter().product();
        let input = Input::Pixels((0..length).map(|i: usize| (i % 251) as u8).collect());
        self.profiles.push(self.model.profile(&input).expect("a run"));
        let start = Instant::now();
        self.model.run(input).expect("a run");
        self.times.push(start.elapsed());
    }

    fn report(self) -> Report {
        let mut rows: BTreeMap<(String, Vec<usize>), Row> = BTreeMap::new();
        for (index, operator) in self.profiles[0].iter().enumerate() {
            let time = median(self.profiles.iter().map(|profile| profile[index].time).collect());
            let key = (operator.name.clone(), operator.output.clone());
            let row = rows.entry(key).or_insert_with(|| Row {
                operator: operator.name.clone(),
                output: operator.output.clone(),
                ..Row::default()
            });
            row.add(1, operator.macs, milliseconds(time));
        }
        Report {
            model: self.path,
            operators: self.operators,
            ms: milliseconds(median(self.times)),
            rows: rows.into_values().collect(),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The figures of one subject.
#[derive(Serialize)]
struct Report {
    model: String,
    operators: String,
    /// Milliseconds of a pass.
    ms: f64,
    /// One for each kind of operator and shape of its output.
    rows: Vec<Row>,
}

#[derive(Clone, Default, Serialize)]
struct Row {
    operator: String,
    output: Vec<usize>,
    /// Number of operators in this row.
    count: usize,
    /// Multiply-accumulates of all of them.
    macs: u64,
    /// Milliseconds of all of them.
    ms: f64,
}

impl Row {
    fn add(&mut self, count: usize, macs: u64, ms: f64) {
        self.count += count;
        self.macs += macs;
        self.ms += ms;
    }

    fn print(&self, name: &str, total_ms: f64) {
        println!(
            "{name:<44} {:>5} {:>8.2} {:>7.3} {:>7.1} {:>5.1}%",
            self.count,
            self.macs as f64 / 1e6,
            self.ms,
            self.macs as f64 / self.ms.max(1e-6) / 1e6,
            100.0 * self.ms / total_ms,
        );
    }
}

impl Report {
    /// Prints a line for each row, then one for each kind of operator.
    fn print(&self) {
        let Report { model, operators, ms, rows } = self;
        println!("\n{model}, {operators}: {ms:.2} ms");
        println!(
            "{:<44} {:>5} {:>8} {:>7} {:>7} {:>6}",
            "operator", "count", "MMAC", "ms", "GMAC/s", "share"
        );
        let total: f64 = rows.iter().map(|row| row.ms).sum();
        let mut kinds: BTreeMap<&str, Row> = BTreeMap::new();
        for row in rows {
            row.print(&format!("{} {:?}", row.operator, row.output), total);
            kinds.entry(&row.operator).or_default().add(row.count, row.macs, row.ms);
        }
        for (kind, row) in kinds {
            row.print(&format!("all {kind}"), total);
        }
    }
}
