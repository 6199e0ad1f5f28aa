//! Checks that each kind of fault is detected. Otherwise the rows could pass without checking.

use super::*;

const FIRST: Option<Gap> = Some(Gap::FirstContact);
const LOST: Option<Gap> = Some(Gap::Lost);

/// Records frames of node 1 to node 9, each with its incarnation and sequence, and what was said of gaps
/// before it.
fn log(frames: &[(u32, u64, Option<Gap>)]) -> Numbered {
    let mut log = Numbered::default();
    for &(incarnation, sequence, gap) in frames {
        let stamp = Stamp {
            sender: 1,
            incarnation,
            group: group_for(9, sequence),
            sequence,
        };
        log.note_frame(stamp, gap);
    }
    log
}

#[test]
fn frames_in_order_and_marked_gaps_are_no_faults() {
    let frames = [
        (1, 0, FIRST),
        (1, 1, FIRST),
        (1, 4, None),
        (1, 12, LOST),
        (1, 13, LOST),
        (2, 0, FIRST),
    ];
    let log = log(&frames);
    assert_eq!(log.faults, Faults::default());
    assert_eq!(log.jumps, 2);
    let life = Life {
        frames: 5,
        first: 0,
        last: 13,
        missing: 0,
    };
    assert_eq!(log.lives[&(1, 1)], life);
}

#[test]
fn a_jump_or_a_first_contact_that_is_not_marked_is_found() {
    for gap in [None, FIRST] {
        assert_eq!(log(&[(1, 0, FIRST), (1, 8, gap)]).faults.unmarked, 1);
    }
    for gap in [None, LOST] {
        assert_eq!(log(&[(1, 0, gap)]).faults.unmarked, 1);
    }
}

#[test]
fn frames_that_come_twice_or_late_are_found() {
    for late in [0, 4] {
        let log = log(&[(1, 0, FIRST), (1, 4, None), (1, late, None)]);
        assert_eq!(log.faults.reordered, 1);
    }
    let log = log(&[(2, 0, FIRST), (1, 1, FIRST), (2, 4, None)]);
    assert_eq!(log.faults.outdated, 1);
}

#[test]
fn a_log_is_the_same_after_its_way_to_the_row() {
    let mut log = log(&[(1, 0, FIRST), (1, 8, None), (2, 3, FIRST)]);
    log.lives.entry((1, 1)).or_default().missing = 1;
    let parsed = Numbered::parse(log.to_json()).expect("valid");
    assert_eq!((&parsed.lives, parsed.faults), (&log.lives, log.faults));
    let found = parsed.faults.describe().expect("a fault");
    assert_eq!(found, "1 behind a gap and not marked");
}
