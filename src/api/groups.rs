//! The methods of [`Transport`] that say which actor serves which group.

use actix::Recipient;

use crate::{
    api::transport::Transport,
    error::RegisterError,
    ids::GroupId,
    receive::{
        groups::{CatchAll, Group, GroupOverflow},
        inbound::Inbound,
    },
};

impl Transport {
    /// Lets `actor` serve `group`: it gets the frames that are read from now on. While it is slow, the
    /// connections that bring its frames wait ([`GroupOverflow::Wait`]).
    ///
    /// The registration keeps the actor alive until the group is unregistered or the transport has
    /// stopped. If the actor itself holds a `Transport`, the two keep each other alive: they end by
    /// [`stop`](Transport::stop) or [`unregister`](Transport::unregister), not by dropping all other
    /// handles. A [`Peer`](crate::Peer) does not keep the transport alive.
    ///
    /// # Errors
    ///
    /// If a living actor serves the group already, the group is reserved, or the transport has stopped.
    /// An actor that has ended is replaced.
    pub fn register(&self, group: GroupId, actor: Recipient<Inbound>) -> Result<(), RegisterError> {
        self.register_with(group, actor, GroupOverflow::Wait)
    }

    /// Does the same as [`register`](Transport::register), with a choice of what happens while the actor
    /// is slow.
    ///
    /// # Errors
    ///
    /// As for [`register`](Transport::register).
    pub fn register_with(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
        overflow: GroupOverflow,
    ) -> Result<(), RegisterError> {
        let groups = &self.0.receive.groups;
        groups.register(group, Group::new(actor, overflow))
    }

    /// Registers actors for many groups at once, each as [`register`](Transport::register) does. The table
    /// of groups changes once for all of them: a frame finds either all of them registered or none.
    ///
    /// # Errors
    ///
    /// As for [`register`](Transport::register), or if a group is given twice. None of the groups is
    /// registered then.
    pub fn register_all(
        &self,
        groups: impl IntoIterator<Item = (GroupId, Recipient<Inbound>)>,
    ) -> Result<(), RegisterError> {
        self.register_all_with(groups, GroupOverflow::Wait)
    }

    /// Does the same as [`register_all`](Transport::register_all), with a choice of what happens while an
    /// actor is slow. The choice counts for each group by itself.
    ///
    /// # Errors
    ///
    /// As for [`register_all`](Transport::register_all).
    pub fn register_all_with(
        &self,
        groups: impl IntoIterator<Item = (GroupId, Recipient<Inbound>)>,
        overflow: GroupOverflow,
    ) -> Result<(), RegisterError> {
        let rows = Group::rows(groups, overflow);
        self.0.receive.groups.register_all(rows)
    }

    /// Replaces the actor that serves `group`, and returns the old one. Frames on their way to the old
    /// actor still reach it. The group's [`GroupOverflow`] is kept; it is
    /// [`GroupOverflow::Wait`] if nobody served the group.
    ///
    /// # Errors
    ///
    /// If the group is reserved, or the transport has stopped.
    pub fn replace(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
    ) -> Result<Option<Recipient<Inbound>>, RegisterError> {
        let old = self.0.receive.groups.replace(group, actor)?;
        Ok(old.map(|row| row.actor.clone()))
    }

    /// Removes the registration of `group`, and returns its actor, or `None` if there was none. The group's
    /// frames then go to the [catch-all](Transport::catch_all) actor, if there is one.
    pub fn unregister(&self, group: GroupId) -> Option<Recipient<Inbound>> {
        let row = self.0.receive.groups.unregister(group)?;
        Some(row.actor.clone())
    }

    /// Lets `actor` serve all groups that no other actor serves; `None` ends that. While it is slow, the
    /// connections wait ([`GroupOverflow::Wait`]). Frames that nobody serves are dropped and counted as
    /// [`DropReason::NoGroup`](crate::DropReason::NoGroup). Does nothing after the transport has stopped.
    pub fn catch_all(&self, actor: Option<Recipient<Inbound>>) {
        self.set_catch_all(actor.map(|actor| CatchAll {
            actor,
            in_order: false,
        }));
    }

    /// As [`catch_all`](Transport::catch_all), but `actor` gets the frames of all these groups in the order in which they
    /// came on a connection, and not group by group: an [`Inbound`] then has frames of several groups.
    /// [`Inbound::next_frame`] gives each with its group.
    ///
    /// For an actor that serves many groups and needs the order across them. Frames of groups that have actors of their own
    /// go there, in no order with these. Each lane is a connection of its own. A message in parts comes where its last part
    /// came. The order begins with the batch after this call.
    ///
    /// [`Inbound::gap`] speaks of all these groups together: [`Gap::FirstContact`](crate::Gap::FirstContact) comes once for
    /// a sender, and [`Gap::Lost`](crate::Gap::Lost) may be about any of them. An actor that takes a group over from one of
    /// its own does not hear of what was lost before. [`PeerEvent::Dropped`](crate::PeerEvent::Dropped) names no group.
    ///
    /// ```
    /// use actix::prelude::*;
    /// use actix_transport::Inbound;
    ///
    /// struct Log;
    ///
    /// impl Actor for Log {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Handler<Inbound> for Log {
    ///     type Result = ();
    ///
    ///     fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
    ///         while let Some((group, payload)) = inbound.next_frame() {
    ///             println!("{} bytes for group {group}", payload.len());
    ///         }
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// transport.catch_all_in_order(Log.start().recipient());
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn catch_all_in_order(&self, actor: Recipient<Inbound>) {
        self.set_catch_all(Some(CatchAll {
            actor,
            in_order: true,
        }));
    }

    pub(super) fn set_catch_all(&self, catch_all: Option<CatchAll>) {
        self.0.receive.groups.catch_all(catch_all);
    }
}
