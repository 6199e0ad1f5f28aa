//! Any bytes as a certificate. What is read of it is bounded and can be printed, and it is for the nodes
//! that its names say.

use actix_transport::{
    Certificate, NodeId,
    test_internals::tls::{Pattern, read_certificate},
};

/// The names of each kind that are checked one by one.
const CHECKED: usize = 4;

pub fn run(data: &[u8]) {
    let Some(certificate) = read_certificate(data) else {
        return;
    };
    check_bounds(&certificate);
    let any = Pattern::read("*").expect("a pattern");
    assert!(any.lets_in(&certificate));
    // Each takes a look at all names, so a few must do.
    let is_uri = |name: &&String| name.contains("://");
    let names = certificate.dns_names().iter();
    for name in names.filter(|name| !is_uri(name)).take(CHECKED) {
        let label = name.split('.').next().expect("one at least");
        check_name(&certificate, name, label);
    }
    for uri in certificate.uris().iter().filter(is_uri).take(CHECKED) {
        let segment = uri
            .splitn(4, '/')
            .nth(3)
            .and_then(|path| path.rsplit('/').next());
        check_name(&certificate, uri, segment.unwrap_or_default());
    }
}

fn check_bounds(certificate: &Certificate) {
    let text = certificate.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(certificate.subject().len() <= 256);
    assert!(certificate.serial().len() <= 3 * 21);
    for (names, longest) in [(certificate.dns_names(), 254), (certificate.uris(), 2048)] {
        assert!(names.len() <= 64);
        for name in names {
            assert!(
                (1..=longest).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_graphic())
            );
        }
    }
}

/// Checks what a name lets in if it is allowed as it is, and no other.
fn check_name(certificate: &Certificate, name: &str, end: &str) {
    let Some(pattern) = Pattern::read(name).filter(|_| !name.contains('*')) else {
        return;
    };
    assert!(pattern.lets_in(certificate), "{name}");
    let mut digits: Vec<char> = end.chars().rev().take_while(char::is_ascii_digit).collect();
    digits.reverse();
    let number = digits.iter().collect::<String>().parse::<u64>().ok();
    if let Some(number) = number {
        assert!(
            pattern.lets_in_for(certificate, NodeId::new(number)),
            "{name}"
        );
    }
    for other in [0, 1, 2, number.unwrap_or_default().wrapping_add(1)] {
        let lets_in = pattern.lets_in_for(certificate, NodeId::new(other));
        assert_eq!(lets_in, number == Some(other), "{name} {other}");
    }
}
