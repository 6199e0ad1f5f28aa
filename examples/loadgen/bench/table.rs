//! Formats the rows as a table.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    call_table,
    row::Row,
    side::Contestant::{self, Ours, Raw64, Raw256, Tokio},
    work::Task,
};

const COLUMNS: [&str; 10] = [
    "case",
    "raw",
    "tokio",
    "ours",
    "ours/raw",
    "ours/tokio",
    "raw cpu",
    "tokio cpu",
    "ours cpu",
    "ours memory",
];

const LEGEND: &str = "\
All values are medians. Rates are frames, datagrams or round trips a second, with the median time of
a round trip. cpu is CPU seconds for a million of them, both sides together. memory is the peak of
the sender and of the receiver, in MiB. Ratios are of rates: above 1, ours is faster.
";

pub(super) fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(COLUMNS);
    let (calls, rows): (Vec<_>, Vec<_>) = rows
        .iter()
        .partition(|row| row.case.work.task == Task::Call);
    let (idle, busy): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row.case.work.task == Task::Idle);
    for row in &busy {
        let cells = cells(row).into_iter();
        table.add_row(cells.map(|cell| Cell::new(cell.unwrap_or_else(|| "-".to_string()))));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }

    let mut text = String::new();
    if !busy.is_empty() {
        text += &format!("{table}\n{LEGEND}");
    }
    text += &call_table::render(&calls);
    text += &widths(&busy);
    text.extend(busy.iter().filter_map(|row| lost(row)));
    text.extend(busy.iter().filter_map(|row| round_trip_line(row)));
    text.extend(busy.iter().filter_map(|row| tls_line(row)));
    text.extend(idle.iter().filter_map(|row| idle_line(row)));
    text
}

fn cells(row: &Row) -> [Option<String>; 10] {
    let raw = row.raw();
    let beside = |contestant| Some(format!("{:.2}", row.ratio(Ours, contestant)?));
    let cpu = |contestant| Some(format!("{:.3}", row.median(contestant, "cpu")?));
    [
        Some(row.case.name.to_string()),
        raw.and_then(|raw| rate(row, raw)),
        rate(row, Tokio),
        rate(row, Ours),
        raw.and_then(beside),
        beside(Tokio),
        raw.and_then(cpu),
        cpu(Tokio),
        cpu(Ours),
        memory(row),
    ]
}

fn rate(row: &Row, contestant: Contestant) -> Option<String> {
    let rate = row.median(contestant, "per_second")?;
    let rate = match rate {
        1e6.. => format!("{:.2} M", rate / 1e6),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    };
    Some(match row.median(contestant, "p50_us") {
        Some(micros) => format!("{rate}, {micros:.1} µs"),
        None => rate,
    })
}

fn memory(row: &Row) -> Option<String> {
    let [sender, receiver] = ["sender_peak", "receiver_peak"].map(|name| row.median(Ours, name));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    Some(format!("{:.0} + {:.0}", mib(sender?), mib(receiver?)))
}

/// Says which of the raw sockets were faster.
fn widths(rows: &[&Row]) -> String {
    let names = |better| {
        let rows = rows.iter().filter(|row| row.raw() == Some(better));
        let names: Vec<_> = rows.map(|row| row.case.name).collect();
        names.join(", ")
    };
    match (names(Raw64).as_str(), names(Raw256).as_str()) {
        (_, "") => String::new(),
        ("", _) => "The raw sockets write 256 KiB at a time.\n".to_string(),
        (_, wide) => format!("The raw sockets write 64 KiB at a time, but 256 in {wide}.\n"),
    }
}

fn lost(row: &Row) -> Option<String> {
    if row.case.work.task != Task::Datagrams {
        return None;
    }
    let percent = |contestant| 100.0 * row.median(contestant, "lost").unwrap_or(0.0);
    Some(format!(
        "{}: the rate is that of received ones; tokio lost {:.1} % and ours {:.1} %.\n",
        row.case.name,
        percent(Tokio),
        percent(Ours),
    ))
}

fn round_trip_line(row: &Row) -> Option<String> {
    Some(format!(
        "{}: a round trip takes {:.2} times as long as tokio's.\n",
        row.case.name,
        row.time_to_tokio()?,
    ))
}

fn tls_line(row: &Row) -> Option<String> {
    Some(format!(
        "{}: with TLS, a round trip takes {:.2} times as long as without.\n",
        row.case.name,
        row.time_of_tls()?,
    ))
}

fn idle_line(row: &Row) -> Option<String> {
    Some(format!(
        "{}: {} of them take {:.0} bytes each in the process, and {:.2} % of a core in all.\n",
        row.case.name,
        row.case.work.frames,
        row.median(Ours, "bytes_per_connection")?,
        100.0 * row.median(Ours, "idle_cpu")?,
    ))
}
