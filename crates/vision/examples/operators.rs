//! What each operator of a model takes: `operators MODEL.onnx...`, natively or, by
//! `cargo xtask operators`, in the sandbox. The models run in turns, each with this project's
//! operators and with tract's, so that what the machine does otherwise meets all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vision::engine::{Input, Model, OnnxModel, OperatorTime, Operators};
use vision::{landmarks, palm};

/// How often each model runs; the median counts.
const RUNS: usize = 30;

fn main() {
    let mut subjects = Vec::new();
    for path in std::env::args().skip(1) {
        let onnx = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let palm = path.contains("palm");
        let own = if palm { palm::OPERATORS } else { landmarks::OPERATORS };
        for operators in [own, Operators::Tract] {
            let load = if palm { palm::load } else { OnnxModel::load_with };
            let model = load(&path, &onnx, operators).expect("a model");
            subjects.push((format!("{path}, {operators:?}"), model, Vec::new(), Vec::new()));
        }
    }
    for _ in 0..RUNS {
        for (_, model, runs, whole) in &mut subjects {
            let length = model.shapes().input.iter().product();
            let input = Input::Picture((0..length).map(|i: usize| (i % 251) as u8).collect());
            runs.push(model.profile(&input).expect("a run"));
            let start = Instant::now();
            model.run(input).expect("a run");
            whole.push(start.elapsed());
        }
    }
    for (name, _, runs, mut whole) in subjects {
        whole.sort();
        table(&name, &runs, whole[whole.len() / 2]);
    }
}

/// One line for each kind and shape of operator.
fn table(name: &str, runs: &[Vec<OperatorTime>], whole: Duration) {
    let mut lines: BTreeMap<(String, Vec<usize>), (usize, u64, Duration)> = BTreeMap::new();
    let mut sum = Duration::ZERO;
    for (index, operator) in runs[0].iter().enumerate() {
        let mut times: Vec<Duration> = runs.iter().map(|run| run[index].time).collect();
        times.sort();
        let time = times[times.len() / 2];
        let key = (operator.name.clone(), operator.output.clone());
        let line = lines.entry(key).or_default();
        *line = (line.0 + 1, line.1 + operator.multiply_adds, line.2 + time);
        sum += time;
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!("\n{name}: {:.2} ms", milliseconds(whole));
    println!(
        "{:<44} {:>5} {:>8} {:>7} {:>7} {:>6}",
        "operator", "times", "M MAC", "ms", "GMAC/s", "share"
    );
    let mut kinds: BTreeMap<String, (usize, u64, Duration)> = BTreeMap::new();
    for ((kind, output), line) in lines {
        print_line(&format!("{kind} {output:?}"), line, sum);
        let all = kinds.entry(kind).or_default();
        *all = (all.0 + line.0, all.1 + line.1, all.2 + line.2);
    }
    for (kind, all) in kinds {
        print_line(&format!("all {kind}"), all, sum);
    }
}

fn print_line(name: &str, (times, multiply_adds, time): (usize, u64, Duration), sum: Duration) {
    println!(
        "{name:<44} {times:>5} {:>8.2} {:>7.3} {:>7.1} {:>5.1}%",
        multiply_adds as f64 / 1e6,
        time.as_secs_f64() * 1e3,
        multiply_adds as f64 / time.as_secs_f64().max(1e-9) / 1e9,
        100.0 * time.as_secs_f64() / sum.as_secs_f64(),
    );
}
