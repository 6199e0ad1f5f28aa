//! The preludes of actix and of this crate can be imported side by side.

use std::any::type_name;

// Both are used below: a name that is in both would be an error of the compiler.
use actix::prelude::*;
use actix_transport::prelude::*;

use crate::support::{balanced, run};

struct Ignoring;

impl Actor for Ignoring {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Ignoring {
    type Result = ();

    fn handle(&mut self, _: Inbound, _: &mut Context<Self>) {}
}

impl Handler<PeerEvent> for Ignoring {
    type Result = ();

    fn handle(&mut self, _: PeerEvent, _: &mut Context<Self>) {}
}

#[test]
fn a_program_that_imports_both_preludes_gets_the_send_error_that_it_names() {
    run(async {
        let builder: Builder = Transport::builder().config(Config::default());
        let actor: Addr<Ignoring> = Ignoring.start();
        let bound: Result<Transport, BindError> = builder
            .register(GroupId::new(1), actor.clone().recipient())
            .subscribe(actor.recipient())
            .bind("127.0.0.1:0");
        let transport = bound.expect("free port");
        let peer: Result<Peer, PeerError> = transport.peer(transport.local_addr());
        let refused: Result<(), TransportSendError<&str>> =
            peer.expect("room").try_send(GroupId::RESERVED, "back");
        assert_eq!(refused.expect_err("reserved").into_payload(), "back");
        balanced([&transport]);
        let _: StopReport = transport.stop(Shutdown::Now).await;
    });
    assert!(type_name::<TransportSendError<()>>().starts_with("actix_transport::"));
    assert!(type_name::<SendError<()>>().starts_with("actix::"));
}

/// Each name of our prelude is used once, so that a clash with actix' does not go unseen.
#[test]
fn no_other_name_is_in_both_preludes() {
    let names = [
        type_name::<Count>(),
        type_name::<DownReason>(),
        type_name::<DropReason>(),
        type_name::<GroupOverflow>(),
        type_name::<Identity>(),
        type_name::<Incarnation>(),
        type_name::<Node>(),
        type_name::<NodeId>(),
        type_name::<Overflow>(),
        type_name::<PeerAddr>(),
        type_name::<Placement>(),
        type_name::<RefusedReason>(),
        type_name::<Register>(),
        type_name::<RegisterAll>(),
        type_name::<RegisterError>(),
        type_name::<Replace>(),
        type_name::<SendFrame>(),
        type_name::<Sessions>(),
        type_name::<Stats>(),
        type_name::<Subscribe>(),
        type_name::<Unregister>(),
        type_name::<Via>(),
    ];
    fn payload<P: Payload>(_: P) {}
    payload("a payload");
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("actix_transport::"))
    );
}
