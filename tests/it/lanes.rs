//! Lanes: what waits on one holds back no other, and each has order, bounds, events and counters of its own.

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{
    Config, Gap, GroupOverflow, Inbound, Lane, LaneConfig, LinkState, NodeId, PeerEvent, SendError,
    Sessions, Shutdown, Stats, Transport,
};
use tokio::sync::mpsc;

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// The lane of a frame, its number, and what was said of those before it.
type Told = (Lane, u32, Option<Gap>);

struct Listens(mpsc::UnboundedSender<Told>);

impl Actor for Listens {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Listens {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (lane, mut gap) = (inbound.lane(), inbound.gap());
        for payload in inbound {
            let _ = self.0.send((lane, number(&payload), gap.take()));
        }
    }
}

/// Hears what comes for a group, with its lane.
struct Ear(mpsc::UnboundedReceiver<Told>);

impl Ear {
    fn of(transport: &Transport, index: u32) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let actor = Listens(tell).start().recipient();
        transport.register(group(index), actor).expect("free group");
        Ear(told)
    }

    async fn next(&mut self) -> Told {
        let next = tokio::time::timeout(Duration::from_secs(20), self.0.recv()).await;
        next.expect("nothing came").expect("the actor lives")
    }
}

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

fn of(lane: Lane, stats: &Stats) -> u64 {
    stats.lanes[usize::from(lane.get())].accepted.frames
}

fn lane(number: u8) -> Lane {
    Lane::new(number).expect("below eight")
}

#[test]
fn each_lane_has_a_connection_of_its_own_and_its_frames_come_in_order() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (mut ear, mut events) = (Ear::of(&b, 1), watch(&a));
            let peer = a.peer(b.local_addr()).expect("usable");
            let lanes: Vec<_> = Lane::all().map(|lane| peer.lane(lane)).collect();
            for count in 0..100 {
                for lane in &lanes {
                    lane.try_send(group(1), numbered(count, 4)).expect("room");
                }
            }
            let mut next = [0; Lane::COUNT];
            for _ in 0..100 * Lane::COUNT {
                let (lane, count, gap) = ear.next().await;
                let next = &mut next[usize::from(lane.get())];
                assert_eq!(count, *next);
                assert_eq!(gap, (count == 0).then_some(Gap::FirstContact));
                *next += 1;
            }
            assert_eq!(next, [100; Lane::COUNT]);
            let mut up = Vec::new();
            while up.len() < Lane::COUNT {
                if let PeerEvent::Up { lane, peer, .. } = events.next().await {
                    assert_eq!(peer, b.local_addr());
                    up.push(lane);
                }
            }
            up.sort_unstable();
            assert!(up.iter().copied().eq(Lane::all()), "{up:?}");
            let peers = a.peers();
            assert!(peers.iter().map(|peer| peer.lane).eq(Lane::all()));
            assert!(peers.iter().all(|peer| peer.frames.accepted.frames == 100));
            let stats = a.stats();
            stats.balance().expect("balances");
            assert!(Lane::all().all(|lane| of(lane, &stats) == 100));
            assert_eq!(stats.links.peers, 1);
            end([a, b]).await;
        });
    }
}

/// As towards PhxPaxos.
#[test]
fn without_sessions_a_lane_is_one_more_connection_on_which_only_frames_are_written() {
    for config in placements() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("usable");
            peer.try_send(group(1), numbered(0, 4)).expect("room");
            let mut normal = Tap::accept(&listener).await;
            let bulk = peer.lane(Lane::BULK);
            bulk.try_send(group(1), numbered(1, 4)).expect("room");
            let mut bulk = Tap::accept(&listener).await;
            assert_eq!(normal.number().await, 0);
            assert_eq!(bulk.number().await, 1);
            end([a]).await;
        });
    }
}

#[test]
fn an_answer_on_the_lane_of_the_question_comes_back_on_its_connection() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (mut questions, mut answers) = (serve_known(&b, 1), Ear::of(&a, 1));
            let peer = a.peer(b.local_addr()).expect("usable");
            let lanes = [Lane::NORMAL, Lane::CONTROL, lane(7)];
            // Each lane goes on on the connection that it had, although others came.
            for (lane, gap) in lanes
                .map(|lane| (lane, Some(Gap::FirstContact)))
                .into_iter()
                .chain(lanes.map(|lane| (lane, None)))
            {
                let question = peer.lane(lane);
                question.try_send(group(1), numbered(3, 4)).expect("room");
                let (sender, _) = questions.next().await;
                let back = sender.expect("introduced").peer().expect("usable");
                let back = back.lane(lane);
                back.try_send(group(1), numbered(4, 4)).expect("room");
                assert_eq!(answers.next().await, (lane, 4, gap));
            }
            assert_eq!([&a, &b].map(|node| node.stats().links.dials), [3, 0]);
            end([a, b]).await;
        });
    }
}

#[test]
fn of_two_nodes_that_dial_each_other_on_all_lanes_one_connection_of_each_remains() {
    for config in placements() {
        run(async {
            let config = config.redial_first(MS).redial_max(10 * MS);
            let places = [Vacant::new(), Vacant::new()];
            let addrs = [places[0].addr(), places[1].addr()];
            let nodes = [(1, 0), (2, 1)].map(|(node, index)| {
                let builder = Transport::builder()
                    .config(config.clone())
                    .identity(identity(node))
                    .peer(NodeId::new(3 - node), addrs[1 - index]);
                builder.bind(addrs[index]).expect("kept for it")
            });
            let [a, b] = &nodes;
            let mut ears = [Ear::of(a, 1), Ear::of(b, 1)];
            for count in 0..20 {
                for lane in Lane::all() {
                    for (from, to) in [(a, b), (b, a)] {
                        let peer = from.peer(to.local_addr()).expect("usable").lane(lane);
                        peer.try_send(group(1), numbered(count, 4)).expect("room");
                    }
                }
                tokio::task::yield_now().await;
            }
            for ear in &mut ears {
                let mut next = [0; Lane::COUNT];
                for _ in 0..20 * Lane::COUNT {
                    let (lane, count, _) = ear.next().await;
                    assert_eq!(count, next[usize::from(lane.get())], "{lane}");
                    next[usize::from(lane.get())] += 1;
                }
            }
            let connections = || nodes.iter().map(|node| node.stats().links.connections);
            let all = Lane::COUNT as u64;
            until("one of each", || connections().sum::<u64>() == all).await;
            assert!(nodes.iter().all(|node| node.stats().inbound.missing == 0));
            end(nodes).await;
        });
    }
}

#[test]
fn a_lane_whose_handler_does_not_return_holds_back_no_other() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (gate, mut held) = hold(&b, 2, GroupOverflow::Wait);
            let mut ear = Ear::of(&b, 1);
            let peer = a.peer(b.local_addr()).expect("usable");
            let bulk = peer.lane(Lane::BULK);
            bulk.try_send(group(2), numbered(0, 1 << 20)).expect("room");
            until("it is held", || gate.came() == 1).await;
            for count in 1..50 {
                bulk.try_send(group(2), numbered(count, 1 << 20))
                    .expect("room");
            }
            for count in 0..50 {
                for lane in [Lane::NORMAL, Lane::CONTROL] {
                    let lane = peer.lane(lane);
                    lane.try_send(group(1), numbered(count, 4)).expect("room");
                }
                assert_eq!([ear.next().await.1, ear.next().await.1], [count; 2]);
            }
            gate.open();
            for count in 0..50 {
                assert_eq!(number(&held.next().await.payload), count);
            }
            end([a, b]).await;
        });
    }
}

#[test]
fn each_lane_keeps_its_own_bounds_and_what_it_drops_is_told_with_the_lane() {
    for config in placements() {
        run(async {
            let control = LaneConfig::new().queue_frames(3);
            let a = node(config.lane(Lane::CONTROL, control).stale_after(NEVER));
            let mut events = watch(&a);
            let mute = Mute::new().await;
            let peer = a.peer(mute.addr).expect("usable");
            let control = peer.lane(Lane::CONTROL);
            for count in 0..5 {
                // By default the oldest make room for the newest there.
                control
                    .try_send(group(1), numbered(count, 4))
                    .expect("evicts");
                peer.try_send(group(1), numbered(count, 4)).expect("room");
            }
            let long = control.try_send(group(1), vec![0; 1 << 20]);
            assert!(
                matches!(long, Err(SendError::TooLarge { .. })),
                "1 MiB holds it all"
            );
            peer.try_send(group(1), vec![0; 1 << 20]).expect("room");
            let told = (control.stats().frames, peer.stats().frames);
            assert_eq!(
                (told.0.queued.frames, told.0.dropped.overflow.frames),
                (3, 2)
            );
            assert_eq!(
                (told.1.queued.frames, told.1.dropped.overflow.frames),
                (6, 0)
            );
            // On the control lane, frames go stale after a second.
            let dropped = |event: &PeerEvent| {
                matches!(event, PeerEvent::Dropped { lane: Some(Lane::CONTROL), reason, .. }
                    if *reason == actix_transport::DropReason::Stale)
            };
            events.until(dropped).await;
            assert_eq!(peer.stats().frames.queued.frames, 6);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_is_forgotten_with_all_its_lanes_and_what_was_sent_on_them_stays_counted() {
    for config in placements() {
        run(async {
            let a = node(config.stale_after(NEVER));
            let to = Vacant::new().addr();
            let peer = a.peer(to).expect("usable");
            let bulk = peer.lane(Lane::BULK);
            bulk.try_send(group(1), numbered(0, 4)).expect("room");
            peer.try_send(group(1), numbered(0, 4)).expect("room");
            // Whichever handle is asked.
            bulk.forget();
            assert_eq!(a.peers(), []);
            for refused in [peer.lane(Lane::CONTROL), peer.clone(), bulk] {
                let refused = refused.try_send(group(1), numbered(1, 4));
                assert!(matches!(refused, Err(SendError::Forgotten { .. })));
            }
            let stats = a.stats();
            stats.balance().expect("balances");
            assert_eq!(stats.tcp.dropped.peer_forgotten.frames, 2);
            let offered = |lane: Lane| stats.lanes[usize::from(lane.get())].offered.frames;
            assert_eq!(
                [Lane::NORMAL, Lane::CONTROL, Lane::BULK].map(offered),
                [2, 1, 2]
            );
            let again = a.peer(to).expect("a new one").lane(Lane::BULK);
            again.try_send(group(1), numbered(2, 4)).expect("room");
            a.stop(Shutdown::Now).await;
            let late = again.lane(Lane::CONTROL).try_send(group(1), numbered(3, 4));
            assert!(matches!(late, Err(SendError::Stopped { .. })));
            a.stats().balance().expect("balances");
        });
    }
}

#[test]
fn a_lane_that_is_not_used_any_more_goes_and_its_peer_stays_with_the_others() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone().idle_timeout(50 * MS), node));
            let mut ear = Ear::of(&b, 1);
            let peer = a.peer(b.local_addr()).expect("usable");
            let bulk = peer.lane(Lane::BULK);
            bulk.try_send(group(1), numbered(0, 4)).expect("room");
            ear.next().await;
            drop(bulk);
            until("it is gone", || a.peers().len() == 1).await;
            assert_eq!(a.peers()[0].lane, Lane::NORMAL);
            assert_eq!(peer.state(), LinkState::Idle);
            peer.lane(Lane::BULK)
                .try_send(group(1), numbered(1, 4))
                .expect("room");
            assert_eq!(ear.next().await, (Lane::BULK, 1, None), "and it goes on");
            let stats = a.stats();
            stats.balance().expect("balances");
            assert_eq!(of(Lane::BULK, &stats), 2);
            end([a, b]).await;
        });
    }
}

#[test]
fn lanes_of_one_peer_count_once_and_only_whole_peers_make_room() {
    for config in placements() {
        run(async {
            let a = node(config.max_peers(1).stale_after(NEVER));
            let (first, second) = (Vacant::new(), Vacant::new());
            let peer = a.peer(first.addr()).expect("usable");
            let bulk = peer.lane(Lane::BULK);
            for lane in Lane::all() {
                peer.lane(lane).try_send(group(1), "x").expect("room");
            }
            assert_eq!(a.peers().len(), Lane::COUNT);
            drop(peer);
            // One handle is enough.
            a.peer(second.addr()).expect_err("too many");
            drop(bulk);
            let dialled = || {
                a.peers()
                    .iter()
                    .all(|peer| matches!(peer.state, LinkState::Unreachable { .. }))
            };
            until("unreachable", dialled).await;
            a.peer(second.addr()).expect("the first makes room");
            assert_eq!(a.peers().len(), 1);
            a.stats().balance().expect("balances");
            end([a]).await;
        });
    }
}

#[test]
fn an_unknown_lane_is_taken_as_the_normal_one_or_refused() {
    for config in placements() {
        for refuse in [false, true] {
            run(async {
                let b = node_of(config.clone().refuse_unknown_lanes(refuse), 2);
                let mut ear = Ear::of(&b, 1);
                let mut fields = about(1, 4, "kv", 7000);
                fields.push(field(11, &[8]));
                let hello = control(HELLO, &fields);
                let mut raw = Raw::saying(&b, &hello).await;
                if refuse {
                    raw.read_control(REFUSED).await;
                    until("counted", || b.stats().links.refusals == 1).await;
                } else {
                    raw.read_control(WELCOME).await;
                    write(
                        &mut raw.0,
                        &[start_at(0, 0), wire(1, &numbered(5, 4))].concat(),
                    )
                    .await;
                    let told = (Lane::NORMAL, 5, Some(Gap::FirstContact));
                    assert_eq!(ear.next().await, told);
                }
                end([b]).await;
            });
        }
    }
}

/// A release that knows no lanes would take the link of one in the place of the normal one.
#[test]
fn a_link_of_another_lane_does_not_ask_an_older_release_to_write_on_it() {
    for config in placements() {
        run(async {
            let a = node_of(config.clone(), 1);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("usable");
            // Beside what says that it takes calls.
            for (lane, says) in [(Lane::NORMAL, 1u32 | 4), (Lane::BULK, 2 | 4)] {
                peer.lane(lane).try_send(group(1), "x").expect("room");
                let (_, hello) = Tap::accept(&listener).await.frame().await.expect("a Hello");
                let features = field(10, &says.to_be_bytes());
                let has = hello.windows(features.len()).any(|it| it == features);
                assert!(has, "{lane}: {hello:?}");
            }
            // And the other way round: nothing is written on a lane that is not known here.
            let b = node_of(config.clone(), 2);
            let mut known = serve_known(&b, 1);
            let mut fields = about(1, 7, "kv", 7000);
            fields.extend([field(10, &2u32.to_be_bytes()), field(11, &[200])]);
            let mut raw = Raw::saying(&b, &control(HELLO, &fields)).await;
            raw.read_control(WELCOME).await;
            write(
                &mut raw.0,
                &[start_at(0, 0), wire(1, &numbered(5, 4))].concat(),
            )
            .await;
            let (sender, _) = known.next().await;
            let back = sender.expect("introduced").peer().expect("usable");
            back.try_send(group(1), "answer").expect("room");
            until("it dials", || b.stats().links.dials > 0).await;
            drop(raw);
            end([a, b]).await;
        });
    }
}

#[test]
fn what_is_missing_is_told_on_the_lane_where_it_is_missing() {
    for config in placements() {
        run(async {
            let b = node_of(config.sessions(Sessions::Required), 2);
            let (mut ear, mut events) = (Ear::of(&b, 1), watch(&b));
            let hello = |lane| {
                let mut fields = about(1, 4, "kv", 7000);
                fields.push(field(11, &[lane]));
                control(HELLO, &fields)
            };
            let mut links = Vec::new();
            for (lane, stream) in [(1, 3), (2, 4)] {
                let frames = [hello(lane), start_at(stream, 0), wire(1, &numbered(0, 4))];
                links.push(Raw::saying(&b, &frames.concat()).await);
                let told = (self::lane(lane), 0, Some(Gap::FirstContact));
                assert_eq!(ear.next().await, told);
            }
            let frames = [gap(9), wire(1, &numbered(9, 4))].concat();
            write(&mut links[1].0, &frames).await;
            assert_eq!(ear.next().await, (Lane::BULK, 9, Some(Gap::Lost)));
            write(&mut links[0].0, &wire(1, &numbered(1, 4))).await;
            assert_eq!(ear.next().await, (Lane::CONTROL, 1, None));
            let gap = |event: &PeerEvent| matches!(event, PeerEvent::Gap { .. });
            let told = events.until(gap).await.to_string();
            assert!(told.starts_with("missed 8 frames of node 1"), "{told}");
            assert!(told.contains("on lane bulk"), "{told}");
            end([b]).await;
        });
    }
}
