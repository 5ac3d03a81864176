//! The tables of `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::chart::number;
use super::{
    Bench, Figures, Load, Mix, Model, Operators, Ratio, Recorded, Server, ServerOfKind, TracingCost,
};

/// The share of the time below which an operator is not worth a row.
const SMALL: f64 = 0.01;

/// Returns all tables, as Markdown.
pub fn all(figures: &Figures) -> String {
    let mut text = String::new();
    if let Some(bench) = &figures.bench {
        if bench.figures.servers.len() > 1 {
            text += &servers(&bench.figures.servers);
        }
        if let Some(mix) = &bench.figures.mix {
            text += &mixed(mix);
        }
        text += &component(&bench.figures);
        text += &run(bench);
    }
    if let Some(operators) = &figures.operators {
        text += &operators_of(&operators.figures);
        text += &run(operators);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The circumstances of a run.
fn run<F>(Recorded { run, .. }: &Recorded<F>) -> String {
    let machine = &run.machine;
    format!(
        "\nMeasured on {} at commit {} by `{}`, on {} cores of {}, with {}.\n",
        run.date, run.commit, run.command, machine.cores, machine.cpu, machine.rustc
    )
}

/// This server beside the others, a row for each figure.
fn servers(servers: &[Server]) -> String {
    let [this, others @ ..] = servers else { return String::new() };
    let mut text = String::from("\n## Beside other servers\n\n| |");
    let mut rule = String::from("|---|---|");
    _ = write!(text, " {} |", this.name);
    for other in others {
        _ = write!(text, " {} | ratio |", other.name);
        rule += "---|---|";
    }
    _ = writeln!(text, "\n{rule}");
    let mut row = |name: String, unit: &str, of: &dyn Fn(&Server) -> Option<f64>| {
        let Some(value) = of(this) else { return };
        _ = write!(text, "| {name} | {} |", with_unit(value, unit));
        for other in others {
            match of(other) {
                Some(other) => {
                    let ratio = number(value / other);
                    _ = write!(text, " {} | {ratio} |", with_unit(other, unit));
                }
                None => text.push_str(" | |"),
            }
        }
        text.push('\n');
    };
    for Load { connections, .. } in &this.loads {
        let load = |server: &Server, of: fn(&Load) -> Option<f64>| {
            server.loads.iter().find(|load| load.connections == *connections).and_then(of)
        };
        let name = match connections {
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        row(format!("{name}: p50"), "ms", &|server| load(server, |load| Some(load.p50_ms)));
        row(format!("{name}: p99"), "ms", &|server| load(server, |load| Some(load.p99_ms)));
        row(format!("{name}: photos a second"), "", &|server| load(server, |load| Some(load.rate)));
        row(format!("{name}: memory (PSS)"), "MB", &|server| load(server, |load| load.memory_mb));
    }
    row("12-megapixel photo: p50".into(), "ms", &|server| Some(server.large_photo_p50_ms));
    row("process start to first letter".into(), "ms", &|server| server.start_ms);
    text
}

/// Photos of all kinds: a row for each figure of each kind.
fn mixed(mix: &Mix) -> String {
    let mut text = String::from("\n## Photos as they come\n\n| photos | |");
    let mut rule = String::from("|---|---|");
    let names: Vec<_> = mix.rates.iter().map(|server| &server.name).collect();
    for (column, name) in names.iter().enumerate() {
        text += &if column == 0 { format!(" {name} |") } else { format!(" {name} | ratio |") };
        rule += if column == 0 { "---|" } else { "---|---|" };
    }
    _ = writeln!(text, "\n{rule}");
    let mut row =
        |photos: &str, name: &str, unit: &str, values: &[Option<f64>], with_ratio: bool| {
            _ = write!(text, "| {photos} | {name} |");
            for (column, value) in values.iter().enumerate() {
                let cell = value.map(|value| with_unit(value, unit)).unwrap_or_default();
                _ = write!(text, " {cell} |");
                if column > 0 {
                    let ratio = values[0].zip(*value).filter(|_| with_ratio);
                    let ratio = ratio.map(|(this, other)| number(this / other)).unwrap_or_default();
                    _ = write!(text, " {ratio} |");
                }
            }
            text.push('\n');
        };
    for kind in &mix.kinds {
        let photos = format!("{} {}", kind.photos, kind.name);
        let of = |of: fn(&ServerOfKind) -> Option<f64>| -> Vec<Option<f64>> {
            kind.servers.iter().map(of).collect()
        };
        row(&photos, "mean", "ms", &of(|server| Some(server.mean_ms)), true);
        row("", "p50", "ms", &of(|server| Some(server.p50_ms)), true);
        row("", "p95", "ms", &of(|server| Some(server.p95_ms)), true);
        row("", "p99", "ms", &of(|server| Some(server.p99_ms)), true);
        row("", "get a letter", "%", &of(|server| Some(100.0 * server.found)), false);
        if kind.servers.iter().any(|server| server.right.is_some()) {
            let right = of(|server| server.right.map(|right| 100.0 * right));
            row("", "get the letter that they show", "%", &right, false);
        }
        row("", "passes of a model a photo", "", &[Some(kind.passes)], false);
    }
    let rates: Vec<_> = mix.rates.iter().map(|server| Some(server.rate)).collect();
    let name = format!("photos a second at {} connections", mix.connections);
    row("all of them", &name, "", &rates, true);
    text
}

/// The component by itself.
fn component(bench: &Bench) -> String {
    let mut text =
        String::from("\n## The component\n\n| | | compared with | ratio |\n|---|---|---|---|\n");
    let ratio = |name: &str, unit: &str, ratio: Ratio, of: &str| {
        format!(
            "| {name} | {} | {}, {of} | {:.3} |\n",
            with_unit(ratio.value, unit),
            with_unit(ratio.against, unit),
            ratio.ratio
        )
    };
    let value = |name: &str, value: String| format!("| {name} | {value} | | |\n");
    for stage in &bench.stages {
        text += &value(&format!("stage `{}`", stage.name), with_unit(stage.ms, "ms"));
    }
    let sum = bench.stages.iter().map(|stage| stage.ms).sum();
    text += &value("all stages", with_unit(sum, "ms"));
    let first = bench.first_prediction_ms;
    text += &ratio("first prediction of an instance", "ms", first, "by a warm one");
    if let Some(faults) = bench.first_prediction_page_faults {
        text += &value("its page faults", format!("{faults:.0}"));
    }
    text += &ratio("12-megapixel photo", "ms", bench.large_photo_ms, "a small one");
    let tracing = &bench.tracing;
    let cost = |name: &str, cost: &TracingCost| {
        ratio(&format!("{name}: p50"), "ms", cost.p50_ms, "tracing off")
            + &ratio(&format!("{name}: photos a second"), "", cost.rate, "tracing off")
    };
    text += &cost("tracing on", &tracing.on);
    text += &cost("one trace of ten sampled", &tracing.tenth);
    let exports = format!("{} spans in {} exports", tracing.spans, tracing.exports);
    text += &value("export under load", exports);
    let killed = &bench.killed;
    let lost = killed.answered.saturating_sub(killed.traces);
    let lost = format!("{lost} of {}", killed.answered);
    text += &value("traces lost when the host is killed under load", lost);
    text += &value("size of the component", with_unit(bench.component_mb, "MB"));
    text
}

/// A table for each model with this project's operators, and a line for the same model with tract's.
fn operators_of(operators: &Operators) -> String {
    let mut text =
        format!("\n## Operators\n\nMedians of {} passes in the sandbox.\n", operators.runs);
    for model in &operators.models {
        let (name, ms) = (model.model.trim_start_matches("models/"), with_unit(model.ms, "ms"));
        let count: usize = model.rows.iter().map(|row| row.count).sum();
        if model.operators.starts_with("tract") {
            _ = writeln!(text, "\nThe same model with tract's operators: {count} of them, {ms}.");
            continue;
        }
        _ = write!(
            text,
            "\n**`{name}`, {}: {count} operators, {ms}**\n\n\
             | operator | count | MMAC | time | GMAC/s | share |\n|---|---|---|---|---|---|\n",
            model.operators
        );
        kinds(&mut text, model);
    }
    text
}

/// A row for each kind of operator, the slowest first. Small ones share the last row.
fn kinds(text: &mut String, model: &Model) {
    let total: f64 = model.rows.iter().map(|row| row.ms).sum();
    let mut kinds: BTreeMap<&str, (usize, u64, f64)> = BTreeMap::new();
    let mut others = (0, 0, 0.0);
    for row in &model.rows {
        add(kinds.entry(&row.operator).or_default(), (row.count, row.macs, row.ms));
    }
    let mut rows = Vec::new();
    for (kind, figures) in kinds {
        match figures.2 < SMALL * total {
            true => add(&mut others, figures),
            false => rows.push((format!("`{kind}`"), figures)),
        }
    }
    rows.sort_by(|(_, (.., a)), (_, (.., b))| b.total_cmp(a));
    if others.0 > 0 {
        rows.push(("others".into(), others));
    }
    for (kind, (count, macs, ms)) in rows {
        let (mmac, rate) = match macs {
            0 => (String::new(), String::new()),
            _ => (number(macs as f64 / 1e6), number(macs as f64 / ms / 1e6)),
        };
        let (time, share) = (with_unit(ms, "ms"), 100.0 * ms / total);
        _ = writeln!(text, "| {kind} | {count} | {mmac} | {time} | {rate} | {share:.0} % |");
    }
}

/// Adds count, MACs and time.
fn add(sum: &mut (usize, u64, f64), (count, macs, ms): (usize, u64, f64)) {
    *sum = (sum.0 + count, sum.1 + macs, sum.2 + ms);
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn servers_have_a_ratio_for_each_figure() {
        let text = servers(&sample());
        assert!(text.contains("| | this | a <b> | ratio |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| 1 connection: p50 | 20.0 ms | 40.0 ms | 0.50 |\n"), "{text}");
        let rate = "| 4 connections: photos a second | 80.0 | 40.0 | 2.00 |\n";
        assert!(text.contains(rate), "{text}");
        assert!(
            text.ends_with("| process start to first letter | 50.0 ms | 100 ms | 0.50 |\n"),
            "{text}"
        );
    }

    #[test]
    fn missing_figure_leaves_its_cell_empty() {
        let mut figures = sample();
        figures[1].start_ms = None;
        assert!(servers(&figures).ends_with("| process start to first letter | 50.0 ms | | |\n"));
    }

    #[test]
    fn operators_are_summed_by_kind() {
        let row = |operator: &str, count: usize, macs: u64, ms: f64| {
            serde_json::json!({"operator": operator, "output": [1], "count": count, "macs": macs,
                               "ms": ms})
        };
        let operators: Operators =
            serde_json::from_value(serde_json::json!({"runs": 3, "models": [
                {"model": "models/a.onnx", "operators": "fused int8", "ms": 4.0, "rows": [
                    row("pool", 1, 0, 1.0), row("conv", 1, 2_000_000, 1.0),
                    row("conv", 2, 4_000_000, 2.0), row("pad", 1, 0, 0.01)]},
                {"model": "models/a.onnx", "operators": "tract f32", "ms": 9.0, "rows": [
                    row("conv", 7, 1, 9.0)]},
            ]}))
            .expect("operators");
        let text = operators_of(&operators);
        assert!(text.contains("**`a.onnx`, fused int8: 5 operators, 4.00 ms**"), "{text}");
        let rows = "| `conv` | 3 | 6.00 | 3.00 ms | 2.00 | 75 % |\n\
                    | `pool` | 1 |  | 1.00 ms |  | 25 % |\n\
                    | others | 1 |  | 0.01 ms |  | 0 % |\n\n\
                    The same model with tract's operators: 7 of them, 9.00 ms.\n";
        assert!(text.ends_with(rows), "{text}");
    }
}
