//! The counters.

use std::ffi::{CString, c_char};

use actix_transport::{Count, SendStats};

use crate::{
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::{Failure, axt_error},
    guard::{Out, enter},
    transport::axt_transport,
};

/// A number of frames, and their bytes with 8 for the header of each.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_count {
    /// Frames.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
}

impl From<Count> for axt_count {
    fn from(count: Count) -> Self {
        let Count { frames, bytes } = count;
        axt_count { frames, bytes }
    }
}

/// What became of frames that were to be sent: offered = accepted + rejected, and accepted = written + dropped +
/// queued + in_flight.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_send_stats {
    /// Given to a send.
    pub offered: axt_count,
    /// Accepted by the queue.
    pub accepted: axt_count,
    /// Refused by the queue.
    pub rejected: axt_count,
    /// Taken by the system.
    pub written: axt_count,
    /// Written, and acknowledged by the other side's system when the connection ended.
    pub confirmed: axt_count,
    /// Written, and not known to have arrived when the connection ended.
    pub in_doubt: axt_count,
    /// Accepted, and then dropped: stale, pushed out, or left when the transport stopped.
    pub dropped: axt_count,
    /// Waiting.
    pub queued: axt_count,
    /// Being written.
    pub in_flight: axt_count,
}

impl From<&SendStats> for axt_send_stats {
    fn from(stats: &SendStats) -> Self {
        axt_send_stats {
            offered: stats.offered.into(),
            accepted: stats.accepted.into(),
            rejected: stats.rejected.total().into(),
            written: stats.written.into(),
            confirmed: stats.confirmed.into(),
            in_doubt: stats.in_doubt.into(),
            dropped: stats.dropped.total().into(),
            queued: stats.queued.into(),
            in_flight: stats.in_flight.into(),
        }
    }
}

/// The main counters of a transport. axt_stats_json has all of them.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_stats {
    /// Over connections, on all lanes.
    pub tcp: axt_send_stats,
    /// As datagrams.
    pub udp: axt_send_stats,
    /// Received. It is delivered + undelivered + in_delivery.
    pub received: axt_count,
    /// Handled by a callback. Also the messages that followed in the same batch when the transport stopped during a
    /// callback: they are not passed on.
    pub delivered: axt_count,
    /// Received and dropped: nobody was registered, or the transport stopped.
    pub undelivered: axt_count,
    /// Waiting for a callback, or with one.
    pub in_delivery: axt_count,
    /// Connections that were dialled and came about.
    pub connects: u64,
    /// Connections that were dialled and ended.
    pub disconnects: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections now, accepted ones.
    pub connections: u64,
    /// Peers that are known now.
    pub peers: u64,
}

/// Reads the main counters. Also after the transport has stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_stats_get(
    context: *const axt_context,
    transport: axt_transport,
    stats: *mut axt_stats,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(stats)?;
            let stats = context.node(transport)?.transport()?.stats();
            out.put(axt_stats {
                tcp: (&stats.tcp).into(),
                udp: (&stats.udp).into(),
                received: stats.inbound.received.into(),
                delivered: stats.inbound.delivered.into(),
                undelivered: stats.inbound.dropped.total().into(),
                in_delivery: stats.inbound.in_delivery.into(),
                connects: stats.links.connects,
                disconnects: stats.links.disconnects,
                accepted: stats.links.accepted,
                connections: stats.links.connections,
                peers: stats.links.peers,
            });
            Ok(())
        })
    }
}

/// Writes all counters as JSON, with a zero at the end. The text is to be freed with axt_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_stats_json(
    context: *const axt_context,
    transport: axt_transport,
    json: *mut *mut c_char,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(json)?;
            let stats = context.node(transport)?.transport()?.stats();
            let fault = |err: serde_json::Error| Failure::new(AXT_FAULT, err);
            let text = serde_json::to_string(&stats).map_err(fault)?;
            let text = CString::new(text).map_err(|err| Failure::new(AXT_FAULT, err))?;
            out.put(text.into_raw());
            Ok(())
        })
    }
}

/// Frees a text that this library has made. Null does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller passes a text that `axt_stats_json` has made, and that was not freed.
        drop(unsafe { CString::from_raw(text) });
    }
}
