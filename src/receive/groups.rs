//! Which actor serves which group.
//!
//! Owns the table from group to actor, and its changes. A delivery reads a snapshot of the table and asks
//! no other actor, so a batch passes through one mailbox only: that of the group's actor. Leaves to
//! others: how received bytes become batches (`grouping`, `deliver`), and the actix messages that change
//! the table (`Node`).

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
    /// connection wait too, whatever their group. No frame is lost; the sender's queue fills instead. A
    /// handler that takes longer than the sender's
    /// [`Config::user_timeout`](crate::Config::user_timeout) costs the connection.
    ///
    /// All datagrams arrive at one socket, so a group that waits holds back the datagrams of all senders
    /// for all groups. Datagrams that the operating system has no room for meanwhile are lost, and not
    /// counted here. If that matters, use [`GroupOverflow::Drop`] for groups that receive datagrams.
    #[default]
    Wait,
    /// The connection does not wait. The group may hold up to `max_bytes` that its actor has not handled
    /// yet: frames with their headers, plus 256 bytes for each batch. If a batch does not fit, its first
    /// frames are taken as far as they fit, and the others are dropped and counted. The cost: frames are
    /// copied.
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
    /// Bytes handed to the actor and not yet handled. Used only with [`GroupOverflow::Drop`].
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

/// The table at one moment. It never changes: each change makes a new table.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    groups: HashMap<GroupId, Arc<Group>>,
    /// Serves the groups that are not in `groups`.
    catch_all: Option<Arc<Group>>,
}

impl GroupTable {
    /// Returns how `group` is served, or `None` if it is not. The reserved group never is.
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

/// The current table, shared by all connections. A delivery finishes with the table that it began with,
/// so a change takes effect with the next batch at the latest.
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
        let row = Arc::new(row);
        self.change(group, |groups| match groups.get(&group) {
            Some(old) if old.actor.connected() => Err(RegisterError::Taken(group)),
            _ => {
                groups.insert(group, row);
                Ok(())
            }
        })?
    }

    /// Adds a group or replaces its actor. Returns how the group was served before, if it was.
    ///
    /// The new actor gets the [`GroupOverflow`] of the one it replaces.
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

    /// Removes a group. Returns how it was served before, if it was.
    pub(crate) fn unregister(&self, group: GroupId) -> Option<Arc<Group>> {
        self.change(group, |groups| groups.remove(&group)).ok()?
    }

    /// Sets or removes the actor of the groups that are not in the table. Does nothing once the table is
    /// closed.
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

    /// Removes all groups. No more can be added afterwards.
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
