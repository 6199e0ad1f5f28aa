//! Any bytes, in growing pieces, as the front of a connection on which a control frame may come.
//!
//! A control frame is read when its last byte is there and not before. What has been decided once stays
//! so when more bytes come. What was read and can be sent is read as the same again.

use actix_transport::test_internals::ControlFront;

/// No control frame is longer.
const LONGEST: usize = 4096;

pub fn run(data: &[u8]) {
    let mut decided: Option<ControlFront> = None;
    for arrived in 0..=data.len().min(LONGEST + 1) {
        let front = ControlFront::of(&data[..arrived]);
        if let Some(decided) = &decided {
            assert_eq!(&front, decided, "after {arrived} bytes");
        } else if front != ControlFront::Incomplete {
            check(&front, arrived);
            decided = Some(front);
        }
    }
    assert!(decided.is_some() || data.len() < LONGEST);
}

/// Checks what was decided when so many bytes had arrived.
fn check(front: &ControlFront, arrived: usize) {
    let ControlFront::Frame(len, encoded) = front else {
        return;
    };
    assert_eq!(*len, arrived);
    if let Some(encoded) = encoded {
        let again = ControlFront::Frame(encoded.len(), Some(encoded.clone()));
        assert_eq!(ControlFront::of(encoded), again);
    }
}
