//! The datagram socket: many datagrams for one system call, where the system can.
//!
//! Owns how datagrams go to the kernel and come from it: on Linux through `quinn-udp`, which hands over
//! those of one length to one receiver together (segmentation offload) and takes what arrived so
//! together; elsewhere one by one. What is sent, and what becomes of it, is left to `udp`.

use std::{io, net::SocketAddr};

use tokio::net::UdpSocket;

use self::system::SLOTS;
pub(super) use self::system::Socket;

/// Bytes a datagram can have, by the width of its length field.
const LONGEST: usize = 64 << 10;

/// Bytes sent together, at most: what one datagram may carry, as to the kernel they are one until
/// the last moment.
pub(super) const TOGETHER: usize = 65_000;

/// What is longer is sent alone. Those that go together must each fit the link, or none goes; this
/// fits every link that IPv6 may use (1280 bytes, less its header and that of UDP).
pub(super) const SEGMENT: usize = 1232;

/// What one system call brought.
pub(super) struct Arrivals {
    buffer: Vec<u8>,
    /// Whom the datagrams in one slot of the buffer are from, how long they are together, and how
    /// long each of them is but the last.
    filled: Vec<(SocketAddr, usize, usize)>,
}

impl Arrivals {
    /// Empty ones. Their memory comes to be as it is filled.
    pub(super) fn new() -> Self {
        Arrivals {
            buffer: vec![0; SLOTS * LONGEST],
            filled: Vec::with_capacity(SLOTS),
        }
    }

    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.buffer.chunks(LONGEST).zip(&self.filled);
        slots.flat_map(|(slot, &(from, len, each))| {
            // An empty datagram is one, too.
            let empty = (len == 0).then_some(&slot[..0]);
            let several = slot[..len].chunks(each.max(1)).chain(empty);
            several.map(move |datagram| (from, datagram))
        })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::io::IoSliceMut;

    use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
    use rustix::net::sockopt::{
        ip_mtu_discover, ipv6_mtu_discover, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };

    use tokio::io::Interest;

    use super::*;

    /// Slots that one system call fills, at most, each with as many datagrams as came together.
    pub(super) const SLOTS: usize = 8;

    pub(in crate::datagrams) struct Socket {
        pub(super) socket: UdpSocket,
        state: UdpSocketState,
    }

    impl Socket {
        pub(in crate::datagrams) fn new(socket: UdpSocket) -> io::Result<Self> {
            // What was set before must be set after: `quinn-udp` forbids fragments, as QUIC does, and
            // datagrams of ours may be longer than a link.
            let (v4, v6) = (ip_mtu_discover(&socket), ipv6_mtu_discover(&socket));
            let state = UdpSocketState::new((&socket).into())?;
            if let Ok(v4) = v4 {
                set_ip_mtu_discover(&socket, v4)?;
            }
            if let Ok(v6) = v6 {
                set_ipv6_mtu_discover(&socket, v6)?;
            }
            Ok(Socket { socket, state })
        }

        pub(in crate::datagrams) async fn readable(&self) -> io::Result<()> {
            self.socket.readable().await
        }

        pub(in crate::datagrams) async fn writable(&self) -> io::Result<()> {
            self.socket.writable().await
        }

        /// How many datagrams can be sent together.
        pub(in crate::datagrams) fn together(&self) -> usize {
            self.state.max_gso_segments()
        }

        /// Sends `contents`, each `segment` bytes of it as a datagram: all of them or none.
        pub(in crate::datagrams) fn try_send(
            &self,
            to: SocketAddr,
            contents: &[u8],
            segment: usize,
        ) -> io::Result<()> {
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents,
                segment_size: (segment < contents.len()).then_some(segment),
                src_ip: None,
            };
            self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            })
        }

        pub(in crate::datagrams) fn try_receive(&self, arrivals: &mut Arrivals) -> io::Result<()> {
            arrivals.filled.clear();
            let mut slots = arrivals.buffer.chunks_mut(LONGEST);
            let mut slots: [_; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(slots.next().expect("as many as there are slots"))
            });
            let mut metas = [RecvMeta::default(); SLOTS];
            let filled = self.socket.try_io(Interest::READABLE, || {
                let socket = (&self.socket).into();
                self.state.recv(socket, &mut slots, &mut metas)
            })?;
            let filled = metas[..filled].iter();
            let filled = filled.map(|meta| (meta.addr, meta.len, meta.stride));
            arrivals.filled.extend(filled);
            Ok(())
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use super::*;

    pub(super) const SLOTS: usize = 1;

    pub(in crate::datagrams) struct Socket(UdpSocket);

    impl Socket {
        pub(in crate::datagrams) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(Socket(socket))
        }

        pub(in crate::datagrams) async fn readable(&self) -> io::Result<()> {
            self.0.readable().await
        }

        pub(in crate::datagrams) async fn writable(&self) -> io::Result<()> {
            self.0.writable().await
        }

        #[expect(clippy::unused_self, reason = "the shape of the other")]
        pub(in crate::datagrams) fn together(&self) -> usize {
            1
        }

        pub(in crate::datagrams) fn try_send(
            &self,
            to: SocketAddr,
            contents: &[u8],
            _: usize,
        ) -> io::Result<()> {
            self.0.try_send_to(contents, to).map(|_| ())
        }

        pub(in crate::datagrams) fn try_receive(&self, arrivals: &mut Arrivals) -> io::Result<()> {
            arrivals.filled.clear();
            let (len, from) = self.0.try_recv_from(&mut arrivals.buffer)?;
            arrivals.filled.push((from, len, len));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(slots: &[(&[u8], usize)]) -> Arrivals {
        let mut arrivals = Arrivals::new();
        for (slot, (bytes, each)) in slots.iter().enumerate() {
            arrivals.buffer[slot * LONGEST..][..bytes.len()].copy_from_slice(bytes);
            let from = ([127, 0, 0, 1], 1).into();
            arrivals.filled.push((from, bytes.len(), *each));
        }
        arrivals
    }

    #[test]
    fn what_came_together_is_taken_apart() {
        let arrivals = arrived(&[(b"aabbc", 2)]);
        let datagrams: Vec<_> = arrivals.datagrams().map(|(_, bytes)| bytes).collect();
        assert_eq!(datagrams, [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(arrived(&[(b"", 0)]).datagrams().count(), 1, "an empty one");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn datagrams_that_are_longer_than_a_link_may_still_be_sent_in_fragments() {
        use rustix::net::sockopt::ip_mtu_discover;

        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        let before = ip_mtu_discover(&socket).expect("v4");
        let socket = Socket::new(socket).expect("open");
        assert_eq!(ip_mtu_discover(&socket.socket).expect("v4"), before);
    }
}
