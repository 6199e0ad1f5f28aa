//! [`axt_transport`]: made, bound, stopped.

use std::{
    ffi::{c_char, c_void},
    sync::Arc,
    time::Duration,
};

use actix_transport::{Identity, NodeId, PeerError, Shutdown, StopReport, Tls};

use crate::{
    code::{axt_code, axt_code::*},
    config::{Settings, axt_config},
    context::axt_context,
    error::{Failure, axt_error},
    guard::{Out, enter, optional_text, text, texts},
    node::Node,
    stats::axt_count,
};

/// A transport: one node of a cluster. A handle, to be freed with axt_transport_free. {0} is none.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_transport {
    /// Not to be looked at.
    pub id: u64,
}

/// What was accepted for sending and dropped because the transport stopped.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_stop_report {
    /// Frames for connections, of all peers.
    pub undelivered: axt_count,
    /// Datagrams.
    pub datagrams: axt_count,
    /// How many peers the frames were for.
    pub peers: u64,
}

impl From<StopReport> for axt_stop_report {
    fn from(report: StopReport) -> Self {
        let undelivered = report
            .undelivered
            .iter()
            .map(|(_, count)| *count)
            .sum::<actix_transport::Count>();
        axt_stop_report {
            undelivered: undelivered.into(),
            datagrams: report.datagrams.into(),
            peers: report.undelivered.len() as u64,
        }
    }
}

impl axt_context {
    pub(crate) fn node(&self, transport: axt_transport) -> Result<Arc<Node>, Failure> {
        self.nodes
            .get(transport.id)
            .ok_or_else(|| AXT_BAD_HANDLE.into())
    }
}

/// Makes a transport that is not bound yet. `config` may be {0} for the defaults. Whoever is registered before
/// axt_bind misses no message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_transport_new(
    context: *const axt_context,
    config: axt_config,
    transport: *mut axt_transport,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(transport)?;
            let settings = match config.id {
                0 => Settings::default(),
                _ => context.settings(config)?,
            };
            let node = |id| Arc::new(Node::new(&context.shared, id, settings));
            let id = context.nodes.insert_with(node);
            out.put(axt_transport { id });
            Ok(())
        })
    }
}

/// Says who this node is: its number, which no other node has; the name of its cluster, or null; and the
/// address that others reach it at, or null if they see it. Then nodes introduce themselves to each other, can be
/// answered, and know which messages are missing. To be called before axt_bind. All nodes of a cluster have an identity,
/// or none has: a node with one and a node without one, as all of PhxPaxos are, exchange no messages over connections.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_identity(
    context: *const axt_context,
    transport: axt_transport,
    node: u64,
    cluster: *const c_char,
    advertised: *const c_char,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let mut identity = Identity::new(NodeId::new(node));
            if let Some(cluster) = optional_text(cluster)? {
                identity = identity.cluster(cluster);
            }
            if let Some(addr) = optional_text(advertised)? {
                identity = identity.advertise(addr);
            }
            context.node(transport)?.identity(identity)
        })
    }
}

/// Says which node is meant at an address ("10.0.0.2:7000" or "node-2.svc:7000"): no other node that answers
/// there gets its frames. Needs an identity. To be called before axt_bind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_meant(
    context: *const axt_context,
    transport: axt_transport,
    node: u64,
    address: *const c_char,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let addr = text(address)?.parse().map_err(PeerError::Text)?;
            context.node(transport)?.meant(NodeId::new(node), addr)
        })
    }
}

/// Encrypts all connections, with keys from three files in PEM format: the certificates of the CAs, the
/// certificate of this node, and its private key. Both ends show their certificates. Needs an identity. To be called
/// before axt_bind.
///
/// `allowed` are `count` patterns for the names in the certificates of other nodes, such as "node-*.svc" or
/// "spiffe://cluster/node/*". There must be one at least; "*" accepts any certificate of these CAs. The name must
/// also end in the number of the node. If a pattern is none, axt_bind says so (AXT_TLS).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_tls(
    context: *const axt_context,
    transport: axt_transport,
    ca: *const c_char,
    certificate: *const c_char,
    key: *const c_char,
    allowed: *const *const c_char,
    count: usize,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let (node, allowed) = (context.node(transport)?, texts(allowed, count)?);
            let tls = Tls::from_pem_files(text(ca)?, text(certificate)?, text(key)?);
            let tls = tls.map_err(|err| Failure::new(AXT_TLS, err))?;
            node.tls(tls.allow(allowed))
        })
    }
}

/// Opens the port and starts the threads of the transport. From here on others can connect. `address` is an ip or
/// a name, and a port, of which 0 lets the system choose one (see axt_address). If it is null, the `listen` of the
/// configuration's file is used. Blocks while a name is looked up, and so do functions that need to know whether this
/// transport is bound; with an ip, nothing is looked up. After an error it may be called again.
///
/// AXT_IN_USE: somebody listens there already. AXT_BIND: the system has no such address. AXT_ADDRESS: there is none.
/// AXT_CONFIG: a setting is out of its bounds. AXT_STATE: it is bound already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_bind(
    context: *const axt_context,
    transport: axt_transport,
    address: *const c_char,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let address = optional_text(address)?;
            context.node(transport)?.bind(address)
        })
    }
}

/// Writes the ip and port that the transport listens on into `text`, which has room for `size` bytes, with a zero
/// at the end. 64 bytes are always enough; AXT_BAD_VALUE: there is too little room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_address(
    context: *const axt_context,
    transport: axt_transport,
    text: *mut c_char,
    size: usize,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let node = context.node(transport)?;
            let addr = format!("{}\0", node.transport()?.local_addr());
            if text.is_null() {
                return Err(AXT_NULL.into());
            }
            if addr.len() > size {
                return Err(Failure::new(
                    AXT_BAD_VALUE,
                    "too little room for the address",
                ));
            }
            std::ptr::copy_nonoverlapping(addr.as_ptr(), text.cast::<c_void>().cast(), addr.len());
            Ok(())
        })
    }
}

/// Stops the transport and waits until it has ended: the port is free, and no callback runs or begins any more. Its
/// threads have ended, but for those that wait for the system: to look up a name, or to close descriptors. A callback
/// that runs is waited for, however long it takes.
///
/// With `drain_ms` 0, what is queued is dropped. Otherwise it is first written, and what was received is handled,
/// for at most this many milliseconds. `report` says what was dropped; it may be null.
///
/// May be called from any thread except a callback (AXT_IN_CALLBACK), and by several at once: all wait for the same
/// end and get the same report, and the first decides how it stops. Other threads may be sending; they get
/// AXT_STOPPED. Afterwards the handle still gives the counters, until it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_stop(
    context: *const axt_context,
    transport: axt_transport,
    drain_ms: u64,
    report: *mut axt_stop_report,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let how = match drain_ms {
                0 => Shutdown::Now,
                limit => Shutdown::Drain(Duration::from_millis(limit)),
            };
            let stopped = context.node(transport)?.stop(how)?;
            if let Ok(out) = Out::new(report) {
                out.put(stopped.into());
            }
            Ok(())
        })
    }
}

/// Ends the handle, and those of the transport's peers. A transport that runs is stopped first, as axt_stop does with
/// `drain_ms` 0. In a callback, AXT_IN_CALLBACK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_transport_free(
    context: *const axt_context,
    transport: axt_transport,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            context.node(transport)?.stop(Shutdown::Now)?;
            context.nodes.remove(transport.id).ok_or(AXT_BAD_HANDLE)?;
            context
                .peers
                .retain(|peer| peer.transport_id() != transport.id);
            Ok(())
        })
    }
}
