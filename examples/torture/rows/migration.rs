//! A cluster of three nodes changes to TLS and back, node by node and under load. Each change is a restart in a
//! new incarnation: from links without TLS to optional TLS, to required TLS, and the same way back.
//!
//! A node that restarts writes all that it has accepted before it ends, and what it has not read of others is
//! lost with it. So the frames from one life of a node to one life of another come without a gap, and only
//! between two lives of a receiver some may be missing. They were in doubt for their sender.

use std::time::Duration;

use actix_transport::{Tls, TlsMode};

use super::mesh::{LONG, Member, NODES, Ports, all_hear, others};
use crate::{
    keys::{Authority, Request},
    numbered_log::Life,
    row::{Failure, Figures, Row, Run},
    tls_client::tls,
    world::{system, until},
};

pub(crate) const ROW: Row = Row {
    name: "migration",
    what: "from plain to optional to required TLS and back, node by node: no gaps but those of the restarts",
    run: |run| system(migrate(run)),
};

/// How a node makes its links.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Mode {
    Plain,
    Optional,
    Required,
}

const WAY: [Mode; 4] = [Mode::Optional, Mode::Required, Mode::Optional, Mode::Plain];

async fn migrate(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.pick(3, 100);
    run.progress
        .total(rounds * (WAY.len() * NODES.len()) as u64);
    let mut cluster = Cluster::start().await?;
    let mut figures = Figures::default();
    for _ in 0..rounds {
        for mode in WAY {
            for node in NODES {
                cluster.restart(node, mode, &mut figures).await?;
                run.progress.add(1);
            }
            cluster.check_links(mode, &mut figures).await?;
        }
    }
    cluster.end(&mut figures).await?;
    figures.verdict()
}

struct Cluster {
    authority: Authority,
    ports: Ports,
    members: Vec<Member>,
    /// What the former lives of receivers got: from which life, to which node, and what.
    got: Vec<(u32, u32, u32, Life)>,
    totals: Totals,
}

#[derive(Default)]
struct Totals {
    restarts: u64,
    accepted: u64,
    received: u64,
    /// Missing between two lives of a receiver.
    between: u64,
    slowest: Duration,
}

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let mut cluster = Cluster {
            authority: Authority::new("torture"),
            ports: Ports::reserve()?,
            members: Vec::new(),
            got: Vec::new(),
            totals: Totals::default(),
        };
        for node in NODES {
            let member = Member::start(&cluster.ports, node, 1, None).await?;
            cluster.members.push(member);
        }
        for member in &mut cluster.members {
            member.load(&cluster.ports)?;
        }
        all_hear(&cluster.members).await?;
        Ok(cluster)
    }

    fn keys(&self, node: u32, mode: Mode) -> Result<Option<Tls>, Failure> {
        let keys = || tls(&self.authority.certificate(Request::node(node.into())));
        Ok(match mode {
            Mode::Plain => None,
            Mode::Optional => Some(keys()?.mode(TlsMode::Optional)),
            Mode::Required => Some(keys()?),
        })
    }

    /// Ends a node, and starts it again in this mode.
    async fn restart(
        &mut self,
        node: u32,
        mode: Mode,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let index = node as usize - 1;
        let keys = self.keys(node, mode)?;
        let former = &mut self.members[index];
        former.stop().await?;
        let incarnation = former.incarnation + 1;
        self.compare(node, figures).await?;
        self.keep(node, figures);
        let began = std::time::Instant::now();
        let mut next = Member::start(&self.ports, node, incarnation, keys).await?;
        next.load(&self.ports)?;
        self.members[index] = next;
        all_hear(&self.members).await?;
        self.totals.slowest = self.totals.slowest.max(began.elapsed());
        self.totals.restarts += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    /// Compares what a life of a node sent, which sends no more, with what the others got.
    async fn compare(&mut self, node: u32, figures: &mut Figures) -> Result<(), Failure> {
        let life = self.members[node as usize - 1].incarnation;
        for to in others(node) {
            let receiver = &self.members[to as usize - 1];
            let accepted = self.members[node as usize - 1].accepted(to);
            let came = || receiver.got(node, life).last + 1 >= accepted;
            let came = until("the last frame", Duration::from_secs(2), came).await;
            let seen = receiver.got(node, life);
            figures.require(came.is_ok(), || {
                format!("{node} {life} to {to}: {accepted} accepted, {seen:?}")
            });
            self.totals.accepted += accepted;
            self.add(node, life, to, seen, figures);
        }
        Ok(())
    }

    /// Keeps what a life of a node got that has ended.
    fn keep(&mut self, node: u32, figures: &mut Figures) {
        for from in others(node) {
            let life = self.members[from as usize - 1].incarnation;
            let seen = self.members[node as usize - 1].got(from, life);
            self.got.push((from, life, node, seen));
        }
        let faults = self.members[node as usize - 1].log.lock().faults.describe();
        figures.require(faults.is_none(), || faults.unwrap_or_default());
    }

    /// Adds all that one life of a node sent to another node, of which the present life has got `seen`.
    fn add(&mut self, from: u32, life: u32, to: u32, seen: Life, figures: &mut Figures) {
        let is_same = |got: &&(u32, u32, u32, Life)| (got.0, got.1, got.2) == (from, life, to);
        let former = self.got.iter().filter(is_same).map(|got| got.3);
        let mut next = 0;
        for seen in former.chain([seen]).filter(|seen| seen.frames > 0) {
            let is_whole = seen.missing == 0 && seen.last + 1 - seen.first == seen.frames;
            figures.require(is_whole && seen.first >= next, || {
                format!("{from} {life} to {to}: {seen:?}, and {next} comes next")
            });
            // The first life that hears a sender hears all of it.
            figures.require(next > 0 || seen.first == 0, || {
                format!("{from} {life} to {to} begins with {}", seen.first)
            });
            self.totals.between += seen.first.saturating_sub(next);
            self.totals.received += seen.frames;
            next = seen.last + 1;
        }
    }

    /// Requires that all links are encrypted if all nodes have TLS, and none if none has.
    async fn check_links(&mut self, mode: Mode, figures: &mut Figures) -> Result<(), Failure> {
        let encrypted = |members: &[Member]| {
            members
                .iter()
                .filter(|member| member.trusts(members))
                .count()
        };
        match mode {
            Mode::Required => {
                let all = || encrypted(&self.members) == NODES.len();
                until("all links are encrypted", LONG, all).await?;
            }
            Mode::Plain => {
                let some = encrypted(&self.members);
                figures.require(some == 0, || format!("{some} nodes have encrypted links"));
            }
            Mode::Optional => {}
        }
        Ok(())
    }

    async fn end(mut self, figures: &mut Figures) -> Result<(), Failure> {
        for member in &mut self.members {
            member.quiet();
        }
        for node in NODES {
            self.compare(node, figures).await?;
        }
        for node in NODES {
            self.keep(node, figures);
        }
        for member in &mut self.members {
            member.stop().await?;
        }
        let Totals {
            restarts,
            accepted,
            received,
            between,
            slowest,
        } = self.totals;
        figures.add("restarts", restarts);
        figures.add("accepted", accepted);
        figures.add("received", received);
        figures.add("missing between two lives of a receiver", between);
        figures.require(accepted == received + between, || "the sums differ".into());
        figures.add("heard by all again after", format!("{slowest:.0?} at most"));
        Ok(())
    }
}
