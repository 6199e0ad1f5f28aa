//! Prints the results of cases of calls as a table, for people.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    measure::Outcome,
    side::Contestant::{self, Ours, OursMulti},
    table::{memory, rate},
};

const COLUMNS: [&str; 11] = [
    "case",
    "contestant",
    "calls/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "ours to it",
    "multi to it",
    "p50 to it",
    "cpu",
    "memory",
];

const LEGEND: &str = "\
Medians. \"Ours to it\" and \"multi to it\" are the rates of actix-transport and actix-transport-multi divided by the
contestant's; \"p50 to it\" is the median time of a call of actix-transport divided by the contestant's. Cpu is seconds on
the cores per million calls, both sides together; memory is the peak of the caller plus the peak of the server, in MiB.
";

/// Returns nothing if there were no calls.
pub(super) fn render(outcomes: &[&Outcome]) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(COLUMNS);
    for outcome in outcomes {
        for &contestant in &outcome.row.case.contestants {
            let cells = cells(outcome, contestant).into_iter();
            table.add_row(cells.map(|cell| cell.unwrap_or_else(|| "-".to_string())));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{LEGEND}")
}

fn cells(outcome: &Outcome, contestant: Contestant) -> [Option<String>; 11] {
    let row = &outcome.row;
    let number = |name| Some(format!("{:.1}", row.median(contestant, name)?));
    let beside = |one, name| {
        let ratio = row.median(one, name)? / row.median(contestant, name)?;
        Some(format!("{ratio:.2}"))
    };
    [
        Some(row.case.name.to_string()),
        Some(contestant.to_string()),
        row.median(contestant, "per_second").map(rate),
        number("p50_us"),
        number("p99_us"),
        number("p999_us"),
        beside(Ours, "per_second"),
        beside(OursMulti, "per_second"),
        beside(Ours, "p50_us"),
        number("cpu"),
        memory(outcome, contestant),
    ]
}
