//! Shared helpers of the tests: running a test in its own actix system, probe actors that report
//! what they receive, and waiting until a fact holds.

mod by_hand;
mod control;
pub(crate) mod keys;
pub(crate) mod large;
mod log;
mod name_book;
mod process;
mod raw;
mod spans;
pub(crate) mod tls_client;

use std::{fmt::Debug, future::Future, time::Duration};

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, PeerEvent, Placement, Transport, Via};
use bytes::Bytes;
use tokio::sync::mpsc;

pub(crate) use self::{by_hand::*, control::*, log::*, name_book::*, process::*, raw::*, spans::*};

/// Nothing here takes this long, even on a slow machine. A fact that does not hold by then never
/// will.
const LONG: Duration = Duration::from_secs(20);

/// Runs a test in an actix system of its own.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    System::new().block_on(async {
        tokio::time::timeout(3 * LONG, test)
            .await
            .expect("test hangs");
    });
}

/// A transport on a free port.
pub(crate) fn node(config: Config) -> Transport {
    Transport::builder()
        .config(config)
        .bind("127.0.0.1:0")
        .expect("free port")
}

/// The default settings with each of the placements of the transport's actors.
pub(crate) fn placements() -> [Config; 3] {
    let one = Placement::Dedicated {
        readers: 1,
        writers: 1,
    };
    [one, Placement::Shared { arbiters: 1 }, Placement::Current]
        .map(|placement| Config::default().placement(placement))
}

pub(crate) fn group(index: u32) -> GroupId {
    GroupId::new(index)
}

/// A frame that a [`Probe`] received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Got {
    pub(crate) group: u32,
    pub(crate) payload: Bytes,
    pub(crate) via: Via,
}

/// An actor that reports each frame or event it receives to the test.
pub(crate) struct Probe<T>(mpsc::UnboundedSender<T>);

impl<T: Unpin + 'static> Actor for Probe<T> {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Probe<Got> {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (group, via) = (inbound.group().get(), inbound.via());
        for payload in inbound {
            // The test may already have dropped its end.
            let _ = self.0.send(Got {
                group,
                payload,
                via,
            });
        }
    }
}

impl Handler<PeerEvent> for Probe<PeerEvent> {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = self.0.send(event);
    }
}

/// The test's end of a [`Probe`].
pub(crate) struct Seen<T>(mpsc::UnboundedReceiver<T>);

impl<T: Debug> Seen<T> {
    pub(crate) async fn next(&mut self) -> T {
        let next = tokio::time::timeout(LONG, self.0.recv()).await;
        next.expect("nothing came").expect("the probe ended")
    }

    /// Waits for the first item that is `wanted`, and discards those before it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            let next = self.next().await;
            if wanted(&next) {
                return next;
            }
        }
    }

    /// Waits until the probe has ended, and fails if it reports anything more.
    pub(crate) async fn end(mut self) {
        let end = tokio::time::timeout(LONG, self.0.recv()).await;
        assert!(end.expect("the probe lives on").is_none());
    }

    pub(crate) fn try_next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// Registers one probe for all these groups.
pub(crate) fn serve(transport: &Transport, groups: impl IntoIterator<Item = u32>) -> Seen<Got> {
    let (tell, seen) = mpsc::unbounded_channel();
    let probe = Probe(tell).start();
    for index in groups {
        transport
            .register(group(index), probe.clone().recipient())
            .expect("free group");
    }
    Seen(seen)
}

/// Subscribes a probe to a transport's events.
pub(crate) fn watch(transport: &Transport) -> Seen<PeerEvent> {
    let (subscriber, seen) = observer();
    transport.subscribe(subscriber);
    seen
}

/// A probe for events that is not subscribed yet.
pub(crate) fn observer() -> (Recipient<PeerEvent>, Seen<PeerEvent>) {
    let (tell, seen) = mpsc::unbounded_channel();
    (Probe(tell).start().recipient(), Seen(seen))
}

/// Waits until `fact` holds.
pub(crate) async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let waiting = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let came = tokio::time::timeout(LONG, waiting).await;
    assert!(came.is_ok(), "never came true: {what}");
}

/// The bytes of a frame on the wire.
pub(crate) fn wire(group: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short") + 8;
    [&length.to_be_bytes()[..], &group.to_le_bytes(), payload].concat()
}

/// Asserts that the counters of these transports balance: every frame is counted in exactly one
/// place.
pub(crate) fn balanced<'t>(transports: impl IntoIterator<Item = &'t Transport>) {
    for transport in transports {
        let stats = transport.stats();
        stats
            .balance()
            .unwrap_or_else(|err| panic!("{err}: {stats:#?}"));
    }
}
