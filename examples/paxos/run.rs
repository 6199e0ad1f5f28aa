//! One run: load on every group, a node that dies and comes back, and the reckoning.

use std::time::{Duration, Instant};

use actix::Addr;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::{
    Args, Failure,
    actor::Status,
    check::{Tally, check},
    client::{self, Client, Hold},
    cluster::{Cluster, Traffic, ask},
    message::NodeId,
};

/// How often to look at the groups.
const LOOK: Duration = Duration::from_millis(100);

/// A group that decides nothing for this long, or a replica that has not caught up by then, has
/// failed. Elections take about a second.
const STALL: Duration = Duration::from_secs(8);

/// What a run has shown.
pub(crate) struct Report {
    pub(crate) groups: u32,
    pub(crate) decided_per_second: f64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) longest_pause: Duration,
    /// Groups that changed their leader because the victim died.
    pub(crate) moved: usize,
    pub(crate) tally: Tally,
    pub(crate) traffic: Traffic,
    /// All transports there were, the killed one included.
    pub(crate) transports: usize,
}

pub(crate) async fn run(args: &Args, groups: u32, bar: &ProgressBar) -> Result<Report, Failure> {
    bar.set_message(format!("groups {groups}"));
    let mut cluster = Cluster::start(groups, args.seed).await?;
    let mut load = Load::start(&cluster, args, groups, bar)?;
    let third = args.run_time() / 3;

    load.watch(third).await?;
    let (victim, orphans) = choose_victim(&cluster).await?;
    cluster.kill(victim).await?;
    bar.set_message(format!("groups {groups}, {victim} is away"));

    load.watch(2 * third).await?;
    load.wait_for_new_leaders(&cluster, victim, &orphans)
        .await?;
    cluster.revive(victim).await?;
    bar.set_message(format!("groups {groups}, {victim} is back"));

    load.watch(args.run_time()).await?;
    let decided_per_second = load.decided() as f64 / load.begun.elapsed().as_secs_f64();

    load.drain().await?;
    wait_for_agreement(&cluster).await?;
    let transports = cluster.stop().await?;
    let traffic = cluster.traffic();

    let mut report = Report {
        groups,
        decided_per_second,
        latency: Histogram::new(3)?,
        longest_pause: Duration::ZERO,
        moved: orphans.len(),
        tally: Tally::default(),
        traffic,
        transports,
    };
    for (group, client) in (0..).zip(&load.clients) {
        let harvest = ask(client, client::Retire).await?;
        let legacies = cluster.retire(group).await?;
        let tally = check(&legacies, &harvest).map_err(|err| format!("group {group}: {err}"))?;
        report.latency.add(&harvest.latency)?;
        report.longest_pause = report.longest_pause.max(harvest.longest_pause);
        report.tally.slots += tally.slots;
        report.tally.again += tally.again;
    }
    Ok(report)
}

/// The clients of a run, and how far each of them has come.
struct Load<'a> {
    clients: Vec<Addr<Client>>,
    begun: Instant,
    /// By group.
    progress: Vec<Progress>,
    bar: &'a ProgressBar,
    bar_begin: u64,
}

#[derive(Copy, Clone)]
struct Progress {
    decided: u64,
    open: usize,
    /// When `decided` was last seen to grow.
    moved: Instant,
}

impl<'a> Load<'a> {
    fn start(
        cluster: &Cluster,
        args: &Args,
        groups: u32,
        bar: &'a ProgressBar,
    ) -> Result<Self, Failure> {
        // The total is shared out as evenly as it goes, and every group has one session at least.
        let sessions =
            |group| (args.clients / groups + u32::from(group < args.clients % groups)).max(1);
        let clients = (0..groups)
            .map(|group| cluster.start_client(group, sessions(group), args.payload))
            .collect::<Result<_, _>>()?;
        let begun = Instant::now();
        let progress = Progress {
            decided: 0,
            open: 0,
            moved: begun,
        };
        Ok(Self {
            clients,
            begun,
            progress: vec![progress; groups as usize],
            bar,
            bar_begin: bar.position(),
        })
    }

    fn decided(&self) -> u64 {
        self.progress.iter().map(|group| group.decided).sum()
    }

    /// Lets the run go on until it is `age` old.
    async fn watch(&mut self, age: Duration) -> Result<(), Failure> {
        while self.begun.elapsed() < age {
            sleep(LOOK.min(age.saturating_sub(self.begun.elapsed()))).await;
            self.look().await?;
            let position = self.begun.elapsed().min(age).as_millis() as u64;
            self.bar.set_position(self.bar_begin + position);
        }
        Ok(())
    }

    /// Sees how far every group has come, and fails if one has stopped.
    async fn look(&mut self) -> Result<(), Failure> {
        let clients = self.clients.iter();
        let seen = try_join_all(clients.map(|client| ask(client, client::Ask))).await?;
        let now = Instant::now();
        for (group, (progress, seen)) in self.progress.iter_mut().zip(seen).enumerate() {
            if seen.decided > progress.decided {
                progress.moved = now;
            }
            progress.decided = seen.decided;
            progress.open = seen.open;
            if seen.open > 0 && now.duration_since(progress.moved) > STALL {
                return Err(format!("group {group} has decided nothing for {STALL:?}").into());
            }
        }
        Ok(())
    }

    /// Waits until somebody else leads each of the groups the victim led.
    async fn wait_for_new_leaders(
        &mut self,
        cluster: &Cluster,
        victim: NodeId,
        orphans: &[usize],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + STALL;
        loop {
            self.look().await?;
            let status = cluster.status().await?;
            let led = |&&group: &&usize| {
                let others = NodeId::replicas().filter(|&node| node != victim);
                others
                    .map(|node| status[group][node.index()])
                    .any(|replica| replica.leads)
            };
            let Some(group) = orphans.iter().find(|group| !led(group)) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(format!("group {group} finds no leader after its own has died").into());
            }
            sleep(LOOK).await;
        }
    }

    /// Lets every client finish what it asked for.
    async fn drain(&mut self) -> Result<(), Failure> {
        for client in &self.clients {
            ask(client, Hold).await?;
        }
        self.look().await?;
        while self.progress.iter().any(|group| group.open > 0) {
            sleep(LOOK / 5).await;
            self.look().await?;
        }
        Ok(())
    }
}

/// Returns who leads group 0, and all the groups it leads: a third of them, unless some have held
/// elections since the start.
async fn choose_victim(cluster: &Cluster) -> Result<(NodeId, Vec<usize>), Failure> {
    let deadline = Instant::now() + STALL;
    while Instant::now() < deadline {
        let status = cluster.status().await?;
        let leads = |group: usize, node: NodeId| status[group][node.index()].leads;
        if let Some(victim) = NodeId::replicas().find(|&node| leads(0, node)) {
            let groups = (0..status.len()).filter(|&group| leads(group, victim));
            return Ok((victim, groups.collect()));
        }
        sleep(LOOK).await;
    }
    Err("group 0 has no leader".into())
}

/// Waits until the replicas of every group have logs of one length and nothing is under way: all
/// have heard of the last decision, and the one that was away of all it missed.
async fn wait_for_agreement(cluster: &Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + STALL;
    // Seen twice in a row, in case a proposal that a client repeated was still on its way.
    let mut seen = 0;
    while seen < 2 {
        sleep(LOOK).await;
        let status = cluster.status().await?;
        let settled = |group: &&Vec<Status>| {
            let idle = group.iter().all(|replica| replica.under_way == 0);
            idle && group.iter().all(|replica| replica.slots == group[0].slots)
        };
        let Some(group) = status.iter().position(|group| !settled(&group)) else {
            seen += 1;
            continue;
        };
        seen = 0;
        if Instant::now() > deadline {
            let slots: Vec<_> = status[group].iter().map(|replica| replica.slots).collect();
            return Err(format!("group {group} does not come to rest: {slots:?} slots").into());
        }
    }
    Ok(())
}
