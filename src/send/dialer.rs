//! Dialling a peer, by its ip or by its name. A name is resolved anew each time.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{
    config::Config,
    net::{
        addr::canonical,
        candidates::candidates,
        names::{NameError, Resolver},
        tcp::Stream,
        time::timeout,
    },
    observe::reporter::Reporter,
    peer_addr::PeerAddr,
    send::{
        attempt::{Attempts, given_way},
        dial_places::Place,
        race::{Failures, race},
    },
};

/// Makes the connections of all peers of one transport.
#[derive(Debug)]
pub(crate) struct Dialer {
    attempts: Attempts,
    resolver: Resolver,
    /// Where this node listens.
    listening: SocketAddr,
}

/// A dial that failed.
#[derive(Debug)]
pub(super) struct DialFailure {
    pub(super) err: io::Error,
    /// What is wrong with the name, if it gave no address to dial.
    pub(super) name: Option<NameError>,
    /// Whether the failure came soon, such as a refusal by the peer's system, and not for want of an
    /// answer.
    pub(super) answered: bool,
}

/// Whom to dial.
#[derive(Debug)]
pub(super) struct Target<'t> {
    pub(super) addr: &'t PeerAddr,
    /// Whether this node itself is meant.
    pub(super) is_this_node: bool,
    /// How many dials in a row have had no answer.
    pub(super) unanswered: u32,
}

impl Dialer {
    pub(crate) fn new(
        config: Arc<Config>,
        reporter: Reporter,
        resolver: Resolver,
        listening: SocketAddr,
    ) -> Self {
        Dialer {
            attempts: Attempts::new(config, reporter),
            resolver,
            listening: canonical(listening),
        }
    }

    /// Waits for the turn of a peer of which so many dials in a row have had no answer.
    pub(super) async fn turn(&self, unanswered: u32) -> Place<'_> {
        self.attempts.turn(unanswered).await
    }

    /// Makes a connection to a peer, within `connect_timeout`. Without an answer, gives up earlier when other
    /// dials need the place. Returns the address that it is connected to.
    pub(super) async fn dial<'d>(
        &'d self,
        target: Target<'_>,
        place: Place<'d>,
    ) -> Result<(Stream, SocketAddr), DialFailure> {
        if let Some(addr) = target.addr.ip_addr() {
            let dialled = self.attempts.connect(addr, place).await;
            return dialled.map_err(|failed| DialFailure {
                err: failed.err,
                name: None,
                answered: failed.answered,
            });
        }
        self.dial_name(target, place).await
    }

    async fn dial_name<'d>(
        &'d self,
        target: Target<'_>,
        place: Place<'d>,
    ) -> Result<(Stream, SocketAddr), DialFailure> {
        let limit = self.attempts.config.connect_timeout;
        let (mut failures, mut is_resolved) = (Failures::default(), false);
        let dialling = async {
            let addrs = self.addresses_of(&target, &place).await?;
            is_resolved = true;
            let accepts =
                |stream: &Stream, addr| target.is_this_node || !self.is_loop(stream, addr);
            let unanswered = target.unanswered;
            let raced = race(
                &self.attempts,
                addrs,
                place,
                unanswered,
                accepts,
                &mut failures,
            );
            Ok(raced.await)
        };
        match timeout(limit, dialling).await {
            Ok(Ok(Some(dialled))) => return Ok(dialled),
            Ok(Ok(None)) => {}
            Ok(Err(failure)) => return Err(failure),
            Err(_) if is_resolved => failures.time_is_over(),
            Err(_) => return Err(DialFailure::unresolved(&io::ErrorKind::TimedOut.into())),
        }
        if let Some(addr) = failures.not_accepted {
            return Err(DialFailure::of_name(NameError::ThisNode(addr)));
        }
        Err(DialFailure {
            answered: !failures.unanswered,
            err: failures.into_error(),
            name: None,
        })
    }

    /// Resolves a name. Gives up when other dials need the place.
    async fn addresses_of(
        &self,
        target: &Target<'_>,
        place: &Place<'_>,
    ) -> Result<Vec<SocketAddr>, DialFailure> {
        let (host, port) = (target.addr.host().unwrap_or_default(), target.addr.port());
        let found = tokio::select! {
            biased;
            found = self.resolver.resolve(host, port) => found,
            () = place.until_needed() => Err(given_way()),
        };
        let found = found.map_err(|err| DialFailure::unresolved(&err))?;
        let is_this_node = |addr| !target.is_this_node && self.is_listening_at(addr);
        candidates(&found, is_this_node).map_err(DialFailure::of_name)
    }

    /// Returns whether this is where this node listens, as far as that can be told without connecting.
    fn is_listening_at(&self, addr: SocketAddr) -> bool {
        let (ip, own) = (addr.ip(), self.listening.ip());
        addr.port() == self.listening.port()
            && (ip == own || own.is_unspecified() && ip.is_loopback())
    }

    /// Returns whether a connection leads back to this node. One that listens on all addresses of the machine
    /// does not know them, but a connection to one of them has the same ip at both ends.
    fn is_loop(&self, stream: &Stream, addr: SocketAddr) -> bool {
        let listens_there =
            addr.port() == self.listening.port() && self.listening.ip().is_unspecified();
        listens_there && stream.is_within_machine()
    }
}

impl DialFailure {
    fn unresolved(err: &io::Error) -> Self {
        let text = format!("{}: {err}", NameError::Unresolved);
        DialFailure {
            err: io::Error::new(err.kind(), text),
            name: Some(NameError::Unresolved),
            // A place was held for it, as long as the resolver took.
            answered: err.kind() != io::ErrorKind::TimedOut,
        }
    }

    /// Of a connection that no frame may be sent on. For a name, the error says which of its addresses it led
    /// to.
    pub(super) fn after_connecting(to: &PeerAddr, addr: SocketAddr, err: io::Error) -> Self {
        DialFailure {
            err: match to.host() {
                Some(_) => io::Error::new(err.kind(), format!("{addr}: {err}")),
                None => err,
            },
            name: None,
            answered: true,
        }
    }

    fn of_name(name: NameError) -> Self {
        DialFailure {
            err: name.into(),
            name: Some(name),
            answered: true,
        }
    }
}
