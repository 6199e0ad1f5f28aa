//! Datagrams that the kernel dropped because nobody read them in time: counted from time to time.

use std::{future::pending, pin::Pin, time::Duration};

use crate::{
    net::{
        time::{Sleep, sleep},
        udp::DatagramSocket,
    },
    observe::reporter::Reporter,
};

/// How long after a datagram arrived the kernel is asked. Asking takes some 20 µs.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Asks the kernel at most once in a while, and only after datagrams arrived: nothing is dropped where
/// nothing arrives.
pub(super) struct Losses<'r> {
    socket: &'r DatagramSocket,
    reporter: &'r Reporter,
    next_look: Option<Pin<Box<Sleep>>>,
}

impl<'r> Losses<'r> {
    pub(super) fn new(socket: &'r DatagramSocket, reporter: &'r Reporter) -> Self {
        Losses {
            socket,
            reporter,
            next_look: None,
        }
    }

    /// Notes that datagrams arrived. Others may have been dropped.
    pub(super) fn arrived(&mut self) {
        self.next_look
            .get_or_insert_with(|| Box::pin(sleep(LOOK_AFTER)));
    }

    /// Waits until it is time to look.
    pub(super) async fn due(&mut self) {
        match &mut self.next_look {
            Some(timer) => timer.await,
            None => pending().await,
        }
        self.next_look = None;
    }

    /// Counts what was dropped since the last look.
    pub(super) fn look(&self) {
        match self.socket.drop_count.newly() {
            Ok(lost) => self.reporter.datagrams_lost(lost),
            // This system does not tell, or it has no descriptor left for the question.
            Err(err) => tracing::trace!(%err, "cannot ask for dropped datagrams"),
        }
    }
}
