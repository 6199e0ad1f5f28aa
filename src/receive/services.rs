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
    #[cfg(feature = "remote")]
    Messages(Arc<dyn Messages>),
}

/// The typed messages that actors of one group serve.
#[cfg(feature = "remote")]
pub(crate) trait Messages: std::any::Any + Send + Sync {
    /// Returns whether any of these actors is there.
    fn is_there(&self) -> bool;

    /// Gives the message in a call to its actor. Called on the arbiter that has read the call.
    fn serve(&self, call: Call);
}

impl CallHandler {
    /// Returns whether it can be given a call. Messages refuse by themselves what nobody serves.
    pub(super) fn takes_calls(&self) -> bool {
        match self {
            #[cfg(feature = "remote")]
            CallHandler::Messages(_) => true,
            CallHandler::Actor(_) | CallHandler::Function(_) => self.is_there(),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            CallHandler::Actor(actor) => actor.connected(),
            CallHandler::Function(_) => true,
            #[cfg(feature = "remote")]
            CallHandler::Messages(messages) => messages.is_there(),
        }
    }
}

impl fmt::Debug for CallHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallHandler::Actor(_) => "Actor",
            CallHandler::Function(_) => "Function",
            #[cfg(feature = "remote")]
            CallHandler::Messages(_) => "Messages",
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
        // What is not taken out of this is dropped without the lock.
        let mut service = Some(Service {
            handler,
            held: HeldBytes::default(),
        });
        self.change(|table| {
            let known = table.get(group);
            if known.is_some_and(|known| known.handler.is_there()) {
                return Err(RegisterError::Taken(group));
            }
            let service = service.take().map(Arc::new);
            Ok(service.and_then(|service| table.insert(group, service)))
        })
        .map(drop)
    }

    /// Lets these messages be served in a group, or lets `add` add them to those that are served there already. It is
    /// called with the table locked. Returns what it returns.
    #[cfg(feature = "remote")]
    pub(crate) fn serve_messages<T>(
        &self,
        group: GroupId,
        messages: Arc<dyn Messages>,
        add: impl FnOnce(&dyn Messages) -> Result<T, RegisterError>,
    ) -> Result<Option<T>, RegisterError> {
        if group == GroupId::RESERVED {
            return Err(RegisterError::Reserved);
        }
        let (added, _former) = self.change(|table| {
            let known = table.get(group).map(|known| &known.handler);
            match known.filter(|known| known.is_there()) {
                Some(CallHandler::Messages(known)) => Ok((Some(add(&**known)?), None)),
                Some(_) => Err(RegisterError::Taken(group)),
                None => {
                    let service = Service {
                        handler: CallHandler::Messages(messages),
                        held: HeldBytes::default(),
                    };
                    Ok((None, table.insert(group, Arc::new(service))))
                }
            }
        })?;
        Ok(added)
    }

    /// Calls `change` with the messages that are served in a group and the table locked. Returns what it returns.
    #[cfg(feature = "remote")]
    pub(crate) fn change_messages<T>(
        &self,
        group: GroupId,
        change: impl FnOnce(&dyn Messages) -> T,
    ) -> Option<T> {
        let changed = self.change(|table| {
            Ok(match table.get(group).map(|known| &known.handler) {
                Some(CallHandler::Messages(known)) => Some(change(&**known)),
                _ => None,
            })
        });
        changed.ok().flatten()
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
