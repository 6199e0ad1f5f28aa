//! The order of frames across links, and frames that are missing: the receiver is told, exactly.

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{
    Config, Gap, GroupOverflow, Identity, Inbound, NodeId, PeerEvent, Sessions, Transport,
};
use tokio::{net::TcpStream, sync::mpsc};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// One frame of a batch, and what the batch said of those before it. Only the first of a batch has that.
type Told = (u32, String, Option<Gap>);

struct Listens(mpsc::UnboundedSender<Told>);

impl Actor for Listens {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Listens {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (group, mut gap) = (inbound.group().get(), inbound.gap());
        for payload in inbound {
            let text = String::from_utf8(payload.to_vec()).expect("text");
            let _ = self.0.send((group, text, gap.take()));
        }
    }
}

struct Ear(mpsc::UnboundedReceiver<Told>);

impl Ear {
    fn of(transport: &Transport, groups: impl IntoIterator<Item = u32>) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let actor = Listens(tell).start();
        for index in groups {
            let actor = actor.clone().recipient();
            transport.register(group(index), actor).expect("free group");
        }
        Ear(told)
    }

    async fn next(&mut self) -> Told {
        let next = tokio::time::timeout(Duration::from_secs(20), self.0.recv()).await;
        next.expect("nothing came").expect("the actor lives")
    }

    async fn expect(&mut self, group: u32, text: &str, gap: Option<Gap>) {
        assert_eq!(self.next().await, (group, text.to_owned(), gap));
    }
}

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

/// Connects as node 1 in its fourth incarnation, and says this behind the `Hello`.
async fn saying(transport: &Transport, frames: &[&[u8]]) -> TcpStream {
    let mut stream = dial(transport).await;
    let bytes = [&[&hello(1, 4)[..]], frames].concat().concat();
    write(&mut stream, &bytes).await;
    stream
}

async fn gap_of(events: &mut Seen<PeerEvent>) -> (u64, u64) {
    let event = events.until(|event| matches!(event, PeerEvent::Gap { .. }));
    match event.await {
        PeerEvent::Gap { node, lost, .. } => (node.get(), lost),
        other => panic!("{other}"),
    }
}

/// A sender may end a link soon after it was made, and go on with another one, which is read first.
#[test]
fn frames_of_a_link_that_is_read_late_come_before_those_of_the_next_link() {
    for config in placements() {
        run(async {
            let b = node_of(config.handover_wait(Duration::from_secs(10)), 2);
            let mut ear = Ear::of(&b, [1]);
            let mut first = saying(&b, &[]).await;
            until("the first link is there", || b.stats().links.heard == 1).await;
            let _second = saying(&b, &[&start_at(0, 2), &wire(1, b"2")]).await;
            // Long enough for the second to be read.
            tokio::time::sleep(50 * MS).await;
            let frames = [start_at(0, 0), wire(1, b"0"), wire(1, b"1")].concat();
            write(&mut first, &frames).await;
            drop(first);
            ear.expect(1, "0", Some(Gap::FirstContact)).await;
            ear.expect(1, "1", None).await;
            ear.expect(1, "2", None).await;
            assert_eq!(b.stats().inbound.missing, 0);
            end([b]).await;
        });
    }
}

/// A group is told of the first contact, and once of each gap, at its place.
#[test]
fn each_group_learns_of_the_first_contact_and_of_gaps_in_order_with_its_frames() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let (mut ear, mut events) = (Ear::of(&b, [1, 2]), watch(&b));
            let said: [&[u8]; 9] = [
                &start_at(0, 10),
                &wire(1, b"10"),
                &wire(2, b"11"),
                &wire(1, b"12"),
                &gap(15),
                &wire(1, b"15"),
                &wire(1, b"16"),
                &gap(18),
                &wire(2, b"18"),
            ];
            let _stream = saying(&b, &said).await;
            ear.expect(1, "10", Some(Gap::FirstContact)).await;
            // The groups of a read are handed over one after the other.
            ear.expect(1, "12", None).await;
            ear.expect(2, "11", Some(Gap::FirstContact)).await;
            ear.expect(1, "15", Some(Gap::Lost)).await;
            ear.expect(1, "16", None).await;
            ear.expect(2, "18", Some(Gap::Lost)).await;
            let mut lost = 0;
            while lost < 3 {
                let (node, more) = gap_of(&mut events).await;
                assert_eq!(node, 1);
                lost += more;
            }
            assert_eq!(lost, 3, "13, 14 and 17");
            until("delivered", || b.stats().inbound.delivered.frames == 6).await;
            let stats = b.stats().inbound;
            assert_eq!((stats.numbered, stats.missing, stats.announced), (6, 3, 9));
            assert_eq!(stats.received.bytes, 6 * 10, "control frames do not count");
            end([b]).await;
        });
    }
}

/// A later link of the same queue, while the former one is still open and silent.
#[test]
fn an_old_link_whose_bytes_are_held_back_is_closed_and_its_rest_is_a_gap() {
    for config in placements() {
        run(async {
            let b = node_of(config.handover_wait(100 * MS), 2);
            let (mut ear, mut events) = (Ear::of(&b, [1]), watch(&b));
            let old = saying(&b, &[&start_at(0, 0), &wire(1, b"0")]).await;
            ear.expect(1, "0", Some(Gap::FirstContact)).await;
            let begun = std::time::Instant::now();
            let _new = saying(&b, &[&start_at(0, 3), &wire(1, b"3")]).await;
            ear.expect(1, "3", Some(Gap::Lost)).await;
            assert!(begun.elapsed() >= 100 * MS);
            assert_eq!(gap_of(&mut events).await, (1, 2));
            let mut old = Raw(old);
            old.read_control(WELCOME).await;
            expect_close(old.0).await;
            // Another queue of the same node waits for nobody.
            let _other = saying(&b, &[&start_at(1, 7), &wire(1, b"other")]).await;
            ear.expect(1, "other", Some(Gap::FirstContact)).await;
            end([b]).await;
        });
    }
}

/// What the old link still brings comes first, however late the two links are read.
#[test]
fn frames_of_a_newer_link_wait_until_the_older_one_has_been_read_to_its_end() {
    for config in placements() {
        run(async {
            let b = node_of(config.handover_wait(NEVER / 100), 2);
            let mut ear = Ear::of(&b, [1]);
            let mut old = saying(&b, &[&start_at(0, 0), &wire(1, b"0")]).await;
            ear.expect(1, "0", Some(Gap::FirstContact)).await;
            let _new = saying(&b, &[&start_at(0, 3), &wire(1, b"3")]).await;
            until("both are read", || b.stats().links.heard == 2).await;
            write(&mut old, &wire(1, b"1")).await;
            ear.expect(1, "1", None).await;
            write(&mut old, &wire(1, b"2")).await;
            drop(old);
            ear.expect(1, "2", None).await;
            ear.expect(1, "3", None).await;
            assert_eq!(b.stats().inbound.missing, 0);
            end([b]).await;
        });
    }
}

/// A sender may make two links at nearly the same time, and end one of them before it has written a frame there. If that
/// one is looked at last, it does not count as the later link.
#[test]
fn a_link_does_not_give_way_to_one_that_it_has_replaced() {
    for (config, next) in placements()
        .into_iter()
        .flat_map(|config| [(config.clone(), 0), (config, 1)])
    {
        run(async {
            let b = node_of(config.handover_wait(200 * MS), 2);
            let mut ear = Ear::of(&b, [1]);
            let mut used = saying(&b, &[&start_at(0, 0), &wire(1, b"0")]).await;
            ear.expect(1, "0", Some(Gap::FirstContact)).await;
            let replaced = saying(&b, &[&start_at(0, next)]).await;
            until("both are read", || b.stats().links.heard == 2).await;
            drop(replaced);
            until("one is gone", || b.stats().links.connections == 1).await;
            // Longer than a link in use waits before it gives way.
            tokio::time::sleep(600 * MS).await;
            write(&mut used, &wire(1, b"1")).await;
            ear.expect(1, "1", None).await;
            assert_eq!(b.stats().inbound.missing, 0);
            end([b]).await;
        });
    }
}

/// What the later link had sent was taken out of the kernel when it was closed, while it waited for its turn.
#[test]
fn a_drain_reads_a_closed_link_to_its_end_when_its_turn_comes() {
    for config in placements() {
        run(async {
            let b = node_of(config.handover_wait(NEVER), 2);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let _first = saying(&b, &[&start_at(0, 0), &wire(1, b"0")]).await;
            until("held", || b.stats().inbound.in_delivery.frames == 1).await;
            let later = saying(&b, &[&start_at(0, 1), &wire(1, b"1")]).await;
            until("both are read", || b.stats().links.heard == 2).await;
            drop(later);
            until("one is gone", || b.stats().links.connections == 1).await;
            drain_behind(&b, &gate).await;
            assert_eq!(held.next().await.payload, "0");
            assert_eq!(held.next().await.payload, "1");
        });
    }
}

#[test]
fn numbers_that_go_back_or_come_at_the_wrong_time_cost_only_their_connection() {
    run(async {
        let [config, ..] = placements();
        let b = node_of(config, 2);
        let mut ear = Ear::of(&b, [1]);
        let _honest = saying(&b, &[&start_at(0, 0), &wire(1, b"0")]).await;
        ear.expect(1, "0", Some(Gap::FirstContact)).await;
        let cases: [&[&[u8]]; 8] = [
            &[&gap(5)],
            &[&start_at(9, 5), &gap(4)],
            &[&start_at(9, 5), &gap(u64::MAX)],
            &[&start_at(9, u64::MAX)],
            &[&start_at(9, 5), &start_at(9, 5)],
            &[&start_at(9, 5), &hello(1, 4)],
            &[&control(START, &[field(13, &[0; 8])])],
            &[&control(GAP, &[])],
        ];
        for (bad, said) in cases.into_iter().enumerate() {
            let mut raw = Raw(saying(&b, said).await);
            raw.read_control(WELCOME).await;
            expect_close(raw.0).await;
            assert_eq!(b.stats().links.bad_handshakes, 1 + bad as u64);
        }
        // From somebody who did not introduce himself.
        let optional = Config::default().sessions(Sessions::Optional);
        let c = Transport::builder().config(optional);
        let c = c
            .identity(Identity::new(NodeId::new(3)))
            .bind("127.0.0.1:0");
        let c = c.expect("free port");
        for said in [goodbye(), gap(3), start_at(0, 0)] {
            let mut stream = dial(&c).await;
            write(&mut stream, &[wire(1, b"frame"), said].concat()).await;
            expect_close(stream).await;
        }
        assert_eq!(c.stats().links.bad_handshakes, 3);
        end([b, c]).await;
    });
}

/// The writer's end: what is dropped in the queue is told where it is missing, and also if nothing follows.
#[test]
fn frames_that_go_stale_are_told_at_their_place_and_at_the_end() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let config = config
                .stale_after(200 * MS)
                .redial_first(MS)
                .redial_max(5 * MS);
            let a = node_of(config, 1);
            for text in ["0", "1"] {
                a.try_send(to, group(1), text).expect("room");
            }
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.frame().await.expect("a Hello").0, u32::MAX);
            // Nothing leaves before the Welcome, so both go stale.
            until("stale", || a.stats().tcp.dropped.stale.frames == 2).await;
            a.try_send(to, group(1), "2").expect("room");
            tap.write(&welcome_both_ways(2, 1, 1)).await;
            let start = tap.frame().await.expect("a Start");
            assert_eq!(wire(start.0, &start.1), start_at(0, 2));
            assert_eq!(tap.frame().await, Some((1, "2".into())));
            // The far end takes nothing more, until there is more than the system takes, and some of that
            // goes stale.
            let large = vec![b'x'; 1 << 20];
            for _ in 0..32 {
                a.try_send(to, group(1), large.clone()).expect("room");
            }
            until("stale", || {
                let stats = a.stats().tcp;
                stats.queued.frames == 0 && stats.in_flight.frames <= 1
            })
            .await;
            let stale = a.stats().tcp.dropped.stale.frames - 2;
            assert!(stale > 0);
            let (mut next, mut told) = (3, 0);
            while next < 35 {
                match tap.frame().await.expect("the link") {
                    (1, payload) => {
                        assert_eq!(payload.len(), 1 << 20);
                        next += 1;
                    }
                    (_, control) => {
                        let number = control[control.len() - 8..].try_into().expect("eight");
                        let number = u64::from_be_bytes(number);
                        told += number - next;
                        next = number;
                    }
                }
            }
            assert_eq!((next, told), (35, stale));
            end([a]).await;
        });
    }
}

/// What went stale in the queue is missing between a frame that the link has begun and a later one.
#[test]
fn a_gap_between_two_frames_of_a_link_is_told_at_its_place() {
    const LARGE: u32 = 32;

    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let a = node_of(config.stale_after(200 * MS), 1);
            let peer = a.peer(to).expect("usable");
            peer.connect();
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.frame().await.expect("a Hello").0, u32::MAX);
            tap.write(&welcome_both_ways(2, 1, 1)).await;
            let (_, payload) = tap.frame().await.expect("a Start");
            assert_eq!(wire(u32::MAX, &payload), start_at(0, 0));
            // The far end takes nothing, until there is more than the system takes.
            for index in 0..LARGE {
                let sent = peer.try_send(group(1), numbered(index, 1 << 20));
                sent.expect("room");
            }
            until("stale", || {
                let stats = a.stats().tcp;
                stats.queued.frames == 0 && stats.in_flight.frames <= 1
            })
            .await;
            assert!(a.stats().tcp.dropped.stale.frames > 0);
            let (mut next, mut lost, mut pushed) = (0, 0, LARGE);
            while next <= LARGE {
                // More than one, because this may be so slow that one goes stale, too.
                let sent = peer.try_send(group(1), numbered(pushed, 10));
                sent.expect("room");
                pushed += 1;
                match tap.frame().await.expect("the link") {
                    (1, payload) => {
                        assert_eq!(number(&payload), next, "nobody said what is missing");
                        next += 1;
                    }
                    (_, payload) => {
                        let before = next;
                        next = u32::from_be_bytes(*payload.last_chunk().expect("a number"));
                        assert_eq!(wire(u32::MAX, &payload), gap(next.into()));
                        lost += u64::from(next - before);
                    }
                }
            }
            assert!(lost > 0 && lost <= a.stats().tcp.dropped.stale.frames);
            end([a]).await;
        });
    }
}

/// Otherwise nobody would tell what was lost with the last connection before the peer was forgotten.
#[test]
fn a_peer_that_is_forgotten_and_known_again_goes_on_with_its_numbers() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let a = node_of(config.redial_first(MS).redial_max(5 * MS), 1);
            let mut first_numbers = Vec::new();
            for _ in 0..3 {
                let peer = a.peer(to).expect("usable");
                peer.try_send(group(1), "written").expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.frame().await.expect("a Hello").0, u32::MAX);
                tap.write(&welcome_both_ways(2, 1, 1)).await;
                let (_, start) = tap.frame().await.expect("a Start");
                first_numbers.push(start[8..].to_vec());
                assert_eq!(tap.frame().await, Some((1, "written".into())));
                peer.forget();
                assert_eq!(tap.frame().await, None);
                drop(peer);
                until("forgotten", || a.stats().links.peers == 0).await;
                until("ended", || a.stats().tcp.queued.frames == 0).await;
            }
            let expected = [0, 1, 2].map(|next| start_at(0, next)[16..].to_vec());
            assert_eq!(first_numbers, expected);
            end([a]).await;
        });
    }
}

/// The mark of a control frame lies across the end of this frame, which is too short to be one.
#[test]
fn an_empty_frame_of_the_reserved_group_before_the_magic_is_an_ordinary_one() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let mut ear = Ear::of(&b, [1]);
            for len in 8..12_u32 {
                let frame = [&wire(u32::MAX, &vec![0; len as usize - 8])[..8], b"atps"].concat();
                let stream = saying(&b, &[&wire(1, b"before"), &frame]).await;
                ear.expect(1, "before", None).await;
                let mut raw = Raw(stream);
                raw.read_control(WELCOME).await;
                write(&mut raw.0, b"more that is no frame").await;
                expect_close(raw.0).await;
            }
            let stats = b.stats();
            assert_eq!(
                (stats.links.bad_handshakes, stats.inbound.malformed),
                (0, 4)
            );
            end([b]).await;
        });
    }
}
