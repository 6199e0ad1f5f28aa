//! Which actor serves which group.
//!
//! Owns the table group → recipient and its changes. Those who route look into a snapshot of it and
//! ask nobody, so a batch takes one mailbox hop, to the group's actor. The actor that changes the
//! table for those who hold only actix types is the `Node`; how a buffer becomes batches stands in
//! `dispatch`.

use std::{collections::HashMap, sync::Arc};

use actix::Recipient;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{error::RegisterError, ids::GroupId, receive::inbound::Inbound};

/// What happens when the actor of a group is slower than its frames come in.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
pub enum GroupOverflow {
    /// The connection waits until the actor has handled the batch, and with it all that comes behind
    /// it on that connection, whatever its group: nothing is lost, and the sender's queue fills. A
    /// handler that takes longer than the sender's `user_timeout` costs the connection, though: see
    /// [`Config::user_timeout`](crate::Config::user_timeout).
    ///
    /// All datagrams come by one socket. A group that waits holds back those of all senders and for
    /// all groups, and what the system has no room for meanwhile is lost without being counted here:
    /// where datagrams matter, let groups drop.
    #[default]
    Wait,
    /// The connection goes on. The group may hold so many bytes unhandled (frames with their
    /// headers, copied together, and 256 for each batch). Of a batch for which there is too little
    /// room its first frames are taken, and the others are dropped and counted. A batch is what one read
    /// brings, up to 512 KiB and a frame, so where an actor that keeps up is to lose nothing the bound
    /// should be twice that for each connection that sends to it at once.
    Drop {
        /// The bound, in bytes.
        max_bytes: usize,
    },
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) actor: Recipient<Inbound>,
    pub(crate) overflow: GroupOverflow,
    /// Bytes handed to the actor and not yet handled; counted for [`GroupOverflow::Drop`].
    pub(crate) held: Arc<Mutex<usize>>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) groups: HashMap<GroupId, Arc<Group>>,
    pub(crate) catch_all: Option<Arc<Group>>,
}

/// The table, shared by all who route. A change makes a new one; who routes by the old one finishes
/// with it, so a change is seen by the next batch at the latest.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    table: ArcSwap<Table>,
    /// Held by the one who changes it; true once nobody is to any more.
    change: Mutex<bool>,
}

impl Groups {
    pub(crate) fn snapshot(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Adds a group, unless an actor that lives serves it.
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

    /// Adds a group or puts another actor in its place; returns the one that served it, if any.
    ///
    /// The successor is allowed to be as slow as its predecessor was.
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

    pub(crate) fn unregister(&self, group: GroupId) -> Option<Arc<Group>> {
        self.change(group, |groups| groups.remove(&group)).ok()?
    }

    pub(crate) fn catch_all(&self, row: Option<Group>) {
        let over = self.change.lock();
        if *over {
            return;
        }
        let table = self.table.load();
        self.table.store(Arc::new(Table {
            groups: table.groups.clone(),
            catch_all: row.map(Arc::new),
        }));
    }

    /// Forgets everybody, for good.
    pub(crate) fn close(&self) {
        let mut over = self.change.lock();
        *over = true;
        self.table.store(Arc::default());
    }

    fn change<R>(
        &self,
        group: GroupId,
        change: impl FnOnce(&mut HashMap<GroupId, Arc<Group>>) -> R,
    ) -> Result<R, RegisterError> {
        if group == GroupId::RESERVED {
            return Err(RegisterError::Reserved);
        }
        let over = self.change.lock();
        if *over {
            return Err(RegisterError::Stopped);
        }
        let table = self.table.load();
        let mut groups = table.groups.clone();
        let result = change(&mut groups);
        self.table.store(Arc::new(Table {
            groups,
            catch_all: table.catch_all.clone(),
        }));
        Ok(result)
    }
}

impl Group {
    pub(crate) fn new(actor: Recipient<Inbound>, overflow: GroupOverflow) -> Self {
        Group {
            actor,
            overflow,
            held: Arc::default(),
        }
    }
}
