//! One run: load on every group, a node that stops and restarts, and the checks at the end.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::{
    Args, Failure,
    check::{LogCheck, check},
    client,
    cluster::{Cluster, Options, Traffic},
    load::{Load, POLL_INTERVAL, STALL_LIMIT, wait_for_agreement},
    message::NodeId,
};

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
    let options = Options {
        groups,
        seed: args.seed,
        one_leader: false,
        use_lanes: !args.one_lane,
    };
    let mut cluster = Cluster::start(options).await?;
    // The total is divided as evenly as possible; every group has at least one session.
    let sessions =
        |group| (args.clients / groups + u32::from(group < args.clients % groups)).max(1);
    let mut load = Load::new(bar);
    for group in 0..groups {
        let client = client::Load {
            sessions: sessions(group),
            payload: args.payload,
            interval: Duration::ZERO,
        };
        load.add(cluster.start_client(group, client)?);
    }
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
    let decided_per_second = load.decided() as f64 / load.age().as_secs_f64();

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
    for (group, client) in (0..).zip(load.clients()) {
        let client = client.report();
        let replicas = cluster.retire(group).await?;
        let log = check(&replicas, &client).map_err(|err| format!("group {group}: {err}"))?;
        report.latency.add(&client.latency)?;
        report.longest_pause = report.longest_pause.max(client.longest_pause);
        report.log.instances += log.instances;
        report.log.duplicates += log.duplicates;
    }
    Ok(report)
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
