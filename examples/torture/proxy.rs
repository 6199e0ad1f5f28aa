//! The fault proxy: stands between a sender and a receiver and ends, slows or bends their
//! connections as a plan says.
//!
//! Real sockets on both sides, one direction as the links have it. Each connection through it is a
//! [`Passage`], with a ledger of its own: what it took from the sender, what it forwarded, and what it
//! threw away. It dials the receiver from an address of its own, `127.id.hi.lo`, so that the receiver
//! knows which connection a frame came by.

mod passage;
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
    passage::{Ended, Passage},
    plan::{CUTS, Cut, Ending, Meet, Pace, Plan, Side},
    trace::Trace,
};

/// The proxy; it ends when this goes, and all its connections with it.
pub(crate) struct Proxy {
    inner: Arc<Inner>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    runtime: Handle,
    sockets: Sockets,
    /// Keeps the port while nobody listens: a socket that is bound and does not listen itself.
    _seat: Socket,
}

struct Inner {
    id: u8,
    addr: SocketAddr,
    target: SocketAddr,
    plan: Mutex<Box<dyn FnMut(u64) -> Plan + Send>>,
    ledger: Mutex<Vec<Passage>>,
    /// Whether nothing is taken and nothing forwarded.
    hole: watch::Sender<bool>,
    /// The cut that all passages suffer at once, and how many there were.
    cut: watch::Sender<(u64, Option<Cut>)>,
    over: Notify,
}

/// What the proxy's listening socket is like.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Sockets {
    /// Bytes that the kernel takes in before the proxy reads them.
    pub(crate) room: Option<usize>,
    /// The longest segment, which bounds what the sender's kernel takes before it is acknowledged.
    pub(crate) segment: Option<u32>,
}

impl Proxy {
    /// Starts a proxy towards `target` whose `n`-th connection, from 0 on, fares as `plan(n)` says.
    /// No two proxies to one receiver have the same id.
    pub(crate) fn start(
        runtime: &Handle,
        id: u8,
        target: SocketAddr,
        sockets: Sockets,
        plan: impl FnMut(u64) -> Plan + Send + 'static,
    ) -> io::Result<Self> {
        let seat = bind((Ipv4Addr::LOCALHOST, 0).into(), sockets)?;
        let addr = seat.local_addr()?.as_socket().expect("an ip address");
        let proxy = Proxy {
            inner: Arc::new(Inner {
                id,
                addr,
                target,
                plan: Mutex::new(Box::new(plan)),
                ledger: Mutex::default(),
                hole: watch::Sender::new(false),
                cut: watch::Sender::new((0, None)),
                over: Notify::new(),
            }),
            accepting: Mutex::new(None),
            runtime: runtime.clone(),
            sockets,
            _seat: seat,
        };
        proxy.open()?;
        Ok(proxy)
    }

    /// Where the sender is to dial.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// Closes the door, so that dials are refused, or opens it again.
    pub(crate) async fn refuse(&self, refuse: bool) -> io::Result<()> {
        let task = self.accepting.lock().expect("nobody panics here").take();
        if let Some(task) = task {
            task.abort();
            // Only then does nobody listen any more.
            let _ = task.await;
            // Who knocked and was not let in yet is sent away with what it had written.
            self.inner.ledger().push(Passage::shut_out());
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
        *self.accepting.lock().expect("nobody panics here") = Some(task);
        Ok(())
    }

    /// Lets nothing through and takes nothing, on any connection, or goes on with it.
    pub(crate) fn hole(&self, hole: bool) {
        self.inner.hole.send_replace(hole);
    }

    /// Cuts all connections there are, wherever they stand.
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

    /// All connections so far, in their order.
    pub(crate) fn ledger(&self) -> Vec<Passage> {
        self.inner.ledger().clone()
    }

    /// How many connections there were, and how many of them were cut.
    pub(crate) fn count(&self) -> (usize, usize) {
        let ledger = self.inner.ledger();
        let cut = ledger.iter().filter(|passage| passage.was_cut()).count();
        (ledger.len(), cut)
    }

    /// Waits until every connection has come to its end, and is read as far as it is to be.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        let settled = async {
            while self
                .inner
                .ledger()
                .iter()
                .any(|passage| !passage.is_settled())
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
        self.inner.over.notify_waiters();
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Vec<Passage>> {
        self.ledger.lock().expect("nobody panics here")
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((sender, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let number = {
                let mut ledger = self.ledger();
                ledger.push(Passage::default());
                ledger.len() as u64 - 1
            };
            let plan = (self.plan.lock().expect("plans do not panic"))(number);
            self.ledger()[number as usize].pace = plan.pace;
            let inner = self.clone();
            tokio::spawn(async move {
                let over = inner.clone();
                tokio::select! {
                    () = passage::pass(&inner, number, &plan, sender) => {}
                    () = over.over.notified() => {}
                }
            });
        }
    }
}

/// The address that connection `number` of proxy `id` is seen to come from.
pub(crate) fn source_of(id: u8, number: u64) -> Ipv4Addr {
    let [hi, lo] = u16::try_from(number)
        .expect("so many connections")
        .to_be_bytes();
    Ipv4Addr::new(127, id, hi, lo)
}

/// Which connection of which proxy such an address is.
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
    if let Some(room) = sockets.room {
        socket.set_recv_buffer_size(room)?;
    }
    if let Some(segment) = sockets.segment {
        socket.set_tcp_mss(segment)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}
