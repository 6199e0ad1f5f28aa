//! The fault proxy: sits between a sender and a receiver, and cuts, slows or corrupts their
//! connections as a plan says.
//!
//! It uses real sockets on both sides. What the receiver sends back is passed on as it is (`back.rs`);
//! all faults are for the other direction, in which the frames flow. It keeps a [`ProxyConnection`] for each connection: what it read from the sender, what it
//! forwarded, and what it threw away. Each connection to the receiver has its own source address,
//! `127.id.hi.lo`, so that the receiver knows over which connection a frame came.

mod back;
mod connection;
mod ending;
mod plan;
mod trace;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
};

#[cfg(test)]
pub(crate) use self::trace::tests::wire;
pub(crate) use self::{
    connection::{Ended, ProxyConnection},
    plan::{CUTS, Cut, Ending, Hold, OnAccept, Pace, Plan, Side},
    trace::Trace,
};

/// A proxy. When it is dropped, it ends with all its connections.
pub(crate) struct Proxy {
    inner: Arc<Inner>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    runtime: Handle,
    sockets: Sockets,
    /// Keeps the port while the proxy refuses connections: a bound socket that does not listen.
    _port_guard: Socket,
}

struct Inner {
    id: u8,
    addr: SocketAddr,
    target: SocketAddr,
    plan: Mutex<Box<dyn FnMut(u64) -> Plan + Send>>,
    connections: Mutex<Vec<ProxyConnection>>,
    /// Whether reading and forwarding is suspended on all connections.
    black_hole: watch::Sender<bool>,
    /// A cut of all connections at once, and how many such cuts there were.
    cut: watch::Sender<(u64, Option<Cut>)>,
    shutdown: Notify,
}

/// Options of the proxy's listening socket.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Sockets {
    /// Size of the receive buffer: how much the kernel takes before the proxy reads.
    pub(crate) receive_buffer: Option<usize>,
    /// The longest TCP segment, which bounds what the sender's kernel takes before it is
    /// acknowledged.
    pub(crate) segment: Option<u32>,
}

impl Proxy {
    /// Starts a proxy to `target`. `plan(n)` describes its `n`-th connection, from 0 on. Two
    /// proxies to one receiver must have different ids.
    pub(crate) fn start(
        runtime: &Handle,
        id: u8,
        target: SocketAddr,
        sockets: Sockets,
        plan: impl FnMut(u64) -> Plan + Send + 'static,
    ) -> io::Result<Self> {
        let port_guard = bind((Ipv4Addr::LOCALHOST, 0).into(), sockets)?;
        let addr = port_guard.local_addr()?.as_socket().expect("an ip address");
        let proxy = Proxy {
            inner: Arc::new(Inner {
                id,
                addr,
                target,
                plan: Mutex::new(Box::new(plan)),
                connections: Mutex::default(),
                black_hole: watch::Sender::new(false),
                cut: watch::Sender::new((0, None)),
                shutdown: Notify::new(),
            }),
            accepting: Mutex::new(None),
            runtime: runtime.clone(),
            sockets,
            _port_guard: port_guard,
        };
        proxy.open()?;
        Ok(proxy)
    }

    /// Returns the address that the sender dials.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// Stops listening, so that dials are refused, or listens again.
    pub(crate) async fn set_refusing(&self, refuse: bool) -> io::Result<()> {
        let task = self
            .accepting
            .lock()
            .expect("no holder of this lock panics")
            .take();
        if let Some(task) = task {
            task.abort();
            // The listening socket is closed only when the task has ended.
            let _ = task.await;
            // The kernel closes connections in the backlog, with what was written to them.
            self.inner
                .connections()
                .push(ProxyConnection::never_accepted());
        }
        match refuse {
            true => Ok(()),
            false => self.open(),
        }
    }

    fn open(&self) -> io::Result<()> {
        let listener = bind(self.inner.addr, self.sockets)?;
        listener.listen(128)?;
        listener.set_nonblocking(true)?;
        let _runtime = self.runtime.enter();
        let listener = TcpListener::from_std(listener.into())?;
        let task = self.runtime.spawn(self.inner.clone().accept(listener));
        *self
            .accepting
            .lock()
            .expect("no holder of this lock panics") = Some(task);
        Ok(())
    }

    /// Suspends reading and forwarding on all connections, or resumes it.
    pub(crate) fn set_black_hole(&self, black_hole: bool) {
        self.inner.black_hole.send_replace(black_hole);
    }

    /// Cuts all present connections at once.
    pub(crate) fn cut(&self, ending: Ending, side: Side) {
        let cut = Cut {
            after: 0,
            ending,
            side,
        };
        self.inner
            .cut
            .send_modify(|(count, latest)| (*count, *latest) = (*count + 1, Some(cut)));
    }

    /// Returns all connections so far, in order.
    pub(crate) fn connections(&self) -> Vec<ProxyConnection> {
        self.inner.connections().clone()
    }

    /// Returns how many connections there were, and how many of them were cut.
    pub(crate) fn count(&self) -> (usize, usize) {
        let connections = self.inner.connections();
        let cut = connections
            .iter()
            .filter(|connection| connection.was_cut())
            .count();
        (connections.len(), cut)
    }

    /// Waits until every connection has ended and is read as far as it should be. Returns whether
    /// that happened within `limit`.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        let settled = async {
            while self
                .inner
                .connections()
                .iter()
                .any(|connection| !connection.is_settled())
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(limit, settled).await.is_ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().ok().and_then(|mut task| task.take()) {
            task.abort();
        }
        self.inner.shutdown.notify_waiters();
    }
}

impl Inner {
    fn connections(&self) -> MutexGuard<'_, Vec<ProxyConnection>> {
        self.connections
            .lock()
            .expect("no holder of this lock panics")
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((sender, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let number = {
                let mut connections = self.connections();
                connections.push(ProxyConnection::default());
                connections.len() as u64 - 1
            };
            let plan = (self.plan.lock().expect("plans do not panic"))(number);
            self.connections()[number as usize].pace = plan.pace;
            let inner = self.clone();
            tokio::spawn(async move {
                let shutdown = inner.clone();
                tokio::select! {
                    () = connection::run(&inner, number, &plan, sender) => {}
                    () = shutdown.shutdown.notified() => {}
                }
            });
        }
    }
}

/// Returns the source address of connection `number` of proxy `id`.
pub(crate) fn source_of(id: u8, number: u64) -> Ipv4Addr {
    let [hi, lo] = u16::try_from(number)
        .expect("fewer than 65,536 connections")
        .to_be_bytes();
    Ipv4Addr::new(127, id, hi, lo)
}

/// Returns the proxy and the number of the connection with this source address.
pub(crate) fn number_of(source: SocketAddr) -> Option<(u8, u64)> {
    let SocketAddr::V4(source) = source else {
        return None;
    };
    let [_, id, hi, lo] = source.ip().octets();
    Some((id, u16::from_be_bytes([hi, lo]).into()))
}

fn bind(addr: SocketAddr, sockets: Sockets) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let Some(size) = sockets.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(segment) = sockets.segment {
        socket.set_tcp_mss(segment)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}
