//! One run: load on every group, a node that stops and restarts, and the checks at the end.

use std::time::{Duration, Instant};

use actix::Addr;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::{
    Args, Failure,
    actor::Status,
    check::{LogCheck, check},
    client::{self, Client, StopAsking},
    cluster::{Cluster, Traffic, ask},
    message::NodeId,
};

/// How often the run polls the groups.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A group that decides nothing for this long, or a replica that has not caught up by then, fails
/// the run. An election takes about a second.
const STALL_LIMIT: Duration = Duration::from_secs(8);

/// The results of a run.
pub(crate) struct Report {
    pub(crate) groups: u32,
    pub(crate) decided_per_second: f64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) longest_pause: Duration,
    /// Groups that changed their leader because the victim was stopped.
    pub(crate) moved: usize,
    pub(crate) log: LogCheck,
    pub(crate) traffic: Traffic,
    /// Number of transports, the stopped one included.
    pub(crate) transports: usize,
}

pub(crate) async fn run(args: &Args, groups: u32, bar: &ProgressBar) -> Result<Report, Failure> {
    bar.set_message(format!("groups {groups}"));
    let mut cluster = Cluster::start(groups, args.seed).await?;
    let mut load = Load::start(&cluster, args, groups, bar)?;
    let third = args.run_time() / 3;

    load.watch(third).await?;
    let (victim, led_groups) = choose_victim(&cluster).await?;
    cluster.kill(victim).await?;
    bar.set_message(format!("groups {groups}, {victim} is stopped"));

    load.watch(2 * third).await?;
    load.wait_for_new_leaders(&cluster, victim, &led_groups)
        .await?;
    cluster.restart(victim).await?;
    bar.set_message(format!("groups {groups}, {victim} is restarted"));

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
        moved: led_groups.len(),
        log: LogCheck::default(),
        traffic,
        transports,
    };
    for (group, client) in (0..).zip(&load.clients) {
        let client = ask(client, client::Retire).await?;
        let replicas = cluster.retire(group).await?;
        let log = check(&replicas, &client).map_err(|err| format!("group {group}: {err}"))?;
        report.latency.add(&client.latency)?;
        report.longest_pause = report.longest_pause.max(client.longest_pause);
        report.log.instances += log.instances;
        report.log.duplicates += log.duplicates;
    }
    Ok(report)
}

/// The clients of a run and the progress of each.
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
    /// When `decided` last grew.
    moved: Instant,
}

impl<'a> Load<'a> {
    fn start(
        cluster: &Cluster,
        args: &Args,
        groups: u32,
        bar: &'a ProgressBar,
    ) -> Result<Self, Failure> {
        // The total is divided as evenly as possible; every group has at least one session.
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

    /// Continues the run until it is `age` old.
    async fn watch(&mut self, age: Duration) -> Result<(), Failure> {
        while self.begun.elapsed() < age {
            sleep(POLL_INTERVAL.min(age.saturating_sub(self.begun.elapsed()))).await;
            self.poll().await?;
            let position = self.begun.elapsed().min(age).as_millis() as u64;
            self.bar.set_position(self.bar_begin + position);
        }
        Ok(())
    }

    /// Updates the progress of every group, and fails if one has stalled.
    async fn poll(&mut self) -> Result<(), Failure> {
        let clients = self.clients.iter();
        let seen = try_join_all(clients.map(|client| ask(client, client::Ask))).await?;
        let now = Instant::now();
        for (group, (progress, seen)) in self.progress.iter_mut().zip(seen).enumerate() {
            if seen.decided > progress.decided {
                progress.moved = now;
            }
            progress.decided = seen.decided;
            progress.open = seen.open;
            if seen.open > 0 && now.duration_since(progress.moved) > STALL_LIMIT {
                return Err(
                    format!("group {group} has decided nothing for {STALL_LIMIT:?}").into(),
                );
            }
        }
        Ok(())
    }

    /// Waits until each group that the victim led has a new leader.
    async fn wait_for_new_leaders(
        &mut self,
        cluster: &Cluster,
        victim: NodeId,
        led_groups: &[usize],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + STALL_LIMIT;
        loop {
            self.poll().await?;
            let status = cluster.status().await?;
            let led = |&&group: &&usize| {
                let others = NodeId::replicas().filter(|&node| node != victim);
                others
                    .map(|node| status[group][node.index()])
                    .any(|replica| replica.is_leader)
            };
            let Some(group) = led_groups.iter().find(|group| !led(group)) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(
                    format!("group {group} has no leader after its own was stopped").into(),
                );
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until every client has the answers to its open requests.
    async fn drain(&mut self) -> Result<(), Failure> {
        for client in &self.clients {
            ask(client, StopAsking).await?;
        }
        self.poll().await?;
        while self.progress.iter().any(|group| group.open > 0) {
            sleep(POLL_INTERVAL / 5).await;
            self.poll().await?;
        }
        Ok(())
    }
}

/// Returns the leader of group 0 and all groups that it leads. That is a third of them, unless
/// there were elections since the start.
async fn choose_victim(cluster: &Cluster) -> Result<(NodeId, Vec<usize>), Failure> {
    let deadline = Instant::now() + STALL_LIMIT;
    while Instant::now() < deadline {
        let status = cluster.status().await?;
        let leads = |group: usize, node: NodeId| status[group][node.index()].is_leader;
        if let Some(victim) = NodeId::replicas().find(|&node| leads(0, node)) {
            let groups = (0..status.len()).filter(|&group| leads(group, victim));
            return Ok((victim, groups.collect()));
        }
        sleep(POLL_INTERVAL).await;
    }
    Err("group 0 has no leader".into())
}

/// Waits until the replicas of every group have logs of the same length and no open proposals. Then
/// all have learned the last decision, and the restarted one has fetched what it missed.
async fn wait_for_agreement(cluster: &Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + STALL_LIMIT;
    // Must hold twice in a row, in case a repeated proposal was still on its way.
    let mut seen = 0;
    while seen < 2 {
        sleep(POLL_INTERVAL).await;
        let status = cluster.status().await?;
        let settled = |group: &&Vec<Status>| {
            let idle = group.iter().all(|replica| replica.open_proposals == 0);
            idle && group
                .iter()
                .all(|replica| replica.instances == group[0].instances)
        };
        let Some(group) = status.iter().position(|group| !settled(&group)) else {
            seen += 1;
            continue;
        };
        seen = 0;
        if Instant::now() > deadline {
            let instances: Vec<_> = status[group]
                .iter()
                .map(|replica| replica.instances)
                .collect();
            return Err(format!("group {group} does not settle: {instances:?} instances").into());
        }
    }
    Ok(())
}
