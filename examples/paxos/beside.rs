//! One run with two groups: small values in one, alone at first and then beside long ones in the other.
//!
//! The same replica leads both groups, so that the same links carry the small values and the long ones. In the last
//! third, a replica that leads neither group is stopped for a while, and then fetches the long values that it has
//! missed.

use std::{fmt, time::Duration};

use indicatif::ProgressBar;

use crate::{
    Args, Failure,
    check::{LogCheck, check},
    client::{self, Sample},
    cluster::{Cluster, Options},
    load::{Load, wait_for_agreement},
    message::NodeId,
};

const SMALL: u32 = 0;
const LONG: u32 = 1;

/// The load of small values: a thousand a second. That is little, so that their latency is not the time that they
/// wait for each other.
const SMALL_SESSIONS: u32 = 5;
const SMALL_INTERVAL: Duration = Duration::from_millis(5);

/// The load of long values. All three logs keep them, so one of 10 MiB takes 30 MiB.
const LONG_SESSIONS: u32 = 2;
const LONG_INTERVAL: Duration = Duration::from_millis(500);

/// The latencies of the small values in one part of the run.
pub(crate) struct Row {
    pub(crate) beside: Beside,
    pub(crate) small: Sample,
    /// `None` while there were no long values.
    pub(crate) long: Option<Sample>,
}

/// What there was beside the small values.
#[derive(Copy, Clone)]
pub(crate) enum Beside {
    Nothing,
    Long,
    CatchUp,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Long => "long values",
            Self::CatchUp => "long values, and a\nreplica catches up",
        })
    }
}

pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) log: LogCheck,
    pub(crate) transports: usize,
}

pub(crate) async fn run(args: &Args, bar: &ProgressBar) -> Result<Report, Failure> {
    bar.set_message("small values alone");
    let options = Options {
        groups: 2,
        seed: args.seed,
        one_leader: true,
        use_lanes: !args.one_lane,
    };
    let mut cluster = Cluster::start(options).await?;
    let mut load = Load::new(bar);
    let small = client::Load {
        sessions: SMALL_SESSIONS,
        payload: args.payload,
        interval: SMALL_INTERVAL,
    };
    let small = cluster.start_client(SMALL, small)?;
    load.add(small.clone());
    let mut rows = Vec::new();
    let third = args.run_time() / 3;

    // The first answer needs an election.
    load.watch(third / 4).await?;
    small.take_sample();
    load.watch(third).await?;
    rows.push(Row {
        beside: Beside::Nothing,
        small: small.take_sample(),
        long: None,
    });

    bar.set_message("small values beside long ones");
    let long = client::Load {
        sessions: LONG_SESSIONS,
        payload: (args.long as usize) << 20,
        interval: LONG_INTERVAL,
    };
    let long = cluster.start_client(LONG, long)?;
    load.add(long.clone());
    load.watch(2 * third).await?;
    rows.push(Row {
        beside: Beside::Long,
        small: small.take_sample(),
        long: Some(long.take_sample()),
    });

    let victim = choose_victim(&cluster).await?;
    bar.set_message(format!(
        "small values beside long ones, {victim} is stopped"
    ));
    cluster.kill(victim).await?;
    load.watch(2 * third + third / 2).await?;
    cluster.restart(victim).await?;
    load.watch(args.run_time()).await?;
    rows.push(Row {
        beside: Beside::CatchUp,
        small: small.take_sample(),
        long: Some(long.take_sample()),
    });

    load.drain().await?;
    wait_for_agreement(&cluster).await?;
    let transports = cluster.stop().await?;
    let mut log = LogCheck::default();
    for (group, client) in (0..).zip(load.clients()) {
        let client = client.report();
        let replicas = cluster.retire(group).await?;
        let group_log = check(&replicas, &client).map_err(|err| format!("group {group}: {err}"))?;
        log.instances += group_log.instances;
        log.duplicates += group_log.duplicates;
    }
    Ok(Report {
        rows,
        log,
        transports,
    })
}

/// Returns a replica that leads neither group, or the last one if each leads.
async fn choose_victim(cluster: &Cluster) -> Result<NodeId, Failure> {
    let status = cluster.status().await?;
    let leads = |node: &NodeId| status.iter().any(|group| group[node.index()].is_leader);
    let idle = NodeId::replicas().find(|node| !leads(node));
    Ok(idle.unwrap_or(NodeId::replica(2)))
}
