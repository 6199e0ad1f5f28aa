//! Prints the results as a table, for people.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    call_table,
    measure::Outcome,
    side::Contestant::{self, Ours, OursTls, Quinn, Raw64, Raw256, Tokio, TokioRustls},
    work::Task,
};

const COLUMNS: [&str; 9] = [
    "case",
    "contestant",
    "frames/s",
    "to raw",
    "ours to it",
    "cpu sending",
    "cpu receiving",
    "cpu",
    "memory",
];

const LEGEND: &str = "\
Medians. \"To raw\" is the contestant's rate divided by that of the better raw sockets; \"ours to it\"
is the rate of actix-transport divided by the contestant's: above 1, actix-transport is faster. Cpu is
seconds on the cores per million frames, for each side and for both together; memory is the peak of
the sender plus the peak of the receiver, in MiB.
";

/// This crate, and the programs that were written for the comparison.
const OF_OUR_OWN: [Contestant; 6] = [Raw64, Raw256, Ours, OursTls, Tokio, TokioRustls];

pub(super) fn render(outcomes: &[Outcome], contestants: &[Contestant]) -> String {
    let (calls, streams): (Vec<_>, Vec<_>) = outcomes
        .iter()
        .partition(|outcome| outcome.row.case.work.task == Task::Call);
    let mut text = match streams.is_empty() {
        true => String::new(),
        false => render_streams(&streams, contestants),
    };
    text += &call_table::render(&calls);
    text += &absences(outcomes, contestants);
    text
}

fn render_streams(outcomes: &[&Outcome], contestants: &[Contestant]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(COLUMNS);
    for outcome in outcomes {
        let task = outcome.row.case.work.task;
        for &contestant in contestants.iter().filter(|one| one.has_a_row(task)) {
            let cells = cells(outcome, contestant).into_iter();
            table.add_row(cells.map(|cell| Cell::new(cell.unwrap_or_else(|| "-".to_string()))));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n{LEGEND}");
    text.extend(outcomes.iter().filter_map(|outcome| best(outcome)));
    text.extend(outcomes.iter().flat_map(|outcome| encrypted(outcome)));
    text
}

fn cells(outcome: &Outcome, contestant: Contestant) -> [Option<String>; 9] {
    let row = &outcome.row;
    let ratio = |one, other| Some(format!("{:.2}", row.ratio(one, other)?));
    let cpu = |name| Some(format!("{:.3}", row.median(contestant, name)?));
    [
        Some(row.case.name.to_string()),
        Some(contestant.to_string()),
        row.median(contestant, "per_second").map(rate),
        row.raw().and_then(|raw| ratio(contestant, raw)),
        ratio(Ours, contestant),
        cpu("sender_cpu"),
        cpu("receiver_cpu"),
        cpu("cpu"),
        memory(outcome, contestant),
    ]
}

pub(super) fn rate(rate: f64) -> String {
    match rate {
        1e6.. => format!("{:.2} M", rate / 1e6),
        _ => format!("{:.1} k", rate / 1e3),
    }
}

pub(super) fn memory(outcome: &Outcome, contestant: Contestant) -> Option<String> {
    let [sender, receiver] =
        ["sender_peak", "receiver_peak"].map(|name| outcome.row.median(contestant, name));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    Some(format!("{:.0} + {:.0}", mib(sender?), mib(receiver?)))
}

/// Compares this crate with the best of those that a user would pick.
fn best(outcome: &Outcome) -> Option<String> {
    let row = &outcome.row;
    let peers = row.case.contestants.iter().copied();
    let peers = peers.filter(|peer| !OF_OUR_OWN.contains(peer));
    let by = |name| {
        let figures = peers.clone();
        figures.filter_map(move |peer| Some((peer, row.median(peer, name)?)))
    };
    let (fastest, rate) = by("per_second").max_by(|one, other| one.1.total_cmp(&other.1))?;
    let (thriftiest, cpu) = by("cpu").min_by(|one, other| one.1.total_cmp(&other.1))?;
    Some(format!(
        "{}: {:.2} times the rate of the fastest peer ({fastest}), {:.2} times the cpu of the \
         peer that uses least ({thriftiest}).\n",
        row.case.name,
        row.median(Ours, "per_second")? / rate,
        row.median(Ours, "cpu")? / cpu,
    ))
}

/// Compares this crate with TLS to the others that encrypt.
fn encrypted(outcome: &Outcome) -> impl Iterator<Item = String> {
    let row = &outcome.row;
    [Quinn, TokioRustls].into_iter().filter_map(|other| {
        Some(format!(
            "{}: with TLS, {:.2} times the rate of {other}.\n",
            row.case.name,
            row.ratio(OursTls, other)?,
        ))
    })
}

/// Explains each dash in the table.
fn absences(outcomes: &[Outcome], contestants: &[Contestant]) -> String {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let case = &outcome.row.case;
        let task = case.work.task;
        for &contestant in contestants.iter().filter(|one| one.has_a_row(task)) {
            if let Some(reason) = contestant.absence(case.work.peers) {
                lines.push(format!("{contestant} has a dash: {reason}.\n"));
            }
            if let Some(failure) = outcome.failures.get(&contestant) {
                lines.push(format!("{contestant} FAILED in {}: {failure}\n", case.name));
            }
        }
    }
    // Several cases may have the same reason.
    lines.sort();
    lines.dedup();
    lines.concat()
}
