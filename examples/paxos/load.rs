//! The clients of a run: how far they are, and the waits for them and for the replicas.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::{Failure, actor::Status, client::Client, cluster::Cluster, message::NodeId};

/// How often a run polls the groups.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A group that decides nothing for this long, or a replica that has not caught up by then, fails
/// the run. An election takes about a second.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(8);

/// The clients of a run and the progress of each.
pub(crate) struct Load<'a> {
    /// By group.
    clients: Vec<Arc<Client>>,
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
    pub(crate) fn new(bar: &'a ProgressBar) -> Self {
        Self {
            clients: Vec::new(),
            begun: Instant::now(),
            progress: Vec::new(),
            bar,
            bar_begin: bar.position(),
        }
    }

    /// Adds the client of the next group.
    pub(crate) fn add(&mut self, client: Arc<Client>) {
        self.clients.push(client);
        self.progress.push(Progress {
            decided: 0,
            open: 0,
            moved: Instant::now(),
        });
    }

    /// Returns the clients, by group.
    pub(crate) fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn decided(&self) -> u64 {
        self.progress.iter().map(|group| group.decided).sum()
    }

    /// Continues the run until it is `age` old.
    pub(crate) async fn watch(&mut self, age: Duration) -> Result<(), Failure> {
        while self.begun.elapsed() < age {
            sleep(POLL_INTERVAL.min(age.saturating_sub(self.begun.elapsed()))).await;
            self.poll()?;
            let position = self.begun.elapsed().min(age).as_millis() as u64;
            self.bar.set_position(self.bar_begin + position);
        }
        Ok(())
    }

    /// Updates the progress of every group, and fails if one has stalled.
    fn poll(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for (group, (progress, client)) in self.progress.iter_mut().zip(&self.clients).enumerate() {
            let seen = client.progress();
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
    pub(crate) async fn wait_for_new_leaders(
        &mut self,
        cluster: &Cluster,
        victim: NodeId,
        led_groups: &[usize],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + STALL_LIMIT;
        loop {
            self.poll()?;
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
    pub(crate) async fn drain(&mut self) -> Result<(), Failure> {
        for client in &self.clients {
            client.stop_asking();
        }
        self.poll()?;
        while self.progress.iter().any(|group| group.open > 0) {
            sleep(POLL_INTERVAL / 5).await;
            self.poll()?;
        }
        Ok(())
    }
}

/// Waits until the replicas of every group have logs of the same length and no open proposals. Then
/// all have learned the last decision, and the restarted one has fetched what it missed.
pub(crate) async fn wait_for_agreement(cluster: &Cluster) -> Result<(), Failure> {
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
