//! The bar chart of the README: this server and the first other one.

use std::fmt::Write;

use super::{Load, Server};

/// The number of connections whose figures are shown.
const CONNECTIONS: usize = 4;
const WIDTH: f64 = 720.0;
/// Where bars begin, and the longest one ends.
const BARS: (f64, f64) = (170.0, 610.0);
const BAR: f64 = 22.0;
const GAP: f64 = 6.0;
const TITLE: f64 = 26.0;

/// Text and lines are legible on white and on black: a document cannot know which page shows it.
const TEXT: &str = "#6e7681";
const COLORS: [&str; 2] = ["#2f81f7", "#8b949e"];

/// A group of bars that share a scale.
struct Group {
    title: String,
    /// Each server's value, and its text.
    bars: Vec<(f64, String)>,
}

/// Returns the chart as SVG.
pub fn draw(servers: &[Server]) -> String {
    let servers = &servers[..servers.len().min(COLORS.len())];
    let groups = groups(servers);
    let group_height = |group: &Group| TITLE + group.bars.len() as f64 * (BAR + GAP) + GAP;
    let height: f64 = groups.iter().map(group_height).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"14\" \
         fill=\"{TEXT}\">\n<title>{}</title>\n",
        escape(&description(servers, &groups))
    );
    let mut y = 0.0;
    for group in &groups {
        let baseline = y + TITLE - 9.0;
        _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{baseline}\" font-weight=\"600\">{}</text>",
            BARS.0,
            escape(&group.title)
        );
        y += TITLE;
        let longest = group.bars.iter().map(|(value, _)| *value).fold(0.0, f64::max);
        for ((server, color), (value, text)) in servers.iter().zip(COLORS).zip(&group.bars) {
            let length = (BARS.1 - BARS.0) * value / longest;
            let baseline = y + BAR - 6.0;
            _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" \
                 fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{baseline}\">{}</text>",
                BARS.0 - 10.0,
                escape(&server.name),
                BARS.0,
                BARS.0 + length + 8.0,
                escape(text)
            );
            y += BAR + GAP;
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

/// The groups for which every server has a figure.
fn groups(servers: &[Server]) -> Vec<Group> {
    let load = |server: &Server, of: fn(&Load) -> Option<f64>| {
        server.loads.iter().find(|load| load.connections == CONNECTIONS).and_then(of)
    };
    let group = |title: String, unit: &str, of: &dyn Fn(&Server) -> Option<f64>| {
        let values: Option<Vec<f64>> = servers.iter().map(of).collect();
        let bar = |value: f64| (value, format!("{} {unit}", number(value)).trim().to_owned());
        values.map(|values| Group { title, bars: values.into_iter().map(bar).collect() })
    };
    let rate = |server: &Server| load(server, |load| Some(load.rate));
    let memory = |server: &Server| load(server, |load| load.memory_mb);
    [
        group(format!("Photos a second, {CONNECTIONS} connections"), "", &rate),
        group("Process start to first letter".into(), "ms", &|server| server.start_ms),
        group(format!("Memory, {CONNECTIONS} connections"), "MB", &memory),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The chart in words.
fn description(servers: &[Server], groups: &[Group]) -> String {
    let group = |group: &Group| {
        let bars = servers.iter().zip(&group.bars);
        let bars: Vec<_> =
            bars.map(|(server, (_, text))| format!("{} {text}", server.name)).collect();
        format!("{}: {}", group.title, bars.join(", "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join(". ")
}

/// A number with three digits or more, thousands separated.
pub fn number(value: f64) -> String {
    if value < 9.995 {
        return format!("{value:.2}");
    }
    if value < 99.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn bars_have_the_ratio_of_their_values() {
        let svg = draw(&sample());
        let widths: Vec<f64> = svg
            .match_indices("<rect x=\"170\"")
            .filter_map(|(at, _)| {
                svg[at..].split("width=\"").nth(1)?.split('"').next()?.parse().ok()
            })
            .collect();
        assert_eq!(widths, [440.0, 220.0, 220.0, 440.0, 220.0, 440.0]);
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains(">80.0</text>") && svg.contains(">100 ms</text>"), "{svg}");
    }

    #[test]
    fn group_without_a_figure_is_left_out() {
        let mut servers = sample();
        servers[1].start_ms = None;
        let svg = draw(&servers);
        assert!(svg.contains("Memory") && !svg.contains("Process start"), "{svg}");
    }

    #[test]
    fn numbers_have_three_digits_or_more() {
        for (value, text) in [(0.5, "0.50"), (9.999, "10.0"), (1391.7, "1,392"), (1e6, "1,000,000")]
        {
            assert_eq!(number(value), text);
        }
    }
}
