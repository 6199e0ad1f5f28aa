//! Sessions: nodes introduce themselves, refuse each other, and answer. The other end is often the test
//! itself, in bytes that it makes by hand.

use std::{io, net::SocketAddr, time::Duration};

use actix::prelude::*;
use actix_transport::{
    BindError, Config, DownReason, DropReason, Identity, IdentityError, Inbound, Incarnation,
    LinkState, NodeId, PeerEvent, Placement, RefusedReason, Sender, Sessions, Shutdown, Transport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

fn port(transport: &Transport) -> u16 {
    transport.local_addr().port()
}

// ---- nodes -----------------------------------------------------------------------------------------

/// Redials at once, and does not give up on an answer unless the test sets another limit.
fn quick(config: Config) -> Config {
    config
        .redial_first(MS)
        .redial_max(10 * MS)
        .stale_after(NEVER)
        .connect_timeout(NEVER)
}

fn node_of(config: Config, identity: Identity) -> Transport {
    let builder = Transport::builder().config(config).identity(identity);
    builder.bind("127.0.0.1:0").expect("free port")
}

/// A node that means node `meant` at this address.
fn node_meaning(config: Config, meant: u64, at: SocketAddr) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(1));
    let builder = builder.peer(NodeId::new(meant), at);
    builder.bind("127.0.0.1:0").expect("free port")
}

async fn down(events: &mut Seen<PeerEvent>) -> DownReason {
    let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(down).await {
        PeerEvent::Down { reason, .. } => reason,
        _ => unreachable!("it was waited for"),
    }
}

fn send(from: &Transport, to: SocketAddr, payload: &'static str) {
    from.try_send(to, group(1), payload).expect("room");
}

/// Asserts that one frame waits in the queue for this peer and that none was ever sent to it.
fn still_queued(transport: &Transport, peer: SocketAddr) {
    let frames = transport.peer_stats(peer).expect("known").frames;
    let waiting = frames.queued.frames + frames.in_flight.frames;
    assert_eq!((waiting, frames.written.frames), (1, 0));
}

fn who(sender: Option<Sender>) -> Option<(u64, u64)> {
    sender.map(|sender| (sender.node().get(), sender.incarnation().get()))
}

// ---- on the wire -----------------------------------------------------------------------------------

#[test]
fn the_node_that_dials_says_hello_and_its_frames_follow_the_welcome() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let a = node_meaning(quick(config), 2, to);
            let mut events = watch(&a);
            send(&a, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            let mut fields = about(1, 7, "kv", port(&a));
            fields.extend([takes_messages(), all_features()]);
            fields.push(field(7, &2u64.to_be_bytes()));
            let (group, payload) = tap.frame().await.expect("a Hello");
            assert_eq!(wire(group, &payload), control(HELLO, &fields));
            still_queued(&a, to);
            assert_eq!(
                a.peer_stats(to).expect("known").state,
                LinkState::Connecting
            );
            assert!(tap.is_quiet() && events.try_next().is_none());

            tap.write(&welcome(2, 1)).await;
            assert_eq!(tap.frame().await, Some((1, "frame".into())));
            assert!(matches!(events.next().await, PeerEvent::Up { .. }));
            until("written", || a.stats().tcp.written.frames == 1).await;
            assert_eq!(
                a.stats().tcp.written.bytes,
                8 + 5,
                "the Hello does not count"
            );
            end([a]).await;
        });
    }
}

/// The longest message in parts that a node takes by default.
fn takes_messages() -> Vec<u8> {
    field(14, &(191u64 << 20).to_be_bytes())
}

#[test]
fn the_node_that_accepts_answers_with_a_welcome_and_takes_frames() {
    for config in placements() {
        run(async {
            let b = node_of(quick(config), identity(2).advertise("10.0.0.2:7000"));
            let mut seen = serve_known(&b, 1);
            let mut raw = Raw::saying(&b, &hello(1, 4)).await;
            let mut fields = about(2, 7, "kv", port(&b));
            fields.insert(3, field(4, b"10.0.0.2:7000"));
            fields.extend([takes_messages(), all_features()]);
            let answer = raw.read_control(WELCOME).await;
            assert_eq!(answer, control(WELCOME, &fields));
            write(&mut raw.0, &wire(1, b"frame")).await;
            let (sender, got) = seen.next().await;
            assert_eq!(
                (who(sender), &got.payload[..]),
                (Some((1, 4)), &b"frame"[..])
            );
            until("delivered", || b.stats().inbound.delivered.frames == 1).await;
            assert_eq!(
                b.stats().inbound.received.bytes,
                8 + 5,
                "the Hello does not count"
            );
            end([b]).await;
        });
    }
}

#[test]
fn a_hello_in_one_packet_with_frames_or_in_pieces_is_understood() {
    for config in placements() {
        run(async {
            let b = node_of(quick(config), identity(2));
            let mut seen = serve_known(&b, 1);
            let bytes = [hello(1, 4), wire(1, b"one"), wire(1, b"two")].concat();
            for step in [1, 7, bytes.len()] {
                let mut stream = dial(&b).await;
                for piece in bytes.chunks(step) {
                    write(&mut stream, piece).await;
                    tokio::task::yield_now().await;
                }
                for payload in [&b"one"[..], b"two"] {
                    let (sender, got) = seen.next().await;
                    assert_eq!((who(sender), &got.payload[..]), (Some((1, 4)), payload));
                }
                Raw(stream).read_control(WELCOME).await;
            }
            end([b]).await;
        });
    }
}

#[test]
fn a_refusal_has_exactly_these_bytes_and_then_the_connection_ends() {
    for config in placements() {
        run(async {
            let b = node_of(quick(config), identity(2));
            Raw::welcomed(&b, 1, 4).await;
            let mut elsewhere = about(1, 4, "kv", 7000);
            elsewhere.push(field(7, &9u64.to_be_bytes()));
            let mut version = hello(1, 4);
            (version[13], version[14]) = (9, 2);
            let cases = [
                (version, refused(1, None)),
                (control(HELLO, &about(1, 4, "kw", 7000)), refused(2, None)),
                (control(HELLO, &about(1, 4, "", 7000)), refused(2, None)),
                (control(HELLO, &elsewhere), refused(3, None)),
                (hello(1, 3), refused(4, Some(4))),
                (hello(2, 8), refused(5, None)),
            ];
            for (refusals, (said, answer)) in (1..).zip(cases) {
                // The frame behind the refused Hello is not delivered, and does not keep the refusal from arriving.
                let said = [said, wire(1, b"lost")].concat();
                let mut raw = Raw::saying(&b, &said).await;
                assert_eq!(raw.read_control(REFUSED).await, answer);
                assert_eq!(raw.0.read(&mut [0]).await.expect("no reset"), 0);
                // What is still on its way does not meet a closed socket, whose reset might hide the answer.
                write(&mut raw.0, &wire(1, b"lost")).await;
                Raw::welcomed(&b, 3, refusals).await;
                write(&mut raw.0, &wire(1, b"lost")).await;
                drop(raw);
                until("counted", || b.stats().links.refusals == refusals).await;
            }
            assert_eq!(b.stats().inbound.received.frames, 0);
            end([b]).await;
        });
    }
}

#[test]
fn with_sessions_off_the_bytes_are_those_of_phxpaxos() {
    for config in placements() {
        run(async {
            let a = node_of(quick(config).sessions(Sessions::Off), identity(1));
            let mut seen = serve_known(&a, 1);
            let (listener, to) = listener();
            send(&a, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(
                tap.frame().await,
                Some((1, "frame".into())),
                "it comes first"
            );
            // A Hello is a frame that nobody serves, and is not answered.
            let said = [hello(1, 4), wire(1, b"frame")].concat();
            let raw = Raw::saying(&a, &said).await;
            let (sender, _) = seen.next().await;
            assert!(sender.is_none());
            assert_eq!(a.stats().inbound.dropped.no_group.frames, 1);
            assert_eq!(
                raw.0.try_read(&mut [0]).map_err(|err| err.kind()),
                Err(io::ErrorKind::WouldBlock)
            );
            end([a]).await;
        });
    }
}

// ---- modes -----------------------------------------------------------------------------------------

/// What becomes of a frame between two nodes of these modes.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Fate {
    /// Delivered, from a known sender.
    Known,
    /// Delivered, from somebody.
    Unknown,
    /// The node that accepts closes the connection.
    ClosedThere,
    /// The node that dials gets no answer.
    KeptHere,
}

#[test]
fn two_nodes_talk_to_each_other_in_all_modes_that_agree() {
    use Sessions::{Off, Optional, Required};

    let fates = [
        (Off, Off, Fate::Unknown),
        (Off, Optional, Fate::Unknown),
        (Off, Required, Fate::ClosedThere),
        (Optional, Off, Fate::Unknown),
        (Optional, Optional, Fate::Known),
        (Optional, Required, Fate::Known),
        (Required, Off, Fate::KeptHere),
        (Required, Optional, Fate::Known),
        (Required, Required, Fate::Known),
    ];
    for config in placements() {
        for with_cluster in [false, true] {
            for (dials, accepts, fate) in fates {
                run(meeting(config.clone(), with_cluster, dials, accepts, fate));
            }
        }
    }
}

async fn meeting(
    config: Config,
    with_cluster: bool,
    dials: Sessions,
    accepts: Sessions,
    fate: Fate,
) {
    let what = format!("{dials:?} dials {accepts:?}");
    // With a cluster, an optional session waits so long for a peer that does not answer.
    let config = quick(config).connect_timeout(300 * MS);
    let identity = |node| match with_cluster {
        true => identity(node),
        false => Identity::new(NodeId::new(node)).incarnation(7),
    };
    let a = node_of(config.clone().sessions(dials), identity(1));
    let b = node_of(config.sessions(accepts), identity(2));
    let (mut events, mut seen) = (watch(&a), serve_known(&b, 1));
    send(&a, b.local_addr(), "frame");
    match fate {
        Fate::Known => assert_eq!(who(seen.next().await.0), Some((1, 7)), "{what}"),
        Fate::Unknown => assert!(seen.next().await.0.is_none(), "{what}"),
        Fate::ClosedThere => {
            assert_eq!(down(&mut events).await, DownReason::Closed, "{what}");
            assert_eq!(b.stats().links.bad_handshakes, 1, "{what}");
        }
        Fate::KeptHere => {
            let event = events.next().await;
            let timed_out = io::ErrorKind::TimedOut;
            assert!(
                matches!(event, PeerEvent::Unreachable { error, .. } if error == timed_out),
                "{what}: {event}"
            );
            still_queued(&a, b.local_addr());
        }
    }
    end([a, b]).await;
}

#[test]
fn a_phxpaxos_node_is_served_where_sessions_are_optional() {
    for config in placements() {
        run(async {
            let optional = quick(config).sessions(Sessions::Optional);
            // It accepts, ignores the Hello and never writes. Nothing is demanded of it.
            let a = node_of(optional.clone(), Identity::new(NodeId::new(1)));
            let mut seen = serve_known(&a, 1);
            let (listener, to) = listener();
            send(&a, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.frame().await.expect("a Hello").0, RESERVED);
            assert_eq!(tap.frame().await, Some(start()));
            assert_eq!(tap.frame().await, Some((1, "frame".into())));
            // It dials, and says nothing of itself.
            let raw = Raw::saying(&a, &wire(1, b"frame")).await;
            assert!(seen.next().await.0.is_none());
            let nothing = raw.0.try_read(&mut [0]).map_err(|err| err.kind());
            assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));

            // This one has a cluster, and waits for an answer first.
            let b = node_of(optional.connect_timeout(50 * MS), identity(2));
            send(&b, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.frame().await.expect("a Hello").0, RESERVED);
            assert_eq!(tap.frame().await, Some(start()));
            assert_eq!(tap.frame().await, Some((1, "frame".into())));
            end([a, b]).await;
        });
    }
}

#[test]
fn a_peer_that_does_not_answer_gets_nothing_if_a_certain_node_is_meant() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let config = quick(config).sessions(Sessions::Optional);
            let a = node_meaning(config.connect_timeout(20 * MS), 2, to);
            let mut events = watch(&a);
            send(&a, to, "frame");
            for failures in 1..=2 {
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.frame().await.expect("a Hello").0, RESERVED);
                assert_eq!(tap.frame().await, None);
                let event = events.next().await;
                let PeerEvent::Unreachable {
                    failures: failed,
                    error,
                    ..
                } = event
                else {
                    panic!("{event}");
                };
                assert_eq!((failed, error), (failures, io::ErrorKind::TimedOut));
            }
            still_queued(&a, to);
            end([a]).await;
        });
    }
}

#[test]
fn where_sessions_are_required_nothing_is_accepted_before_a_hello() {
    for config in placements() {
        run(async {
            let b = node_of(quick(config).connect_timeout(300 * MS), identity(2));
            let mut seen = serve_known(&b, 1);
            let mut good = Raw::welcomed(&b, 1, 4).await;
            // A frame, a frame of the reserved group that is no control frame, the half of a Hello, nothing.
            let half = &hello(1, 4)[..30];
            for (bad, said) in (1..).zip([&wire(1, b"x")[..], &wire(RESERVED, b"xxxx"), half, b""])
            {
                let raw = Raw::saying(&b, said).await;
                expect_close(raw.0).await;
                until("counted", || b.stats().links.bad_handshakes == bad).await;
            }
            write(&mut good.0, &wire(1, b"good")).await;
            assert_eq!(seen.next().await.1.payload, "good");
            assert_eq!(b.stats().inbound.received.frames, 1);
            end([b]).await;
        });
    }
}

#[test]
fn bind_says_what_is_wrong_with_an_identity_or_with_sessions() {
    run(async {
        let bind = |config: Config, identity: Option<Identity>, meant: bool| {
            let mut builder = Transport::builder().config(config);
            if let Some(identity) = identity {
                builder = builder.identity(identity);
            }
            if meant {
                builder = builder.peer(NodeId::new(2), SocketAddr::from(([10, 0, 0, 2], 1)));
            }
            builder.bind("127.0.0.1:0").expect_err("unusable")
        };
        let err = bind(Config::default(), Some(identity(1).cluster("")), false);
        assert!(
            matches!(err, BindError::Identity(IdentityError::Cluster { len: 0 })),
            "{err}"
        );
        let err = bind(
            Config::default(),
            Some(identity(1).advertise("0.0.0.0:1")),
            false,
        );
        assert!(
            matches!(err, BindError::Identity(IdentityError::Advertised { .. })),
            "{err}"
        );
        let field = |err| match err {
            BindError::Config(err) => err.field,
            other => panic!("{other}"),
        };
        assert_eq!(field(bind(Config::default(), None, true)), "sessions");
        let off = Config::default().sessions(Sessions::Off);
        assert_eq!(field(bind(off, Some(identity(1)), true)), "sessions");
        let short = Config::default().max_frame(4095).max_datagram(1000);
        assert_eq!(field(bind(short, Some(identity(1)), false)), "max_frame");
    });
}

// ---- refusals --------------------------------------------------------------------------------------

#[test]
fn frames_for_another_node_or_cluster_stay_in_the_queue_until_the_right_one_is_there() {
    for config in placements() {
        for (wrong, reason) in [
            (identity(2).cluster("kw"), RefusedReason::Cluster),
            (identity(3), RefusedReason::Node),
        ] {
            run(async {
                let config = quick(config.clone());
                let wrong = node_of(config.clone(), wrong);
                let to = wrong.local_addr();
                let mut strange = serve(&wrong, [1]);
                let a = node_meaning(config.clone(), 2, to);
                let mut events = watch(&a);
                send(&a, to, "frame");
                assert_eq!(down(&mut events).await, DownReason::Refused(reason));
                still_queued(&a, to);
                let state = a.peer_stats(to).expect("known").state;
                assert!(matches!(state, LinkState::Unreachable { .. }), "{state:?}");
                assert!(a.stats().links.refused >= 1);
                until("counted", || wrong.stats().links.refusals >= 1).await;
                assert_eq!(a.stats().links.connects, 0);
                wrong.stop(Shutdown::Now).await;
                assert!(strange.try_next().is_none());

                let right = Transport::builder().config(config).identity(identity(2));
                // The other node dials all the time, so its frame may come as soon as the port is open.
                let mut seen = None;
                let right = right.bind_with(to, |right| {
                    seen = Some(serve_known(right, 1));
                    Ok(())
                });
                let (right, mut seen) = (right.expect("free again"), seen.expect("prepared"));
                assert_eq!(who(seen.next().await.0), Some((1, 7)));
                end([a, right]).await;
            });
        }
    }
}

/// What the other end says does not agree with what was meant: this end ends the link.
#[test]
fn a_wrong_welcome_is_refused_by_the_node_that_dialled() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let a = node_meaning(quick(config), 2, to);
            let mut events = watch(&a);
            send(&a, to, "frame");
            let mut future = welcome(2, 9);
            (future[13], future[14]) = (2, 2);
            let no = |reason| Some(DownReason::Refused(reason));
            for (said, reason) in [
                (welcome(3, 9), no(RefusedReason::Node)),
                (
                    control(WELCOME, &about(2, 9, "kw", 1)),
                    no(RefusedReason::Cluster),
                ),
                (future, no(RefusedReason::Version)),
                (refused(77, None), no(RefusedReason::Other(77))),
                (hello(2, 9), None),
                (wire(1, b"frame"), None),
                (b"HTTP/1.1".to_vec(), None),
            ] {
                let mut tap = Tap::accept(&listener).await;
                tap.frame().await.expect("a Hello");
                tap.write(&said).await;
                assert_eq!(tap.frame().await, None, "nothing more, and the end");
                match (events.next().await, reason) {
                    (PeerEvent::Down { reason, .. }, Some(expected)) => {
                        assert_eq!(reason, expected);
                    }
                    (PeerEvent::Unreachable { error, .. }, None) => {
                        assert_eq!(error, io::ErrorKind::InvalidData);
                    }
                    (event, _) => panic!("{event}"),
                }
                still_queued(&a, to);
            }
            let mut tap = Tap::accept(&listener).await;
            tap.frame().await.expect("a Hello");
            tap.write(&welcome(2, 9)).await;
            assert_eq!(tap.frame().await, Some((1, "frame".into())));
            end([a]).await;
        });
    }
}

#[test]
fn a_refusal_is_logged_once_as_a_warning_at_both_ends() {
    let [.., current] = placements();
    let log = Log::collect();
    run(async {
        let b = node_of(quick(current.clone()), identity(2).cluster("kw"));
        let a = node_of(quick(current), identity(1));
        send(&a, b.local_addr(), "frame");
        until("refused often", || a.stats().links.refused >= 5).await;
        end([a, b]).await;
    });
    for line in ["WARN refused", "WARN node refused"] {
        let lines = log.lines(line);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("not the same cluster"), "{lines:?}");
    }
}

#[test]
fn the_links_of_a_zombie_end_when_its_next_incarnation_comes() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            let a = node_of(quick(config), identity(1));
            let (mut events, mut seen) = (watch(&a), serve_known(&a, 1));
            let mut zombie = Raw::welcomed(&a, 2, 1).await;
            write(&mut zombie.0, &wire(1, b"alive")).await;
            assert_eq!(who(seen.next().await.0), Some((2, 1)));
            let other = Raw::welcomed(&a, 3, 1).await;
            send(&a, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            tap.frame().await.expect("a Hello");
            tap.write(&welcome(2, 1)).await;
            tap.frame().await.expect("the frame");

            let mut next = Raw::welcomed(&a, 2, 2).await;
            expect_close(zombie.0).await;
            assert_eq!(tap.frame().await, None);
            assert_eq!(down(&mut events).await, DownReason::Superseded);
            write(&mut next.0, &wire(1, b"next")).await;
            assert_eq!(who(seen.next().await.0), Some((2, 2)));
            // The zombie comes back in vain, and the others did not notice.
            let mut zombie = Raw::saying(&a, &hello(2, 1)).await;
            assert_eq!(zombie.read_control(REFUSED).await, refused(4, Some(2)));
            let open = other.0.try_read(&mut [0]).map_err(|err| err.kind());
            assert_eq!(open, Err(io::ErrorKind::WouldBlock));
            end([a]).await;
        });
    }
}

/// The handler of the zombie's frame takes for ever. The next incarnation does not wait for it. What the
/// zombie had sent behind that frame is not delivered any more.
#[test]
fn a_handler_that_is_busy_with_a_zombie_does_not_hold_up_its_next_incarnation() {
    for config in placements() {
        run(async {
            let a = node_of(quick(config).batch_frames(1), identity(1));
            let mut events = watch(&a);
            let (gate, mut held) = hold(&a, 1, Default::default());
            let mut seen = serve_known(&a, 2);
            let mut zombie = Raw::welcomed(&a, 2, 1).await;
            let frames = [wire(1, b"busy"), wire(1, b"lost"), wire(2, b"lost")];
            write(&mut zombie.0, &frames.concat()).await;
            let inbound = || a.stats().inbound;
            until("with the handler", || gate.came() == 1).await;
            let mut next = Raw::welcomed(&a, 2, 2).await;
            write(&mut next.0, &wire(2, b"next")).await;
            assert_eq!(who(seen.next().await.0), Some((2, 2)));
            expect_close(zombie.0).await;
            assert_eq!(inbound().dropped.superseded.frames, 2);
            let event = loop {
                match events.next().await {
                    PeerEvent::Heard { node, .. } => assert_eq!(node, NodeId::new(2)),
                    other => break other,
                }
            };
            assert!(
                matches!(event, PeerEvent::Dropped { reason: DropReason::Superseded, count, .. } if count.frames == 2),
                "{event}"
            );
            gate.open();
            assert_eq!(held.next().await.payload, "busy");
            end([a]).await;
        });
    }
}

/// Blocks its thread at each batch until the test lets it go on, and then reports the batch.
struct Stuck {
    came: std::sync::mpsc::Sender<()>,
    go_on: std::sync::mpsc::Receiver<()>,
    tell: std::sync::mpsc::Sender<(u64, Vec<u8>)>,
}

impl Actor for Stuck {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Stuck {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        let _ = self.came.send(());
        let _ = self.go_on.recv();
        let incarnation = inbound.sender().expect("introduced").incarnation();
        let payload = inbound.next_slice().expect("one").to_vec();
        let _ = self.tell.send((incarnation.get(), payload));
    }
}

/// One batch of the zombie is in the handler, and one in the mailbox, or waits for a place there.
#[test]
fn what_no_handler_has_yet_of_a_zombie_is_dropped() {
    run(async {
        let [config, ..] = placements();
        let a = node_of(quick(config), identity(1));
        let (tell, told) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let (come, came) = std::sync::mpsc::channel();
        let stuck = Stuck {
            came: come,
            go_on: may_go_on,
            tell,
        };
        let arbiter = Arbiter::new();
        let stuck = Stuck::start_in_arbiter(&arbiter.handle(), |_| stuck);
        for index in [1, 2] {
            let actor = stuck.clone().recipient();
            a.register(group(index), actor).expect("free group");
        }
        let mut zombie = Raw::welcomed(&a, 2, 1).await;
        let frames = [wire(1, b"handled"), wire(2, b"waits")].concat();
        write(&mut zombie.0, &frames).await;
        until("handed over", || a.stats().inbound.in_delivery.frames == 2).await;
        until("in the handler", || came.try_recv().is_ok()).await;
        let mut next = Raw::welcomed(&a, 2, 2).await;
        write(&mut next.0, &wire(1, b"next")).await;
        until("handed over", || a.stats().inbound.received.frames == 3).await;
        for _ in 0..2 {
            go_on.send(()).expect("it lives");
        }
        until("handled", || a.stats().inbound.in_delivery.is_zero()).await;
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [(1, b"handled".to_vec()), (2, b"next".to_vec())]);
        assert_eq!(a.stats().inbound.dropped.superseded.frames, 1);
        end([a]).await;
        arbiter.stop();
    });
}

/// Two readers at work at the same time. The one that serves the zombie needs long for each turn, because
/// each of its frames is for another group.
#[test]
fn no_frame_of_a_zombie_is_delivered_behind_one_of_its_next_incarnation() {
    const GROUPS: u32 = 1000;

    run(async {
        let two = Placement::Dedicated {
            readers: 2,
            writers: 1,
        };
        let a = node_of(quick(Config::default().placement(two)), identity(1));
        let (probe, mut seen) = known_probe();
        a.catch_all(Some(probe));
        let frames: Vec<u8> = (2..GROUPS).flat_map(|group| wire(group, b"")).collect();
        for round in 1..=20 {
            let (former, next) = (2 * round - 1, 2 * round);
            let mut zombie = Raw::welcomed(&a, 2, former).await;
            let frames = frames.clone();
            let writing =
                tokio::spawn(async move { while zombie.0.write_all(&frames).await.is_ok() {} });
            let of_former = |sender: &Option<Sender>| who(sender.clone()) == Some((2, former));
            seen.until(|(sender, _)| of_former(sender)).await;
            let said = [hello(2, next), wire(1, b"next")].concat();
            let raw = Raw::saying(&a, &said).await;
            seen.until(|(_, got)| got.payload == "next").await;
            writing.await.expect("no panic");
            drop(raw);
            until("ended", || a.stats().links.connections == 0).await;
            until("handled", || a.stats().inbound.in_delivery.is_zero()).await;
            let late = std::iter::from_fn(|| seen.try_next()).count();
            assert_eq!(late, 0, "round {round}");
        }
        end([a]).await;
    });
}

#[test]
fn a_new_process_whose_clock_is_behind_takes_the_next_incarnation() {
    run(async {
        let (listener, to) = listener();
        let known = u64::MAX - 5;
        let config = quick(Config::default());
        let a = node_of(config, Identity::new(NodeId::new(1)).cluster("kv"));
        send(&a, to, "frame");
        let incarnation = async |tap: &mut Tap| {
            let (_, payload) = tap.frame().await.expect("a Hello");
            u64::from_be_bytes(payload[22..30].try_into().expect("eight bytes"))
        };
        let mut tap = Tap::accept(&listener).await;
        assert!(incarnation(&mut tap).await < known);
        tap.write(&refused(4, Some(known))).await;
        let mut tap = Tap::accept(&listener).await;
        assert_eq!(incarnation(&mut tap).await, known + 1);
        tap.write(&welcome(2, 1)).await;
        tap.frame().await.expect("the frame");
        drop(tap);
        until("down", || a.stats().links.disconnects == 1).await;
        // It was accepted, so from here on it is the zombie, and stays so.
        send(&a, to, "frame");
        for _ in 0..2 {
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(incarnation(&mut tap).await, known + 1);
            tap.write(&refused(4, Some(known + 2))).await;
            assert_eq!(tap.frame().await, None);
        }
        end([a]).await;
    });
}

/// It may never dial anybody, so those who dial it must be able to tell it.
#[test]
fn a_new_process_that_only_accepts_is_told_that_its_clock_is_behind() {
    run(async {
        let known = u64::MAX / 2;
        let config = quick(Config::default());
        let builder = Transport::builder().config(config);
        let b = builder.identity(Identity::new(NodeId::new(2)).cluster("kv"));
        let b = b.bind("127.0.0.1:0").expect("free port");
        let mut seen = serve(&b, [1]);
        let hello = hello_both_ways(1, 4, 7000);
        let incarnation =
            |welcome: &[u8]| u64::from_be_bytes(welcome[30..38].try_into().expect("eight bytes"));
        let mut raw = Raw::saying(&b, &hello).await;
        assert!(incarnation(&raw.read_control(WELCOME).await) < known);
        write(&mut raw.0, &refused(4, Some(known))).await;
        expect_close(raw.0).await;
        let mut raw = Raw::saying(&b, &hello).await;
        assert_eq!(incarnation(&raw.read_control(WELCOME).await), known + 1);
        // It is accepted now: frames come.
        write(&mut raw.0, &[start_at(0, 0), wire(1, b"frame")].concat()).await;
        seen.next().await;
        write(&mut raw.0, &refused(4, Some(known + 7))).await;
        expect_close(raw.0).await;
        let mut raw = Raw::saying(&b, &hello).await;
        assert_eq!(incarnation(&raw.read_control(WELCOME).await), known + 1);
        assert_eq!(b.stats().links.refusals, 2);
        end([b]).await;
    });
}

// ---- answers ---------------------------------------------------------------------------------------

#[test]
fn an_answer_goes_to_where_the_sender_listens() {
    for config in placements() {
        run(async {
            let any = Transport::builder().config(quick(config.clone()));
            let any = any.identity(identity(1)).bind("0.0.0.0:0");
            let any = any.expect("free port");
            let named = node_of(quick(config.clone()), identity(2).advertise("name.svc:1"));
            let b = node_of(quick(config), identity(3));
            let mut seen = serve_known(&b, 1);
            for (a, addr) in [
                (&any, format!("127.0.0.1:{}", port(&any))),
                (&named, "name.svc:1".to_owned()),
            ] {
                let mut answers = serve_known(a, 2);
                send(a, b.local_addr(), "question");
                let (sender, _) = seen.next().await;
                let sender = sender.expect("introduced");
                assert_eq!(sender.addr().to_string(), addr);
                let peer = sender.peer().expect("usable");
                peer.try_send(group(2), "answer").expect("room");
                let (from, got) = answers.next().await;
                assert_eq!(
                    (who(from), &got.payload[..]),
                    (Some((3, 7)), &b"answer"[..])
                );
            }
            end([any, named, b]).await;
        });
    }
}

#[test]
fn an_answer_goes_to_the_advertised_address_and_never_to_the_port_that_was_dialled_from() {
    run(async {
        let b = node_of(quick(Config::default()), identity(2));
        let mut seen = serve_known(&b, 1);
        let (listener, advertised) = listener();
        let mut fields = about(1, 4, "kv", 9);
        fields.push(field(4, advertised.to_string().as_bytes()));
        let said = [control(HELLO, &fields), wire(1, b"question")].concat();
        let _raw = Raw::saying(&b, &said).await;
        let sender = seen.next().await.0.expect("introduced");
        assert_eq!(sender.addr(), advertised);
        assert_eq!(
            (sender.node(), sender.incarnation()),
            (NodeId::new(1), Incarnation::new(4))
        );
        sender
            .peer()
            .expect("usable")
            .try_send(group(1), "answer")
            .expect("room");
        let mut tap = Tap::accept(&listener).await;
        tap.frame().await.expect("a Hello");

        // A node that listens nowhere can be answered on its own connection only, and this one takes no
        // frames there.
        let said = [control(HELLO, &about(5, 4, "kv", 0)), wire(1, b"question")].concat();
        let _raw = Raw::saying(&b, &said).await;
        let nowhere = seen.next().await.0.expect("introduced");
        assert_eq!(nowhere.addr().node(), Some(NodeId::new(5)));
        let peer = nowhere.peer().expect("a peer");
        peer.try_send(group(1), "answer").expect("room");
        assert_eq!(peer.stats().frames.queued.frames, 1);
        end([b]).await;
        assert!(sender.peer().is_err(), "the transport has stopped");
    });
}

#[test]
fn a_node_may_dial_itself() {
    for config in placements() {
        run(async {
            let a = node_of(quick(config), identity(1));
            let mut seen = serve_known(&a, 1);
            send(&a, a.local_addr(), "frame");
            assert_eq!(who(seen.next().await.0), Some((1, 7)));
            end([a]).await;
        });
    }
}

// ---- bad input -------------------------------------------------------------------------------------

/// Says something bad on a connection of its own. It is closed and counted, and a good one goes on.
async fn costs_its_connection(config: Config, said: &[Vec<u8>]) {
    let b = node_of(config, identity(2));
    let mut seen = serve(&b, [1]);
    let mut witness = Raw::welcomed(&b, 9, 1).await;
    for (bad, said) in (1..).zip(said) {
        let mut raw = Raw::saying(&b, said).await;
        // There may be a Welcome before the end.
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(20), raw.0.read_to_end(&mut rest))
            .await
            .expect("the connection is not closed");
        until("counted", || b.stats().links.bad_handshakes == bad).await;
        write(&mut witness.0, &wire(1, b"good")).await;
        seen.until(|got| got.payload == "good").await;
    }
    let stats = b.stats().inbound;
    assert_eq!(
        (stats.dropped.total().frames, stats.malformed),
        (0, 0),
        "they are no frames"
    );
    end([b]).await;
}

#[test]
fn an_introduction_that_is_damaged_or_in_the_wrong_place_costs_only_its_connection() {
    let long = |kind: u8| {
        let mut bytes = control(kind, &[field(99, &[0; 60_000])]);
        bytes.resize(1 << 20, 0);
        bytes[..4].copy_from_slice(&(1u32 << 20).to_be_bytes());
        bytes
    };
    let lacking = control(HELLO, &about(1, 4, "kv", 1)[1..]);
    let twice = [hello(1, 4), hello(1, 4)].concat();
    let behind = [hello(1, 4), wire(1, b"x"), welcome(1, 4)].concat();
    for config in placements() {
        let required = quick(config);
        let first = [
            lacking.clone(),
            long(HELLO)[..100].to_vec(),
            welcome(1, 4),
            refused(2, None),
            control(200, &[]),
        ];
        run(costs_its_connection(required.clone(), &first));
        let later = [
            twice.clone(),
            behind.clone(),
            [hello(1, 4), long(HELLO)].concat(),
        ];
        run(costs_its_connection(required.clone(), &later));
        let late = [[wire(1, b"x"), hello(1, 4)].concat()];
        let optional = required.sessions(Sessions::Optional);
        run(costs_its_connection(optional, &late));
    }
}

#[test]
fn a_hello_cut_anywhere_costs_only_its_connection() {
    run(async {
        let [config, ..] = placements();
        let b = node_of(quick(config), identity(2));
        let mut seen = serve(&b, [1]);
        let mut witness = Raw::welcomed(&b, 9, 1).await;
        let hello = hello(1, 4);
        for cut in 0..hello.len() {
            let raw = Raw::saying(&b, &hello[..cut]).await;
            drop(raw);
            // The Hello ends early by its own length.
            let mut short = hello[..cut].to_vec();
            if let Some(length) = short.get_mut(..4) {
                length.copy_from_slice(&u32::try_from(cut).expect("short").to_be_bytes());
            }
            let mut raw = Raw::saying(&b, &short).await;
            raw.0.shutdown().await.expect("open");
            let mut rest = Vec::new();
            let _ = timeout(Duration::from_secs(20), raw.0.read_to_end(&mut rest))
                .await
                .expect("the connection is not closed");
            write(&mut witness.0, &wire(1, b"good")).await;
            assert_eq!(seen.next().await.payload, "good");
        }
        until("closed", || b.stats().links.connections == 1).await;
        end([b]).await;
    });
}

/// Somebody else may use the reserved group, too. Such frames are dropped, with sessions and without.
#[test]
fn other_frames_of_the_reserved_group_end_nothing() {
    run(async {
        let [config, ..] = placements();
        let b = node_of(quick(config), identity(2));
        let mut seen = serve(&b, [1]);
        let mut raw = Raw::welcomed(&b, 1, 4).await;
        // The last one is a control frame of a later release, which is no frame.
        let others = [wire(RESERVED, b""), wire(RESERVED, b"x"), control(200, &[])];
        write(&mut raw.0, &[others.concat(), wire(1, b"good")].concat()).await;
        assert_eq!(seen.next().await.payload, "good");
        assert_eq!(b.stats().inbound.dropped.no_group.frames, 2);
        assert_eq!(b.stats().links.bad_handshakes, 0);
        end([b]).await;
    });
}

#[test]
fn a_second_welcome_ends_the_link_and_a_late_refusal_says_why() {
    for config in placements() {
        run(async {
            let (listener, to) = listener();
            // Nothing is demanded, so frames follow the Hello at once.
            let config = quick(config).sessions(Sessions::Optional);
            let a = node_of(config, Identity::new(NodeId::new(1)).incarnation(7));
            let mut events = watch(&a);
            let welcome = control(WELCOME, &about(2, 1, "", 1));
            let cluster = DownReason::Refused(RefusedReason::Cluster);
            for (said, reason) in [
                (
                    [welcome.clone(), welcome.clone()].concat(),
                    DownReason::Spoke,
                ),
                (refused(2, None), cluster),
                (control(WELCOME, &about(2, 1, "kv", 1)), cluster),
                (wire(1, b"frame"), DownReason::Spoke),
            ] {
                send(&a, to, "frame");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.frame().await.expect("a Hello").0, RESERVED);
                assert_eq!(tap.frame().await.expect("a Start").0, RESERVED);
                assert_eq!(tap.frame().await, Some((1, "frame".into())));
                tap.write(&said).await;
                assert_eq!(tap.frame().await, None);
                assert_eq!(down(&mut events).await, reason);
            }
            assert_eq!(a.stats().links.refused, 2);
            // A Welcome on its own, however late, is an answer.
            send(&a, to, "frame");
            let mut tap = Tap::accept(&listener).await;
            tap.frame().await.expect("a Hello");
            tap.frame().await.expect("a Start");
            tap.frame().await.expect("the frame");
            tap.write(&welcome).await;
            send(&a, to, "again");
            assert_eq!(tap.frame().await, Some((1, "again".into())));
            end([a]).await;
        });
    }
}
