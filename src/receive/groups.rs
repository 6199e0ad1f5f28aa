//! Which actor serves which group.
//!
//! Owns the table from group to actor, and its changes. A delivery reads a snapshot of the table and asks
//! no other actor, so a batch passes through one mailbox only: that of the group's actor. Leaves to
//! others: how received bytes become batches (`grouping`, `deliver`), and the actix messages that change
//! the table (`Node`).

use std::sync::Arc;

use actix::Recipient;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{
    error::RegisterError,
    ids::GroupId,
    observe::{group_account::GroupAccount, stats::GroupStats},
    receive::{charge::HeldBytes, group_map::GroupMap, inbound::Inbound},
};

/// What happens when frames come in faster than the actor of their group handles them.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
pub enum GroupOverflow {
    /// The connection waits until the actor has handled the batch. All later frames of that
    /// connection wait too, whatever their group. While the connection holds, none of its frames is lost;
    /// the sender's queue fills instead.
    ///
    /// If the handlers take longer for a batch than the sender's
    /// [`Config::user_timeout`](crate::Config::user_timeout), 10 s by default, the sender gives the
    /// connection up. A batch is not one frame: it is what one read brought, up to 512 KiB or one longer
    /// frame, and at most [`Config::batch_frames`](crate::Config::batch_frames) frames, for all groups
    /// together. A handler that writes each frame to a disk for 5 ms needs 82 s for 16 384 frames; with
    /// `batch_frames(500)` it needs 2.5 s.
    ///
    /// Datagrams never wait, because all of them arrive at one socket, and a slow group would hold back
    /// those of all others. The group may hold [`Config::udp_group_bytes`](crate::Config::udp_group_bytes)
    /// of datagrams that are not handled yet, beside the frames from connections. What does not fit is
    /// dropped and counted ([`DropReason::Overflow`](crate::DropReason::Overflow)). If the handler
    /// returns a future, the next datagrams may come before that has resolved.
    #[default]
    Wait,
    /// The connection does not wait. The group may hold `max_bytes` that are not handled yet: frames
    /// with their headers, plus 256 bytes for each batch. If a batch does not fit, its first frames are taken
    /// as far as they fit, and the others are dropped and counted. Datagrams count against the same bound.
    /// The cost: frames are copied.
    ///
    /// Each sender has a share, so that one who sends too much loses its own frames and not those of
    /// others: a connection (or the address that datagrams come from) may hold four times as many bytes
    /// as are still free, and all those of one ip together sixteen times as many. A single connection
    /// can therefore use four fifths of the bound.
    ///
    /// A batch holds the frames of one read, up to 512 KiB and one frame. Set the bound to twice that for
    /// each connection that sends to the group at the same time. Then an actor that keeps up loses
    /// nothing.
    Drop {
        /// The bound, in bytes.
        max_bytes: usize,
    },
}

/// How one group is served.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) actor: Recipient<Inbound>,
    pub(crate) overflow: GroupOverflow,
    /// Bytes handed to the actor and not yet handled: with [`GroupOverflow::Drop`] all of them, with
    /// [`GroupOverflow::Wait`] only those of datagrams.
    pub(crate) held: HeldBytes,
    pub(crate) account: GroupAccount,
}

impl Group {
    pub(crate) fn new(actor: Recipient<Inbound>, overflow: GroupOverflow) -> Self {
        Group {
            actor,
            overflow,
            held: HeldBytes::default(),
            account: GroupAccount::default(),
        }
    }

    /// Returns the same group with another actor. Its counters go on.
    fn with_actor(&self, actor: Recipient<Inbound>) -> Self {
        Group {
            account: self.account.clone(),
            ..Group::new(actor, self.overflow)
        }
    }

    /// Makes a row of the table for each of these groups.
    pub(crate) fn rows(
        groups: impl IntoIterator<Item = (GroupId, Recipient<Inbound>)>,
        overflow: GroupOverflow,
    ) -> Vec<(GroupId, Group)> {
        let rows = groups.into_iter();
        rows.map(|(group, actor)| (group, Group::new(actor, overflow)))
            .collect()
    }
}

/// Who serves the groups that no other actor serves.
#[derive(Debug, Clone)]
pub(crate) struct CatchAll {
    pub(crate) actor: Recipient<Inbound>,
    /// Whether the frames of all these groups come together, in the order of their arrival.
    pub(crate) in_order: bool,
}

/// The table at one moment. It never changes: each change makes a new one, which shares with the old one
/// what they have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupTable {
    groups: GroupMap<Arc<Group>>,
    /// Serves the groups that are not in `groups`.
    catch_all: Option<Arc<Group>>,
    /// Whether the catch-all actor gets the frames of all its groups together, in the order of their arrival.
    in_order: bool,
}

impl GroupTable {
    /// Returns how `group` is served, or `None` if it is not. The reserved group never is.
    pub(crate) fn serving(&self, group: GroupId) -> Option<&Group> {
        if group == GroupId::RESERVED {
            return None;
        }
        self.groups
            .get(group)
            .or(self.catch_all.as_ref())
            .map(Arc::as_ref)
    }

    /// Returns how the groups are served that have no actor of their own, if their frames are to be kept together.
    pub(crate) fn rest(&self) -> Option<&Arc<Group>> {
        self.catch_all.as_ref().filter(|_| self.in_order)
    }

    /// Returns whether `group` is one of these.
    #[inline]
    pub(crate) fn is_of_the_rest(&self, group: GroupId) -> bool {
        self.in_order && group != GroupId::RESERVED && self.groups.get(group).is_none()
    }

    fn insert(&mut self, group: GroupId, row: Group) -> Result<Option<Arc<Group>>, RegisterError> {
        if group == GroupId::RESERVED {
            return Err(RegisterError::Reserved);
        }
        Ok(self.groups.insert(group, Arc::new(row)))
    }
}

/// The current table, shared by all connections. A change takes effect with the next read at the latest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: ArcSwap<GroupTable>,
    /// Whether the table is closed. Locked during a change, so that two changes cannot overwrite each
    /// other.
    closed: Mutex<bool>,
}

impl Groups {
    pub(crate) fn snapshot(&self) -> Guard<Arc<GroupTable>> {
        self.0.table.load()
    }

    /// Adds a group, unless a running actor already serves it.
    pub(crate) fn register(&self, group: GroupId, row: Group) -> Result<(), RegisterError> {
        self.register_all(vec![(group, row)])
    }

    /// Adds all these groups with one change of the table. Adds none of them if a running actor serves
    /// one, or one of them is reserved or given twice.
    pub(crate) fn register_all(&self, rows: Vec<(GroupId, Group)>) -> Result<(), RegisterError> {
        self.change(|table| {
            for (group, mut row) in rows {
                if let Some(old) = table.groups.get(group) {
                    if old.actor.connected() {
                        return Err(RegisterError::Taken(group));
                    }
                    row.account = old.account.clone();
                }
                table.insert(group, row)?;
            }
            Ok(())
        })
    }

    /// Returns the counters of a registered group.
    pub(crate) fn stats(&self, group: GroupId) -> Option<GroupStats> {
        let table = self.snapshot();
        table.groups.get(group).map(|row| row.account.stats())
    }

    /// Adds a group or replaces its actor. Returns how the group was served before, if it was.
    ///
    /// The new actor gets the [`GroupOverflow`] of the one it replaces.
    pub(crate) fn replace(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
    ) -> Result<Option<Arc<Group>>, RegisterError> {
        self.change(|table| {
            let row = match table.groups.get(group) {
                Some(old) => old.with_actor(actor),
                None => Group::new(actor, GroupOverflow::default()),
            };
            table.insert(group, row)
        })
    }

    /// Removes a group. Returns how it was served before, if it was.
    pub(crate) fn unregister(&self, group: GroupId) -> Option<Arc<Group>> {
        self.change(|table| Ok(table.groups.remove(group))).ok()?
    }

    /// Sets or removes the actor of the groups that are not in the table. Does nothing once the table is
    /// closed.
    pub(crate) fn catch_all(&self, catch_all: Option<CatchAll>) {
        let set = |table: &mut GroupTable| {
            table.in_order = catch_all.as_ref().is_some_and(|it| it.in_order);
            table.catch_all =
                catch_all.map(|it| Arc::new(Group::new(it.actor, GroupOverflow::Wait)));
            Ok(())
        };
        // The only error says that the table is closed.
        let _ = self.change(set);
    }

    /// Removes all groups. No more can be added afterwards.
    pub(crate) fn close(&self) {
        let mut closed = self.0.closed.lock();
        *closed = true;
        let old = self.0.table.swap(Arc::default());
        drop(closed);
        drop(old);
    }

    /// Replaces the table with a changed copy, unless the change fails.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut GroupTable) -> Result<R, RegisterError>,
    ) -> Result<R, RegisterError> {
        let closed = self.0.closed.lock();
        if *closed {
            return Err(RegisterError::Stopped);
        }
        let mut table = GroupTable::clone(&self.0.table.load());
        let result = change(&mut table)?;
        let old = self.0.table.swap(Arc::new(table));
        drop(closed);
        drop(old);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use allocation_counter::measure;

    use super::*;

    struct Ignoring;

    impl Actor for Ignoring {
        type Context = Context<Self>;
    }

    impl Handler<Inbound> for Ignoring {
        type Result = ();

        fn handle(&mut self, _: Inbound, _: &mut Context<Self>) {}
    }

    fn rows(indexes: std::ops::Range<u32>) -> Vec<(GroupId, Group)> {
        let actor = Ignoring.start().recipient();
        let row = |index| {
            let group = Group::new(actor.clone(), GroupOverflow::Wait);
            (GroupId::new(index), group)
        };
        indexes.map(row).collect()
    }

    #[actix::test]
    async fn a_change_costs_little_however_many_groups_there_are() {
        const GROUPS: u32 = 40_000;

        let groups = Groups::default();
        groups.register_all(rows(0..GROUPS)).expect("free groups");
        let mut one = rows(GROUPS..GROUPS + 1);
        let (group, row) = one.pop().expect("one");
        let used = measure(|| groups.register(group, row).expect("a free group"));
        assert!(used.bytes_total < 4 << 10, "{used:?}");
        let used = measure(|| drop(groups.unregister(group)));
        assert!(used.bytes_total < 4 << 10, "{used:?}");
        assert!(
            groups
                .snapshot()
                .serving(GroupId::new(GROUPS - 1))
                .is_some()
        );
    }

    #[actix::test]
    async fn of_groups_registered_together_all_are_served_or_none() {
        let groups = Groups::default();
        groups.register_all(rows(7..8)).expect("free groups");
        let taken = groups.register_all(rows(0..10));
        assert_eq!(taken, Err(RegisterError::Taken(GroupId::new(7))));
        let twice = groups.register_all(rows(1..3).into_iter().chain(rows(2..4)).collect());
        assert_eq!(twice, Err(RegisterError::Taken(GroupId::new(2))));
        let last = u32::MAX - 1;
        let mut reserved = rows(last..u32::MAX);
        reserved.extend(
            rows(3..4)
                .into_iter()
                .map(|(_, row)| (GroupId::RESERVED, row)),
        );
        assert_eq!(groups.register_all(reserved), Err(RegisterError::Reserved));
        let table = groups.snapshot();
        let served = [0, 1, 2, 7, last].map(|index| table.serving(GroupId::new(index)).is_some());
        assert_eq!(served, [false, false, false, true, false]);
    }
}
