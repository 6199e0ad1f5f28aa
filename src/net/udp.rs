//! UDP: many datagrams per system call, where the system can do that.
//!
//! On Linux datagrams go through `quinn-udp`: datagrams of one length to one receiver leave together
//! (segmentation offload), and what arrived so is received together. On other systems they go one by
//! one. What is sent, and what becomes of it, is decided in the folder `datagrams`.

use std::{io, net::SocketAddr};

use tokio::net::UdpSocket;

pub(crate) use self::system::DatagramSocket;
use self::system::SLOTS;

/// Room for one datagram: its length field has 16 bits.
const LONGEST: usize = 64 << 10;

/// The most bytes that are sent together. The kernel handles them as one datagram until the last moment,
/// so this is slightly less than one IPv4 datagram can carry.
pub(crate) const MAX_BURST_BYTES: usize = 65_000;

/// A longer datagram is sent alone. Datagrams that are sent together must each fit the link, or none of
/// them is sent; this length fits every link that IPv6 may use (1280 bytes less the headers of IPv6
/// and UDP).
pub(crate) const MAX_BURST_SEGMENT: usize = 1232;

/// A bound datagram socket that belongs to no runtime. It outlives the actor that uses it, so that an
/// actor that is started again receives from the same backlog.
#[derive(Debug)]
pub(crate) struct UnattachedUdp(std::net::UdpSocket);

impl UnattachedUdp {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        Ok(UnattachedUdp(socket))
    }

    #[cfg(test)]
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Attaches the socket to the runtime of this thread.
    pub(crate) fn attach(&self) -> io::Result<DatagramSocket> {
        DatagramSocket::new(UdpSocket::from_std(self.0.try_clone()?)?)
    }
}

/// The datagrams of one system call, in the buffer that they were received into.
pub(crate) struct ReceivedDatagrams {
    buffer: Vec<u8>,
    filled: Vec<Slot>,
}

/// The filled part of one slot of the buffer: one or more datagrams from one sender.
struct Slot {
    from: SocketAddr,
    len: usize,
    /// The length of each datagram but the last, which may be shorter.
    each: usize,
}

impl ReceivedDatagrams {
    /// Returns an empty buffer. The system provides its memory page by page, as it is filled.
    pub(crate) fn new() -> Self {
        ReceivedDatagrams {
            buffer: vec![0; SLOTS * LONGEST],
            filled: Vec::with_capacity(SLOTS),
        }
    }

    /// Returns each datagram with its sender.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.buffer.chunks(LONGEST).zip(&self.filled);
        slots.flat_map(|(bytes, slot)| {
            // `chunks` yields nothing for an empty datagram.
            let empty = (slot.len == 0).then_some(&bytes[..0]);
            let datagrams = bytes[..slot.len].chunks(slot.each.max(1)).chain(empty);
            datagrams.map(|datagram| (slot.from, datagram))
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

    /// The most slots that one system call fills, each with the datagrams that came together.
    pub(super) const SLOTS: usize = 8;

    pub(crate) struct DatagramSocket {
        pub(in crate::net) socket: UdpSocket,
        state: UdpSocketState,
    }

    impl DatagramSocket {
        pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
            // `quinn-udp` forbids IP fragments, as QUIC does. Our datagrams may be longer than a link,
            // so what was set before is set again.
            let (v4, v6) = (ip_mtu_discover(&socket), ipv6_mtu_discover(&socket));
            let state = UdpSocketState::new((&socket).into())?;
            if let Ok(v4) = v4 {
                set_ip_mtu_discover(&socket, v4)?;
            }
            if let Ok(v6) = v6 {
                set_ipv6_mtu_discover(&socket, v6)?;
            }
            Ok(DatagramSocket { socket, state })
        }

        pub(crate) async fn readable(&self) -> io::Result<()> {
            self.socket.readable().await
        }

        pub(crate) async fn writable(&self) -> io::Result<()> {
            self.socket.writable().await
        }

        /// Returns how many datagrams of one length can be sent together.
        pub(crate) fn max_burst(&self) -> usize {
            self.state.max_gso_segments()
        }

        /// Sends `contents` as datagrams of `segment` bytes each, all of them or none, without waiting.
        pub(crate) fn try_send(
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

        /// Receives what has arrived, as much as one system call takes, without waiting.
        pub(crate) fn try_receive(&self, received: &mut ReceivedDatagrams) -> io::Result<()> {
            received.filled.clear();
            let mut slots = received.buffer.chunks_mut(LONGEST);
            let mut slots: [_; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(slots.next().expect("as many as there are slots"))
            });
            let mut metas = [RecvMeta::default(); SLOTS];
            let filled = self.socket.try_io(Interest::READABLE, || {
                let socket = (&self.socket).into();
                self.state.recv(socket, &mut slots, &mut metas)
            })?;
            let filled = metas[..filled].iter();
            let filled = filled.map(|meta| Slot {
                from: meta.addr,
                len: meta.len,
                each: meta.stride,
            });
            received.filled.extend(filled);
            Ok(())
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use super::*;

    pub(super) const SLOTS: usize = 1;

    pub(crate) struct DatagramSocket(UdpSocket);

    impl DatagramSocket {
        pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(DatagramSocket(socket))
        }

        pub(crate) async fn readable(&self) -> io::Result<()> {
            self.0.readable().await
        }

        pub(crate) async fn writable(&self) -> io::Result<()> {
            self.0.writable().await
        }

        #[expect(clippy::unused_self, reason = "the shape of the other")]
        pub(crate) fn max_burst(&self) -> usize {
            1
        }

        pub(crate) fn try_send(&self, to: SocketAddr, contents: &[u8], _: usize) -> io::Result<()> {
            self.0.try_send_to(contents, to).map(|_| ())
        }

        /// Receives what has arrived, as much as one system call takes, without waiting.
        pub(crate) fn try_receive(&self, received: &mut ReceivedDatagrams) -> io::Result<()> {
            received.filled.clear();
            let (len, from) = self.0.try_recv_from(&mut received.buffer)?;
            received.filled.push(Slot {
                from,
                len,
                each: len,
            });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(slots: &[(&[u8], usize)]) -> ReceivedDatagrams {
        let mut received = ReceivedDatagrams::new();
        for (index, (bytes, each)) in slots.iter().enumerate() {
            received.buffer[index * LONGEST..][..bytes.len()].copy_from_slice(bytes);
            received.filled.push(Slot {
                from: ([127, 0, 0, 1], 1).into(),
                len: bytes.len(),
                each: *each,
            });
        }
        received
    }

    #[test]
    fn datagrams_that_came_together_are_taken_apart() {
        let several = received(&[(b"aabbc", 2)]);
        let datagrams: Vec<_> = several.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(datagrams, [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(received(&[(b"", 0)]).iter().count(), 1, "an empty one");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn datagrams_longer_than_a_link_may_still_be_sent_in_fragments() {
        use rustix::net::sockopt::ip_mtu_discover;

        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        let before = ip_mtu_discover(&socket).expect("v4");
        let socket = DatagramSocket::new(socket).expect("open");
        assert_eq!(ip_mtu_discover(&socket.socket).expect("v4"), before);
    }
}
