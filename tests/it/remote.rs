//! Actors of other nodes are asked with the messages that they handle. A message that is not understood costs its own
//! call only.

mod codecs;
mod endings;
mod messages;
mod raw_messages;
mod unruly;
mod versions;

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{
    BindError, CallError, Config, GroupId, RegisterError, RemoteError, RemoteRecipient, Serve,
    Shutdown, Transport, Unserve,
};
use futures::future::join_all;

use self::messages::*;
use crate::support::*;

const MS: Duration = Duration::from_millis(1);
const STORE: GroupId = GroupId::new(78);

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

fn pair(config: &Config) -> [Transport; 2] {
    [1, 2].map(|node| node_of(config.clone(), node))
}

/// Serves all messages of a store at this node.
fn serve_store(transport: &Transport, store: &Addr<Store>) {
    transport
        .serve::<Get>(STORE, store.clone())
        .expect("free id");
    transport
        .serve::<Put>(STORE, store.clone())
        .expect("free id");
    transport
        .serve::<Slow>(STORE, store.clone())
        .expect("free id");
}

fn to<M: actix_transport::RemoteMessage>(from: &Transport, at: &Transport) -> RemoteRecipient<M> {
    let peer = from.peer(at.local_addr()).expect("usable");
    peer.recipient(STORE)
}

/// Waits until nothing is pending or served, and checks the sums.
async fn settled(transports: &[Transport]) {
    until("all calls have ended", || {
        transports.iter().all(|transport| {
            let stats = transport.stats();
            stats.balance().expect("balances");
            stats.calls.pending == 0 && stats.served.serving == 0
        })
    })
    .await;
}

#[test]
fn a_message_is_handled_by_the_actor_that_serves_it_and_its_result_comes_back() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let store = Store::default().start();
            serve_store(&b, &store);
            let (put, get) = (to::<Put>(&a, &b), to::<Get>(&a, &b));
            assert_eq!(put.send(Put::new("colour", "red")).await, Ok(None));
            let former = put.send(Put::new("colour", "blue")).await;
            assert_eq!(former, Ok(Some("red".into())));
            assert_eq!(get.send(Get::of("colour")).await, Ok(Ok("blue".into())));
            settled(&[a.clone(), b.clone()]).await;
            let (calls, served) = (a.stats().calls, b.stats().served);
            assert_eq!((calls.called, calls.answered), (3, 3));
            assert_eq!((served.received, served.answered), (3, 3));
            end([a, b]).await;
        });
    }
}

#[test]
fn an_error_of_the_handler_is_a_result() {
    run(async {
        let [a, b] = pair(&Config::default());
        serve_store(&b, &Store::default().start());
        let missing = to::<Get>(&a, &b).send(Get::of("nothing")).await;
        let key = "nothing".to_owned();
        assert_eq!(missing, Ok(Err(Missing { key })));
        assert_eq!(a.stats().calls.failed.total(), 0);
        end([a, b]).await;
    });
}

#[test]
fn one_handle_takes_all_messages_of_an_actor() {
    run(async {
        let [a, b] = pair(&Config::default());
        serve_store(&b, &Store::default().start());
        let peer = a.peer(b.local_addr()).expect("usable");
        let store = peer.remote_addr::<Store>(STORE);
        assert_eq!(store.send(Put::new("colour", "red")).await, Ok(None));
        store.do_send(Put::new("size", "12"));
        store.try_send(Put::new("shape", "round")).expect("room");
        // In order, so the others have been handled.
        assert_eq!(store.send(Get::of("size")).await, Ok(Ok("12".into())));
        let shape = store.recipient::<Get>().send(Get::of("shape")).await;
        assert_eq!(shape, Ok(Ok("round".into())));
        end([a, b]).await;
    });
}

#[test]
fn many_messages_in_both_directions_get_each_its_own_result() {
    for config in placements() {
        run(async {
            let nodes = pair(&config);
            for node in &nodes {
                serve_store(node, &Store::default().start());
            }
            let [a, b] = &nodes;
            let puts = [to::<Put>(a, b), to::<Put>(b, a)];
            let gets = [to::<Get>(a, b), to::<Get>(b, a)];
            join_all((0..1_000).map(async |index: usize| {
                let (way, key) = (index % 2, index.to_string());
                let value = key.repeat(index % 50 * 20 + 1);
                let former = puts[way].send(Put::new(&key, &value)).await;
                assert_eq!(former, Ok(None));
                assert_eq!(gets[way].send(Get { key }).await, Ok(Ok(value)));
            }))
            .await;
            settled(&nodes).await;
            end(nodes).await;
        });
    }
}

#[test]
fn a_message_whose_result_is_not_wanted_is_handled_and_counted() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            serve_store(&b, &Store::default().start());
            let put = to::<Put>(&a, &b);
            for index in 0..100 {
                put.do_send(Put::new(&index.to_string(), "there"));
            }
            // Longer than a frame, so it goes in parts.
            let long = "x".repeat(12 << 20);
            put.try_send(Put::new("long", &long)).expect("room");
            let get = to::<Get>(&a, &b);
            assert_eq!(get.send(Get::of("99")).await, Ok(Ok("there".into())));
            settled(&[a.clone(), b.clone()]).await;
            assert_eq!(get.send(Get::of("long")).await, Ok(Ok(long)));
            settled(&[a.clone(), b.clone()]).await;
            let calls = a.stats().calls;
            assert_eq!((calls.called, calls.answered), (103, 103));
            assert_eq!(b.stats().served.answered, 103);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_message_that_finds_no_room_comes_back_and_one_that_is_only_sent_is_counted() {
    run(async {
        let [a, b] = pair(&Config::default().peer_calls(1));
        serve_store(&b, &Store::default().start());
        let slow = to::<Slow>(&a, &b);
        slow.try_send(Slow { millis: 100 }).expect("room");
        let refused = slow.try_send(Slow { millis: 7 }).expect_err("no room");
        assert_eq!(refused.error, RemoteError::Call(CallError::Full));
        assert_eq!(refused.message.millis, 7);
        slow.do_send(Slow { millis: 8 });
        assert_eq!(a.stats().calls.failed.full, 2);
        // This one waits for room.
        assert_eq!(slow.send(Slow { millis: 0 }).await, Ok(0));
        settled(&[a.clone(), b.clone()]).await;
        assert_eq!(b.stats().served.received, 2);
        end([a, b]).await;
    });
}

#[test]
fn errors_of_messages_whose_result_is_not_wanted_are_counted() {
    run(async {
        let [a, b] = pair(&Config::default());
        let put = to::<Put>(&a, &b);
        put.do_send(Put::new("nobody", "serves this"));
        settled(&[a.clone(), b.clone()]).await;
        assert_eq!(a.stats().calls.failed.no_handler, 1);
        a.stop(Shutdown::Now).await;
        let refused = put.try_send(Put::new("too", "late")).expect_err("stopped");
        assert_eq!(refused.error, RemoteError::Call(CallError::Stopped));
        end([a, b]).await;
    });
}

#[test]
fn a_handler_may_take_its_time() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            serve_store(&b, &Store::default().start());
            let slow = to::<Slow>(&a, &b);
            let sent = [30, 20, 10].map(|millis| slow.send(Slow { millis }));
            assert_eq!(join_all(sent).await, [Ok(30), Ok(20), Ok(10)]);
            let late = slow.send(Slow { millis: 10_000 }).deadline(50 * MS);
            let expected = RemoteError::Call(CallError::Deadline { sent: true });
            assert_eq!(late.await, Err(expected));
            settled(&[a.clone(), b.clone()]).await;
            assert_eq!(b.stats().served.expired, 1);
            end([a, b]).await;
        });
    }
}

#[test]
fn an_id_is_served_once_in_a_group_and_messages_and_calls_do_not_share_one() {
    run(async {
        let b = node_of(Config::default(), 2);
        let store = Store::default().start();
        serve_store(&b, &store);
        let id = <Get as actix_transport::RemoteMessage>::ID;
        let taken = RegisterError::TakenMessage { group: STORE, id };
        assert_eq!(b.serve::<Get>(STORE, store.clone()), Err(taken));
        let calls = b.serve_fn(STORE, 1, |call| async move { call.reply("") });
        assert_eq!(calls, Err(RegisterError::Taken(STORE)));
        b.serve_fn(group(1), 1, |call| async move { call.reply("") })
            .expect("free");
        let messages = b.serve::<Get>(group(1), store.clone());
        assert_eq!(messages, Err(RegisterError::Taken(group(1))));
        let reserved = b.serve::<Get>(GroupId::RESERVED, store.clone());
        assert_eq!(reserved, Err(RegisterError::Reserved));
        assert!(b.unserve::<Get>(STORE) && !b.unserve::<Get>(STORE));
        b.serve::<Get>(STORE, store.clone()).expect("free again");
        assert!(b.unserve_calls(STORE), "all of them");
        b.serve::<Get>(STORE, store).expect("free again");
        end([b]).await;
    });
}

#[test]
fn messages_given_to_the_builder_are_served_and_each_only_once() {
    run(async {
        let store = Store::default().start();
        let builder = Transport::builder().identity(identity(1));
        let builder = builder
            .serve::<Put>(STORE, store.clone())
            .serve::<Get>(STORE, store.clone());
        let me = builder.clone().bind("127.0.0.1:0").expect("free port");
        let former = to(&me, &me).send(Put::new("a", "1")).await;
        assert_eq!(former, Ok(None));
        let got = to(&me, &me).send(Get::of("a")).await;
        assert_eq!(got, Ok(Ok("1".to_owned())));
        end([me]).await;

        let twice = builder.serve::<Get>(STORE, store);
        let id = <Get as actix_transport::RemoteMessage>::ID;
        let refused = twice.bind("127.0.0.1:0");
        let Err(BindError::Register(why)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(why, RegisterError::TakenMessage { group: STORE, id });
    });
}

#[test]
fn messages_are_served_and_served_no_more_by_actix_message() {
    run(async {
        let me = node_of(Config::default(), 1);
        until("started", || me.node().is_some()).await;
        let node = me.node().expect("just was");
        let store = Store::default().start();
        let serve = || Serve::<Get> {
            group: STORE,
            actor: store.clone().recipient(),
        };
        let id = <Get as actix_transport::RemoteMessage>::ID;

        assert_eq!(node.send(serve()).await.expect("runs"), Ok(()));
        let key = "a".to_owned();
        let missing = to(&me, &me).send(Get::of("a")).await;
        assert_eq!(missing, Ok(Err(Missing { key })));
        let refused = node.send(serve()).await.expect("runs");
        let taken = RegisterError::TakenMessage { group: STORE, id };
        assert_eq!(refused, Err(taken));

        assert_eq!(node.send(Unserve::<Get>::new(STORE)).await, Ok(true));
        let refused = to(&me, &me).send(Get::of("a")).await;
        let Err(RemoteError::Unknown { id: unknown, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(unknown, id);
        assert_eq!(node.send(Unserve::<Get>::new(STORE)).await, Ok(false));
        end([me]).await;
    });
}
