//! One attempt to connect to one ip and port, with a bound on how many are made at the same time.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{
    config::Config,
    net::{tcp::Stream, time},
    observe::reporter::Reporter,
    send::dial_places::{DialPlaces, Place, UNANSWERED},
};

/// Connects to single addresses, for all peers of one transport.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) config: Arc<Config>,
    places: DialPlaces,
    reporter: Reporter,
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct FailedAttempt<'d> {
    pub(super) addr: SocketAddr,
    pub(super) err: io::Error,
    /// Whether the failure came soon, such as a refusal by the peer's system, and not for want of an
    /// answer.
    pub(super) answered: bool,
    /// Its place, for another attempt. `None` if others need it.
    pub(super) place: Option<Place<'d>>,
}

impl Attempts {
    pub(super) fn new(config: Arc<Config>, reporter: Reporter) -> Self {
        Attempts {
            places: DialPlaces::new(config.max_dials),
            config,
            reporter,
        }
    }

    /// Waits for the turn of a peer of which so many dials in a row have had no answer.
    pub(super) async fn turn(&self, unanswered: u32) -> Place<'_> {
        self.places.wait(unanswered).await
    }

    /// Makes a connection to `addr`. Without an answer, gives up when the attempt times out, or when others
    /// need the place.
    pub(super) async fn connect<'d>(
        &self,
        addr: SocketAddr,
        place: Place<'d>,
    ) -> Result<(Stream, SocketAddr), FailedAttempt<'d>> {
        self.reporter.dialling();
        let begun = time::now();
        let (err, given_way) = tokio::select! {
            biased;
            dialled = Stream::dial(addr, &self.config) => match dialled {
                Ok(stream) => return Ok((stream, addr)),
                Err(err) => (err, false),
            },
            () = place.until_needed() => (given_way(), true),
        };
        Err(FailedAttempt {
            addr,
            answered: is_answer(&err) || begun.elapsed() < UNANSWERED,
            err,
            place: (!given_way).then_some(place),
        })
    }
}

/// The error of whoever gave up a place.
pub(super) fn given_way() -> io::Error {
    let text = "no answer yet, and other peers wait to be dialled";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Returns whether this error says that the peer's system answered.
fn is_answer(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
