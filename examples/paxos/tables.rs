//! What is printed: a line for each run, and the two tables.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use hdrhistogram::Histogram;

use crate::{beside, check::LogCheck, run::Report};

pub(crate) fn verdict(run: &str, log: &LogCheck, transports: usize) -> String {
    format!(
        "{run}: agreement confirmed, 3 replicas have the same {} instances, entry by entry; \
         balance confirmed, {transports} transports account for every frame",
        grouped(log.instances),
    )
}

/// Returns the table of the runs with small values only.
pub(crate) fn table(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "groups",
        "decided/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest\npause ms",
        "leaders\nmoved",
        "decided\nagain",
        "frames",
        "reconnects",
        "drops",
    ]);
    for report in reports {
        let latency = |quantile| millis(&report.latency, quantile);
        table.add_row([
            report.groups.to_string(),
            grouped(report.decided_per_second as u64),
            latency(0.5),
            latency(0.99),
            latency(0.999),
            report.longest_pause.as_millis().to_string(),
            report.moved.to_string(),
            grouped(report.log.duplicates),
            grouped(report.traffic.frames),
            report.traffic.reconnects.to_string(),
            grouped(report.traffic.drops),
        ]);
    }
    align_right(table)
}

/// Returns the table of small values beside long ones.
pub(crate) fn long_table(report: &beside::Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "small values beside",
        "decided/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "long values\ndecided/s",
        "their\np50 ms",
    ]);
    for row in &report.rows {
        let small = &row.small;
        let (long_rate, long_p50) = match &row.long {
            Some(long) => (
                format!("{:.1}", long.decided_per_second()),
                millis(&long.latency, 0.5),
            ),
            None => Default::default(),
        };
        table.add_row([
            row.beside.to_string(),
            grouped(small.decided_per_second() as u64),
            millis(&small.latency, 0.5),
            millis(&small.latency, 0.99),
            millis(&small.latency, 0.999),
            long_rate,
            long_p50,
        ]);
    }
    let mut table = align_right(table);
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    table
}

fn align_right(mut table: Table) -> Table {
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Formats a quantile of latencies in microseconds.
fn millis(latency: &Histogram<u64>, quantile: f64) -> String {
    format!("{:.2}", latency.value_at_quantile(quantile) as f64 / 1000.0)
}

/// Formats a number with a comma after every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
