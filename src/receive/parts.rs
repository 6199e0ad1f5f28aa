//! What a connection does with the parts of messages: takes memory for them, and delivers those that are whole.

use crate::{
    net::time::{self, timeout},
    observe::intake::Intake,
    receive::{
        assembly::Assembly,
        connection::Connection,
        deliver::Undeliverable,
        end::End,
        messages::{Incomplete, Messages, Place},
    },
    wire::{
        call::is_call,
        part::{self, Part},
    },
};

impl Connection {
    /// Takes a part, as a whole frame.
    pub(super) async fn take_part(&mut self, frame: &[u8]) -> Result<(), End> {
        let (Some(_), Some(link)) = (self.deliverer.turn(), &self.link) else {
            let text = "a part of a message came before the start of the frames";
            return Err(End::BadHandshake(text.into()));
        };
        match part::read(frame) {
            Part::Bytes(head, bytes) => {
                let mut assembly = match self.assembly.take() {
                    Some(assembly) => assembly,
                    None => {
                        let config = &self.config;
                        let messages = Messages::new(
                            config.longest_message(),
                            config.frame_timeout,
                            config.frame_floor,
                        );
                        let of_node = self.node_memory.share(link.node);
                        Box::new(Assembly::new(messages, self.budget.share(), of_node))
                    }
                };
                let dropped = assembly.messages.make_room(&head);
                let place = assembly.messages.place(&head, bytes, time::now());
                self.assembly = Some(assembly);
                self.drop_incomplete(dropped);
                match place {
                    Place::Message(index) => return self.take_bytes(index, bytes).await,
                    Place::Nowhere(dropped) => self.drop_incomplete(dropped),
                }
            }
            Part::Cancelled(message) => {
                let cancelled = self.assembly.as_mut();
                let cancelled = cancelled.and_then(|it| it.messages.cancel(message));
                self.drop_incomplete(cancelled);
            }
            Part::Unknown => {}
        }
        self.deliverer.receive_part();
        self.settle_assembly();
        Ok(())
    }

    /// Adds bytes to a message, and delivers it if it is whole.
    async fn take_bytes(&mut self, index: usize, bytes: &[u8]) -> Result<(), End> {
        let index = match self.take_length(index).await? {
            Some(index) if self.take_message_memory(index, bytes.len()).await? => index,
            _ => {
                self.deliverer.receive_part();
                return Ok(());
            }
        };
        let Some(assembly) = &mut self.assembly else {
            return Ok(());
        };
        let now = time::now();
        let whole = assembly.messages.append(index, bytes, now);
        // A whole one is not given up any more.
        let held = assembly.messages.held();
        assembly.share.unfinished(held);
        let Some(mut message) = whole else {
            self.deliverer.receive_part();
            return Ok(());
        };
        if is_call(&message) {
            // Its group has a bound of its own.
            self.deliverer.receive_part();
            self.obey_call(message);
            self.settle_assembly();
            return Ok(());
        }
        assembly.share.busy(true);
        self.share.busy(true);
        let delivering = self.deliverer.deliver_message(self.from, &mut message);
        let delivered = self.source.watch_during(delivering, |_| {}).await;
        self.share.busy(false);
        debug_assert!(!matches!(delivered, Err(Undeliverable::Malformed(_))));
        // Its memory counts until it is handled.
        self.wait_until_handled().await;
        if let Some(assembly) = &self.assembly {
            assembly.share.busy(false);
        }
        self.settle_assembly();
        Ok(())
    }

    /// Takes the length of a message that begins of what its node may have. Waits until other connections of the node
    /// give it back. Returns the position of the message then, or `None` if they do not in time, and it was dropped.
    async fn take_length(&mut self, index: usize) -> Result<Option<usize>, End> {
        let Some(assembly) = &mut self.assembly else {
            return Ok(None);
        };
        let total = assembly.messages.total();
        // Messages may have been dropped for this one.
        assembly.of_node.lower(total);
        if assembly.of_node.try_raise(total) {
            return Ok(Some(index));
        }
        // Whoever waits must keep no others waiting.
        let dropped = assembly.messages.keep_only(index);
        self.drop_incomplete(dropped);
        self.settle_assembly();
        let Some(assembly) = &mut self.assembly else {
            return Ok(None);
        };
        let total = assembly.messages.total();
        let lifecycle = self.lifecycle.clone();
        let taken = timeout(self.config.frame_timeout, assembly.of_node.wait_for(total));
        let closing = lifecycle.receiving_ends();
        let taken = self.source.watch_unless(closing, taken, |_| {}).await;
        let taken = taken.ok_or(End::Closing)?;
        let now = time::now();
        self.frame_deadline.restart(now);
        assembly.messages.restart(now);
        if taken.is_ok() {
            return Ok(Some(0));
        }
        let late = assembly.messages.remove(0);
        self.drop_incomplete([late]);
        self.settle_assembly();
        Ok(None)
    }

    /// Takes the memory for more bytes of a message. Returns false if there is none, and the message was dropped.
    async fn take_message_memory(&mut self, index: usize, len: usize) -> Result<bool, End> {
        let Some(assembly) = &mut self.assembly else {
            return Ok(false);
        };
        let needs = assembly.messages.needs(index, len);
        if !assembly.share.is_given_up() && assembly.share.try_hold(needs) {
            return Ok(true);
        }
        // No waiting for what only this connection could give back.
        if assembly.messages.len() > 1 {
            let dropped = assembly.messages.remove(index);
            self.drop_incomplete([dropped]);
            self.settle_assembly();
            return Ok(false);
        }
        // Waits for what others give back, or larger frames and messages are given up for this one.
        let lifecycle = self.lifecycle.clone();
        let held = timeout(self.config.frame_timeout, assembly.share.hold(needs));
        let closing = lifecycle.receiving_ends();
        let held = self.source.watch_unless(closing, held, |_| {}).await;
        let held = held.ok_or(End::Closing)?;
        let now = time::now();
        self.frame_deadline.restart(now);
        assembly.messages.restart(now);
        match held {
            Ok(Ok(())) if !assembly.share.is_given_up() => return Ok(true),
            Ok(_) => self.review_messages(),
            Err(_) => {
                let dropped = assembly.messages.remove(index);
                self.drop_incomplete([dropped]);
                self.settle_assembly();
            }
        }
        Ok(false)
    }

    /// Drops what has waited too long, or all messages if their memory is needed elsewhere.
    pub(super) fn review_messages(&mut self) {
        let Some(assembly) = &mut self.assembly else {
            return;
        };
        let dropped = match assembly.share.is_given_up() {
            true => assembly.messages.clear(),
            false => assembly.messages.expire(time::now()),
        };
        self.drop_incomplete(dropped);
        self.settle_assembly();
    }

    /// Drops all messages that are not whole: the connection has ended.
    pub(super) fn end_messages(&mut self) {
        let assembly = self.assembly.take();
        let dropped = assembly.map(|mut it| it.messages.clear());
        self.drop_incomplete(dropped.into_iter().flatten());
    }

    /// Gives back the memory of messages that are gone.
    fn settle_assembly(&mut self) {
        let Some(assembly) = &mut self.assembly else {
            return;
        };
        if assembly.messages.is_empty() {
            self.assembly = None;
        } else if !assembly.share.is_given_up() {
            let held = assembly.messages.held();
            assembly.share.unfinished(held);
            assembly.share.shrink(held);
            assembly.of_node.lower(assembly.messages.total());
        }
    }

    fn drop_incomplete(&self, dropped: impl IntoIterator<Item = Incomplete>) {
        let mut dropped = dropped.into_iter().peekable();
        if dropped.peek().is_none() {
            return;
        }
        let mut intake = Intake::new(&self.accounts, self.from);
        for Incomplete { group, count } in dropped {
            intake.receive(count);
            intake.discard_incomplete(group, count);
        }
    }
}
