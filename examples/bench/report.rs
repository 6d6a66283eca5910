use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::workload::Metric;

/// What was measured so far: for each broker, workload and metric a value a round.
#[derive(Debug, Default)]
pub struct Report {
    brokers: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    workload: String,
    metric: Metric,
    /// The values of each broker, in the order of `brokers`.
    values: Vec<Vec<f64>>,
}

impl Report {
    /// For these brokers; the ratios are to the first.
    pub fn new(brokers: Vec<String>) -> Self {
        Self { brokers, lines: Vec::new() }
    }

    /// Enters what one run gave.
    pub fn enter(&mut self, workload: &str, broker: usize, values: &[(Metric, f64)]) {
        for &(metric, value) in values {
            let known = |line: &&mut Line| line.workload == workload && line.metric == metric;
            match self.lines.iter_mut().find(known) {
                Some(line) => line.values[broker].push(value),
                None => {
                    let mut values = vec![Vec::new(); self.brokers.len()];
                    values[broker].push(value);
                    self.lines.push(Line { workload: workload.to_owned(), metric, values });
                }
            }
        }
    }

    /// The brokers' names.
    pub fn brokers(&self) -> &[String] {
        &self.brokers
    }

    /// Medians as a Markdown table: each broker after the first with its ratio to the first.
    pub fn table(&self) -> String {
        let mut rows = vec![["workload", ""].map(str::to_owned).to_vec()];
        rows[0].extend(self.brokers.iter().cloned());
        for line in &self.lines {
            let first = median(&line.values[0]);
            let mut row = vec![line.workload.clone(), line.metric.to_string()];
            row.extend(line.values.iter().enumerate().map(|(broker, values)| {
                match (median(values), first) {
                    (None, _) => "failed".to_owned(),
                    // A ratio to what is too small to be seen says nothing.
                    (Some(value), Some(first))
                        if broker > 0 && first > 0.005 && line.metric.compares() =>
                    {
                        format!("{} ({}x)", figure(value), figure(value / first))
                    }
                    (Some(value), _) => figure(value),
                }
            }));
            rows.push(row);
        }
        markdown(&rows)
    }

    /// Everything, with the value of each round.
    pub fn json(&self, machine: &str) -> Value {
        let lines = self.lines.iter().map(|line| {
            let brokers = self.brokers.iter().zip(&line.values);
            let values: serde_json::Map<_, _> = brokers
                .map(|(name, values)| {
                    (name.clone(), json!({ "median": median(values), "rounds": values }))
                })
                .collect();
            json!({ "workload": line.workload, "metric": line.metric.name(), "brokers": values })
        });
        json!({ "machine": machine, "results": lines.collect::<Vec<_>>() })
    }

    /// The medians of one metric: workloads with the value of each broker.
    pub(crate) fn medians(&self, metric: Metric) -> Vec<(&str, Vec<Option<f64>>)> {
        let lines = self.lines.iter().filter(|line| line.metric == metric);
        lines
            .map(|line| (&line.workload[..], line.values.iter().map(|v| median(v)).collect()))
            .collect()
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

/// A number with two or three digits that say something.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0..0.995 => format!("{value:.2}"),
        0.995..9.95 => format!("{value:.1}"),
        _ => thousands(value.round()),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns of equal width: the first two to the left, numbers to the right.
fn markdown(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..rows[0].len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(text, "| {cell:<width$} "),
                _ => write!(text, "| {cell:>width$} "),
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column > 1 { ':' } else { '-' };
                let _ = write!(text, "|{}{end}", "-".repeat(width + 1));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_and_ratios() {
        let mut report = Report::new(vec!["ours".to_owned(), "other".to_owned()]);
        for value in [0.3, 0.1, 0.2] {
            report.enter("pairs", 0, &[(Metric::Cpu, value), (Metric::Rate, 1_234_567.0)]);
        }
        report.enter("pairs", 1, &[(Metric::Cpu, 3.0)]);
        report.enter("pairs", 1, &[(Metric::Cpu, 5.0)]);
        let expected = "\
| workload |                   |      ours |     other |
|----------|-------------------|----------:|----------:|
| pairs    | CPU µs a message  |      0.20 | 4.0 (20x) |
| pairs    | messages a second | 1,234,567 |    failed |
";
        assert_eq!(report.table(), expected);
        let json = report.json("a machine");
        assert_eq!(json["results"][0]["brokers"]["other"]["median"], 4.0);
    }
}
