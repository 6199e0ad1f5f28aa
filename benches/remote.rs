//! What a typed message costs beside a call whose ends encode and decode the same bytes themselves.
//!
//! ```text
//! cargo bench --bench remote
//! ```
//!
//! Both ends run on one arbiter, and the two ways take turns. The figures are processor time, which other programs disturb
//! less than time by the clock. The aim is at most 5 % more.

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{
    Call, Codec, Config, GroupId, Identity, NodeId, Peer, Placement, Postcard, RemoteMessage,
    RemoteRecipient, Shutdown, Transport,
};
use bytes::BytesMut;
use futures::future::join_all;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

const BYTES: GroupId = GroupId::new(1);
const TYPED: GroupId = GroupId::new(2);

#[derive(Clone, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Result<String, u32>")]
#[remote(id = 1)]
struct Get {
    key: String,
    number: u64,
}

struct Store;

impl Actor for Store {
    type Context = Context<Self>;
}

impl Handler<Get> for Store {
    type Result = Result<String, u32>;

    fn handle(&mut self, get: Get, _: &mut Context<Self>) -> Self::Result {
        Ok(get.key)
    }
}

impl Handler<Call> for Store {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Context<Self>) {
        let get: Get = Postcard::decode(call.payload().clone()).expect("was written so");
        let mut answer = BytesMut::with_capacity(128);
        Postcard::encode(&Ok::<_, u32>(get.key), &mut answer).expect("can be written");
        call.reply(answer);
    }
}

async fn by_bytes(peer: &Peer, get: Get) -> String {
    let mut call = BytesMut::with_capacity(128);
    Postcard::encode(&get, &mut call).expect("can be written");
    let answer = peer.call(BYTES, call).await.expect("answered");
    let result: Result<String, u32> = Postcard::decode(answer).expect("was written so");
    result.expect("there")
}

async fn typed(recipient: &RemoteRecipient<Get>, get: Get) -> String {
    let result = recipient.send(get).await.expect("answered");
    result.expect("there")
}

/// Returns the processor time of this process.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("not negative")
}

/// Returns how long one call takes.
async fn timed<F: Future<Output = String>>(
    calls: u32,
    at_a_time: u32,
    call: impl Fn() -> F,
) -> f64 {
    let begun = now();
    for _ in 0..calls / at_a_time {
        join_all((0..at_a_time).map(|_| call())).await;
    }
    (now() - begun).as_secs_f64() * 1e6 / f64::from(calls)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (turns, calls) = if quick { (5, 1 << 10) } else { (61, 1 << 13) };
    System::new().block_on(async {
        let [a, b] = [1, 2].map(|node| {
            Transport::builder()
                .config(Config::default().placement(Placement::Current))
                .identity(Identity::new(NodeId::new(node)))
                .bind("127.0.0.1:0")
                .expect("free port")
        });
        let store = Store.start();
        b.serve_calls(BYTES, store.clone().recipient())
            .expect("free");
        b.serve::<Get>(TYPED, store).expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let recipient = peer.recipient::<Get>(TYPED);
        for (length, at_a_time) in [(16, 64), (4_096, 64), (16, 1)] {
            let get = Get {
                key: "x".repeat(length),
                number: 7,
            };
            let (mut bytes, mut ratios) = (Vec::new(), Vec::new());
            for _ in 0..turns {
                let by_bytes = timed(calls, at_a_time, || by_bytes(&peer, get.clone())).await;
                let typed = timed(calls, at_a_time, || typed(&recipient, get.clone())).await;
                bytes.push(by_bytes);
                ratios.push(typed / by_bytes);
            }
            let (bytes, ratio) = (median(bytes), median(ratios));
            println!(
                "remote: {length} B, {at_a_time} at a time: {bytes:.2} us of processor time by bytes, typed {:+.1} %",
                (ratio - 1.0) * 100.0
            );
        }
        a.stop(Shutdown::Now).await;
        b.stop(Shutdown::Now).await;
    });
}
