//! Whether an accepted connection begins with TLS, where one port takes both.
//!
//! The first byte decides. TLS begins with a handshake record, whose first byte is 0x16. A plain connection
//! begins with the length of a frame, a big-endian `u32` (see `wire/frame`), so the same byte would begin a
//! frame of 0x1600_0000 bytes (369 MB) or more. Frames of that length are malformed if the limit is lower,
//! which [`leaves_apart`] checks. The default limit is 10 MiB, that for large messages 50 MiB.
//!
//! So a node that writes plain frames can never be taken for one that speaks TLS, and the other way round. A
//! connection that begins with something else altogether, such as an alert of TLS or a request of HTTP, counts
//! as plain, and what it begins with is malformed there as it is without TLS.

/// The content type of a TLS record with a handshake message. That of all versions is the same (RFC 8446,
/// section 5.1).
const HANDSHAKE: u8 = 0x16;

/// The highest limit of a frame's length with which no frame begins as TLS does: one less than the shortest
/// that would.
pub(crate) const MAX_PLAIN_FRAME: usize = ((HANDSHAKE as usize) << 24) - 1;

/// Returns whether plain frames and TLS can be told apart on one port, if `max_frame` is the limit of a
/// frame's length, counted as in [`Config::max_frame`](crate::Config::max_frame).
pub(crate) fn leaves_apart(max_frame: usize) -> bool {
    max_frame <= MAX_PLAIN_FRAME
}

/// What a connection begins with.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum FirstByte {
    /// A TLS handshake.
    Tls,
    /// Frames, or nothing that is known.
    Plain,
    /// Nothing has arrived yet.
    NeedMore,
}

impl FirstByte {
    /// Decides by what has arrived on a connection so far. The answer stays the same when more arrives, except
    /// for `NeedMore`. Right only if [`leaves_apart`].
    pub(crate) fn of(arrived: &[u8]) -> Self {
        match arrived.first() {
            None => FirstByte::NeedMore,
            Some(&HANDSHAKE) => FirstByte::Tls,
            Some(_) => FirstByte::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, version::TLS13};

    use super::*;
    use crate::{
        config::Config,
        ids::GroupId,
        wire::frame::{self, HEADER},
    };

    #[test]
    fn a_hello_of_tls_is_tls() {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("ring has TLS 1.3")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = "node-2.svc".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("to memory");
        assert_eq!(FirstByte::of(&hello), FirstByte::Tls);
        assert_eq!(FirstByte::of(&hello[..1]), FirstByte::Tls);
    }

    #[test]
    fn frames_are_plain_up_to_the_longest_that_is_left_apart() {
        for len in [HEADER, 300, 64 << 20, MAX_PLAIN_FRAME] {
            let header = frame::header(GroupId::new(1), len - HEADER);
            assert_eq!(FirstByte::of(&header), FirstByte::Plain, "{len}");
        }
        // The next longer one is where it ends.
        let header = frame::header(GroupId::new(1), MAX_PLAIN_FRAME + 1 - HEADER);
        assert_eq!(FirstByte::of(&header), FirstByte::Tls);
        assert!(frame::announced(&header, MAX_PLAIN_FRAME).is_err());
        assert!(frame::announced(&header, MAX_PLAIN_FRAME + 1).is_ok());
    }

    #[test]
    fn the_limit_decides_whether_they_are_left_apart() {
        assert!(leaves_apart(Config::default().max_frame));
        assert!(leaves_apart(Config::large_messages().max_frame));
        assert!(leaves_apart(MAX_PLAIN_FRAME));
        assert!(!leaves_apart(MAX_PLAIN_FRAME + 1));
    }

    #[test]
    fn nothing_is_decided_before_the_first_byte() {
        assert_eq!(FirstByte::of(&[]), FirstByte::NeedMore);
    }

    #[test]
    fn what_is_neither_counts_as_plain() {
        for other in [&b"GET / HTTP/1.1"[..], &[0x15, 3, 3, 0, 2], &[0], &[0xff]] {
            assert_eq!(FirstByte::of(other), FirstByte::Plain);
        }
    }
}
