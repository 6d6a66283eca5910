use svg::Document;
use svg::node::element::{Group, Rectangle, Text, Title};

use crate::Report;
use crate::report::figure;
use crate::workload::Metric;

const BAR: f64 = 13.0;
const GAP: f64 = 12.0;
const LEFT: f64 = 210.0;
const WIDTH: f64 = 480.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 62.0;

/// Bars of these brokers, the first one's stands out. Readable on light and dark pages.
const COLOURS: [&str; 6] = ["#d9480f", "#5c7cfa", "#37b24d", "#ae3ec9", "#f59f00", "#868e96"];
const TEXT: &str = "#7d8590";

/// A bar chart of the CPU time for each message. Within a workload the length of a bar is its share
/// of the longest, since a common scale would hide all but the slowest.
pub fn chart(report: &Report, machine: &str) -> String {
    let rows = report.medians(Metric::Cpu);
    let brokers = report.brokers().len() as f64;
    let group = brokers * BAR + GAP;
    let height = TOP + rows.len() as f64 * group + 24.0;
    let width = LEFT + WIDTH + RIGHT;
    let mut document = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 11)
        .add(Title::new("CPU time of the broker for each message"))
        .add(
            text("CPU µs of the broker for each delivered message; shorter is better", 0.0, 14.0)
                .set("font-size", 14),
        )
        .add(legend(report))
        .add(text(machine, 0.0, height - 6.0));
    for (number, (workload, values)) in rows.iter().enumerate() {
        let y = TOP + number as f64 * group;
        document = document.add(bars(workload, values, y));
    }
    document.to_string()
}

fn legend(report: &Report) -> Group {
    let mut legend = Group::new();
    let mut x = LEFT;
    for (broker, name) in report.brokers().iter().enumerate() {
        legend = legend.add(bar(x, 30.0, BAR, broker)).add(text(name, x + BAR + 5.0, 40.0));
        x += 50.0 + name.len() as f64 * 6.0;
    }
    legend
}

fn bars(workload: &str, values: &[Option<f64>], y: f64) -> Group {
    let longest = values.iter().flatten().copied().fold(0.0, f64::max);
    let middle = y + values.len() as f64 * BAR / 2.0 + 4.0;
    let label = text(workload, LEFT - 8.0, middle).set("text-anchor", "end");
    let mut group = Group::new().add(label);
    for (broker, value) in values.iter().enumerate() {
        let top = y + broker as f64 * BAR;
        let length = value.map_or(0.0, |value| WIDTH * value / longest).max(1.0);
        let tell = value.map_or_else(|| "failed".to_owned(), figure);
        group = group.add(bar(LEFT, top, length, broker)).add(text(
            &tell,
            LEFT + length + 4.0,
            top + 10.0,
        ));
    }
    group
}

fn bar(x: f64, y: f64, length: f64, broker: usize) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", format!("{length:.1}"))
        .set("height", BAR - 2.0)
        .set("fill", COLOURS[broker % COLOURS.len()])
}

fn text(content: &str, x: f64, y: f64) -> Text {
    Text::new(content).set("x", format!("{x:.1}")).set("y", y).set("fill", TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_every_broker_and_workload() {
        let mut report = Report::new(vec!["ours".to_owned(), "a <b>".to_owned()]);
        report.enter("pairs", 0, &[(Metric::Cpu, 0.25)]);
        report.enter("pairs", 1, &[(Metric::Cpu, 4.0)]);
        let svg = chart(&report, "a machine");
        for part in ["0.25", "4.0", "pairs", "a &lt;b&gt;", "a machine"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
