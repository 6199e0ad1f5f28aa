//! Bytes that are no message of the group give their caller an error, and the actor hears nothing of them.

use actix_transport::{CallError, Config, NotUnderstood, RemoteError, RemoteMessage};
use bytes::Bytes;

use super::{STORE, messages::*, pair, serve_store, settled, to};
use crate::support::*;
use actix::Actor;

#[test]
fn a_message_that_the_group_does_not_serve_is_named_in_the_error() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            b.serve::<Get>(STORE, Store::default().start())
                .expect("free id");
            let unknown = to::<Put>(&a, &b).send(Put::new("a", "b")).await;
            let message = std::any::type_name::<Put>();
            let id = Put::ID;
            let expected = RemoteError::Unknown { message, id };
            assert_eq!(unknown, Err(expected.clone()));
            let text = format!("{message}: the group serves no messages with id 2");
            assert_eq!(expected.to_string(), text);
            settled(&[a.clone(), b.clone()]).await;
            assert_eq!(a.stats().calls.failed.not_understood, 1);
            assert_eq!(b.stats().served.not_understood, 1);
            end([a, b]).await;
        });
    }
}

#[test]
fn bytes_that_are_no_message_are_refused_one_by_one() {
    run(async {
        let [a, b] = pair(&Config::default());
        serve_store(&b, &Store::default().start());
        let peer = a.peer(b.local_addr()).expect("usable");
        let refused = async |call: &'static [u8]| match peer.call(STORE, call).await {
            Err(CallError::NotUnderstood(why)) => why,
            other => panic!("{call:?}: {other:?}"),
        };
        let is_undecodable = |why: &NotUnderstood| matches!(why, NotUnderstood::Undecodable { .. });
        assert!(is_undecodable(&refused(b"").await), "no head");
        assert!(is_undecodable(&refused(b"\0\0\0\x01\0\x01\0").await), "cut");
        assert!(is_undecodable(&refused(b"\0\0\0\x01\0\x01\0\x09a").await));
        assert_eq!(
            refused(b"\0\0\0\x63\0\x01\0\0").await,
            NotUnderstood::Unknown
        );
        let newer = refused(b"\0\0\0\x01\0\x02\0\0\x01a").await;
        assert_eq!(newer, NotUnderstood::Version { known: 1 });
        assert!(is_undecodable(&refused(b"\0\0\0\x01\0\x01\0\0").await));
        // A key of 4 GiB, of which three bytes are there.
        let announced = refused(b"\0\0\0\x01\0\x01\0\0\xff\xff\xff\xff\x0fabc").await;
        assert!(is_undecodable(&announced));
        assert!(is_undecodable(
            &refused(b"\0\0\0\x01\0\x01\0\0\x01\xff").await
        ));
        assert_eq!(b.stats().served.not_understood, 8);
        // Fields before the message, of a later release, are skipped.
        let later = Bytes::from_static(b"\0\0\0\x01\0\x01\0\x03abc\x03key");
        assert_eq!(peer.call(STORE, later).await, Ok("\x01\x03key".into()));
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}
