use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> SanPattern {
    text.parse().expect("a pattern")
}

/// Checks which of these names the pattern matches.
fn check(text: &str, matched: &[&str], others: &[&str]) {
    let pattern = pattern(text);
    let matches = |name: &str| match text.contains("://") {
        true => pattern.matches_uri(name),
        false => pattern.matches_dns(name),
    };
    for name in matched {
        assert!(matches(name), "{text} {name}");
    }
    for name in others {
        assert!(!matches(name), "{text} {name}");
    }
}

#[test]
fn a_star_stands_for_a_part_of_one_label() {
    check(
        "node-*.svc",
        &["node-2.svc", "node-.svc", "node-a-b.svc"],
        &[
            "node-2.kv.svc",
            "node-2",
            "node-2.svc.kv",
            "2.svc",
            "a.node-2.svc",
        ],
    );
    check(
        "*.kv.svc",
        &["a.kv.svc"],
        &["kv.svc", ".kv.svc", "a.b.kv.svc"],
    );
    check("*.*", &["a.b"], &["a", "a.b.c", "a."]);
    check(
        "a*b*c",
        &["abc", "aabbcc", "abcbc"],
        &["acb", "abcd", "ab.c"],
    );
    check("kv", &["kv"], &["kvv", "k", "kv.svc"]);
}

#[test]
fn dns_names_are_compared_without_case_and_without_the_last_dot() {
    check(
        "Node-*.SVC.",
        &["nODE-2.svc", "node-2.svc."],
        &["node-2.svc.."],
    );
    assert_eq!(pattern("Node-*.SVC."), pattern("node-*.svc"));
}

#[test]
fn a_star_in_a_uri_stands_for_a_part_of_one_label_or_segment() {
    check(
        "spiffe://kv/node/*",
        &[
            "spiffe://kv/node/2",
            "spiffe://kv/node/",
            "spiffe://kv/node/a.b:c@d",
        ],
        &[
            "spiffe://kv/node",
            "spiffe://kv/node/2/x",
            "spiffe://kv/node/2?x",
            "spiffe://kv/node/2#x",
        ],
    );
    check(
        "spiffe://*.example/*/2",
        &["spiffe://kv.example/node/2", "spiffe://.example//2"],
        &[
            "spiffe://a.kv.example/node/2",
            "spiffe://kv.example:80/node/2",
            "spiffe://me@kv.example/node/2",
            "spiffe://kv.example/a/node/2",
            "https://kv.example/node/2",
        ],
    );
    check(
        "spiffe://*",
        &["spiffe://kv"],
        &["spiffe://kv/", "spiffe://kv:1", "spiffe://", "kv"],
    );
}

#[test]
fn the_path_of_a_uri_is_compared_exactly_and_what_is_before_it_without_case() {
    check(
        "SPIFFE://Kv/Node/%41",
        &["spiffe://kV/Node/%41"],
        &[
            "spiffe://kv/node/%41",
            "spiffe://kv/Node/A",
            "spiffe://kv/./Node/%41",
        ],
    );
}

#[test]
fn only_a_star_alone_matches_names_of_both_kinds() {
    assert!(pattern("*").is_any());
    for other in ["*.*", "*.svc", "spiffe://*/*"] {
        assert!(!pattern(other).is_any(), "{other}");
    }
    assert!(!pattern("kv*").matches_uri("kv"));
    assert!(!pattern("kv*").matches_uri("kv://kv"));
    assert!(!pattern("kv://*").matches_dns("kv://kv"));
}

/// A certificate for `*.svc` says of itself that it is for every node of that domain. That must be said by a
/// pattern, not by the certificate.
#[test]
fn wildcard_names_and_others_that_are_not_plain_are_matched_by_a_star_alone_only() {
    let any = pattern("*");
    for name in [
        "*.svc", "a*.svc", "a b.svc", "a\0.svc", "a/b.svc", "ü.svc", "",
    ] {
        assert!(any.matches_dns(name));
        for other in ["*.svc", "a*.svc", "*.*", "*b.svc"] {
            assert!(!pattern(other).matches_dns(name), "{other} {name:?}");
        }
    }
    for uri in [
        "spiffe://kv/*",
        "spiffe://*/n",
        "spiffe:///n",
        "urn:n",
        "spiffe://kv/\0",
        "spiffe://kv/ü",
    ] {
        assert!(any.matches_uri(uri));
        for other in ["spiffe://kv/*", "spiffe://*/n", "urn://*"] {
            assert!(!pattern(other).matches_uri(uri), "{other} {uri:?}");
        }
    }
}

#[test]
fn names_that_are_too_long_are_not_plain() {
    let longest = "a".repeat(MAX_LABEL);
    check(
        "*.svc",
        &[&format!("{longest}.svc")],
        &[&format!("{longest}a.svc")],
    );
    let longest = format!("spiffe://kv/{}", "a".repeat(MAX_URI - 12));
    check("spiffe://kv/*", &[&longest], &[&format!("{longest}a")]);
}

#[test]
fn the_error_says_what_is_wrong_with_a_pattern() {
    let wrong = [
        ("", "it is empty"),
        ("**.svc", "`**`"),
        ("spiffe://kv/**", "`**`"),
        ("*.", "a dot behind"),
        ("knöten.svc", "xn--"),
        ("10.0.0.1", "not by ips"),
        ("node 2.svc", "only letters"),
        ("node-2.svc\n", "only letters"),
        ("node-2.svc:7000", "only letters"),
        ("urn:node:2", "a URI has a `://`"),
        ("node-[0-9].svc", "only letters"),
        ("a..svc", "1 to 63"),
        (".svc", "1 to 63"),
        (".", "1 to 63"),
        (&"a".repeat(64), "1 to 63"),
        (&"a.".repeat(150), "253"),
        ("spiffe://kv/é", "%C3%A9"),
        ("spiffe://kv/a b", "no URI has"),
        ("spiffe://kv/a?b", "query"),
        ("*://kv/a", "scheme"),
        ("://kv/a", "scheme"),
        ("spiffe:///a", "host"),
        (&format!("spiffe://kv/{}", "a".repeat(MAX_URI)), "2048"),
    ];
    for (text, problem) in wrong {
        let err = text.parse::<SanPattern>().expect_err(text).to_string();
        assert!(err.contains(problem), "{text}: {err}");
        // It may go into a line of a log.
        assert!(!err.contains('\n'), "{err}");
    }
}

#[test]
fn a_pattern_with_many_stars_takes_no_more_steps_than_its_length_times_that_of_the_name() {
    let stars = format!("a://{}/{}b", "k", "*a".repeat(1000));
    let name = format!("a://k/{}", "a".repeat(2000));
    // Would take longer than the universe is old, if each `*` were tried with each length.
    check(&stars, &[], &[&name]);
}

proptest! {
    #[test]
    fn a_plain_name_matches_itself_and_what_its_letters_become_stars_of(
        name in "[a-c-]{1,5}(\\.[a-c-]{1,5}){0,3}",
        from in any::<prop::sample::Index>(),
        len in 0usize..4,
    ) {
        prop_assert!(pattern(&name).matches_dns(&name));
        let from = from.index(name.len());
        let cut = name[from..].split('.').next().unwrap_or_default();
        let to = from + cut.len().min(len);
        let starred = format!("{}*{}", &name[..from], &name[to..]);
        prop_assert!(starred == "*" || pattern(&starred).matches_dns(&name), "{}", starred);
    }

    #[test]
    fn no_text_makes_a_pattern_panic_and_what_is_displayed_is_the_same_pattern(
        text in "\\PC*|[*a.:/@ -]{0,20}",
        name in "\\PC*|[*a.:/@ -]{0,20}",
    ) {
        if let Ok(read) = text.parse::<SanPattern>() {
            prop_assert_eq!(&pattern(&read.to_string()), &read);
            let _ = (read.matches_dns(&name), read.matches_uri(&name));
        }
    }
}
