//! Which of the addresses that a name has are dialled, and in which order. Pure: resolves and dials
//! nothing.

use std::{net::SocketAddr, time::Duration};

use crate::net::{
    addr::{canonical, is_usable},
    names::NameError,
};

/// The most addresses of a name that one dial tries. The next dial asks for the addresses again, and name
/// servers give a long list in another order each time.
pub(crate) const MAX_CANDIDATES: usize = 16;

/// How long an address is waited for before the next one is tried beside it: the "Connection Attempt Delay"
/// that RFC 8305 recommends.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Returns the addresses to dial, the first one first: those that can be dialled, each once, IPv6 and IPv4 by
/// turns from the family of the first one on (RFC 8305, section 4). Within a family they keep their order.
pub(crate) fn candidates(
    found: &[SocketAddr],
    is_this_node: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<SocketAddr>, NameError> {
    let (mut first_family, mut other_family) = (Vec::new(), Vec::new());
    let mut error = NameError::NoAddress;
    for addr in found.iter().copied().map(canonical) {
        let useless = if !is_usable(addr) {
            Some(NameError::Unusable(addr))
        } else if is_this_node(addr) {
            Some(NameError::ThisNode(addr))
        } else {
            None
        };
        if let Some(useless) = useless {
            // The first one is told.
            if error == NameError::NoAddress {
                error = useless;
            }
            continue;
        }
        let family = match first_family.first() {
            Some(first) if SocketAddr::is_ipv4(first) != addr.is_ipv4() => &mut other_family,
            _ => &mut first_family,
        };
        if family.len() < MAX_CANDIDATES && !family.contains(&addr) {
            family.push(addr);
        }
    }
    if first_family.is_empty() {
        return Err(error);
    }
    Ok(by_turns(&first_family, &other_family))
}

/// Takes one of each, as long as there are both, and then the rest.
fn by_turns(first: &[SocketAddr], other: &[SocketAddr]) -> Vec<SocketAddr> {
    let pairs = (0..MAX_CANDIDATES).flat_map(|index| [first.get(index), other.get(index)]);
    pairs.flatten().copied().take(MAX_CANDIDATES).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        let parsed = texts.iter().map(|text| text.parse().expect("an address"));
        parsed.collect()
    }

    fn of(texts: &[&str]) -> Result<Vec<SocketAddr>, NameError> {
        candidates(&addrs(texts), |addr| addr.port() == 99)
    }

    #[test]
    fn the_families_take_turns_and_the_resolver_says_which_goes_first() {
        let [a, b, c] = ["10.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7"];
        let [x, y] = ["[fd00::1]:7", "[fd00::2]:7"];
        assert_eq!(of(&[a, b, c, x, y]), Ok(addrs(&[a, x, b, y, c])));
        assert_eq!(of(&[x, y, a]), Ok(addrs(&[x, a, y])));
        assert_eq!(of(&[a, b, c]), Ok(addrs(&[a, b, c])));
    }

    #[test]
    fn what_no_peer_can_have_is_left_out_and_told_if_nothing_is_left() {
        let (own, good) = ("10.0.0.1:99", "10.0.0.1:7");
        assert_eq!(of(&[]), Err(NameError::NoAddress));
        let first = |texts: &[&str]| Err(NameError::Unusable(addrs(texts)[0]));
        assert_eq!(of(&["0.0.0.0:7", own]), first(&["0.0.0.0:7"]));
        assert_eq!(of(&["10.0.0.1:0"]), first(&["10.0.0.1:0"]));
        assert_eq!(of(&["224.0.0.1:7"]), first(&["224.0.0.1:7"]));
        let own_first = Err(NameError::ThisNode(addrs(&[own])[0]));
        assert_eq!(of(&[own, "[::]:7"]), own_first);
        assert_eq!(of(&["[::ffff:10.0.0.1]:99"]), own_first);
        assert_eq!(of(&[own, "10.0.0.1:0", good]), Ok(addrs(&[good])));
    }

    proptest! {
        #[test]
        fn each_address_comes_once_at_most_and_there_are_few(
            found in proptest::collection::vec((0..2u8, 0..40u16), 0..100)
        ) {
            let found: Vec<SocketAddr> = found
                .into_iter()
                .map(|(family, port)| match family {
                    0 => ([10, 0, 0, 1], port + 1).into(),
                    _ => ([0xfd00, 0, 0, 0, 0, 0, 0, 1], port + 1).into(),
                })
                .collect();
            let Ok(dialled) = candidates(&found, |_| false) else {
                prop_assert!(found.is_empty());
                return Ok(());
            };
            prop_assert_eq!(dialled[0], found[0]);
            prop_assert!(dialled.len() <= MAX_CANDIDATES);
            for (index, addr) in dialled.iter().enumerate() {
                prop_assert!(found.contains(addr) && !dialled[..index].contains(addr));
            }
            // Once one family comes twice in a row, the other one has no more.
            let repeated = dialled.windows(2).position(|two| two[0].is_ipv4() == two[1].is_ipv4());
            if let Some(repeated) = repeated {
                let rest = &dialled[repeated..];
                prop_assert!(rest.iter().all(|addr| addr.is_ipv4() == rest[0].is_ipv4()));
            }
        }
    }
}
