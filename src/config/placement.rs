//! [`Placement`]: where the transport's own actors run.

/// Where the transport's own actors run.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Placement {
    /// The actors run on threads of their own: `readers` arbiters for the `Reader`s, the `Listener`, the
    /// `Node` and the `UdpActor`, and `writers` arbiters that share the peers. 1 to 1024 of each.
    Dedicated {
        /// Threads for receiving, and for the `Listener`, the `Node` and the `UdpActor`.
        readers: usize,
        /// Threads for sending. Frames that come back on a connection that this node dialled, which needs
        /// sessions, are read on the thread that writes to that peer.
        writers: usize,
    },
    /// The actors run on threads of their own, and each thread both receives and sends: `arbiters` of them,
    /// 1 to 1024. The `Listener`, the `Node` and the `UdpActor` are on the first.
    ///
    /// As fast as `Dedicated` on one and on two cores, with fewer threads. Choose it where a program has many
    /// transports. With `Dedicated`, frames that come in on accepted connections do
    /// not delay those that go out.
    Shared {
        /// Threads that receive and send.
        arbiters: usize,
    },
    /// All actors run on the actix arbiter of the thread that calls `bind`. Messages then cross no thread
    /// inside the transport, which gives the shortest round trip, and on two cores twice the rate of calls for
    /// callers on that arbiter. The whole transport shares one core with everything else on that arbiter, and ends with it.
    /// A thread without an arbiter, such as one of plain tokio, gets an error from `bind`.
    Current,
}

impl Placement {
    /// Returns [`Dedicated`](Placement::Dedicated) with a quarter of the cores for reading and a quarter
    /// for writing, at least one thread each.
    pub fn dedicated() -> Self {
        let quarter = (cores() / 4).max(1);
        Placement::Dedicated {
            readers: quarter,
            writers: quarter,
        }
    }

    /// Returns [`Shared`](Placement::Shared) with half as many threads as there are cores, at least one.
    pub fn shared() -> Self {
        Placement::Shared {
            arbiters: (cores() / 2).max(1),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Placement {
    /// [`Placement::dedicated`].
    fn default() -> Self {
        Self::dedicated()
    }
}
