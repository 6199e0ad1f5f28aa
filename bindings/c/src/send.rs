//! Sending.

use std::{
    ffi::c_void,
    time::{Duration, Instant},
};

use actix_transport::{GroupId, Lane, SendOptions};

use crate::{
    callback::axt_sender,
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::{Failure, axt_error},
    guard::{bytes, elsewhere, enter, enter_living},
    living,
    peer::axt_peer,
    wait::wait_until,
};

/// How a message is sent. {0} and null mean a plain send.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_send_options {
    /// The lane, 0 to 7: 0 is the normal one, 1 for what is short and urgent, 2 for what is long and can wait. Each has
    /// a connection and a queue of its own. Settings and texts call them `normal`, `control`, `bulk` and `lane-3` to
    /// `lane-7`.
    pub lane: u32,
    /// If it is not 0, the message takes the place of one with the same group and `key` that still waits.
    pub latest: u8,
    /// The key for `latest`.
    pub key: u64,
    /// Drops the message when it has waited this many milliseconds to be written. 0: as the setting `stale_after`
    /// says.
    pub ttl_ms: u64,
}

impl axt_send_options {
    fn lane(&self) -> Result<Lane, Failure> {
        let lane = u8::try_from(self.lane).ok().and_then(Lane::new);
        lane.ok_or_else(|| {
            Failure::new(
                AXT_BAD_VALUE,
                format_args!("no lane has the number {}", self.lane),
            )
        })
    }

    /// Returns the options but for the lane. `None`: there are none.
    fn others(&self) -> Option<SendOptions> {
        if self.latest == 0 && self.ttl_ms == 0 {
            return None;
        }
        let mut options = SendOptions::new();
        if self.latest != 0 {
            options = options.latest(self.key);
        }
        if self.ttl_ms > 0 {
            options = options.ttl(Duration::from_millis(self.ttl_ms));
        }
        Some(options)
    }
}

/// Queues a message for `group` of a peer if there is room now. Never blocks, and may be called from any thread and
/// from callbacks. The bytes are copied: they belong to the caller again when this returns. AXT_OK means accepted, not
/// received. `options` may be null.
///
/// AXT_FULL: there is no room; try again later or drop the message. Not on lane 1: if that is full, the oldest message is
/// dropped and counted, unless the setting `lanes` says otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_try_send(
    context: *const axt_context,
    peer: axt_peer,
    group: u32,
    data: *const c_void,
    len: usize,
    options: *const axt_send_options,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        let mut is_living = true;
        let code = enter_living(context, error, |context| {
            is_living = living::is_living();
            if !is_living {
                return Ok(());
            }
            let (bytes, group) = (bytes(data, len)?, GroupId::new(group));
            let (lane, options) = match options.as_ref() {
                None => (Lane::NORMAL, None),
                Some(options) => (options.lane()?, options.others()),
            };
            context.with_peer(peer, |lanes| {
                let peer = lanes.lane(lane);
                let sent = match options {
                    None => peer.try_send(group, bytes),
                    Some(options) => peer.try_send_with(group, bytes, options),
                };
                sent.map_err(|err| Failure::of_send(&err, !error.is_null()))
            })
        });
        match is_living {
            true => code,
            false => elsewhere(error, || {
                axt_try_send(context, peer, group, data, len, options, error)
            }),
        }
    }
}

/// Does the same as axt_try_send, and blocks this thread for up to `timeout_ms` while there is no room. Not in a
/// callback (AXT_IN_CALLBACK). AXT_TIMEOUT: nothing was sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_send(
    context: *const axt_context,
    peer: axt_peer,
    group: u32,
    data: *const c_void,
    len: usize,
    options: *const axt_send_options,
    timeout_ms: u64,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            context.shared.may_wait()?;
            let lanes = context.peers.get(peer.id).ok_or(AXT_BAD_HANDLE)?;
            let (bytes, group) = (bytes(data, len)?, GroupId::new(group));
            let (lane, options) = match options.as_ref() {
                None => (Lane::NORMAL, None),
                Some(options) => (options.lane()?, options.others()),
            };
            let peer = lanes.lane(lane);
            // A time that is too long for the clock is no limit.
            let deadline = Instant::now().checked_add(Duration::from_millis(timeout_ms));
            let sent = match options {
                None => wait_until(deadline, peer.send(group, bytes)),
                Some(options) => wait_until(deadline, peer.send_with(group, bytes, options)),
            };
            let sent = sent.ok_or(AXT_TIMEOUT)?;
            sent.map_err(|err| Failure::of_send(&err, !error.is_null()))
        })
    }
}

/// Sends a message as a datagram if there is room now. The network may lose, repeat or reorder it. Only to a peer
/// that was looked up by ip and port (AXT_ADDRESS). AXT_TOO_LARGE: longer than the setting `max_datagram`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_send_datagram(
    context: *const axt_context,
    peer: axt_peer,
    group: u32,
    data: *const c_void,
    len: usize,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let (bytes, group) = (bytes(data, len)?, GroupId::new(group));
            context.with_peer(peer, |lanes| {
                let named =
                    || Failure::new(AXT_ADDRESS, "datagrams need a peer with an ip and a port");
                let to = lanes
                    .lane(Lane::NORMAL)
                    .addr()
                    .ip_addr()
                    .ok_or_else(named)?;
                let sent = lanes.transport().send_datagram(to, group, bytes);
                sent.map_err(|err| Failure::of_send(&err, !error.is_null()))
            })
        })
    }
}

/// Sends a message as a datagram if it is short enough for one, and over the connection if it is longer, or if no
/// datagram can go there, as PhxPaxos does. Messages sent so arrive in any order. Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_send_auto(
    context: *const axt_context,
    peer: axt_peer,
    group: u32,
    data: *const c_void,
    len: usize,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let (bytes, group) = (bytes(data, len)?, GroupId::new(group));
            context.with_peer(peer, |lanes| {
                let peer = lanes.lane(Lane::NORMAL);
                let sent = match peer.addr().ip_addr() {
                    Some(to) => lanes.transport().send_auto(to, group, bytes),
                    None => peer.try_send(group, bytes),
                };
                sent.map_err(|err| Failure::of_send(&err, !error.is_null()))
            })
        })
    }
}

/// Answers who sent a message, as axt_try_send, on the normal lane. To be called in the callback; `sender` is what it
/// got. AXT_UNKNOWN_SENDER: the sender did not introduce itself. AXT_BAD_HANDLE: the callback has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_reply(
    context: *const axt_context,
    sender: *const axt_sender,
    group: u32,
    data: *const c_void,
    len: usize,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let (peer, bytes) = (context.sender(sender)?.1.peer()?, bytes(data, len)?);
            let sent = peer.try_send(GroupId::new(group), bytes);
            sent.map_err(|err| Failure::of_send(&err, !error.is_null()))
        })
    }
}
