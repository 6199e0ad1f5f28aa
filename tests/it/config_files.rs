//! Settings in a file are what people write, and errors are what people understand.

use std::time::Duration;

use actix_transport::{Config, Lane, LaneConfig, NodeConfig, Overflow, Placement, Transport};

use crate::support::*;

/// What only programmers who know serde would understand.
const INTERNAL: [&str; 5] = ["variant", "invalid type", "untagged", "expected", "map"];

fn config(toml: &str) -> Config {
    toml::from_str(toml).unwrap_or_else(|err| panic!("{toml}: {err}"))
}

#[test]
fn sizes_have_units() {
    let read = config(
        r#"
        max_frame = "10MiB"
        queue_bytes = "200MB"
        udp_queue_bytes = 41943040
        max_datagram = "1_400"
        frame_floor = "64 KiB"
        queue_frames = 4_096
        "#,
    );
    let expected = Config::default()
        .max_frame(10 << 20)
        .queue_bytes(200_000_000)
        .udp_queue_bytes(40 << 20)
        .max_datagram(1_400)
        .frame_floor(64 << 10)
        .queue_frames(4_096);
    assert_eq!(read, expected);
}

#[test]
fn lanes_are_a_table_by_their_names() {
    let read = config(
        r#"
        refuse_unknown_lanes = true
        lanes.control = { stale_after = "300ms", overflow = "reject_newest" }

        [lanes.lane-3]
        queue_bytes = "4MiB"
        queue_frames = 100
        "#,
    );
    let control = LaneConfig::new()
        .stale_after(Duration::from_millis(300))
        .overflow(Overflow::RejectNewest);
    let own = LaneConfig::new().queue_bytes(4 << 20).queue_frames(100);
    let expected = Config::default()
        .refuse_unknown_lanes(true)
        .lane(Lane::CONTROL, control)
        .lane(Lane::new(3).expect("below eight"), own);
    assert_eq!(read, expected);
}

#[test]
fn placement_has_short_forms() {
    let cases = [
        ("'dedicated'", Placement::default()),
        ("'current'", Placement::Current),
        ("{ dedicated = {} }", Placement::default()),
        (
            "{ dedicated = { readers = 3, writers = 2 } }",
            Placement::Dedicated {
                readers: 3,
                writers: 2,
            },
        ),
        ("'shared'", Placement::shared()),
        (
            "{ shared = { arbiters = 3 } }",
            Placement::Shared { arbiters: 3 },
        ),
    ];
    for (text, placement) in cases {
        assert_eq!(config(&format!("placement = {text}")).placement, placement);
        // On its own, too, for programs that have a struct of their own for their settings.
        #[derive(serde::Deserialize)]
        struct Own {
            runs: Placement,
        }
        let own: Own = toml::from_str(&format!("runs = {text}")).expect(text);
        assert_eq!(own.runs, placement);
    }
}

#[test]
fn an_error_names_the_field_and_the_value_in_words_of_people() {
    let cases = [
        ("queue_bytes = 'lots'", r#""lots""#, "a size such as"),
        ("queue_bytes = -1", "-1", "a size such as"),
        ("queue_frames = '10MiB'", r#""10MiB""#, "a number"),
        ("backlog = 4294967296", "4294967296", "a number"),
        ("stale_after = 5", "is 5", "a time with a unit"),
        ("stale_after = '5 parsecs'", "parsecs", "a time with a unit"),
        ("group_share = 'half'", r#""half""#, "a number such as"),
        ("group_share = nan", "is ", "a number such as"),
        ("group_share = -1", "-1", "a number such as"),
        ("overflow = 'drop_newest'", "drop_newest", "drop_oldest"),
        ("udp = 'maybe'", "maybe", "true or false"),
        ("nodelay = [true]", "a list", "true or false"),
        ("placement = 'nowhere'", "nowhere", r#""dedicated""#),
        ("placement = { current = 1 }", "a table", r#""current""#),
        ("placement = { shared = 2 }", "2", "`arbiters`"),
        (
            "placement = { shared = { readers = 2 } }",
            "`readers`",
            "`arbiters`",
        ),
        (
            "placement = { dedicated = { reader = 1 } }",
            "reader",
            "readers",
        ),
        (
            "placement = { dedicated = { writers = 'two' } }",
            r#""two""#,
            "a number",
        ),
        ("lanes = 'fast'", r#""fast""#, "a table of lanes"),
        ("lanes = { contrl = {} }", "`contrl`", "`control`"),
        ("lanes = { lane-8 = {} }", "`lane-8`", "`lane-7`"),
        ("lanes = { bulk = 1 }", "is 1", "a table of bounds"),
        (
            "lanes = { bulk = { size = 1 } }",
            "`size`",
            "bound of a lane",
        ),
        (
            "lanes = { bulk = { stale_after = 5 } }",
            "`stale_after`",
            "a time with a unit",
        ),
        ("stale = '2s'", "`stale`", "unknown config field"),
    ];
    for (toml, value, must_be) in cases {
        let (field, _) = toml.split_once(" = ").expect("a field");
        let err = toml::from_str::<Config>(toml).expect_err(toml);
        let json: serde_json::Value = toml::from_str(toml).expect(toml);
        let other = serde_json::from_value::<Config>(json).expect_err(toml);
        for text in [err.message().to_owned(), other.to_string()] {
            for part in [&format!("`{field}`"), value, must_be] {
                assert!(text.contains(part), "{toml}: {text}");
            }
            for word in INTERNAL {
                assert!(!text.contains(word), "{toml}: {text}");
            }
        }
        // TOML shows the line as well.
        assert!(err.span().is_some(), "{toml}: {err}");
    }
}

#[test]
fn a_whole_node_is_read_from_one_file() {
    run(async {
        let toml = r#"
            listen = "127.0.0.1:0"

            [peers]
            two = "10.0.0.2:7000"
            three = "[::1]:7000"
            four = "Node-4.svc:7000"

            [config]
            stale_after = "2s"
            overflow = "drop_oldest"
        "#;
        let read: NodeConfig = toml::from_str(toml).expect("valid");
        let expected = Config::default()
            .stale_after(Duration::from_secs(2))
            .overflow(Overflow::DropOldest);
        assert_eq!(read.config, expected);
        let peers = read.peers.iter();
        let peers: Vec<_> = peers
            .map(|(name, addr)| (name.as_str(), addr.clone()))
            .collect();
        let [two, three, four] = ["10.0.0.2:7000", "[::1]:7000", "node-4.svc:7000"]
            .map(|addr| addr.parse().expect(addr));
        assert_eq!(peers, [("four", four), ("three", three), ("two", two)]);
        let written = toml::to_string(&read).expect("plain values");
        assert_eq!(
            toml::from_str::<NodeConfig>(&written).expect(&written),
            read
        );

        let a = Transport::builder()
            .config(read.config)
            .bind(&read.listen)
            .expect("free port");
        a.peer(&read.peers["two"]).expect("room");
        end([a]).await;
    });
}

#[test]
fn an_error_in_the_file_of_a_node_names_what_is_wrong() {
    let cases = [
        ("", "`listen` of the node is missing"),
        ("listen = 7000", "`listen` is 7000, but must be an address"),
        ("listen = ''\nname = 'two'", "unknown field `name`"),
        (
            "listen = ''\npeers = 2",
            "`peers` is 2, but must be a table",
        ),
        (
            "listen = ''\n[peers]\ntwo = '10.0.0.2'",
            "peer `two` is \"10.0.0.2\", but must be an address",
        ),
        (
            "listen = ''\n[config]\nstale_after = 2",
            "config field `stale_after` is 2, but must be a time",
        ),
    ];
    let not_a_table = ["5", "-5", "0.5", "true", "'node.toml'", "[]"]
        .map(|value| (format!("listen = ''\nconfig = {value}"), "must be a table"));
    let not_a_table = not_a_table
        .iter()
        .map(|(toml, problem)| (toml.as_str(), *problem));
    for (toml, problem) in cases.into_iter().chain(not_a_table) {
        let err = toml::from_str::<NodeConfig>(toml).expect_err(toml);
        assert!(err.message().contains(problem), "{toml}: {err}");
    }
}
