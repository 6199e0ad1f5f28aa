//! [`axt_context`]: what all handles belong to.

use std::{cell::Cell, sync::Arc};

use actix_transport::Sender;
use parking_lot::Mutex;

use crate::{
    code::{axt_code, axt_code::*},
    config::Settings,
    directory::Directory,
    error::{Failure, axt_error},
    guard::{Out, catch, enter},
    living::{self, on_living_thread},
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
    /// Who sent what callbacks are handling now, with the number of the transport that received it.
    pub(crate) senders: Table<(u64, Sender)>,
}

thread_local! {
    /// The context whose callbacks this thread runs, by its address, and how many registrations are served here. A
    /// thread serves only one context. Has no destructor, so that a program may stop a transport when the thread
    /// ends, and in `exit`.
    static SERVES: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

impl Shared {
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// Fails on a thread that runs callbacks: whoever waits there for the end of callbacks waits for itself.
    pub(crate) fn may_wait(self: &Arc<Self>) -> Result<(), Failure> {
        let (context, count) = SERVES.get();
        match count > 0 && context == self.address() {
            true => Err(AXT_IN_CALLBACK.into()),
            false => Ok(()),
        }
    }

    /// Notes that this thread runs callbacks, until what is returned is dropped, on the same thread.
    pub(crate) fn callback_thread(self: &Arc<Self>) -> impl Drop + use<> {
        /// Keeps the context, so that no other one gets its address.
        struct Noted(#[expect(dead_code)] Arc<Shared>);

        impl Drop for Noted {
            fn drop(&mut self) {
                let (context, count) = SERVES.get();
                SERVES.set((context, count.saturating_sub(1)));
            }
        }

        // So that it is seen when the thread ends, even if C does not call before.
        living::begin();
        let (_, count) = SERVES.get();
        SERVES.set((self.address(), count + 1));
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
            let context = Box::from_raw(context);
            on_living_thread(|| {
                drop(context);
                Ok(())
            })
        })
    }
}
