//! Which actor serves which group.
//!
//! Owns the table from group to actor, and its changes. Deliveries look into a snapshot of the table
//! and ask no other actor, so a batch goes through one mailbox only: that of the group's actor. Users
//! who hold only actix types change the table through the `Node` actor. How received bytes become
//! batches is left to `grouping` and `deliver`.

use std::{collections::HashMap, sync::Arc};

use actix::Recipient;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{
    error::RegisterError,
    ids::GroupId,
    receive::{charge::HeldBytes, inbound::Inbound},
};

/// What happens when frames come in faster than the actor of their group handles them.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
pub enum GroupOverflow {
    /// The connection waits until the actor has handled the batch. All later frames of that
    /// connection wait too, whatever their group. No frame is lost, and the sender's queue fills. But
    /// a handler that takes longer than the sender's `user_timeout` costs the connection: see
    /// [`Config::user_timeout`](crate::Config::user_timeout).
    ///
    /// Datagrams never wait, because all of them arrive at one socket, and a slow group would hold back
    /// those of all others. The group may hold [`Config::udp_group_bytes`](crate::Config::udp_group_bytes)
    /// of datagrams that are not handled yet, beside the frames from connections. What does not fit is
    /// dropped and counted ([`DropReason::Overflow`](crate::DropReason::Overflow)). If the handler
    /// returns a future, the next datagrams may come before that has resolved.
    #[default]
    Wait,
    /// The connection does not wait. The group may hold `max_bytes` that are not handled yet: frames
    /// with their headers, which are copied for this, and 256 bytes for each batch. If a batch does
    /// not fit, its first frames are taken as far as they fit, and the others are dropped and counted.
    /// Datagrams count against the same bound.
    ///
    /// A batch is what one read brings, up to 512 KiB and a frame. For an actor that keeps up to lose
    /// nothing, the bound should be twice that for each connection that sends to it at the same time.
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
}

impl Group {
    pub(crate) fn new(actor: Recipient<Inbound>, overflow: GroupOverflow) -> Self {
        Group {
            actor,
            overflow,
            held: HeldBytes::default(),
        }
    }
}

/// The table at one moment. It never changes, each change makes a new one.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    groups: HashMap<GroupId, Arc<Group>>,
    /// Serves the groups that are not in `groups`.
    catch_all: Option<Arc<Group>>,
}

impl GroupTable {
    /// Returns who serves a group. Nobody serves the reserved one.
    pub(crate) fn serving(&self, group: GroupId) -> Option<&Group> {
        if group == GroupId::RESERVED {
            return None;
        }
        self.groups
            .get(&group)
            .or(self.catch_all.as_ref())
            .map(Arc::as_ref)
    }
}

/// The current table, shared by all connections. A delivery that has begun with an old table finishes
/// with it, so a change is seen by the next batch at the latest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: ArcSwap<GroupTable>,
    /// Locked during a change, so that two changes cannot overwrite each other. True once the table
    /// is closed.
    closed: Mutex<bool>,
}

impl Groups {
    pub(crate) fn snapshot(&self) -> Guard<Arc<GroupTable>> {
        self.0.table.load()
    }

    /// Adds a group, unless a running actor serves it.
    pub(crate) fn register(&self, group: GroupId, row: Group) -> Result<(), RegisterError> {
        let row = Arc::new(row);
        self.change(group, |groups| match groups.get(&group) {
            Some(old) if old.actor.connected() => Err(RegisterError::Taken(group)),
            _ => {
                groups.insert(group, row);
                Ok(())
            }
        })?
    }

    /// Adds a group, or lets another actor serve it. Returns how it was served before, if it was.
    ///
    /// The new actor has the same [`GroupOverflow`] as the one it replaces.
    pub(crate) fn replace(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
    ) -> Result<Option<Arc<Group>>, RegisterError> {
        self.change(group, |groups| {
            let overflow = groups
                .get(&group)
                .map_or_else(Default::default, |old| old.overflow);
            groups.insert(group, Arc::new(Group::new(actor, overflow)))
        })
    }

    /// Removes a group. Returns how it was served, if it was.
    pub(crate) fn unregister(&self, group: GroupId) -> Option<Arc<Group>> {
        self.change(group, |groups| groups.remove(&group)).ok()?
    }

    /// Sets who serves the groups that are not in the table. Does nothing once the table is closed.
    pub(crate) fn catch_all(&self, row: Option<Group>) {
        let closed = self.0.closed.lock();
        if *closed {
            return;
        }
        let table = self.0.table.load();
        self.0.table.store(Arc::new(GroupTable {
            groups: table.groups.clone(),
            catch_all: row.map(Arc::new),
        }));
    }

    /// Removes all groups. None can be added any more.
    pub(crate) fn close(&self) {
        let mut closed = self.0.closed.lock();
        *closed = true;
        self.0.table.store(Arc::default());
    }

    /// Replaces the table with a changed copy.
    fn change<R>(
        &self,
        group: GroupId,
        change: impl FnOnce(&mut HashMap<GroupId, Arc<Group>>) -> R,
    ) -> Result<R, RegisterError> {
        if group == GroupId::RESERVED {
            return Err(RegisterError::Reserved);
        }
        let closed = self.0.closed.lock();
        if *closed {
            return Err(RegisterError::Stopped);
        }
        let table = self.0.table.load();
        let mut groups = table.groups.clone();
        let result = change(&mut groups);
        self.0.table.store(Arc::new(GroupTable {
            groups,
            catch_all: table.catch_all.clone(),
        }));
        Ok(result)
    }
}
