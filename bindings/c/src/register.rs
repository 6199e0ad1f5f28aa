//! Who gets messages and events.

use std::ffi::c_void;

use crate::{
    callback::{OnMessages, User, axt_on_batch, axt_on_event, axt_on_message},
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::axt_error,
    guard::enter,
    transport::axt_transport,
};

/// Has `on_message` called for each message of `group`, with `user`. Before or after axt_bind; messages that come
/// while nobody is registered for their group are dropped and counted.
///
/// With one thread, the calls come one after another on a thread of this registration, and while one takes long, the
/// connections that bring messages for this group wait. With more `threads` (at most 256), up to so many calls run
/// at once, and only the connections whose call takes long wait. The messages of one connection for one group stay in
/// order, and come one after another.
///
/// With 0 threads, the calls come on the thread of the transport that receives. That saves a round trip the wake-up
/// of another thread. Everything else on that thread waits for a call: all that is received over connections and as
/// datagrams, new connections, events for axt_subscribe, and, with `placement` "shared", all that is sent. A call must be
/// short and must not block.
///
/// AXT_GROUP_TAKEN: the group is served already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_register(
    context: *const axt_context,
    transport: axt_transport,
    group: u32,
    on_message: axt_on_message,
    user: *mut c_void,
    threads: u32,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let on = OnMessages::Each(on_message.ok_or(AXT_NULL)?);
            context
                .node(transport)?
                .register(Some(group), on, User(user), threads)
        })
    }
}

/// Has `on_message` called for the messages of all groups that no other registration is for; see axt_register. With 0
/// threads or one, the messages of one connection stay in order, whatever their groups. With more, those of different
/// groups may change places and run at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_register_all(
    context: *const axt_context,
    transport: axt_transport,
    on_message: axt_on_message,
    user: *mut c_void,
    threads: u32,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let on = OnMessages::Each(on_message.ok_or(AXT_NULL)?);
            context
                .node(transport)?
                .register(None, on, User(user), threads)
        })
    }
}

/// Does the same as axt_register, with one call for the messages that were received together.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_register_batches(
    context: *const axt_context,
    transport: axt_transport,
    group: u32,
    on_batch: axt_on_batch,
    user: *mut c_void,
    threads: u32,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let on = OnMessages::Batch(on_batch.ok_or(AXT_NULL)?);
            context
                .node(transport)?
                .register(Some(group), on, User(user), threads)
        })
    }
}

/// Does the same as axt_register_all, with one call for the messages for one group that were received together. Those of
/// different groups may change places, however many threads there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_register_all_batches(
    context: *const axt_context,
    transport: axt_transport,
    on_batch: axt_on_batch,
    user: *mut c_void,
    threads: u32,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let on = OnMessages::Batch(on_batch.ok_or(AXT_NULL)?);
            context
                .node(transport)?
                .register(None, on, User(user), threads)
        })
    }
}

/// Has `on_event` called for what happens to peers and to the transport, one event after another, on a thread of its
/// own. A slow callback gets the latest state: events of one kind about one peer merge. When the transport stops, it
/// has 50 ms to handle the last ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_subscribe(
    context: *const axt_context,
    transport: axt_transport,
    on_event: axt_on_event,
    user: *mut c_void,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let on = on_event.ok_or(AXT_NULL)?;
            context.node(transport)?.subscribe(on, User(user))
        })
    }
}
