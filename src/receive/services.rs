//! Who serves the calls of which group.
//!
//! Owns the table from group to handler, and the bound of each group. Like the table of the actors that get frames
//! (`groups`), it is read as a snapshot, and each change makes a new one.

use std::{fmt, sync::Arc};

use actix::Recipient;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{
    error::RegisterError,
    ids::GroupId,
    receive::{call::Call, charge::HeldBytes, group_map::GroupMap},
};

/// How the calls of one group are served.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) handler: CallHandler,
    /// What is with the handler, or waits for it.
    pub(super) held: HeldBytes,
}

/// What gets the calls of a group.
pub(crate) enum CallHandler {
    Actor(Recipient<Call>),
    /// Is called on the arbiter that has read the call, and must return soon.
    Function(Arc<dyn Fn(Call) + Send + Sync>),
}

impl CallHandler {
    pub(super) fn is_there(&self) -> bool {
        match self {
            CallHandler::Actor(actor) => actor.connected(),
            CallHandler::Function(_) => true,
        }
    }
}

impl fmt::Debug for CallHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallHandler::Actor(_) => "Actor",
            CallHandler::Function(_) => "Function",
        })
    }
}

type Table = GroupMap<Arc<Service>>;

/// The current table. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: ArcSwap<Table>,
    /// Whether the table is closed. Locked during a change, so that two changes cannot overwrite each other.
    closed: Mutex<bool>,
}

impl Services {
    pub(super) fn snapshot(&self) -> Guard<Arc<Table>> {
        self.0.table.load()
    }

    /// Lets a handler serve the calls of a group, unless a handler that is still there serves them.
    pub(crate) fn serve(&self, group: GroupId, handler: CallHandler) -> Result<(), RegisterError> {
        if group == GroupId::RESERVED {
            return Err(RegisterError::Reserved);
        }
        let service = Service {
            handler,
            held: HeldBytes::default(),
        };
        self.change(|table| {
            let known = table.get(group);
            if known.is_some_and(|known| known.handler.is_there()) {
                return Err(RegisterError::Taken(group));
            }
            Ok(table.insert(group, Arc::new(service)))
        })
        .map(drop)
    }

    /// Serves the calls of a group no more. Returns whether they were served.
    pub(crate) fn unserve(&self, group: GroupId) -> bool {
        let removed = self.change(|table| Ok(table.remove(group)));
        removed.is_ok_and(|removed| removed.is_some())
    }

    /// Drops all handlers, and takes no more.
    pub(crate) fn close(&self) {
        let mut closed = self.0.closed.lock();
        *closed = true;
        let table = self.0.table.swap(Arc::default());
        drop(closed);
        drop(table);
    }

    /// What `change` returns is foreign code, which is dropped without the lock.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Table) -> Result<T, RegisterError>,
    ) -> Result<T, RegisterError> {
        let closed = self.0.closed.lock();
        if *closed {
            return Err(RegisterError::Stopped);
        }
        let mut table = Table::clone(&self.0.table.load());
        let changed = change(&mut table)?;
        let former = self.0.table.swap(Arc::new(table));
        drop(closed);
        drop(former);
        Ok(changed)
    }
}
