//! The listener: accepts connections and gives each to the Reader that has fewest.
//!
//! Owns the decision who comes in and who reads. Nothing that one connection does ends it: an error
//! of a connection is skipped, and when the system is out of descriptors or memory it waits, longer
//! each time, without turning in circles. The socket itself outlives it, so that the connections in
//! its backlog survive a restart.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix::{Actor, Addr, Context};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::Notify};

use crate::{
    net,
    receive::reader::{Assign, Reader},
    runtime::backoff::Backoff,
    runtime::failpoints::Failpoint,
    runtime::load_counter::{LoadCounter, LoadGuard, least_loaded},
    runtime::shared::{Shared, count},
    runtime::supervision::{Lifeline, Supervised, live},
};

/// The Readers' places, one for each reading arbiter.
#[derive(Debug)]
pub(crate) struct Seats {
    seats: Box<[Seat]>,
    /// Rings when a Reader sits down.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Seat {
    load: LoadCounter,
    /// The Reader in its latest life; none before its first.
    reader: Mutex<Option<Addr<Reader>>>,
}

impl Seats {
    pub(crate) fn new(readers: usize) -> Self {
        Seats {
            seats: (0..readers).map(|_| Seat::default()).collect(),
            taken: Notify::new(),
        }
    }

    /// Seats a Reader, or empties its seat.
    pub(crate) fn seat(&self, index: usize, reader: Option<Addr<Reader>>) {
        *self.seats[index].reader.lock() = reader;
        self.taken.notify_one();
    }

    /// The Reader that carries least of those who live, and its load with one more on it.
    fn least_loaded(&self) -> Option<(Addr<Reader>, LoadGuard)> {
        let live = self.seats.iter().filter_map(|seat| {
            let reader = seat.reader.lock().clone().filter(Addr::connected)?;
            Some((seat, reader))
        });
        let (seat, reader) = least_loaded(live, |(seat, _)| &seat.load)?;
        Some((reader, seat.load.carry()))
    }

    /// Waits until there is a Reader.
    async fn any(&self) {
        let lives = |seat: &Seat| seat.reader.lock().as_ref().is_some_and(Addr::connected);
        while !self.seats.iter().any(lives) {
            self.taken.notified().await;
        }
    }

    /// Waits until each Reader has begun its first life, so that the first connections spread, too.
    async fn all(&self) {
        while self.seats.iter().any(|seat| seat.reader.lock().is_none()) {
            self.taken.notified().await;
        }
    }
}

/// The actor; one for a transport.
#[derive(Debug)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
    socket: Arc<std::net::TcpListener>,
    seats: Arc<Seats>,
    lifeline: Lifeline,
}

impl Listener {
    pub(crate) fn start(
        shared: Arc<Shared>,
        socket: Arc<std::net::TcpListener>,
        seats: Arc<Seats>,
        lifeline: Lifeline,
    ) {
        let listener = Listener {
            shared,
            socket,
            seats,
            lifeline,
        };
        Actor::start(listener);
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (shared, seats) = (self.shared.clone(), self.seats.clone());
        let socket = self.socket.clone();
        live(self, ctx, async move {
            tokio::select! {
                () = shared.closing.cancelled() => {}
                () = shared.failpoints.strike(Failpoint::Listener) => {}
                () = accept_all(&shared, &socket, &seats) => {}
            }
        });
    }
}

impl Supervised for Listener {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Accepts for ever.
async fn accept_all(shared: &Shared, socket: &std::net::TcpListener, seats: &Seats) {
    const WAIT_FIRST: Duration = Duration::from_millis(100);
    const WAIT_MAX: Duration = Duration::from_secs(1);
    // The wait has a floor, unlike a redial's: nobody else is kept apart by jitter here, and a draw
    // of nothing would be the spinning this is to prevent.
    const WHOLE: f64 = 1.0;

    let mut waits = Backoff::new(WAIT_FIRST, WAIT_MAX);
    let mut listener = None;
    seats.all().await;
    loop {
        let accepted = match &listener {
            Some(listener) => accept(listener).await,
            None => net::listener(socket).map(|registered| {
                listener = Some(registered);
                None
            }),
        };
        match accepted {
            Ok(None) => {}
            Ok(Some((stream, from))) => {
                waits.reset();
                // Between two lives of the only Reader it waits, and the others in the backlog.
                seats.any().await;
                seat(shared, seats, stream, from);
            }
            // A socket that cannot even be registered would fail at once, again and again.
            Err(err) if listener.is_none() || net::is_exhaustion(&err) => {
                count(&shared.counters.accept_stalls);
                let wait = waits.next(WHOLE);
                tracing::warn!(%err, ?wait, "cannot accept");
                tokio::time::sleep(wait).await;
            }
            // The connection's own trouble: it was reset before we came to it, or a firewall had a
            // say. The next one has its own luck.
            Err(err) => tracing::debug!(%err, "a connection was lost while it was accepted"),
        }
    }
}

async fn accept(listener: &tokio::net::TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    listener.accept().await.map(Some)
}

/// Finds a Reader for an accepted connection. Whatever fails here closes it.
fn seat(shared: &Shared, seats: &Seats, stream: TcpStream, from: SocketAddr) {
    let from = net::canonical(from);
    let Some(admission) = shared.gatekeeper.admit(from.ip()) else {
        count(&shared.counters.turned_away);
        tracing::debug!(%from, "turned away, too many connections");
        return;
    };
    let Some((reader, carried)) = seats.least_loaded() else {
        return;
    };
    let stream = match net::release(stream) {
        Ok(stream) => stream,
        Err(err) => {
            tracing::debug!(%from, %err, "connection was lost before it was read");
            return;
        }
    };
    count(&shared.counters.accepted);
    let assign = Assign {
        stream,
        from,
        admission,
        carried,
    };
    // At most as many as there may be connections wait in its mailbox. One that ends with them in it
    // closes them, and their peers dial again.
    reader.do_send(assign);
}
