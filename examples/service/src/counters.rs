//! The actor that keeps the counters of a node, and the message that other nodes ask it with.

use std::collections::HashMap;

use actix::prelude::*;
use actix_transport::{GroupId, RemoteMessage};
use serde::{Deserialize, Serialize};

/// The group that the counters of each node are served in.
pub(crate) const COUNTERS: GroupId = GroupId::new(1);

/// Adds one to a counter, and returns what it is then.
#[derive(Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "u64")]
#[remote(id = 1, max_bytes = 1024)]
pub(crate) struct Increment {
    pub(crate) counter: String,
}

/// Counts in memory only: after a restart all begins at zero.
#[derive(Default)]
pub(crate) struct Counters(HashMap<String, u64>);

impl Actor for Counters {
    type Context = Context<Self>;
}

impl Handler<Increment> for Counters {
    type Result = u64;

    fn handle(&mut self, increment: Increment, _: &mut Context<Self>) -> u64 {
        let counter = self.0.entry(increment.counter).or_default();
        *counter += 1;
        *counter
    }
}
