//! What a person reads: events as text, and the log.

use std::time::Duration;

use actix_transport::{DropReason, PeerEvent};

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
            let down = format!("peer {to} is down (connection 1): closed by the peer");
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
            end([a]).await;
        });
    }
}
