//! The report of a role, as a table or as JSON, and whether the role failed.

use std::{
    io::{Write, stdout},
    time::Duration,
};

use actix_transport::{Count, Lane, LinkStats, ReceiveStats, SendStats, Stats, TlsStats};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

use crate::{Failure, bench::value_name, memory::memory, node::NodeArgs};

pub(crate) struct Report {
    /// In the order of output.
    fields: Vec<(&'static str, Value)>,
    stats: Stats,
    failure: Option<String>,
}

impl Report {
    /// Starts a report; it fails if the counters do not balance.
    pub(crate) fn new(role: &'static str, stats: Stats) -> Self {
        Self {
            fields: vec![("role", role.into())],
            stats,
            failure: stats.balance().err().map(|err| err.to_string()),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds the frames that came through in this time, and their rate.
    pub(crate) fn measured(self, count: Count, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        let rate = match time.is_zero() {
            true => 0.0,
            false => count.frames as f64 / seconds,
        };
        self.with("frames", count.frames)
            .with("bytes", count.bytes)
            .with("seconds", seconds)
            .with("frames_per_second", rate.round() as u64)
    }

    /// Records a failure. Only the first is reported, because later ones may follow from it.
    pub(crate) fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    /// Prints the report. Returns the recorded failure, if there is one, as the error.
    pub(crate) fn print(mut self, node: &NodeArgs) -> Result<(), Failure> {
        if node.identity.has_sessions() {
            let mode = value_name(&node.identity.mode());
            self.fields.push(("sessions", sessions(&mode, &self.stats)));
        }
        if node.tls.is_on() {
            let tls = handshakes(node.tls.mode(), &self.stats.tls);
            self.fields.push(("tls", tls));
        }
        if let Some(failure) = &self.failure {
            self.fields.push(("failure", failure.as_str().into()));
        }
        if let Some(peak) = memory("VmHWM") {
            self.fields.push(("peak_memory", (peak as u64).into()));
        }
        self.fields.push(("stats", counters(&self.stats)));
        let text = match node.json {
            true => line(&self.fields),
            false => table(&self.fields).to_string(),
        };
        writeln!(stdout(), "{text}")?;
        match self.failure {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }
}

/// Formats the fields as a JSON object. Not with a JSON map, which would sort them.
fn line(fields: &[(&str, Value)]) -> String {
    let field = |(name, value): &(&str, Value)| format!("\"{name}\":{value}");
    let fields: Vec<_> = fields.iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}

fn table(fields: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    for (name, value) in fields {
        add_rows(&mut table, name, value);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Adds a row for every value in `value`, but none for counters that are zero.
fn add_rows(table: &mut Table, name: &str, value: &Value) {
    if let (Some(frames), Some(bytes)) = (value.get("frames"), value.get("bytes")) {
        table.add_row([name, &format!("{frames} frames, {bytes} bytes")]);
    } else if let Some(fields) = value.as_object() {
        let nonzero = |value: &Value| *value != 0 && *value != count(Count::ZERO);
        for (field, value) in fields.iter().filter(|(_, value)| nonzero(value)) {
            add_rows(table, &format!("{name} {field}"), value);
        }
    } else {
        table.add_row([name, value.as_str().unwrap_or(&value.to_string())]);
    }
}

fn counters(stats: &Stats) -> Value {
    json!({
        "tcp": sent(&stats.tcp),
        "lanes": lanes(stats),
        "udp": sent(&stats.udp),
        "inbound": received(&stats.inbound),
        "links": links(&stats.links),
        "balanced": stats.balance().is_ok(),
    })
}

/// What each lane accepted, if it was used.
fn lanes(stats: &Stats) -> Value {
    let lanes = Lane::all().zip(&stats.lanes);
    let used = lanes.filter(|(_, sent)| sent.offered != Count::ZERO);
    used.map(|(lane, sent)| (lane.to_string(), count(sent.accepted)))
        .collect()
}

fn sent(stats: &SendStats) -> Value {
    let (rejected, dropped) = (&stats.rejected, &stats.dropped);
    json!({
        "offered": count(stats.offered),
        "accepted": count(stats.accepted),
        "rejected": {
            "full_frames": count(rejected.full_frames),
            "full_bytes": count(rejected.full_bytes),
            "full_share": count(rejected.full_share),
            "too_large": count(rejected.too_large),
            "stopped": count(rejected.stopped),
            "invalid": count(rejected.invalid),
        },
        "written": count(stats.written),
        "confirmed": count(stats.confirmed),
        "in_doubt": count(stats.in_doubt),
        "dropped": {
            "stale": count(dropped.stale),
            "overflow": count(dropped.overflow),
            "replaced": count(dropped.replaced),
            "failed": count(dropped.failed),
            "cut_off": count(dropped.cut_off),
            "peer_forgotten": count(dropped.peer_forgotten),
            "stopped": count(dropped.stopped),
        },
        "queued": count(stats.queued),
        "in_flight": count(stats.in_flight),
    })
}

fn received(stats: &ReceiveStats) -> Value {
    let dropped = &stats.dropped;
    json!({
        "received": count(stats.received),
        "delivered": count(stats.delivered),
        "dropped": {
            "no_group": count(dropped.no_group),
            "overflow": count(dropped.overflow),
            "actor_gone": count(dropped.actor_gone),
            "superseded": count(dropped.superseded),
            "incomplete": count(dropped.incomplete),
            "stopped": count(dropped.stopped),
        },
        "in_delivery": count(stats.in_delivery),
        "malformed": stats.malformed,
        "timed_out": stats.timed_out,
        "truncated": stats.truncated,
    })
}

/// Who introduced themselves, who was refused, and what is missing of their frames.
fn sessions(mode: &str, Stats { inbound, links, .. }: &Stats) -> Value {
    json!({
        "mode": mode,
        "heard": links.heard,
        "refused": links.refused,
        "refusals": links.refusals,
        "bad_handshakes": links.bad_handshakes,
        "goodbyes": links.goodbyes,
        "gaps": links.gaps,
        "numbered": inbound.numbered,
        "missing": inbound.missing,
    })
}

/// The TLS handshakes: how many were made, and why others were not. Only reasons that occurred are there.
fn handshakes(mode: &str, stats: &TlsStats) -> Value {
    json!({
        "mode": mode,
        "accepted": stats.accepted,
        "connected": stats.connected,
        "failed": stats.failed,
    })
}

fn links(stats: &LinkStats) -> Value {
    let errors = &stats.datagram_errors;
    json!({
        "dials": stats.dials,
        "connects": stats.connects,
        "disconnects": stats.disconnects,
        "peers": stats.peers,
        "accepted": stats.accepted,
        "turned_away": stats.turned_away,
        "accept_stalls": stats.accept_stalls,
        "datagram_stalls": stats.datagram_stalls,
        "datagrams_lost": stats.datagrams_lost,
        "connections": stats.connections,
        "restarts": stats.restarts,
        "datagram_errors": {
            "too_long": errors.too_long,
            "unreachable": errors.unreachable,
            "refused": errors.refused,
            "other": errors.other,
        },
    })
}

fn count(count: Count) -> Value {
    json!({ "frames": count.frames, "bytes": count.bytes })
}
