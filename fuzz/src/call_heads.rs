//! Any bytes as frames about calls.
//!
//! A frame whose head is read and written again says the same, whatever its fields were.

use actix_transport::test_internals::CallHead;
use bytes::BytesMut;

const LIMIT: usize = 1 << 20;

pub fn run(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        let taken = CallHead::take(&mut buffer, LIMIT);
        if buffer.len() == before {
            assert_eq!(taken, None);
            return;
        }
        let Some((head, payload)) = taken else {
            continue;
        };
        assert!(payload < before - buffer.len());
        let mut written = head.write(b"payload");
        assert_eq!(CallHead::take(&mut written, LIMIT), Some((head, 7)));
        assert!(written.is_empty());
    }
}
