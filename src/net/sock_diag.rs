//! Asks the kernel how many datagrams it has dropped because nobody read them in time.
//!
//! Linux counts them for each socket. `SO_RXQ_OVFL` and `SO_MEMINFO` would tell the number, but no safe
//! code can read either of them: `quinn-udp` skips the control message, and no crate used here has the
//! option. So the question goes through netlink (`NETLINK_SOCK_DIAG`), which takes some 20 µs. The same
//! number is in `/proc/net/udp`, but reading that file takes milliseconds, because the kernel walks the
//! sockets of all processes for it.
//!
//! ```text
//! question   0  length of all, u32           answer   0  length of all, u32
//!            4  20: by family, u16                    4  20: by family, u16
//!            6  1: request, u16                       6  flags, sequence, port
//!            8  sequence, port: 0                    16  the socket, 72 bytes
//!           16  family, u8                           88  attributes, each of them:
//!           17  17: UDP, u8                                0  length with this header, u16
//!           18  which attributes, u8                       2  type, u16
//!           20  states: all, u32                           4  value, then up to 3 bytes of padding
//!           24  source port and address: none
//!           26  port of the socket, big-endian       attribute 7 (memory): nine u32, the last of
//!           44  address of the socket                which is the number of dropped datagrams
//!           60  interface, u32
//!           64  cookie of the socket, u64
//! ```

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt::socket_cookie,
};

const BY_FAMILY: u16 = 20;
const MEMORY: u16 = 7;
const HEADER: usize = 16;
const SOCKET: usize = 72;

/// The question about one socket.
pub(super) struct Question([u8; 72]);

impl Question {
    pub(super) fn about(socket: &UdpSocket) -> io::Result<Self> {
        // The cookie makes sure that the answer is about this socket and no other.
        let (addr, cookie) = (socket.local_addr()?, socket_cookie(socket)?);
        Ok(Question(question(addr, cookie)))
    }

    /// Returns how many datagrams the kernel has dropped since the socket was made, modulo 2³².
    pub(super) fn drops(&self) -> io::Result<u32> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let kernel = socket_with(family, kind, flags, Some(netlink::SOCK_DIAG))?;
        send(&kernel, &self.0, SendFlags::empty())?;
        // The kernel has answered when `send` returns.
        let mut answer = [0; 1024];
        let (len, _) = recv(&kernel, &mut answer[..], RecvFlags::empty())?;
        drops(&answer[..len]).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").finish_non_exhaustive()
    }
}

fn question(addr: SocketAddr, cookie: u64) -> [u8; 72] {
    const REQUEST: u16 = 1;
    const UDP: u8 = 17;

    let mut bytes = [0; 72];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &72_u32.to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST.to_ne_bytes());
    put(17, &[UDP, 1 << (MEMORY - 1)]);
    put(20, &u32::MAX.to_ne_bytes());
    put(26, &addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => {
            put(16, &[AddressFamily::INET.as_raw() as u8]);
            put(44, &ip.octets());
        }
        IpAddr::V6(ip) => {
            put(16, &[AddressFamily::INET6.as_raw() as u8]);
            put(44, &ip.octets());
        }
    }
    if let SocketAddr::V6(addr) = addr {
        put(60, &addr.scope_id().to_ne_bytes());
    }
    // The lower half comes first, whatever the byte order of the machine.
    put(64, &(cookie as u32).to_ne_bytes());
    put(68, &((cookie >> 32) as u32).to_ne_bytes());
    bytes
}

/// Finds the number in the kernel's answer. `None` if it is an error or has no such number.
fn drops(answer: &[u8]) -> Option<u32> {
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(word))
    };
    let short = |bytes: &[u8], at: usize| {
        let short = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_ne_bytes(short))
    };
    if short(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut attributes = answer.get(HEADER + SOCKET..)?;
    loop {
        let len = usize::from(short(attributes, 0)?);
        if short(attributes, 2)? == MEMORY {
            return word(attributes.get(..len)?, 4 + 8 * 4);
        }
        attributes = attributes.get(len.next_multiple_of(4).max(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_finds_the_socket_whatever_it_is_bound_to() {
        for ip in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            let Ok(socket) = UdpSocket::bind((ip, 0)) else {
                continue; // This machine has no IPv6.
            };
            let question = Question::about(&socket).expect("a cookie");
            assert_eq!(question.drops().expect("netlink"), 0, "{ip}");
        }
    }

    #[test]
    fn nothing_is_told_about_another_socket_with_the_same_address() {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("free port");
        let (socket, other) = (bind(), bind());
        let addr = socket.local_addr().expect("bound");
        let cookie = socket_cookie(&other).expect("a cookie");
        assert!(Question(question(addr, cookie)).drops().is_err());
    }

    #[test]
    fn an_answer_that_is_cut_short_tells_nothing() {
        let mut answer = vec![0; HEADER + SOCKET];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        // An attribute of another type, and then the one that is looked for.
        answer.extend([5_u16, 8].map(u16::to_ne_bytes).concat());
        answer.extend([1, 0, 0, 0]);
        answer.extend([40, MEMORY].map(u16::to_ne_bytes).concat());
        answer.extend([0; 32]);
        answer.extend(91_u32.to_ne_bytes());
        assert_eq!(drops(&answer), Some(91));
        for len in 0..answer.len() {
            assert_eq!(drops(&answer[..len]), None, "{len}");
        }
        answer[4] = 2;
        assert_eq!(drops(&answer), None, "an error");
    }
}
