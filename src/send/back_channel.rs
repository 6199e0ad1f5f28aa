//! What the far end of a link sends back to the end that writes.
//!
//! Frames flow one way, so the far end has nothing to send but the end of the connection: a link that
//! becomes readable is closing, or its far end does not speak this protocol. This is the only place that
//! reads on a link we dialled; control frames will be decoded here.

use std::io;

use crate::{net::tcp::Stream, observe::event::DownReason};

/// Waits until the far end closes the link, or sends something that ends it.
pub(super) async fn until_far_end_closes(stream: &Stream) -> DownReason {
    loop {
        if let Err(err) = stream.readable().await {
            return lost(&err);
        }
        if let Some(reason) = read(stream) {
            return reason;
        }
    }
}

/// Reads what the far end sent. Returns why the link must end, or `None` if it goes on.
pub(super) fn read(stream: &Stream) -> Option<DownReason> {
    match stream.try_read(&mut [0]) {
        Ok(0) => Some(DownReason::Closed),
        Ok(_) => Some(DownReason::Spoke),
        // The readiness was out of date.
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => None,
        Err(err) => Some(lost(&err)),
    }
}

pub(super) fn lost(err: &io::Error) -> DownReason {
    DownReason::Lost(err.kind())
}
