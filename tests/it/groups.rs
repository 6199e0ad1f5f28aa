//! Which actor gets the frames of which group, while groups are registered and unregistered and
//! actors end.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{
    BindError, Config, Count, DropReason, GroupId, GroupOverflow, Inbound, PeerEvent, Placement,
    RegisterError, Shutdown, Transport, Via,
};
use bytes::Bytes;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::{datagrams::datagram, support::*};

/// A transport that reads its connections on another thread than this one.
fn reads_elsewhere() -> Transport {
    let [dedicated, ..] = placements();
    node(dedicated)
}

/// An actor that obeys its payloads: "stop" ends it, "panic" makes it panic, "ignore" is ignored.
/// It reports all others to the test.
struct Obedient(mpsc::UnboundedSender<Bytes>);

impl Actor for Obedient {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Obedient {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, ctx: &mut Context<Self>) {
        for payload in inbound {
            match &payload[..] {
                b"stop" => return ctx.stop(),
                b"panic" => panic!("as it was told"),
                b"ignore" => {}
                _ => self.0.send(payload).expect("the test waits"),
            }
        }
    }
}

fn obedient() -> (Recipient<Inbound>, mpsc::UnboundedReceiver<Bytes>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Obedient(tell).start().recipient(), told)
}

/// An actor that handles each batch with a function of the test.
struct Custom<F>(F);

impl<F: Unpin + 'static> Actor for Custom<F> {
    type Context = Context<Self>;
}

impl<F, R> Handler<Inbound> for Custom<F>
where
    F: FnMut(Inbound) -> R + Unpin + 'static,
    R: Future<Output = ()> + 'static,
{
    type Result = ResponseFuture<()>;

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.0(inbound))
    }
}

fn count(frames: &[&[u8]]) -> Count {
    let mut count = Count::ZERO;
    for payload in frames {
        count.frames += 1;
        count.bytes += 8 + payload.len() as u64;
    }
    count
}

#[test]
fn each_group_gets_its_own_frames_in_order() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (mut one, mut two) = (serve(&b, [1]), serve(&b, [2]));
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"a"), (2, b"x"), (1, b"b"), (2, b"y")]).await;
            for payload in ["a", "b"] {
                let got = one.next().await;
                assert_eq!((got.group, &got.payload[..]), (1, payload.as_bytes()));
            }
            for payload in ["x", "y"] {
                let got = two.next().await;
                assert_eq!((got.group, &got.payload[..]), (2, payload.as_bytes()));
            }
            end([b]).await;
        });
    }
}

#[test]
fn an_inbound_knows_its_group_and_sender_and_counts_what_is_left() {
    run(async {
        let b = node(Config::default());
        let (tell, mut told) = mpsc::unbounded_channel();
        let actor = Custom(move |mut inbound: Inbound| {
            let about = (inbound.group(), inbound.from().socket_addr(), inbound.via());
            let mut left = vec![(inbound.len(), inbound.remaining())];
            let first = inbound.next();
            left.push((inbound.len(), inbound.remaining()));
            let second = inbound.next_slice().map(Bytes::copy_from_slice);
            left.push((inbound.len(), inbound.remaining()));
            let third = inbound.next();
            left.push((inbound.len(), inbound.remaining()));
            let none = (inbound.next(), inbound.next_slice().map(<[u8]>::len));
            let payloads = [first, second, third].map(Option::unwrap_or_default);
            tell.send((about, payloads, left, none))
                .expect("the test waits");
            std::future::ready(())
        });
        b.register(group(7), actor.start().recipient())
            .expect("free group");
        let mut stream = dial(&b).await;
        // With a frame of another group among them.
        write_frames(
            &mut stream,
            &[(7, b"one"), (7, b""), (8, b"?"), (7, b"three")],
        )
        .await;
        let (about, payloads, left, none) = told.recv().await.expect("a batch");
        let from = stream.local_addr().expect("connected");
        assert_eq!(about, (group(7), from, Via::Tcp));
        assert_eq!(payloads, ["one", "", "three"]);
        let counts: [&[&[u8]]; 4] = [&[b"one", b"", b"three"], &[b"", b"three"], &[b"three"], &[]];
        let expected: Vec<_> = counts.map(|left| (left.len(), count(left))).into();
        assert_eq!(left, expected);
        assert_eq!(none, (None, None));
        end([b]).await;
    });
}

#[test]
fn a_group_cannot_be_registered_again_until_its_actor_ends() {
    run(async {
        let b = node(Config::default());
        let (first, _told) = obedient();
        let (second, mut seen) = probe();
        b.register(group(1), first.clone()).expect("free group");
        let refused = b.register(group(1), second.clone());
        assert_eq!(refused, Err(RegisterError::Taken(group(1))));
        let text = refused.expect_err("taken").to_string();
        assert!(text.contains("group 1"), "{text}");

        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"stop")]).await;
        until("ended", || !first.connected()).await;
        b.register(group(1), second).expect("its actor has ended");
        write_frames(&mut stream, &[(1, b"for the second")]).await;
        assert_eq!(seen.next().await.payload, "for the second");
        end([b]).await;
    });
}

#[test]
fn a_replacing_actor_gets_later_frames_and_the_former_one_keeps_those_in_its_mailbox() {
    run(async {
        let b = reads_elsewhere();
        let ((old, mut old_seen), (new, mut new_seen)) = (probe(), probe());
        assert_eq!(b.replace(group(1), old.clone()), Ok(None));
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"old")]).await;
        // The batch is in the mailbox of an actor that cannot run while this thread is blocked.
        block_until("read", || b.stats().inbound.in_delivery.frames == 1);
        assert_eq!(b.replace(group(1), new), Ok(Some(old)));
        write_frames(&mut stream, &[(1, b"new")]).await;
        assert_eq!(old_seen.next().await.payload, "old");
        assert_eq!(new_seen.next().await.payload, "new");
        assert_eq!(old_seen.try_next(), None);
        end([b]).await;
    });
}

#[test]
fn a_replacing_actor_keeps_the_groups_overflow_policy() {
    run(async {
        let b = node(Config::default());
        let (first, _seen) = probe();
        let overflow = GroupOverflow::Drop { max_bytes: 0 };
        b.register_with(group(1), first, overflow)
            .expect("free group");
        let (second, mut seen) = probe();
        b.replace(group(1), second).expect("not reserved");
        let mut marks = serve(&b, [2]);
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"no room"), (2, b"mark")]).await;
        marks.next().await;
        assert_eq!(b.stats().inbound.dropped.overflow, count(&[b"no room"]));
        assert_eq!(seen.try_next(), None);
        end([b]).await;
    });
}

#[test]
fn unregistering_returns_the_actor_which_gets_no_more_frames() {
    run(async {
        let b = node(Config::default());
        let (actor, mut seen) = probe();
        b.register(group(1), actor.clone()).expect("free group");
        assert_eq!(b.unregister(group(1)), Some(actor));
        assert_eq!(b.unregister(group(1)), None);
        let mut marks = serve(&b, [2]);
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"nobody's"), (2, b"mark")]).await;
        marks.next().await;
        assert_eq!(seen.try_next(), None);
        assert_eq!(b.stats().inbound.dropped.no_group, count(&[b"nobody's"]));
        end([b]).await;
    });
}

#[test]
fn every_frame_is_counted_once_while_other_threads_change_the_registration() {
    const FRAMES: u32 = 30_000;

    run(async {
        let b = reads_elsewhere();
        let ((one, mut seen_one), (two, mut seen_two)) = (probe(), probe());
        let over = Arc::new(AtomicBool::new(false));
        let changing: Vec<_> = (0..2)
            .map(|_| {
                let (b, over) = (b.clone(), over.clone());
                let (one, two) = (one.clone(), two.clone());
                std::thread::spawn(move || {
                    while !over.load(Relaxed) {
                        // May fail, as the other thread does the same.
                        let _ = b.register(group(1), one.clone());
                        b.replace(group(1), two.clone()).expect("not reserved");
                        b.unregister(group(1));
                    }
                })
            })
            .collect();
        let mut stream = dial(&b).await;
        for first in (0..FRAMES).step_by(10) {
            let numbers = (first..first + 10).map(u32::to_be_bytes);
            let bytes: Vec<_> = numbers.flat_map(|number| wire(1, &number)).collect();
            write(&mut stream, &bytes).await;
        }
        let done = || b.stats().inbound.delivered + b.stats().inbound.dropped.no_group;
        until("all are counted", || done().frames == u64::from(FRAMES)).await;
        over.store(true, Relaxed);
        for thread in changing {
            thread.join().expect("no panic");
        }
        let delivered = b.stats().inbound.delivered.frames as usize;
        let mut all = Vec::new();
        for seen in [&mut seen_one, &mut seen_two] {
            let from = all.len();
            while let Some(got) = seen.try_next() {
                all.push(got.payload);
            }
            assert!(all[from..].is_sorted(), "out of order");
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), delivered, "some came twice or not at all");
        end([b]).await;
    });
}

#[test]
fn frames_of_an_unserved_group_are_counted_and_reported() {
    run(async {
        let b = node(Config::default());
        let (mut marks, mut events) = (serve(&b, [2]), watch(&b));
        let mut stream = dial(&b).await;
        let frames: [(u32, &[u8]); 4] = [(1, b"a"), (3, b""), (2, b"mark"), (1, b"bc")];
        write_frames(&mut stream, &frames).await;
        marks.next().await;
        let lost = count(&[b"a", b"", b"bc"]);
        assert_eq!(b.stats().inbound.dropped.no_group, lost);
        let mut told = Count::ZERO;
        while told != lost {
            let event = events.next().await;
            let PeerEvent::Dropped {
                peer: None,
                reason: DropReason::NoGroup,
                count,
                ..
            } = event
            else {
                panic!("{event:?}");
            };
            told += count;
        }
        end([b]).await;
    });
}

#[test]
fn the_catch_all_actor_gets_the_frames_of_all_unserved_groups() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut served = serve(&b, [1]);
            let (actor, mut caught) = probe();
            b.catch_all(Some(actor));
            let mut stream = dial(&b).await;
            write_frames(
                &mut stream,
                &[(5, b"five"), (1, b"one"), (0xFFFF_FFFE, b"last")],
            )
            .await;
            assert_eq!(served.next().await.payload, "one");
            let mut got = [caught.next().await, caught.next().await];
            got.sort_by_key(|got| got.group);
            let got = got.map(|got| (got.group, got.payload));
            assert_eq!(got, [(5, "five".into()), (0xFFFF_FFFE, "last".into())]);

            // Frames go to a group's own actor while it is registered, and to the catch-all actor
            // again after it is not.
            let mut served_too = serve(&b, [5]);
            write_frames(&mut stream, &[(5, b"five")]).await;
            assert_eq!(served_too.next().await.payload, "five");
            b.unregister(group(5));
            write_frames(&mut stream, &[(5, b"caught")]).await;
            assert_eq!(caught.next().await.payload, "caught");

            b.catch_all(None);
            write_frames(&mut stream, &[(5, b"nobody's"), (1, b"mark")]).await;
            assert_eq!(served.next().await.payload, "mark");
            assert_eq!(caught.try_next(), None);
            assert_eq!(b.stats().inbound.dropped.no_group, count(&[b"nobody's"]));
            end([b]).await;
        });
    }
}

#[test]
fn frames_for_an_actor_that_ended_are_counted_until_another_serves_the_group() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (mut marks, mut events) = (serve(&b, [2]), watch(&b));
            let (actor, _told) = obedient();
            b.register(group(1), actor.clone()).expect("free group");
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"stop")]).await;
            until("ended", || !actor.connected()).await;

            write_frames(
                &mut stream,
                &[(1, b"a"), (2, b"mark"), (1, b"bc"), (1, b"")],
            )
            .await;
            marks.next().await;
            let lost = count(&[b"a", b"bc", b""]);
            assert_eq!(b.stats().inbound.dropped.actor_gone, lost);
            events
                .until(|event| {
                    matches!(event, PeerEvent::Dropped { peer: None, reason: DropReason::ActorGone, count, .. }
                        if *count == lost)
                })
                .await;

            let mut seen = serve(&b, [1]);
            write_frames(&mut stream, &[(1, b"again")]).await;
            assert_eq!(seen.next().await.payload, "again");
            assert_eq!(b.stats().inbound.dropped.actor_gone, lost);
            end([b]).await;
        });
    }
}

#[test]
fn frames_in_the_mailbox_of_an_actor_that_ends_are_not_counted_as_delivered() {
    run(async {
        let b = reads_elsewhere();
        let (actor, _told) = obedient();
        b.register(group(1), actor.clone()).expect("free group");
        let (mut first, mut second) = (dial(&b).await, dial(&b).await);
        let in_delivery = || b.stats().inbound.in_delivery.frames;
        write_frames(&mut first, &[(1, b"stop")]).await;
        block_until("in the mailbox", || in_delivery() == 1);
        write_frames(&mut second, &[(1, b"a"), (1, b"bc")]).await;
        block_until("behind it", || in_delivery() == 3);
        until("over", || in_delivery() == 0).await;
        let inbound = b.stats().inbound;
        assert_eq!(inbound.delivered, count(&[b"stop"]));
        assert_eq!(inbound.dropped.actor_gone, count(&[b"a", b"bc"]));
        // Both connections are still open.
        let mut seen = serve(&b, [1]);
        for stream in [&mut first, &mut second] {
            write_frames(stream, &[(1, b"again")]).await;
            assert_eq!(seen.next().await.payload, "again");
        }
        end([b]).await;
    });
}

#[test]
fn a_batch_that_nobody_looks_at_is_not_counted_as_delivered() {
    run(async {
        let b = node(Config::default());
        let untouched = Custom(|_| std::future::ready(()));
        b.register(group(1), untouched.start().recipient())
            .expect("free group");
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"a"), (1, b"bc")]).await;
        let lost = count(&[b"a", b"bc"]);
        until("counted", || b.stats().inbound.dropped.actor_gone == lost).await;
        assert!(b.stats().inbound.delivered.is_zero());
        end([b]).await;
    });
}

#[test]
fn a_batch_that_its_handler_looks_at_and_does_not_take_counts_as_delivered() {
    run(async {
        let b = node(Config::default());
        let (tell, mut told) = mpsc::unbounded_channel();
        let counting = Custom(move |inbound: Inbound| {
            tell.send(inbound.len()).expect("the test waits");
            std::future::ready(())
        });
        b.register(group(1), counting.start().recipient())
            .expect("free group");
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"a"), (1, b"bc")]).await;
        assert_eq!(told.recv().await, Some(2));
        until("counted", || b.stats().inbound.in_delivery.is_zero()).await;
        assert_eq!(b.stats().inbound.delivered, count(&[b"a", b"bc"]));
        assert!(b.stats().inbound.dropped.total().is_zero());
        end([b]).await;
    });
}

#[test]
fn a_drop_event_names_the_sender_and_the_group_if_there_is_one_group() {
    run(async {
        let b = node(Config::default());
        let mut events = watch(&b);
        let full = GroupOverflow::Drop { max_bytes: 0 };
        let (actor, _seen) = probe();
        b.register_with(group(1), actor, full).expect("free group");
        let mut stream = dial(&b).await;
        let sender = stream.local_addr().expect("connected");
        let several: &[(u32, &[u8])] = &[(7, b"a"), (8, b"b"), (7, b"c")];
        for (frames, reason, expected) in [
            (
                &[(7, &b"a"[..]), (7, b"b")][..],
                DropReason::NoGroup,
                Some(group(7)),
            ),
            (&[(1, b"a")], DropReason::Overflow, Some(group(1))),
            (several, DropReason::NoGroup, None),
        ] {
            write_frames(&mut stream, frames).await;
            let event = events.next().await;
            let PeerEvent::Dropped {
                from,
                group,
                reason: why,
                count,
                ..
            } = event
            else {
                panic!("{event:?}");
            };
            assert_eq!((from, group, why), (Some(sender), expected, reason));
            assert_eq!(count.frames, frames.len() as u64);
        }
        end([b]).await;
    });
}

#[test]
fn one_read_gives_one_event_however_many_unserved_groups_it_has() {
    const GROUPS: u32 = 4000;

    run(async {
        // One of the two readers also sends the events, and the other one does not wait for it.
        let two_readers = Placement::Dedicated {
            readers: 2,
            writers: 1,
        };
        let b = node(Config::default().placement(two_readers));
        let mut events = watch(&b);
        let mut marks = serve(&b, [1]);
        // One connection for each reader.
        for stream in [dial(&b).await, dial(&b).await] {
            let send =
                |bytes: &[u8]| assert_eq!(stream.try_write(bytes).expect("room"), bytes.len());
            send(&wire(1, &vec![0; FILLS_FIVE_READS - 8]));
            marks.next().await;
            // These take 32 KiB, and the next read takes 64.
            let frames: Vec<_> = (2..GROUPS + 2).flat_map(|group| wire(group, b"")).collect();
            send(&frames);
            let event = events.next().await;
            let PeerEvent::Dropped { count, .. } = event else {
                panic!("{event:?}");
            };
            assert_eq!(count.frames, u64::from(GROUPS), "the only event");
        }
        end([b]).await;
    });
}

#[test]
fn other_tasks_get_their_turn_in_the_middle_of_a_read_of_many_groups() {
    const GROUPS: u64 = 6000;
    // Groups of one frame each that are counted as received before others get their turn.
    const MOST: u64 = 1024;

    run(async {
        let b = node(Config::default().placement(Placement::Current));
        let mut marks = serve(&b, [1]);
        let stream = dial(&b).await;
        let send = |bytes: &[u8]| assert_eq!(stream.try_write(bytes).expect("room"), bytes.len());
        send(&wire(1, &vec![0; FILLS_FIVE_READS - 8]));
        marks.next().await;
        // These take 47 KiB, and the next read takes 64.
        let frames: Vec<_> = (2..GROUPS as u32 + 2)
            .flat_map(|group| wire(group, b""))
            .collect();
        send(&frames);
        let dropped = || b.stats().inbound.dropped.no_group.frames;
        let mut turns = vec![0];
        // Everything runs on this thread, so each pass is one turn of the others.
        while dropped() < GROUPS {
            tokio::task::yield_now().await;
            turns.push(dropped());
        }
        let most = turns.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(most <= Some(MOST), "{turns:?}");
        end([b]).await;
    });
}

#[test]
fn a_groups_counters_tell_what_became_of_its_frames() {
    run(async {
        let b = node(Config::default());
        assert_eq!(b.group_stats(group(1)), None);
        let (actor, _told) = obedient();
        b.register(group(1), actor.clone()).expect("free group");
        let mut others = serve(&b, [2]);
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"ignore"), (2, b"x"), (1, b"stop")]).await;
        others.next().await;
        until("ended", || !actor.connected()).await;
        write_frames(&mut stream, &[(1, b"lost"), (2, b"y"), (9, b"nobody's")]).await;
        others.next().await;
        until("counted", || b.stats().inbound.in_delivery.is_zero()).await;
        let stats = b.group_stats(group(1)).expect("registered");
        assert_eq!(stats.balance(), Ok(()));
        assert_eq!(stats.received, count(&[b"ignore", b"stop", b"lost"]));
        assert_eq!(stats.delivered, count(&[b"ignore", b"stop"]));
        assert_eq!(stats.dropped.actor_gone, count(&[b"lost"]));
        let other = b.group_stats(group(2)).expect("registered");
        assert_eq!(other.delivered, count(&[b"x", b"y"]));
        assert_eq!(b.group_stats(group(9)), None);

        // A replacing actor goes on with the counters; unregistering ends them.
        let (replacing, mut seen) = probe();
        b.replace(group(1), replacing).expect("not reserved");
        write_frames(&mut stream, &[(1, b"again")]).await;
        seen.next().await;
        until("counted", || b.stats().inbound.in_delivery.is_zero()).await;
        let stats = b.group_stats(group(1)).expect("registered");
        assert_eq!(stats.delivered, count(&[b"ignore", b"stop", b"again"]));
        b.unregister(group(1));
        assert_eq!(b.group_stats(group(1)), None);
        end([b]).await;
    });
}

#[test]
fn a_panic_in_a_handler_loses_the_frames_left_in_its_batch_and_no_others() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (actor, mut told) = obedient();
            b.register(group(1), actor.clone()).expect("free group");
            let mut other = serve(&b, [2]);
            let mut witness = Witness::new(&b).await;
            let witnessed = b.stats().inbound.delivered;
            let mut stream = dial(&b).await;
            let frames: [(u32, &[u8]); 6] = [
                (1, b"a"),
                (2, b"x"),
                (1, b"panic"),
                (2, b"y"),
                (1, b"lost"),
                (2, b"z"),
            ];
            write_frames(&mut stream, &frames).await;
            for payload in ["x", "y", "z"] {
                assert_eq!(other.next().await.payload, payload);
            }
            assert_eq!(told.recv().await.expect("before the panic"), "a");
            until("ended", || !actor.connected()).await;
            until("counted", || b.stats().inbound.in_delivery.is_zero()).await;
            let inbound = b.stats().inbound;
            let taken = count(&[b"x", b"y", b"z", b"a", b"panic"]);
            assert_eq!(inbound.delivered, witnessed + taken);
            assert_eq!(inbound.dropped.actor_gone, count(&[b"lost"]));
            // The connection still serves its other groups, and other connections are not affected.
            write_frames(&mut stream, &[(2, b"still here")]).await;
            assert_eq!(other.next().await.payload, "still here");
            witness.comes_through().await;
            assert_eq!(
                b.stats().links.restarts,
                0,
                "no actor of the transport ended"
            );
            end([b]).await;
        });
    }
}

#[test]
fn a_panic_in_a_handlers_future_loses_the_frames_left_in_its_batch() {
    run(async {
        let b = node(Config::default());
        let fragile = Custom(|mut inbound: Inbound| async move {
            inbound.next();
            tokio::task::yield_now().await;
            panic!("as it must");
        });
        b.register(group(1), fragile.start().recipient())
            .expect("free group");
        let mut stream = dial(&b).await;
        let batch: [(u32, &[u8]); 3] = [(1, b"taken"), (1, b"left"), (1, b"left, too")];
        // The panic ends the future, but neither its actor nor the connection.
        for batches in 1..=2 {
            write_frames(&mut stream, &batch).await;
            until("over", || {
                let inbound = b.stats().inbound;
                inbound.received.frames == 3 * batches && inbound.in_delivery.is_zero()
            })
            .await;
            let inbound = b.stats().inbound;
            assert_eq!(inbound.delivered.frames, batches);
            assert_eq!(inbound.dropped.actor_gone.frames, 2 * batches);
        }
        assert_eq!(b.stats().inbound.delivered, count(&[b"taken", b"taken"]));
        end([b]).await;
    });
}

#[test]
fn the_reserved_group_cannot_be_registered() {
    run(async {
        let b = node(Config::default());
        let (actor, _seen) = probe();
        let refused = b.register(GroupId::RESERVED, actor.clone());
        assert_eq!(refused, Err(RegisterError::Reserved));
        let refused = b.replace(GroupId::RESERVED, actor);
        assert_eq!(refused, Err(RegisterError::Reserved));
        assert_eq!(b.unregister(GroupId::RESERVED), None);
        end([b]).await;
    });
}

/// Gets the frames of all groups as they come.
struct InOrder(mpsc::UnboundedSender<(u32, Bytes)>);

impl Actor for InOrder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for InOrder {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        while let Some((group, payload)) = inbound.next_frame() {
            // The test may have ended.
            let _ = self.0.send((group.get(), payload));
        }
    }
}

#[test]
fn a_catch_all_actor_may_get_the_frames_of_all_groups_in_the_order_of_their_arrival() {
    const FRAMES: u32 = 20_000;

    for config in placements() {
        run(async {
            let b = node(config);
            let (frames, mut caught) = mpsc::unbounded_channel();
            b.catch_all_in_order(InOrder(frames).start().recipient());
            // One group has an actor of its own.
            let mut served = serve(&b, [3]);
            let mut stream = dial(&b).await;
            let group = |n: u32| n * n % 7 + n % 3;
            let bytes: Vec<_> = (0..FRAMES)
                .flat_map(|n| wire(group(n), &n.to_be_bytes()))
                .collect();
            let writer = tokio::spawn(async move { stream.write_all(&bytes).await });
            for n in 0..FRAMES {
                let got = match group(n) {
                    3 => (3, served.next().await.payload),
                    _ => caught.recv().await.expect("the actor runs"),
                };
                assert_eq!(got, (group(n), n.to_be_bytes().to_vec().into()));
            }
            writer.await.expect("no panic").expect("open");
            let inbound = b.stats().inbound;
            assert_eq!(inbound.received.frames, u64::from(FRAMES));
            end([b]).await;
        });
    }
}

#[test]
fn a_catch_all_actor_gets_the_datagrams_of_all_groups_in_the_order_of_their_arrival() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (frames, mut caught) = mpsc::unbounded_channel();
            b.catch_all_in_order(InOrder(frames).start().recipient());
            let raw = std::net::UdpSocket::bind("127.0.0.1:0").expect("free port");
            let sent = [(1, "a"), (2, "b"), (1, "c"), (7, "d"), (2, "e")];
            for (group, payload) in sent {
                raw.send_to(&datagram(group, payload.as_bytes()), b.local_addr())
                    .expect("sent");
            }
            for (group, payload) in sent {
                assert_eq!(caught.recv().await, Some((group, payload.into())));
            }
            end([b]).await;
        });
    }
}

#[test]
fn each_of_many_groups_on_one_connection_keeps_its_order() {
    const GROUPS: u32 = 2000;
    const ROUNDS: u32 = 20;

    for config in placements() {
        run(async {
            let b = node(config);
            let (actor, mut seen) = probe();
            b.catch_all(Some(actor.clone()));
            // Some groups are registered; the catch-all actor serves the others.
            for index in (0..GROUPS).step_by(10) {
                b.register(group(index), actor.clone()).expect("free group");
            }
            let mut stream = dial(&b).await;
            let bytes: Vec<_> = (0..ROUNDS * GROUPS)
                .flat_map(|n| wire(n % GROUPS, &(n / GROUPS).to_be_bytes()))
                .collect();
            let writer = tokio::spawn(async move { stream.write_all(&bytes).await });
            let mut next: HashMap<u32, u32> = HashMap::new();
            for _ in 0..ROUNDS * GROUPS {
                let got = seen.next().await;
                let next = next.entry(got.group).or_default();
                assert_eq!(got.payload[..], next.to_be_bytes(), "group {}", got.group);
                *next += 1;
            }
            assert_eq!(next.len(), GROUPS as usize);
            assert!(next.values().all(|rounds| *rounds == ROUNDS));
            writer.await.expect("no panic").expect("open");
            until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
            let all = u64::from(ROUNDS * GROUPS);
            let expected = (all, all * 12);
            let delivered = b.stats().inbound.delivered;
            assert_eq!((delivered.frames, delivered.bytes), expected);
            end([b]).await;
        });
    }
}

/// Writes frames from a thread that may block, without waiting for anybody to read them.
fn send_blocking(transport: &Transport, frames: &[(u32, &[u8])]) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(transport.local_addr()).expect("listening");
    for (group, payload) in frames {
        std::io::Write::write_all(&mut stream, &wire(*group, payload)).expect("room");
    }
    stream
}

#[test]
fn groups_registered_before_the_transport_starts_get_the_first_frames() {
    for config in placements() {
        run(async {
            let [(one, mut at_one), (two, mut at_two), (other, mut at_other)] =
                [(); 3].map(|()| probe());
            let (three, mut at_three) = probe();
            let builder = Transport::builder()
                .config(config)
                .register(group(1), one)
                .register_with(group(2), two, GroupOverflow::Drop { max_bytes: 0 })
                .catch_all(other);
            let mut stream = None;
            let b = builder.bind_with("127.0.0.1:0", |transport| {
                // These frames are there before the group is registered.
                let frames: [(u32, &[u8]); 4] = [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")];
                stream = Some(send_blocking(transport, &frames));
                transport
                    .send_datagram(transport.local_addr(), group(3), "datagram")
                    .expect("room");
                // A transport that reads already would lose them meanwhile.
                std::thread::sleep(Duration::from_millis(50));
                transport.register(group(3), three)
            });
            let b = b.expect("free port");
            assert_eq!(at_one.next().await.payload, "a");
            let mut at_three =
                [at_three.next().await, at_three.next().await].map(|got| got.payload);
            at_three.sort();
            assert_eq!(at_three, ["c", "datagram"]);
            assert_eq!(at_other.next().await.payload, "d");
            assert_eq!(at_two.try_next(), None);
            let dropped = b.stats().inbound.dropped;
            assert_eq!(dropped.total(), count(&[b"b"]), "{dropped:?}");
            end([b]).await;
        });
    }
}

#[test]
fn an_actor_subscribed_before_the_transport_starts_hears_of_the_first_frame() {
    run(async {
        let (subscriber, mut events) = observer();
        let mut stream = None;
        let builder = Transport::builder().subscribe(subscriber);
        let b = builder.bind_with("127.0.0.1:0", |transport| {
            stream = Some(send_blocking(transport, &[(1, b"nobody's")]));
            Ok(())
        });
        let b = b.expect("free port");
        let lost = |event: &PeerEvent| {
            matches!(
                event,
                PeerEvent::Dropped {
                    reason: DropReason::NoGroup,
                    ..
                }
            )
        };
        events.until(lost).await;
        end([b]).await;
    });
}

#[test]
fn a_transport_whose_groups_cannot_be_registered_ends_even_if_a_handle_is_kept() {
    for config in placements() {
        run(async {
            let (actor, seen) = probe();
            let builder = || Transport::builder().config(config.clone());
            let twice = builder()
                .register(group(1), actor.clone())
                .register(group(1), actor.clone());
            let refused = twice.bind("127.0.0.1:0").expect_err("taken");
            assert!(
                matches!(refused, BindError::Register(RegisterError::Taken(taken)) if taken == group(1))
            );
            assert!(refused.to_string().contains("group 1"), "{refused}");

            let mut kept = None;
            let refused = builder().bind_with("127.0.0.1:0", |transport| {
                kept = Some(transport.clone());
                transport.register(group(1), actor.clone())?;
                transport.register(GroupId::RESERVED, actor)
            });
            let refused = refused.expect_err("reserved");
            assert!(matches!(
                refused,
                BindError::Register(RegisterError::Reserved)
            ));
            // The registration was released, too.
            seen.end().await;
            let kept = kept.expect("kept");
            let late = kept.try_send(kept.local_addr(), group(1), "late");
            assert!(late.is_err_and(|err| err.is_stopped()));
            let again = builder().bind(kept.local_addr()).expect("the port is free");
            kept.stop(Shutdown::Now).await;
            end([again]).await;
        });
    }
}

#[test]
fn forty_thousand_groups_are_soon_registered_one_by_one_or_together() {
    const GROUPS: u32 = 40_000;
    // A table that is copied for each registration takes minutes in a debug build. An optimized build on
    // an idle machine needs less than 100 ms.
    const SOON: Duration = Duration::from_secs(15);

    run(async {
        let b = node(Config::default());
        let (actor, mut seen) = probe();
        let began = Instant::now();
        for index in 0..GROUPS {
            b.register(group(index), actor.clone()).expect("free group");
        }
        let others = (GROUPS..2 * GROUPS).map(|index| (group(index), actor.clone()));
        b.register_all(others).expect("free groups");
        let took = began.elapsed();
        assert!(took < SOON, "{took:?}");
        let mut stream = dial(&b).await;
        for index in [0, GROUPS - 1, GROUPS, 2 * GROUPS - 1] {
            write_frames(&mut stream, &[(index, b"served")]).await;
            assert_eq!(seen.next().await.group, index);
        }
        end([b]).await;
    });
}

#[test]
fn of_groups_registered_together_none_is_served_if_one_is_taken() {
    run(async {
        let b = node(Config::default());
        let (actor, mut seen) = probe();
        b.register(group(2), actor.clone()).expect("free group");
        let three = || [1, 2, 3].map(|index| (group(index), actor.clone()));
        let refused = b.register_all(three());
        assert_eq!(refused, Err(RegisterError::Taken(group(2))));
        b.unregister(group(2));
        let overflow = GroupOverflow::Drop { max_bytes: 0 };
        b.register_all_with(three(), overflow).expect("free groups");
        let mut marks = serve(&b, [4]);
        let mut stream = dial(&b).await;
        write_frames(&mut stream, &[(1, b"no room"), (4, b"mark")]).await;
        marks.next().await;
        assert_eq!(b.stats().inbound.dropped.overflow, count(&[b"no room"]));
        assert_eq!(seen.try_next(), None);
        end([b]).await;
    });
}

#[test]
fn frames_of_several_senders_are_delivered_with_the_right_source_address() {
    run(async {
        let b = node(Config::default());
        let mut seen = serve_from(&b, [1]);
        let mut streams = [dial(&b).await, dial(&b).await, dial(&b).await];
        for round in 0..10u8 {
            for stream in &mut streams {
                write_frames(stream, &[(1, &[round])]).await;
            }
        }
        let mut got: HashMap<SocketAddr, Vec<u8>> = HashMap::new();
        for _ in 0..30 {
            let (from, frame) = seen.next().await;
            got.entry(from).or_default().push(frame.payload[0]);
        }
        for stream in streams {
            let from = stream.local_addr().expect("connected");
            assert_eq!(got[&from], (0..10).collect::<Vec<_>>());
        }
        end([b]).await;
    });
}

/// An actor that holds its own transport, as actors that answer do. Dropping it closes `_gone`.
struct Replica {
    _transport: Transport,
    _gone: tokio::sync::oneshot::Sender<()>,
}

impl Actor for Replica {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Replica {
    type Result = ();

    fn handle(&mut self, _: Inbound, _: &mut Context<Self>) {}
}

#[test]
fn a_stop_releases_an_actor_that_holds_the_transport() {
    run(async {
        let transport = node(Config::default());
        let (gone, let_go) = tokio::sync::oneshot::channel();
        let replica = Replica {
            _transport: transport.clone(),
            _gone: gone,
        };
        let served = transport.register(group(1), replica.start().recipient());
        served.expect("free group");
        transport.stop(Shutdown::Now).await;
        // The transport's registrations held the only address of the actor: without it the actor
        // ends.
        assert!(let_go.await.is_err(), "dropped, as it never sends");
    });
}

#[test]
fn nobody_can_be_registered_after_the_transport_has_stopped() {
    run(async {
        let b = node(Config::default());
        b.stop(Shutdown::Now).await;
        let (actor, seen) = probe();
        let refused = b.register(group(1), actor.clone());
        assert_eq!(refused, Err(RegisterError::Stopped));
        let refused = b.replace(group(1), actor.clone());
        assert_eq!(refused, Err(RegisterError::Stopped));
        b.catch_all(Some(actor));
        // Nobody holds the actor any more.
        seen.end().await;
    });
}
