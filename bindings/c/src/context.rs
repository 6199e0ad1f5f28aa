//! [`axt_context`]: what all handles belong to.

use std::{
    collections::HashSet,
    sync::Arc,
    thread::{self, ThreadId},
};

use actix_transport::Sender;
use parking_lot::{Mutex, RwLock};

use crate::{
    code::{axt_code, axt_code::*},
    config::Settings,
    directory::Directory,
    error::{Failure, axt_error},
    guard::{Out, catch, enter},
    node::Node,
    peer::PeerLanes,
    process::Process,
    table::{Numbers, Table},
};

/// What all handles of a program, or of a part of it, belong to. There is no other state: two contexts know
/// nothing of each other.
///
/// The pointer to it is the only one of this library that must not be used after its end. All other handles are
/// numbers that a context gives out once and never again, so one that has ended, or was never given out, returns
/// AXT_BAD_HANDLE.
pub struct axt_context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) configs: Table<Mutex<Settings>>,
    pub(crate) nodes: Table<Node>,
    pub(crate) peers: Directory<PeerLanes>,
}

/// The part of a context that its threads know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) process: Process,
    /// Who sent what callbacks are handling now.
    pub(crate) senders: Table<Sender>,
    callback_threads: RwLock<HashSet<ThreadId>>,
}

impl Shared {
    /// Fails on a thread that runs callbacks: whoever waits there for the end of callbacks waits for itself.
    pub(crate) fn may_wait(&self) -> Result<(), Failure> {
        match self
            .callback_threads
            .read()
            .contains(&thread::current().id())
        {
            true => Err(AXT_IN_CALLBACK.into()),
            false => Ok(()),
        }
    }

    /// Notes that this thread runs callbacks, until what is returned is dropped.
    pub(crate) fn callback_thread(self: &Arc<Self>) -> impl Drop + use<> {
        struct Noted(Arc<Shared>);

        impl Drop for Noted {
            fn drop(&mut self) {
                let mut threads = self.0.callback_threads.write();
                threads.remove(&thread::current().id());
            }
        }

        let id = thread::current().id();
        self.callback_threads.write().insert(id);
        Noted(self.clone())
    }
}

/// Makes a context. Free it with axt_context_free. Starts no threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_context_new(
    context: *mut *mut axt_context,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or pointers to memory of its own, as the header says.
    unsafe {
        catch(error, || {
            let out = Out::new(context)?;
            let numbers = Arc::new(Numbers::new());
            let made = axt_context {
                shared: Arc::new(Shared {
                    process: Process::this(),
                    senders: Table::new(&numbers),
                    callback_threads: RwLock::default(),
                }),
                configs: Table::new(&numbers),
                nodes: Table::new(&numbers),
                peers: Directory::new(&numbers),
            };
            out.put(Box::into_raw(Box::new(made)));
            Ok(())
        })
    }
}

/// Ends all handles of the context and frees it. Transports that run are stopped first, at once, and their
/// callbacks are waited for, as axt_stop does. No other thread may be in a call with this context, or begin
/// one. Null does nothing.
///
/// Returns AXT_IN_CALLBACK in a callback, and AXT_FORKED in a forked process. The context is then not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_context_free(
    context: *mut axt_context,
    error: *mut axt_error,
) -> axt_code {
    if context.is_null() {
        return AXT_OK;
    }
    // SAFETY: the caller passes a context that was not freed, as the header says.
    let ended = unsafe {
        enter(context, error, |context| {
            context.shared.may_wait()?;
            context.peers.clear();
            for node in context.nodes.take_all() {
                node.stop(actix_transport::Shutdown::Now)?;
            }
            Ok(())
        })
    };
    if ended != AXT_OK {
        return ended;
    }
    // SAFETY: `axt_context_new` made it with `Box::into_raw`, and nobody is in a call with it.
    unsafe {
        catch(error, || {
            drop(Box::from_raw(context));
            Ok(())
        })
    }
}
