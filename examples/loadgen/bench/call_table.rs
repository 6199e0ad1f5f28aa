//! Formats the rows of calls as a table of their own: a line for each contestant.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    row::Row,
    side::Contestant::{self, Tokio, TokioMulti},
};

const COLUMNS: [&str; 11] = [
    "case",
    "contestant",
    "calls/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "cpu",
    "rate/tokio",
    "p50/tokio",
    "rate/multi",
    "p50/multi",
];

const LEGEND: &str = "\
All values are medians. cpu is CPU seconds for a million calls, both sides together. tokio and multi are the careful
tokio program on one thread and on a multi-threaded runtime. Of ours, the callers run on an arbiter and a function
serves, with -actor an actor serves, and with -multi the callers run on a multi-threaded tokio runtime.
";

pub(super) fn render(rows: &[&Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(COLUMNS);
    for row in rows {
        for &contestant in row.case.contestants {
            let cells = cells(row, contestant).into_iter();
            table.add_row(cells.map(|cell| cell.unwrap_or_else(|| "-".to_string())));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{LEGEND}")
}

fn cells(row: &Row, contestant: Contestant) -> [Option<String>; 11] {
    let rate = |rate: f64| format!("{:.1} k", rate / 1e3);
    let micros = |name| Some(format!("{:.1}", row.median(contestant, name)?));
    let beside = |name, other| {
        let ratio = row.median(contestant, name)? / row.median(other, name)?;
        Some(format!("{ratio:.2}"))
    };
    [
        Some(row.case.name.to_string()),
        Some(contestant.to_string()),
        row.median(contestant, "per_second").map(rate),
        micros("p50_us"),
        micros("p99_us"),
        micros("p999_us"),
        micros("cpu"),
        beside("per_second", Tokio),
        beside("p50_us", Tokio),
        beside("per_second", TokioMulti),
        beside("p50_us", TokioMulti),
    ]
}
