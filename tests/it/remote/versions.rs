//! Nodes of two releases understand each other, or say what they do not understand.

use actix::prelude::*;
use actix_transport::{Config, RemoteError, RemoteMessage};
use serde::{Deserialize, Serialize};

use super::{STORE, pair, to};
use crate::support::*;

/// What nodes send before the update.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "OldPage")]
#[remote(id = 20)]
struct OldList {
    prefix: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MessageResponse)]
struct OldPage {
    prefix: String,
}

/// What they send after it: fields were added to the message and to its result.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "NewPage")]
#[remote(id = 20)]
struct NewList {
    prefix: String,
    #[serde(default = "ten")]
    limit: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MessageResponse)]
struct NewPage {
    prefix: String,
    #[serde(default)]
    limit: Option<u32>,
}

fn ten() -> u32 {
    10
}

/// The same with a version that older nodes refuse, because they must not leave out `delete`.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "NewPage")]
#[remote(id = 20, version = 2)]
struct StrictList {
    prefix: String,
    #[serde(default)]
    delete: bool,
}

struct Lister;

impl Actor for Lister {
    type Context = Context<Self>;
}

impl Handler<OldList> for Lister {
    type Result = OldPage;

    fn handle(&mut self, OldList { prefix }: OldList, _: &mut Context<Self>) -> OldPage {
        OldPage { prefix }
    }
}

impl Handler<NewList> for Lister {
    type Result = NewPage;

    fn handle(&mut self, list: NewList, _: &mut Context<Self>) -> NewPage {
        NewPage {
            prefix: list.prefix,
            limit: Some(list.limit),
        }
    }
}

impl Handler<StrictList> for Lister {
    type Result = NewPage;

    fn handle(&mut self, list: StrictList, _: &mut Context<Self>) -> NewPage {
        NewPage {
            prefix: list.prefix,
            limit: Some(u32::from(list.delete)),
        }
    }
}

fn prefix() -> String {
    "a".to_owned()
}

#[test]
fn a_field_can_be_added_while_nodes_of_both_releases_are_there() {
    run(async {
        let [old, new] = pair(&Config::default());
        old.serve::<OldList>(STORE, Lister.start())
            .expect("free id");
        new.serve::<NewList>(STORE, Lister.start())
            .expect("free id");
        let (prefix, limit) = (prefix(), 3);
        let asked = to::<OldList>(&old, &new).send(OldList { prefix }).await;
        let prefix = self::prefix();
        assert_eq!(asked, Ok(OldPage { prefix }), "the new field is skipped");
        let prefix = self::prefix();
        let to_old = to::<NewList>(&new, &old).send(NewList { prefix, limit });
        let (prefix, limit) = (self::prefix(), None);
        assert_eq!(to_old.await, Ok(NewPage { prefix, limit }));
        // What the old node did not say has the default that the new one gives it.
        let peer = old.peer(new.local_addr()).expect("usable");
        let by_hand = peer.call(STORE, &b"\0\0\0\x14\0\x01\0\0\x01a"[..]).await;
        assert_eq!(by_hand, Ok("\x01a\x01\x0a".into()));
        end([old, new]).await;
    });
}

#[test]
fn a_newer_version_is_refused_and_an_older_one_is_not() {
    run(async {
        let [old, new] = pair(&Config::default());
        old.serve::<OldList>(STORE, Lister.start())
            .expect("free id");
        new.serve::<StrictList>(STORE, Lister.start())
            .expect("free id");
        let (prefix, delete) = (prefix(), true);
        let refused = to::<StrictList>(&new, &old).send(StrictList { prefix, delete });
        let expected = RemoteError::Version {
            message: std::any::type_name::<StrictList>(),
            version: 2,
            known: 1,
        };
        assert_eq!(refused.await, Err(expected));
        assert_eq!(old.stats().served.not_understood, 1);
        assert_eq!(new.stats().calls.failed.not_understood, 1);
        let prefix = self::prefix();
        let taken = to::<OldList>(&old, &new).send(OldList { prefix }).await;
        let prefix = self::prefix();
        assert_eq!(taken, Ok(OldPage { prefix }));
        end([old, new]).await;
    });
}
