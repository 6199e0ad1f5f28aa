use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType, SerialNumber,
    date_time_ymd,
};

use super::*;

/// The parameters of a certificate with these names, for `CN=node-2,O=kv`.
fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "kv");
    subject.push(DnType::CommonName, "node-2");
    params.distinguished_name = subject;
    params.subject_alt_names = names.iter().map(|name| san(name)).collect();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.serial_number = Some(SerialNumber::from_slice(&[10, 27]));
    params
}

fn san(name: &str) -> SanType {
    let text = name.try_into().expect("ASCII");
    match name.contains(':') {
        true => SanType::URI(text),
        false => SanType::DnsName(text),
    }
}

fn der(params: &CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    params
        .self_signed(&key)
        .expect("a certificate")
        .der()
        .to_vec()
}

fn read(params: &CertificateParams) -> Certificate {
    Certificate::from_der(&der(params)).expect("a certificate")
}

fn patterns(texts: &[&str]) -> Vec<SanPattern> {
    texts
        .iter()
        .map(|text| text.parse().expect("a pattern"))
        .collect()
}

#[test]
fn a_certificate_says_whose_it_is_and_how_long_it_is_valid() {
    let names = ["node-2.kv.svc", "*.kv.svc", "Node-2", "spiffe://kv/node/2"];
    let certificate = read(&params(&names));
    assert_eq!(certificate.subject(), "CN=node-2,O=kv");
    assert_eq!(certificate.serial(), "0A:1B");
    assert_eq!(
        certificate.dns_names(),
        ["node-2.kv.svc", "*.kv.svc", "Node-2"]
    );
    assert_eq!(certificate.uris(), ["spiffe://kv/node/2"]);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(certificate.not_before(), at(1_767_225_600));
    assert_eq!(certificate.not_after(), at(1_798_761_600));
}

#[test]
fn it_displays_as_a_line_of_a_log() {
    let mut params = params(&["node-2.kv.svc"]);
    let until = "valid until 2027-01-01T00:00:00Z";
    let text = |params: &CertificateParams| read(params).to_string();
    assert_eq!(
        text(&params),
        format!("CN=node-2,O=kv (node-2.kv.svc), {until}")
    );
    params.distinguished_name = DistinguishedName::new();
    assert_eq!(text(&params), format!("node-2.kv.svc, {until}"));
    params.subject_alt_names = ["a", "b", "c", "a:d", "a:e", "a:f"].map(san).to_vec();
    assert_eq!(text(&params), format!("a, b, c, a:d and 2 more, {until}"));
    params.subject_alt_names.clear();
    assert_eq!(
        text(&params),
        format!("a certificate without names, {until}")
    );
}

#[test]
fn a_subject_is_bounded_and_what_cannot_be_printed_in_it_is_escaped() {
    let mut params = params(&[]);
    let mut subject = |name: &str| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        read(&params).subject
    };
    assert_eq!(
        subject("a\nb\u{202e}c\u{9b}, ü"),
        "CN=a\\0ab\\u{202e}c\\u{9b}\\, ü"
    );
    // `CN=`, and `…` at the end, which has three bytes.
    assert_eq!(subject(&"a".repeat(250)).len(), 253);
    assert_eq!(
        subject(&"a".repeat(251)),
        format!("CN={}…", "a".repeat(250))
    );
    assert_eq!(subject(&"ü".repeat(1000)).len(), 256);
}

#[test]
fn names_beyond_the_bounds_are_left_out() {
    let many: Vec<String> = (0..100).map(|number| format!("node-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let certificate = read(&params(&many));
    assert_eq!(certificate.dns_names(), &many[..MAX_NAMES]);
    let any = patterns(&["*"]);
    assert!(certificate.covers(NodeId::new(63), &any));
    assert!(!certificate.covers(NodeId::new(64), &any));

    let long = "a".repeat(MAX_DNS + 1);
    let longer = "a".repeat(MAX_DNS + 2);
    let uri = format!("a://{}", "b".repeat(MAX_URI - 3));
    let certificate = read(&params(&[
        &long,
        &longer,
        &uri,
        &uri[1..],
        "a\0b",
        "a b",
        "",
        "a:\n",
        "c",
    ]));
    assert_eq!(certificate.dns_names(), [long.as_str(), "c"]);
    assert_eq!(certificate.uris(), [&uri[1..]]);
}

#[test]
fn a_certificate_is_let_in_by_one_of_its_names_or_by_a_star_alone() {
    let certificate = read(&params(&[
        "node-2.kv.svc",
        "*.kv.svc",
        "spiffe://kv/node/2",
    ]));
    let matches = |texts: &[&str]| certificate.matches(&patterns(texts));
    assert!(matches(&["*"]));
    assert!(matches(&["other", "node-*.kv.svc"]));
    assert!(matches(&["spiffe://kv/node/*"]));
    assert!(!matches(&["node-3.kv.svc", "spiffe://kv/node/3"]));
    // The common name is nobody's proof.
    assert!(!matches(&["node-2"]));
    assert!(!matches(&[]));
    let nameless = read(&params(&[]));
    assert!(nameless.matches(&patterns(&["*"])));
    assert!(!nameless.matches(&patterns(&["*.*", "spiffe://*/*"])));
}

#[test]
fn a_wildcard_name_lets_in_nobody_that_a_pattern_does_not() {
    let certificate = read(&params(&["*.kv.svc"]));
    assert!(!certificate.matches(&patterns(&["*.kv.svc", "node-2.kv.svc", "*.*.*"])));
    assert!(certificate.matches(&patterns(&["*"])));
    let certificate = read(&params(&["*-2.kv.svc"]));
    assert!(!certificate.covers(NodeId::new(2), &patterns(&["*"])));
}

#[test]
fn a_certificate_is_for_the_node_whose_number_ends_an_allowed_name() {
    let covers =
        |name: &str, node: u64| read(&params(&[name])).covers(NodeId::new(node), &patterns(&["*"]));
    for name in [
        "node-2.kv.svc",
        "kv2",
        "2",
        "node-002.svc.",
        "spiffe://kv/node/2",
        "a://b/c-2",
    ] {
        assert!(covers(name, 2), "{name}");
    }
    for name in [
        "node-12.svc",
        "node.2",
        "2-node",
        "a://2",
        "a://b/2/",
        "a://b/2?c",
        "a://b/c?d=2",
        "urn:2",
    ] {
        assert!(!covers(name, 2), "{name}");
    }
    assert!(covers("node-12", 12));
    assert!(covers("node-18446744073709551615", u64::MAX));
    assert!(covers("node-0", 0));
    assert!(!covers("node", 0));
    // One too many for 64 bits. It must not become 0.
    assert!(!covers("node-18446744073709551616", 0));
}

#[test]
fn a_name_that_is_not_allowed_is_for_no_node() {
    let certificate = read(&params(&[
        "node-2.kv.svc",
        "node-3.other.svc",
        "spiffe://kv/node/4",
    ]));
    let covers = |node, texts: &[&str]| certificate.covers(NodeId::new(node), &patterns(texts));
    assert!(covers(2, &["*.kv.svc"]));
    assert!(!covers(3, &["*.kv.svc"]));
    assert!(!covers(4, &["*.kv.svc"]));
    assert!(covers(3, &["*.kv.svc", "*.other.svc"]));
    assert!(covers(4, &["spiffe://kv/*/*"]));
    assert!(!covers(2, &[]));
}

#[test]
fn names_of_other_kinds_are_skipped() {
    let mut params = params(&["node-2"]);
    let others = [
        SanType::IpAddress([10, 0, 0, 3].into()),
        SanType::Rfc822Name("node-3@kv".try_into().expect("ASCII")),
    ];
    params.subject_alt_names.extend(others);
    // An X.400 address, which is not known to all who read certificates, and then a DNS name.
    assert_eq!(read(&params).dns_names(), ["node-2"]);
    params.subject_alt_names.clear();
    let content = b"\x30\x06\xa3\x01\x05\x82\x01a".to_vec();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], content)];
    assert_eq!(read(&params).dns_names(), ["a"]);
}

#[test]
fn names_that_are_there_twice_or_cut_make_it_unreadable() {
    let mut params = params(&["node-2"]);
    let extension =
        |content: &[u8]| CustomExtension::from_oid_content(&[2, 5, 29, 17], content.to_vec());
    params.custom_extensions = vec![extension(b"\x30\x03\x82\x01a")];
    let err = Certificate::from_der(&der(&params)).expect_err("twice");
    assert_eq!(err, BadCertificate::NamesTwice);
    params.subject_alt_names.clear();
    params.custom_extensions = vec![extension(b"\x30\x03\x82\x02a")];
    assert!(Certificate::from_der(&der(&params)).is_err());
}

#[cfg(feature = "serde")]
#[test]
fn it_is_serialized_with_times_that_people_read() {
    let json = serde_json::to_string(&read(&params(&["node-2"]))).expect("serializes");
    let expected =
        r#"{"subject":"CN=node-2,O=kv","serial":"0A:1B","dns_names":["node-2"],"uris":[],"#;
    let times = r#""not_before":"2026-01-01T00:00:00Z","not_after":"2027-01-01T00:00:00Z"}"#;
    assert_eq!(json, format!("{expected}{times}"));
}

/// The bounds that hold for every certificate.
fn within_bounds(certificate: &Certificate) -> bool {
    let dns = certificate.dns_names.iter().map(|name| (name, MAX_DNS + 1));
    let uris = certificate.uris.iter().map(|uri| (uri, MAX_URI));
    let mut names = dns.chain(uris);
    certificate.subject.len() <= MAX_SUBJECT
        && certificate.dns_names.len() <= MAX_NAMES
        && certificate.uris.len() <= MAX_NAMES
        && names.all(|(name, longest)| {
            name.len() <= longest && name.bytes().all(|byte| byte.is_ascii_graphic())
        })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(certificate) = Certificate::from_der(&bytes) {
            prop_assert!(within_bounds(&certificate));
        }
    }

    #[test]
    fn no_change_of_a_real_certificate_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = REAL.with(Clone::clone);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(certificate) = Certificate::from_der(&bytes) {
            prop_assert!(within_bounds(&certificate));
            let _ = certificate.to_string();
        }
    }
}

thread_local! {
    static REAL: Vec<u8> = der(&params(&["node-2.kv.svc", "spiffe://kv/node/2"]));
}
