//! [`axt_peer`]: a node to send to.

use std::{
    ffi::c_char,
    sync::{Arc, OnceLock},
};

use actix_transport::{Lane, Peer, Transport};

use crate::{
    callback::axt_sender,
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::{Failure, axt_error},
    guard::{Out, enter, text},
    transport::axt_transport,
};

/// A node to send to. A handle, to be freed with axt_peer_free. {0} is none. While it lives, the transport does not
/// forget the peer, which takes memory.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_peer {
    /// Not to be looked at.
    pub id: u64,
}

/// A peer on the lanes that were used.
pub(crate) struct PeerLanes {
    transport: (u64, Transport),
    normal: Peer,
    /// Those above the normal one, from number 1 on.
    others: [OnceLock<Peer>; Lane::COUNT - 1],
}

impl PeerLanes {
    fn new(id: u64, transport: &Transport, peer: Peer) -> Self {
        PeerLanes {
            transport: (id, transport.clone()),
            normal: peer,
            others: Default::default(),
        }
    }

    pub(crate) fn transport_id(&self) -> u64 {
        self.transport.0
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport.1
    }

    /// Returns the peer on this lane.
    pub(crate) fn lane(&self, lane: Lane) -> &Peer {
        match usize::from(lane.get()).checked_sub(1) {
            None => &self.normal,
            Some(index) => self.others[index].get_or_init(|| self.normal.lane(lane)),
        }
    }
}

impl axt_context {
    /// Calls `with` with the peer that this handle stands for.
    #[inline]
    pub(crate) fn with_peer(
        &self,
        peer: axt_peer,
        with: impl FnOnce(&PeerLanes) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let found = self.peers.with(peer.id, with);
        found.unwrap_or_else(|| Err(AXT_BAD_HANDLE.into()))
    }

    /// Gives out a handle, unless the transport's own has ended meanwhile.
    fn peer_handle(&self, transport: axt_transport, lanes: PeerLanes) -> Result<axt_peer, Failure> {
        let id = self.peers.insert(Arc::new(lanes));
        if self.nodes.get(transport.id).is_none() {
            self.peers.remove(id);
            return Err(AXT_BAD_HANDLE.into());
        }
        Ok(axt_peer { id })
    }
}

/// Looks up a peer: by its name in the table `peers` of the configuration's file, or by its address, such as
/// "10.0.0.2:7000", "[::1]:7000" or "node-3.svc:7000". Host names are looked up later, when the peer is dialled. Does
/// not connect: the first message does. Needs a bound transport (AXT_STATE).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_peer_get(
    context: *const axt_context,
    transport: axt_transport,
    address: *const c_char,
    peer: *mut axt_peer,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(peer)?;
            let (node, address) = (context.node(transport)?, text(address)?);
            let of = node.transport()?;
            let found = match node.named(address) {
                Some(addr) => of.peer(addr)?,
                None => of.peer(address)?,
            };
            let lanes = PeerLanes::new(transport.id, of, found);
            out.put(context.peer_handle(transport, lanes)?);
            Ok(())
        })
    }
}

/// Makes a handle of who sent a message, to answer it now or later. To be called in the callback; `sender` is what
/// it got, and `transport` is the one that received. AXT_UNKNOWN_SENDER: the sender did not introduce itself.
/// AXT_BAD_HANDLE: the callback has returned, or another transport received.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_sender_peer(
    context: *const axt_context,
    transport: axt_transport,
    sender: *const axt_sender,
    peer: *mut axt_peer,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(peer)?;
            let node = context.node(transport)?;
            let sender = context.sender(sender)?;
            let (received_by, sender) = &*sender;
            if *received_by != transport.id {
                return Err(Failure::new(
                    AXT_BAD_HANDLE,
                    "another transport received from this sender",
                ));
            }
            let found = sender.peer()?;
            let lanes = PeerLanes::new(transport.id, node.transport()?, found);
            out.put(context.peer_handle(transport, lanes)?);
            Ok(())
        })
    }
}

impl axt_context {
    /// Returns who sent what a callback is handling, with the number of the transport that received it.
    ///
    /// # Safety
    ///
    /// `sender` is null or points to a sender, or a copy of one, that a callback was given.
    pub(crate) unsafe fn sender(
        &self,
        sender: *const axt_sender,
    ) -> Result<Arc<(u64, actix_transport::Sender)>, Failure> {
        if sender.is_null() {
            return Err(AXT_NULL.into());
        }
        // SAFETY: as the caller promises. No other field is read: C may have put anything into its copy.
        let id = unsafe { (&raw const (*sender).id).read() };
        match id {
            0 => Err(AXT_UNKNOWN_SENDER.into()),
            _ => self
                .shared
                .senders
                .get(id)
                .ok_or_else(|| AXT_BAD_HANDLE.into()),
        }
    }
}

/// Ends a handle of a peer. What is queued is still sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_peer_free(
    context: *const axt_context,
    peer: axt_peer,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            context.peers.remove(peer.id).ok_or(AXT_BAD_HANDLE)?;
            Ok(())
        })
    }
}
