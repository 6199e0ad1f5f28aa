//! What a person reads: events as text, and the log.

use std::{net::SocketAddr, time::Duration};

use actix_transport::{Config, DropReason, GroupOverflow, PeerAddr, PeerEvent, Placement};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

// ---- events as text --------------------------------------------------------------------------------

/// Returns whether `text` is a time in UTC such as `2026-03-01T12:30:05Z`.
fn is_time(text: &str) -> bool {
    let shape = text.chars().map(|char| match char {
        '0'..='9' => '0',
        other => other,
    });
    shape.collect::<String>() == "0000-00-00T00:00:00Z"
}

fn peer_of(event: &PeerEvent) -> Option<SocketAddr> {
    match event {
        PeerEvent::Unreachable { peer, .. } => peer.ip_addr(),
        PeerEvent::Dropped { peer, .. } => peer.as_ref().and_then(PeerAddr::ip_addr),
        other => panic!("{other} did not happen"),
    }
}

#[test]
fn an_event_displays_as_a_line_of_a_log() {
    for config in placements() {
        run(async {
            let a = node(config.stale_after(200 * MS).redial_first(MS));
            let mut events = watch(&a);
            let (listener, to) = listener();
            a.try_send(to, group(1), numbered(1, 4)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            tap.number().await;
            let up = format!("peer {to} is up (connection 1)");
            assert_eq!(events.next().await.to_string(), up);
            drop(tap);
            let mut down = format!("peer {to} is down (connection 1): closed by the peer");
            if cfg!(target_os = "linux") {
                down += "; 1 frame (12 bytes) confirmed, 0 frames (0 bytes) in doubt";
            }
            assert_eq!(events.next().await.to_string(), down);

            let vacant = Vacant::new();
            let gone = vacant.addr();
            a.try_send(gone, group(1), "anybody there?").expect("room");
            let unreachable = events.next().await.to_string();
            let start = format!("peer {gone} is unreachable since ");
            let rest = unreachable.strip_prefix(&start).expect("how it begins");
            let (since, rest) = rest.split_once(", ").expect("a time");
            assert!(is_time(since), "{since}");
            assert!(
                rest.ends_with(" failed dials: connection refused"),
                "{rest}"
            );
            let dropped = events
                .until(|event| matches!(event, PeerEvent::Dropped { .. }))
                .await;
            let stale = DropReason::Stale;
            assert_eq!(
                dropped.to_string(),
                format!("dropped 1 frame (22 bytes) for peer {gone}: {stale}")
            );
            assert_eq!(stale.to_string(), "waited too long to be written");

            let mut stream = dial(&a).await;
            let from = stream.local_addr().expect("open");
            write_frames(&mut stream, &[(7, b"hello"), (7, b"again")]).await;
            let undelivered = events.until(|event| peer_of(event).is_none()).await;
            let reason = "no actor serves the group";
            assert_eq!(
                undelivered.to_string(),
                format!("dropped 2 frames (26 bytes) from {from} for group 7: {reason}")
            );
            end([a]).await;
        });
    }
}

// ---- the log ---------------------------------------------------------------------------------------

/// Everything of the transport runs on the thread of the test, whose log is collected.
fn on_this_thread() -> Config {
    Config::default().placement(Placement::Current)
}

#[test]
fn links_that_come_and_go_are_logged_and_have_a_span() {
    run(async {
        let (log, a) = (Log::collect(), node(on_this_thread()));
        let (listener, to) = listener();
        a.try_send(to, group(1), numbered(1, 4)).expect("room");
        let mut tap = Tap::accept(&listener).await;
        tap.number().await;
        let up = format!("INFO up peer={to} epoch=1");
        assert_eq!(log.lines("up"), [up]);
        drop(tap);
        until("down", || a.stats().links.disconnects == 1).await;
        let mut down = format!("INFO down peer={to} epoch=1 reason=closed by the peer");
        if cfg!(target_os = "linux") {
            down += " confirmed=1 in_doubt=0";
        }
        assert_eq!(log.lines("down"), [down]);
        let span = format!("link peer={to} epoch=1");
        assert_eq!(log.spans("link"), [span]);
        end([a]).await;
    });
}

#[test]
fn a_connection_has_a_span_that_names_who_made_it() {
    run(async {
        let (log, b) = (Log::collect(), node(on_this_thread()));
        let stream = dial(&b).await;
        let span = format!("connection from={}", stream.local_addr().expect("open"));
        until("accepted", || log.spans("connection") == [span.clone()]).await;
        end([b]).await;
    });
}

#[test]
fn a_dead_peer_is_warned_of_once_in_a_while_and_so_are_its_lost_frames() {
    run(async {
        let config = on_this_thread().redial_first(MS).redial_max(MS);
        let (log, a) = (Log::collect(), node(config.stale_after(100 * MS)));
        let vacant = Vacant::new();
        let to = vacant.addr();
        let mut lost = 0;
        while lost < 5 {
            a.try_send(to, group(1), "anybody there?").expect("room");
            lost += 1;
            until("stale", || a.stats().tcp.dropped.stale.frames == lost).await;
        }
        assert!(a.stats().links.dials > 5);
        let unreachable = log.lines("unreachable");
        let [line] = &unreachable[..] else {
            panic!("{unreachable:?}");
        };
        let start = format!("WARN unreachable peer={to} failures=1 err=");
        assert!(line.starts_with(&start), "{line}");
        let dropped = format!(
            "WARN dropped frames peer={to} reason=waited too long to be written frames=1 bytes=22"
        );
        assert_eq!(log.lines("dropped"), [dropped]);
        end([a]).await;
    });
}

#[test]
fn each_dead_peer_is_warned_of() {
    run(async {
        let (log, a) = (Log::collect(), node(on_this_thread()));
        let vacant = [Vacant::new(), Vacant::new(), Vacant::new()];
        for to in vacant.each_ref().map(Vacant::addr) {
            a.try_send(to, group(1), "anybody there?").expect("room");
            let peer = format!("WARN unreachable peer={to} ");
            until("warned", || log.lines(&peer).len() == 1).await;
        }
        end([a]).await;
    });
}

#[test]
fn frames_for_a_group_that_nobody_serves_are_warned_of_with_their_sender_and_group() {
    run(async {
        let (log, b) = (Log::collect(), node(on_this_thread()));
        let mut stream = dial(&b).await;
        let from = stream.local_addr().expect("open");
        let mut lost = 0;
        for index in [7, 7, 8, 7, 8] {
            write_frames(&mut stream, &[(index, b"hello"), (index, b"again")]).await;
            lost += 2;
            until("dropped", || {
                b.stats().inbound.dropped.no_group.frames == lost
            })
            .await;
        }
        let line = |group| {
            format!(
                "WARN dropped received frames peer={from} group={group} \
                 reason=no actor serves the group frames=2 bytes=26"
            )
        };
        assert_eq!(log.lines("WARN"), [line(7), line(8)]);
        end([b]).await;
    });
}

#[test]
fn frames_that_a_full_group_has_no_room_for_are_warned_of() {
    run(async {
        let (log, b) = (Log::collect(), node(on_this_thread()));
        let full = GroupOverflow::Drop { max_bytes: 0 };
        let (_gate, _seen) = hold(&b, 7, full);
        let mut stream = dial(&b).await;
        let from = stream.local_addr().expect("open");
        write_frames(&mut stream, &[(7, b"hello")]).await;
        until("dropped", || !b.stats().inbound.dropped.overflow.is_zero()).await;
        let line = format!(
            "WARN dropped received frames peer={from} group=7 \
             reason=the queue or the group was full frames=1 bytes=13"
        );
        assert_eq!(log.lines("WARN"), [line]);
        end([b]).await;
    });
}

#[test]
fn refusals_of_a_full_queue_are_warned_of_once_in_a_while() {
    run(async {
        let config = on_this_thread().queue_frames(2).udp_queue_frames(2);
        let (log, a) = (Log::collect(), node(config));
        // Nothing is written while this test keeps its thread to itself.
        let (_listener, to) = listener();
        let peer = a.peer(to).expect("room");
        for index in 0..100 {
            let accepted = peer.try_send(group(1), "hello").is_ok();
            assert_eq!(accepted, index < 2);
            assert_eq!(a.send_datagram(to, group(1), "hello").is_ok(), index < 2);
        }
        let reason = "reason=send queue is full: no room for more frames frames=1 bytes=13";
        let lines = [
            format!("WARN refused frames peer={to} {reason}"),
            format!("WARN refused frames {reason}"),
        ];
        assert_eq!(log.lines("WARN"), lines);
        end([a]).await;
    });
}

#[test]
fn a_send_to_one_peer_too_many_is_warned_of() {
    run(async {
        let (log, a) = (Log::collect(), node(on_this_thread().max_peers(1)));
        let [(_one, to), (_other, too_many)] = [listener(), listener()];
        a.try_send(to, group(1), "hello").expect("room");
        a.try_send(too_many, group(1), "hello")
            .expect_err("no room");
        let line = format!(
            "WARN refused frames peer={too_many} \
             reason=too many peers: the limit is 1 frames=1 bytes=13"
        );
        assert_eq!(log.lines("WARN"), [line]);
        end([a]).await;
    });
}

#[test]
fn connections_that_are_closed_for_what_they_did_are_warned_of() {
    run(async {
        let config = on_this_thread().max_connections(1).frame_timeout(50 * MS);
        let (log, b) = (Log::collect(), node(config.frame_floor(1 << 20)));
        let mut stream = dial(&b).await;
        until("accepted", || b.stats().links.connections == 1).await;
        let away = dial(&b).await;
        let from = away.local_addr().expect("open");
        expect_close(away).await;
        let line = format!("WARN turned away, too many connections from={from}");
        assert_eq!(log.lines("WARN"), [line]);

        let from = stream.local_addr().expect("open");
        write(&mut stream, &[0, 0, 0, 7]).await;
        expect_close(stream).await;
        let line = format!("WARN not a frame, connection closed from={from} length=7");
        assert_eq!(log.lines("not a frame"), [line]);

        until("closed", || b.stats().links.connections == 0).await;
        let mut stream = dial(&b).await;
        let from = stream.local_addr().expect("open");
        write(&mut stream, &[0, 0, 0, 9, 1]).await;
        expect_close(stream).await;
        let line = format!("WARN a frame did not complete in time, connection closed from={from}");
        assert_eq!(log.lines("in time"), [line]);
        end([b]).await;
    });
}
