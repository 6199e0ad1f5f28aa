//! Three nodes that send to each other under TLS get new keys under load: new certificates again and again, and
//! then another CA in three steps. Not one frame is lost. Then one of them is shut out while its links are
//! up: nothing more comes from it. When it is let in again, its losses are told exactly.

use std::{collections::BTreeMap, time::Duration};

use actix_transport::{DownReason, Tls, TlsError};

use super::mesh::{LONG, Member, NODES, Ports, all_hear, others};
use crate::{
    balance_watch::BalanceWatch,
    keys::{Authority, Keys, Request},
    numbered_log::Faults,
    row::{Failure, Figures, Row, Run},
    tls_client::tls,
    world::{system, until},
};

pub(crate) const ROW: Row = Row {
    name: "rotation",
    what: "new certificates and a new CA under load: 0 frames lost, 0 gaps; who is shut out delivers nothing",
    run: |run| system(rotate(run)),
};

const MS: Duration = Duration::from_millis(1);

/// How long links are in use before the next node gets new keys. This does not rule out losses.
const SETTLE: Duration = Duration::from_millis(50);

/// How long it may take until links have new certificates.
const RENEWED: Duration = Duration::from_secs(3);

async fn rotate(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.pick(10, 300);
    run.progress.total(rounds + 4);
    let mut figures = Figures::default();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ports = Ports::reserve()?;
    let mut members = Vec::new();
    for node in NODES {
        let keys = tls(&old.certificate(Request::node(node.into())))?;
        members.push(Member::start(&ports, node, 1, Some(keys)).await?);
    }
    let snapshots = BalanceWatch::start(members.iter().map(|member| &member.transport));
    for member in &mut members {
        member.load(&ports)?;
    }
    all_hear(&members).await?;

    run.progress.set_message("new certificates");
    for _ in 0..rounds {
        reload(&members, &mut figures, |node| tls(&old.certificate(node))).await?;
        run.progress.add(1);
    }
    let (gaps, missing) = losses(&members);
    figures.add("new certificates", rounds * NODES.len() as u64);
    figures.add("gaps", gaps);
    figures.require(gaps + missing == 0, || {
        format!("{missing} frames missing after new certificates")
    });

    run.progress.set_message("new CA");
    let both = |keys: Keys| {
        let ca_pem = old.root_pem().to_owned() + new.root_pem();
        Keys { ca_pem, ..keys }
    };
    reload(&members, &mut figures, |node| {
        tls(&both(old.certificate(node)))
    })
    .await?;
    run.progress.add(1);
    reload(&members, &mut figures, |node| {
        tls(&both(new.certificate(node)))
    })
    .await?;
    run.progress.add(1);
    reload(&members, &mut figures, |node| tls(&new.certificate(node))).await?;
    run.progress.add(1);
    let (gaps, missing) = losses(&members);
    figures.add("with a new CA", gaps);
    figures.require(gaps + missing == 0, || {
        format!("{missing} frames missing in {gaps} gaps after a new CA")
    });
    let untrusted = ended(&members, DownReason::Untrusted);
    figures.require(untrusted == 0, || format!("{untrusted} links were cut"));
    figures.add("links made", dials(&members));
    for (reason, (links, in_doubt)) in ends(&members) {
        figures.add(
            "ended",
            format!("{links} × {reason}, {in_doubt} frames in doubt"),
        );
    }

    run.progress.set_message("one is shut out");
    shut_out(&members, &new, &mut figures).await?;
    let snapshot = snapshots.first_imbalance();
    figures.require(snapshot.is_none(), || snapshot.unwrap_or_default());
    for member in &mut members {
        member.quiet();
    }
    compare(&members, &mut figures).await?;
    run.progress.add(1);
    snapshots.add_to(&mut figures);
    for member in &mut members {
        member.stop().await?;
    }
    figures.verdict()
}

/// Gives each node other keys, one after the other, each when the links of the one before are made again, and when
/// no link is left that these keys would cut.
async fn reload(
    members: &[Member],
    figures: &mut Figures,
    keys: impl Fn(Request) -> Result<Tls, TlsError>,
) -> Result<(), Failure> {
    for member in members {
        let keys = keys(Request::node(member.node.into()))?;
        let is_cut = || member.transport.nodes_cut_by(&keys);
        is_cut()?; // The keys can be used.
        let what = "no link is cut";
        let reached = until(what, RENEWED, || is_cut().is_ok_and(|cut| cut.is_empty())).await;
        figures.require(reached.is_ok(), || {
            format!("not within {RENEWED:?}: {what}")
        });
        member.transport.reload_tls(keys)?;
        let all = || members.iter().all(|member| member.trusts(members));
        let what = "all links have the new certificates";
        let reached = until(what, RENEWED, all).await;
        figures.require(reached.is_ok(), || {
            format!("not within {RENEWED:?}: {what}")
        });
        tokio::time::sleep(SETTLE).await;
    }
    Ok(())
}

/// The last node is no longer allowed by the others, and then it is again.
async fn shut_out(
    members: &[Member],
    authority: &Authority,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let (last, rest) = members.split_last().expect("three");
    let keys = |node: u32| authority.certificate(Request::node(node.into()));
    let got = || -> u64 {
        let got = rest.iter().map(|member| member.got(last.node, 1).frames);
        got.sum()
    };
    let mut after_return = 0;
    for member in rest {
        let keys = keys(member.node);
        let [ca, cert, key] = [&keys.ca_pem, &keys.cert_pem, &keys.key_pem].map(String::as_bytes);
        let allowed = rest
            .iter()
            .map(|member| format!("node-{}.test", member.node));
        let before = member.got(last.node, 1).frames;
        figures.require(before > 0, || "it was not heard".into());
        member
            .transport
            .reload_tls(Tls::from_pem(ca, cert, key)?.allow(allowed))?;
        let returned = member.got(last.node, 1).frames;
        // The actor of this row has one thread with this future: it handles what it was given before.
        tokio::time::sleep(20 * MS).await;
        after_return += member.got(last.node, 1).frames - returned;
    }
    let shut = got();
    let accepted = last.accepted(rest[0].node);
    tokio::time::sleep(500 * MS).await;
    let later = got() - shut;
    figures.add("delivered within 20 ms after it was shut out", after_return);
    figures.add("later", later);
    figures.add(
        "accepted by it meanwhile",
        last.accepted(rest[0].node) - accepted,
    );
    figures.require(later == 0, || {
        format!("{later} frames of a node that is shut out were delivered")
    });
    let gone = rest
        .iter()
        .all(|member| member.ended(DownReason::Untrusted) > 0);
    figures.require(gone, || "no link was ended as untrusted".into());
    for member in rest {
        member.transport.reload_tls(tls(&keys(member.node))?)?;
    }
    until("it is heard again", LONG, || {
        rest.iter()
            .all(|member| member.got(last.node, 1).frames > shut)
            || got() > shut + 1_000
    })
    .await?;
    tokio::time::sleep(200 * MS).await;
    Ok(())
}

/// Waits until every accepted frame has come or is told as missing. Only frames from and to the node that was
/// shut out may be missing.
async fn compare(members: &[Member], figures: &mut Figures) -> Result<(), Failure> {
    let shut_out = NODES[NODES.len() - 1];
    let (mut accepted, mut received, mut missing) = (0, 0, 0);
    let (mut dropped, mut unmarked) = (0, 0);
    for to in members {
        for from in others(to.node) {
            let sender = members.iter().find(|member| member.node == from);
            let sent = sender.map_or(0, |sender| sender.accepted(to.node));
            // What had been read of the node that was shut out, and no handler had yet, was dropped.
            let undelivered = match from == shut_out {
                true => to.transport.stats().inbound.dropped.total().frames,
                false => 0,
            };
            let told = || {
                let got = to.got(from, 1);
                got.frames + got.missing + undelivered == sent
            };
            let settled = until("all is told", LONG, told).await;
            let got = to.got(from, 1);
            figures.require(settled.is_ok(), || {
                format!(
                    "{from} to {}: {sent} accepted, {got:?}, {undelivered} dropped",
                    to.node
                )
            });
            dropped += undelivered;
            let is_in = from != shut_out && to.node != shut_out;
            figures.require(!is_in || got.missing == 0, || {
                format!("{} are missing from {from} to {}", got.missing, to.node)
            });
            accepted += sent;
            received += got.frames;
            missing += got.missing;
        }
        // No batch is marked behind those that were dropped.
        let faults = to.log.lock().faults;
        unmarked += faults.unmarked;
        let faults = Faults {
            unmarked: 0,
            ..faults
        };
        let faults = faults.describe();
        figures.require(faults.is_none(), || faults.unwrap_or_default());
    }
    figures.add("accepted", accepted);
    figures.add("received", received);
    figures.add(
        "told as missing, from or to the node that was shut out",
        missing,
    );
    figures.add("read from it and dropped", dropped);
    figures.add("batches behind these that were not marked", unmarked);
    figures.require(unmarked <= dropped, || {
        format!("{unmarked} batches behind a gap were not marked")
    });
    Ok(())
}

/// Returns the gaps that were told so far, and how many frames were missing.
fn losses(members: &[Member]) -> (u64, u64) {
    let stats = members.iter().map(|member| member.transport.stats());
    stats.fold((0, 0), |(gaps, missing), stats| {
        (gaps + stats.links.gaps, missing + stats.inbound.missing)
    })
}

fn dials(members: &[Member]) -> u64 {
    let made = members
        .iter()
        .map(|member| member.transport.stats().tls.connected);
    made.sum()
}

/// Returns why links ended, how many, and how many frames were in doubt then.
fn ends(members: &[Member]) -> BTreeMap<String, (usize, u64)> {
    let mut all = BTreeMap::<_, (usize, u64)>::new();
    for (reason, (links, in_doubt)) in members.iter().flat_map(Member::ends) {
        let sum = all.entry(reason).or_default();
        *sum = (sum.0 + links, sum.1 + in_doubt);
    }
    all
}

fn ended(members: &[Member], reason: DownReason) -> usize {
    members.iter().map(|member| member.ended(reason)).sum()
}
