//! This process as a node: a transport on its address, and the ways in which it ends.

use std::{
    io::{self, Write, stderr},
    net::SocketAddr,
    time::Duration,
};

use actix_transport::{Config, Placement, Shutdown, Stats, Transport};
use clap::ValueEnum;
use futures::future::LocalBoxFuture;

use crate::Failure;

/// How long what has been received or queued may take to be dealt with when a role ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The longest payload that a datagram carries: the tool is to find out what the network makes of
/// it, not the setting.
const LONGEST_DATAGRAM: usize = 65_503;

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// Where to listen; with port 0 the system chooses the port.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// Sends datagrams and takes them, too; without, only connections are used.
    #[arg(long)]
    pub(crate) udp: bool,

    /// Where the transport's actors run.
    #[arg(long, value_enum, default_value_t = Where::Dedicated)]
    pub(crate) placement: Where,

    /// Reports as JSON, on one line, instead of a table. Bytes are those on the wire: of a frame,
    /// its payload and the 8 of its header.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Where {
    /// On one arbiter, together with the role itself.
    Current,
    /// On arbiters of their own.
    Dedicated,
}

impl NodeArgs {
    pub(crate) fn config(&self) -> Config {
        let config = Config::default()
            .udp(self.udp)
            .max_datagram(LONGEST_DATAGRAM);
        match self.placement {
            Where::Current => config.placement(Placement::Current),
            Where::Dedicated => config,
        }
    }
}

pub(crate) struct Node {
    pub(crate) transport: Transport,
    /// Resolves when the process is told to end.
    pub(crate) interrupt: LocalBoxFuture<'static, ()>,
}

impl Node {
    pub(crate) fn bind(args: &NodeArgs, config: Config) -> Result<Self, Failure> {
        Ok(Self {
            interrupt: Box::pin(interrupt()?),
            transport: Transport::builder().config(config).bind(args.listen)?,
        })
    }

    /// Says that others may send now. Whoever starts several processes waits for this line, so
    /// it is not to be written before the groups are served.
    pub(crate) fn announce(&self) {
        let _ = writeln!(stderr(), "listening on {}", self.transport.local_addr());
    }

    /// Ends the transport, once what is under way inside it is dealt with.
    pub(crate) async fn finish(&self) -> Stats {
        self.transport.stop(Shutdown::Drain(LAST_WORDS)).await;
        self.transport.stats()
    }
}

/// Listens for the signals from the call on, not only once it is awaited.
#[cfg(unix)]
fn interrupt() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(windows)]
fn interrupt() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}
