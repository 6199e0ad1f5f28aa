//! A store, and its messages.

use std::{collections::HashMap, time::Duration};

use actix::prelude::*;
use actix_transport::RemoteMessage;
use serde::{Deserialize, Serialize};

#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Result<String, Missing>")]
#[remote(id = 1)]
pub(super) struct Get {
    pub(super) key: String,
}

impl Get {
    pub(super) fn of(key: &str) -> Self {
        let key = key.to_owned();
        Get { key }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Missing {
    pub(super) key: String,
}

/// Answered with the former value.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Option<String>")]
#[remote(id = 2)]
pub(super) struct Put {
    key: String,
    value: String,
}

impl Put {
    pub(super) fn new(key: &str, value: &str) -> Self {
        let (key, value) = (key.to_owned(), value.to_owned());
        Put { key, value }
    }
}

/// Answered after so long, with the same number.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "u64")]
#[remote(id = 3)]
pub(super) struct Slow {
    pub(super) millis: u64,
}

/// Answered with the number of messages handled so far. See `Busy`.
#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "usize")]
#[remote(id = 4)]
pub(super) struct Block;

#[derive(Default)]
pub(super) struct Store(HashMap<String, String>);

impl Actor for Store {
    type Context = Context<Self>;
}

impl Handler<Get> for Store {
    type Result = Result<String, Missing>;

    fn handle(&mut self, Get { key }: Get, _: &mut Context<Self>) -> Self::Result {
        assert_ne!(key, "panic", "caused by this test");
        let value = self.0.get(&key).cloned();
        value.ok_or(Missing { key })
    }
}

impl Handler<Put> for Store {
    type Result = Option<String>;

    fn handle(&mut self, Put { key, value }: Put, _: &mut Context<Self>) -> Self::Result {
        self.0.insert(key, value)
    }
}

impl Handler<Slow> for Store {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, Slow { millis }: Slow, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            millis
        })
    }
}
