//! The actix messages that do what the transport's methods do.

use actix::prelude::*;
use actix_transport::{
    Call, CallError, Config, GroupId, GroupOverflow, Inbound, Node, PeerEvent, Register,
    RegisterAll, RegisterError, Replace, SendError, SendFrame, ServeCalls, Shutdown, Subscribe,
    Transport, Unregister, UnserveCalls,
};
use bytes::Bytes;

use crate::support::*;

/// Waits until the transport's `Node` runs, and returns its address.
async fn node_of(transport: &Transport) -> Addr<Node> {
    until("started", || transport.node().is_some()).await;
    transport.node().expect("just was")
}

fn register(index: u32, actor: &Recipient<Inbound>) -> Register {
    Register {
        group: group(index),
        actor: actor.clone(),
        overflow: GroupOverflow::Wait,
    }
}

#[test]
fn a_group_is_registered_replaced_and_unregistered_by_message() {
    for config in placements() {
        run(async {
            let b = node(config);
            let node = node_of(&b).await;
            let ((one, mut seen_one), (two, mut seen_two)) = (probe(), probe());
            let mut stream = dial(&b).await;

            let registered = node.send(register(1, &one)).await;
            assert_eq!(registered.expect("runs"), Ok(()));
            write_frames(&mut stream, &[(1, b"one")]).await;
            assert_eq!(seen_one.next().await.payload, "one");

            let refused = node.send(register(1, &two)).await.expect("runs");
            assert_eq!(refused, Err(RegisterError::Taken(group(1))));
            let many = |indexes: [u32; 2]| RegisterAll {
                groups: indexes.map(|index| (group(index), one.clone())).into(),
                overflow: GroupOverflow::Wait,
            };
            let refused = node.send(many([5, 1])).await.expect("runs");
            assert_eq!(refused, Err(RegisterError::Taken(group(1))));
            let registered = node.send(many([5, 6])).await.expect("runs");
            assert_eq!(registered, Ok(()));
            write_frames(&mut stream, &[(6, b"six")]).await;
            assert_eq!(seen_one.next().await.payload, "six");
            let replace = Replace {
                group: group(1),
                actor: two.clone(),
            };
            let replaced = node.send(replace).await.expect("runs");
            assert_eq!(replaced, Ok(Some(one.clone())));
            write_frames(&mut stream, &[(1, b"two")]).await;
            assert_eq!(seen_two.next().await.payload, "two");

            for index in [5, 6] {
                let unregister = Unregister {
                    group: group(index),
                };
                let former = node.send(unregister).await.expect("runs");
                assert_eq!(former, Some(one.clone()));
            }
            let unregister = Unregister { group: group(1) };
            let former = node.send(unregister).await.expect("runs");
            assert_eq!(former, Some(two));
            assert_eq!(node.send(unregister).await.expect("runs"), None);
            write_frames(&mut stream, &[(1, b"nobody's")]).await;
            until("counted", || b.stats().inbound.dropped.no_group.frames == 1).await;
            end([b]).await;
        });
    }
}

#[test]
fn a_group_registered_by_message_has_the_overflow_policy_that_the_message_names() {
    run(async {
        let b = node(Config::default());
        let (actor, _seen) = probe();
        let mut register = register(1, &actor);
        register.overflow = GroupOverflow::Drop { max_bytes: 0 };
        let registered = node_of(&b).await.send(register).await;
        assert_eq!(registered.expect("runs"), Ok(()));
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"no room")]).await;
        until("dropped", || b.stats().inbound.dropped.overflow.frames == 1).await;
        end([b]).await;
    });
}

#[test]
fn the_reserved_group_is_refused_by_message_too() {
    run(async {
        let b = node(Config::default());
        let node = node_of(&b).await;
        let (actor, _seen) = probe();
        let reserved = GroupId::RESERVED;
        let refused = node.send(register(reserved.get(), &actor)).await;
        assert_eq!(refused.expect("runs"), Err(RegisterError::Reserved));
        let replace = Replace {
            group: reserved,
            actor,
        };
        let refused = node.send(replace).await.expect("runs");
        assert_eq!(refused, Err(RegisterError::Reserved));
        let unregister = Unregister { group: reserved };
        assert_eq!(node.send(unregister).await.expect("runs"), None);
        end([b]).await;
    });
}

#[test]
fn a_frame_is_sent_by_message_and_a_refused_one_comes_back_with_its_payload() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone().max_frame(64)), node(config));
            let node = node_of(&a).await;
            let mut seen = serve(&b, [1]);
            let send = |index, payload: &'static [u8]| SendFrame {
                peer: b.local_addr(),
                group: index,
                payload: Bytes::from_static(payload),
            };
            let sent = node.send(send(group(1), b"by message")).await;
            sent.expect("runs").expect("room");
            assert_eq!(seen.next().await.payload, "by message");

            let refused = node.send(send(GroupId::RESERVED, b"reserved")).await;
            let refused = refused.expect("runs").expect_err("reserved");
            assert!(
                matches!(refused, SendError::ReservedGroup { .. }),
                "{refused}"
            );
            assert_eq!(refused.into_payload(), "reserved");
            let refused = node.send(send(group(1), &[7; 57])).await;
            let refused = refused.expect("runs").expect_err("too large");
            assert!(matches!(refused, SendError::TooLarge { .. }), "{refused}");
            assert_eq!(refused.into_payload(), &[7; 57][..]);
            let mut nowhere = send(group(1), b"nowhere");
            nowhere.peer.set_port(0);
            let refused = node.send(nowhere).await.expect("runs");
            let refused = refused.expect_err("unusable");
            assert!(matches!(refused, SendError::Address { .. }), "{refused}");
            until("written", || a.stats().tcp.written.frames == 1).await;
            assert_eq!(a.stats().tcp.accepted.frames, 1);
            end([a, b]).await;
        });
    }
}

/// An actor that reports each event to the test.
struct Observer(tokio::sync::mpsc::UnboundedSender<PeerEvent>);

impl Actor for Observer {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Observer {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = self.0.send(event);
    }
}

#[test]
fn a_subscriber_by_message_gets_all_events_up_to_the_stop() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let node = node_of(&a).await;
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let observer = Observer(tell).start().recipient();
            node.send(Subscribe { observer }).await.expect("runs");
            let frame = SendFrame {
                peer: b.local_addr(),
                group: group(1),
                payload: Bytes::from_static(b"here"),
            };
            let mut seen = serve(&b, [1]);
            node.send(frame).await.expect("runs").expect("room");
            seen.next().await;
            let up = told.recv().await.expect("subscribed");
            assert!(
                matches!(up, PeerEvent::Up { ref peer, epoch: 1, .. } if peer == b.local_addr()),
                "{up:?}"
            );
            a.stop(Shutdown::Now).await;
            let down = told.recv().await.expect("subscribed");
            assert!(
                matches!(down, PeerEvent::Down { ref peer, .. } if peer == b.local_addr()),
                "{down:?}"
            );
            end([b]).await;
        });
    }
}

#[test]
fn the_node_ends_with_its_transport() {
    for config in placements() {
        run(async {
            let b = node(config);
            let node = node_of(&b).await;
            assert!(node.connected());
            b.stop(Shutdown::Now).await;
            assert!(b.node().is_none());
            until("ended", || !node.connected()).await;
            let (actor, _seen) = probe();
            node.send(register(1, &actor)).await.expect_err("ended");
        });
    }
}

struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Call> for Echo {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Context<Self>) {
        let payload = call.payload().clone();
        call.reply(payload);
    }
}

#[test]
fn the_calls_of_a_group_are_served_and_served_no_more_by_message() {
    run(async {
        let builder = Transport::builder().identity(identity(1));
        let me = builder.bind("127.0.0.1:0").expect("free port");
        let node = node_of(&me).await;
        let peer = me.peer(me.local_addr()).expect("usable");
        let serve = || ServeCalls {
            group: group(1),
            actor: Echo.start().recipient(),
        };

        let served = node.send(serve()).await.expect("runs");
        assert_eq!(served, Ok(()));
        assert_eq!(peer.call(group(1), "one").await, Ok(Bytes::from("one")));
        let refused = node.send(serve()).await.expect("runs");
        assert_eq!(refused, Err(RegisterError::Taken(group(1))));

        let unserve = UnserveCalls { group: group(1) };
        assert_eq!(node.send(unserve).await, Ok(true));
        assert_eq!(peer.call(group(1), "two").await, Err(CallError::NoHandler));
        assert_eq!(node.send(unserve).await, Ok(false), "not served any more");
        me.stop(Shutdown::Now).await;
    });
}
