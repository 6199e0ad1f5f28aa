//! Dialling, with a bound on how many connections are being made at the same time.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{
    config::Config,
    net::{tcp::Stream, time},
    observe::reporter::Reporter,
    send::dial_places::{DialPlaces, Place, UNANSWERED},
};

/// Makes the connections of all peers of one transport.
#[derive(Debug)]
pub(crate) struct Dialer {
    config: Arc<Config>,
    places: DialPlaces,
    reporter: Reporter,
}

/// A dial that failed.
#[derive(Debug)]
pub(super) struct DialFailure {
    pub(super) err: io::Error,
    /// Whether the failure came soon, such as a refusal by the peer's system, and not for want of an
    /// answer.
    pub(super) answered: bool,
}

impl Dialer {
    pub(crate) fn new(config: Arc<Config>, reporter: Reporter) -> Self {
        Dialer {
            places: DialPlaces::new(config.max_dials),
            config,
            reporter,
        }
    }

    /// Waits for the turn of a peer of which so many dials in a row have had no answer.
    pub(super) async fn turn(&self, unanswered: u32) -> Place<'_> {
        self.places.wait(unanswered).await
    }

    /// Makes a connection to `addr`. Without an answer, gives up when the dial times out, or when other
    /// dials need the place.
    pub(super) async fn dial(
        &self,
        addr: SocketAddr,
        place: Place<'_>,
    ) -> Result<Stream, DialFailure> {
        self.reporter.dialling();
        let begun = time::now();
        let dialled = tokio::select! {
            biased;
            dialled = Stream::dial(addr, &self.config) => dialled,
            () = place.until_needed() => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer yet, and other peers wait to be dialled",
            )),
        };
        dialled.map_err(|err| DialFailure {
            answered: is_answer(&err) || begun.elapsed() < UNANSWERED,
            err,
        })
    }
}

/// Returns whether this error says that the peer's system answered.
fn is_answer(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
