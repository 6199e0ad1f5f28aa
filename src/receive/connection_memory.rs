//! What memory a connection holds: taken from what all connections share, and given back.

use futures::future::OptionFuture;

use crate::{
    net::time::{self, sleep_until},
    receive::{
        budget::GivenUp,
        connection::Connection,
        end::End,
        read_buffer::{Activity, REVIEW_INTERVAL, ReadBuffer},
    },
};

impl Connection {
    /// Takes the memory that the next read may need from what all connections share. Waits if there
    /// is none.
    pub(super) async fn take_memory(&mut self) -> Result<(), End> {
        if self.share.is_given_up() {
            return Err(End::GivenUp);
        }
        if !self.share.others_wait() && self.share.try_hold(self.buffer.needs()) {
            return Ok(());
        }
        self.buffer.squeeze();
        self.share.shrink(self.buffer.held());
        let needs = self.buffer.needs();
        if self.share.try_hold(needs) {
            return Ok(());
        }
        self.frame_deadline.restart(time::now());
        // Somebody must give way if all wait.
        let late = OptionFuture::from(self.frame_due().map(sleep_until));
        let held = self.share.hold(needs);
        let closing = self.lifecycle.receiving_ends();
        let held = self.source.watch_unless(closing, held, |_| {});
        tokio::select! {
            held = held => held.ok_or(End::Closing)?.map_err(|GivenUp| End::GivenUp)?,
            Some(()) = late => return Err(End::GivenUp),
        }
        self.frame_deadline.restart(time::now());
        Ok(())
    }

    /// Gives back memory that is not needed any more.
    pub(super) fn review_buffer(&mut self) {
        let activity = self.buffer.review();
        self.share.shrink(self.buffer.held());
        match activity {
            Activity::Active => {
                if let Some(timer) = &mut self.review {
                    timer.as_mut().reset(time::now() + REVIEW_INTERVAL);
                }
            }
            Activity::Idle => {
                self.review = None;
                // It would keep the peer from being forgotten.
                self.answer_to = None;
                self.deliverer.release_memory();
                self.source.delay_acks();
            }
        }
    }

    /// Gives back the buffer, but for what batches in mailboxes still hold of it.
    pub(super) fn give_up_buffer(&mut self) {
        self.buffer = ReadBuffer::new();
        self.share.unfinished(0);
        if self.deliverer.is_handled() {
            self.share.shrink(0);
        }
    }
}
