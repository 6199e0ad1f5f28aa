//! This process as a node: a transport bound to an address, and how it is stopped.

use std::{
    io::{self, Write, stderr},
    net::SocketAddr,
    time::Duration,
};

use actix_transport::{Config, Placement, Shutdown, Stats, Transport};
use clap::ValueEnum;
use futures::future::LocalBoxFuture;

use crate::{
    Failure,
    identity::{IdentityArgs, name_flag},
    tls::TlsArgs,
};

/// How long a role may take at its end to deliver received frames and send queued ones.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// The longest payload that UDP allows, so that the network sets the limit and not the setting.
const LONGEST_DATAGRAM: usize = 65_503;

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// Where to listen; with port 0 the system chooses the port. Blast and call need no such
    /// address, and ping and beat need none if they have a `--node`: they can listen nowhere.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) identity: IdentityArgs,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Sends datagrams, and receives them in addition to connections. Without this, only
    /// connections are used.
    #[arg(long, requires = "listen")]
    pub(crate) udp: bool,

    /// Where the transport's actors run.
    #[arg(long, value_enum, default_value_t = Where::Dedicated)]
    pub(crate) placement: Where,

    /// Reports as one line of JSON instead of a table. Bytes are those on the wire: the payload of
    /// a frame and the 8 bytes of its header.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Where {
    /// On one arbiter, together with the role itself.
    Current,
    /// On arbiters that read, and others that write.
    Dedicated,
    /// On one arbiter that reads and writes.
    Shared,
}

impl Where {
    pub(crate) fn placement(self) -> Placement {
        match self {
            Where::Current => Placement::Current,
            Where::Dedicated => Placement::default(),
            Where::Shared => Placement::Shared { arbiters: 1 },
        }
    }
}

impl NodeArgs {
    /// Prepares for calls, which only nodes make and serve that have introduced themselves. If there is no `--node`, the
    /// node gets this number.
    pub(crate) fn for_calls(&mut self, node: u64) -> Result<(), Failure> {
        if self.udp {
            return Err("--udp cannot be used: calls need connections".into());
        }
        // A certificate is for a number that the user knows.
        if !self.tls.is_on() {
            self.identity.node_or(node);
        }
        match self.identity.has_node() && !self.identity.has_sessions() {
            true => Err("--sessions: calls need them".into()),
            false => Ok(()),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config::default()
            // Both programs run on one machine, and may use all connections.
            .max_connections_per_ip(Config::default().max_connections)
            .sessions(self.identity.sessions())
            .udp(self.udp)
            .max_datagram(LONGEST_DATAGRAM)
            .placement(self.placement.placement())
    }
}

pub(crate) struct Node {
    pub(crate) transport: Transport,
    /// Resolves when the process receives a signal to end.
    pub(crate) interrupt: LocalBoxFuture<'static, ()>,
}

impl Node {
    /// Starts a node that others dial.
    pub(crate) fn bind(args: &NodeArgs, config: Config) -> Result<Self, Failure> {
        match args.listen {
            Some(_) => Node::start(args, config),
            None => Err("--listen is missing: others must be able to dial this node".into()),
        }
    }

    /// Starts a node that awaits answers. Without sessions they come over a second connection.
    pub(crate) fn bind_for_answers(args: &NodeArgs, config: Config) -> Result<Self, Failure> {
        if args.listen.is_none() && !args.identity.has_sessions() {
            return Err(
                "--listen is missing: without --node, answers come over a second \
                        connection, which the other node dials"
                    .into(),
            );
        }
        Node::start(args, config)
    }

    /// Starts a node, which listens nowhere if there is no `--listen`.
    pub(crate) fn start(args: &NodeArgs, config: Config) -> Result<Self, Failure> {
        if args.tls.is_on() && !args.identity.has_node() {
            return Err(
                "--node is missing: with --tls-ca, the certificate of a node must be for its number"
                    .into(),
            );
        }
        let builder = args.identity.introduce(Transport::builder().config(config));
        let builder = args.tls.secure(builder)?;
        let transport = match args.listen {
            Some(addr) => builder.bind(addr),
            None => builder.connect_only(),
        };
        Ok(Self {
            interrupt: Box::pin(interrupt()?),
            transport: transport.map_err(name_flag)?,
        })
    }

    /// Prints that other processes may send now, if they can. A program that starts several
    /// processes waits for this line, so the groups must be registered before.
    pub(crate) fn announce(&self) {
        let addr = self.transport.local_addr();
        if addr.port() != 0 {
            let _ = writeln!(stderr(), "listening on {addr}");
        }
    }

    /// Stops the transport after it has dealt with what it holds, or after [`DRAIN_LIMIT`].
    pub(crate) async fn finish(&self) -> Stats {
        self.transport.stop(Shutdown::Drain(DRAIN_LIMIT)).await;
        self.transport.stats()
    }
}

/// Catches the signals from this call on, not only from the first poll.
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
