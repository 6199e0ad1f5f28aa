//! Every setting changes something that a test can see. The table names the test for each.
//!
//! | field                    | test                                                                 |
//! |--------------------------|----------------------------------------------------------------------|
//! | `max_frame`              | `limits`: the longest frame…; `wire`: a length below the header…     |
//! | `queue_frames`           | `queueing`: a queue holds as many frames…                            |
//! | `queue_bytes`            | `queueing`: a queue holds as many bytes…                             |
//! | `overflow`               | `queueing`: a queue that drops the oldest…                           |
//! | `group_share`            | `group_share`: all tests                                             |
//! | `stale_after`            | `queueing`: frames for a peer that is away go stale…                 |
//! | `idle_timeout`           | `links`: an idle link is closed…; `peers`: an idle peer…             |
//! | `connect_timeout`        | `links`: a dial without an answer…                                   |
//! | `redial_first`           | here                                                                 |
//! | `redial_max`             | here                                                                 |
//! | `stable_after`           | here                                                                 |
//! | `max_dials`              | `limits`: no more than max_dials…                                    |
//! | `max_peers`              | `limits`: one peer too many…                                         |
//! | `nodelay`                | here                                                                 |
//! | `keepalive`              | here                                                                 |
//! | `user_timeout`           | here                                                                 |
//! | `backlog`                | `supervision`: the backlog holds as many connections…                |
//! | `max_connections`        | `listening`: a connection beyond the cap…                            |
//! | `max_connections_per_ip` | `listening`: the cap of one ip…                                      |
//! | `inbound_bytes`          | `memory`: when inbound memory is used up…                            |
//! | `frame_timeout`          | `reading`: a frame that does not complete…                           |
//! | `handover_wait`          | `order`: an old link whose bytes are held back…                       |
//! | `frame_floor`            | `reading`: a large frame is given the time…                          |
//! | `batch_frames`           | `backpressure`: no more than batch_frames…                           |
//! | `udp`                    | `datagrams`: with datagrams switched off…                            |
//! | `max_message`            | `large_messages`: the longest message is…                            |
//! | `call_deadline`          | `calls`: a call has a deadline although…                             |
//! | `peer_calls`             | `calls`: calls in flight are bounded…                                |
//! | `peer_call_bytes`        | `calls`: the bytes of calls in flight…                               |
//! | `max_calls`              | `calls`: calls in flight to all peers…                               |
//! | `max_call_bytes`         | `calls`: calls in flight to all peers…                               |
//! | `served_call_bytes`      | `calls`: calls being served are bounded…                             |
//! | `max_datagram`           | `datagrams`: the longest payload is sent…                            |
//! | `udp_queue_frames`       | `datagrams`: the datagram queue is bounded in frames                 |
//! | `udp_queue_bytes`        | `datagrams`: the datagram queue is bounded in bytes                  |
//! | `udp_receive_buffer`     | `datagrams`: the system is asked for buffers as large as configured… |
//! | `udp_send_buffer`        | `datagrams`: the system is asked for buffers as large as configured… |
//! | `udp_group_bytes`        | `datagrams`: a group holds as many bytes of datagrams…               |
//! | `sessions`               | `sessions`: two nodes talk to each other in all modes…               |
//! | `lanes`                  | `lanes`: each lane keeps its own bounds…                             |
//! | `refuse_unknown_lanes`   | `lanes`: an unknown lane is taken as…                                |
//! | `restart_limit`          | `supervision`: an actor that panics too often…                       |
//! | `restart_window`         | `supervision`: restarts older than the window…                       |
//! | `restart_first`          | `supervision`: the first wait before a restart…                      |
//! | `failed_retry`           | `supervision`: an actor that panics too often…                       |
//! | `placement`              | here                                                                 |

use std::{
    future::Future,
    time::{Duration, Instant},
};

use actix_transport::{
    BindError, Config, DownReason, Lane, LaneConfig, PeerEvent, Placement, Sessions, Transport,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs, and the longest value that most settings accept.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Waits until `fast` ends, and asserts that `slow` does not end before it.
async fn outruns<A, B>(fast: A, slow: B)
where
    A: Future<Output = ()>,
    B: Future<Output = std::convert::Infallible>,
{
    tokio::select! {
        biased;
        never = slow => match never {},
        () = fast => {}
    }
}

// ---- when to dial again ----------------------------------------------------------------------------

/// A transport with a queued frame for a peer whose port refuses connections.
fn refused(config: Config) -> (Transport, Vacant) {
    let (a, away) = (node(config.stale_after(NEVER)), Vacant::new());
    a.try_send(away.addr(), group(1), "anybody there?")
        .expect("room");
    (a, away)
}

#[test]
fn the_first_wait_before_a_redial_is_as_configured() {
    for config in placements() {
        run(async {
            let (fast, _one) = refused(config.clone().redial_first(MS).redial_max(MS));
            let (slow, _other) = refused(config.redial_first(NEVER).redial_max(NEVER));
            until("dialled often", || fast.stats().links.dials >= 100).await;
            // The wait is drawn at random between nothing and a day. More than one further dial
            // within seconds is practically impossible.
            let dials = slow.stats().links.dials;
            assert!((1..=2).contains(&dials), "{dials} dials");
            end([fast, slow]).await;
        });
    }
}

#[test]
fn the_waits_between_redials_grow_up_to_the_configured_maximum() {
    for config in placements() {
        run(async {
            let (capped, _one) = refused(config.clone().redial_first(MS).redial_max(2 * MS));
            let (free, _other) = refused(config.redial_first(MS).redial_max(NEVER));
            until("dialled often", || capped.stats().links.dials >= 150).await;
            // The bound of the wait doubles with each dial: after ten dials it exceeds all waits of
            // the other transport together.
            let dials = free.stats().links.dials;
            assert!((2..50).contains(&dials), "{dials} dials");
            end([capped, free]).await;
        });
    }
}

#[test]
fn the_waits_between_redials_start_over_after_a_stable_link() {
    /// Lets a peer close one link after another.
    async fn hang_up(a: &Transport) -> std::convert::Infallible {
        let (listener, to) = listener();
        loop {
            let links = a.stats().links.disconnects;
            a.try_send(to, group(1), "x").expect("room");
            // However long the transport waits before it dials.
            drop(listener.accept().await);
            while a.stats().links.disconnects == links {
                tokio::time::sleep(MS).await;
            }
        }
    }

    for config in placements() {
        run(async {
            let config = config.redial_first(MS).redial_max(NEVER);
            let any = node(config.clone().stable_after(Duration::ZERO));
            let none = node(config.stable_after(NEVER));
            let often = async {
                tokio::select! {
                    never = hang_up(&any) => match never {},
                    () = until("dialled often", || any.stats().links.dials >= 100) => {}
                }
            };
            outruns(often, hang_up(&none)).await;
            let dials = none.stats().links.dials;
            assert!((2..50).contains(&dials), "{dials} dials");
            end([any, none]).await;
        });
    }
}

// ---- socket options --------------------------------------------------------------------------------

/// The time left on the keepalive timer of each connection from or to `port`.
#[cfg(target_os = "linux")]
fn keepalive_timers(port: u16) -> Vec<Duration> {
    const KEEPALIVE: &str = "02";
    const TICKS_A_SECOND: u64 = 100;

    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("linux");
    table
        .lines()
        .filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let [_, local, remote, _, _, timer, ..] = columns[..] else {
                return None;
            };
            let (kind, left) = timer.split_once(':')?;
            let ours = local.ends_with(&port) || remote.ends_with(&port);
            let ticks = u64::from_str_radix(left, 16).ok()?;
            (ours && kind == KEEPALIVE)
                .then(|| Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn both_ends_of_a_link_send_keepalive_probes_after_the_configured_idle_time() {
    const QUIET: Duration = Duration::from_secs(3000);

    for config in placements() {
        run(async {
            let config = config.keepalive(QUIET);
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            a.try_send(b.local_addr(), group(1), "x").expect("room");
            seen.next().await;
            until("both have set their timers", || {
                let timers = keepalive_timers(b.local_addr().port());
                let as_configured = |left: &&Duration| **left <= QUIET && **left > QUIET / 2;
                timers.iter().filter(as_configured).count() == 2
            })
            .await;
            end([a, b]).await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_link_is_given_up_when_the_peer_takes_nothing_for_the_user_timeout() {
    const GIVEN: Duration = Duration::from_millis(300);

    for config in placements() {
        run(async {
            let config = config.max_frame(PLUG_BYTES).stale_after(NEVER);
            let a = node(config.user_timeout(GIVEN));
            let mut events = watch(&a);
            let (listener, _) = listener();
            let began = Instant::now();
            let _plugged = Plugged::new(&a, &listener).await;
            let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
            let PeerEvent::Down { reason, .. } = events.until(down).await else {
                unreachable!("it was waited for");
            };
            assert_eq!(reason, DownReason::Lost(std::io::ErrorKind::TimedOut));
            assert!(began.elapsed() >= GIVEN);
            end([a]).await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_nodelay_a_small_frame_waits_until_the_one_before_is_acknowledged() {
    /// How long a frame takes to reach a peer that has not yet acknowledged the one before. The
    /// peer may delay the acknowledgement by some 40 ms as long as it has nothing to send.
    async fn second_frame(nodelay: bool) -> Duration {
        let a = node(Config::default().nodelay(nodelay));
        let (listener, to) = listener();
        a.try_send(to, group(1), numbered(1, 4)).expect("room");
        let mut tap = Tap::accept(&listener).await;
        tap.acknowledge_late();
        tap.number().await;
        let mut took = Duration::ZERO;
        // The kernel acknowledges the first frames at once, whatever is asked for.
        for _ in 0..20 {
            tap.acknowledge_late();
            let sent = Instant::now();
            a.try_send(to, group(1), numbered(2, 4)).expect("room");
            tap.number().await;
            took = sent.elapsed();
            if took > 20 * MS {
                break;
            }
        }
        end([a]).await;
        took
    }

    run(async {
        assert!(second_frame(false).await > 20 * MS, "none waited");
        // On a busy machine one try may take as long, but not every try.
        let mut took = second_frame(true).await;
        for _ in 0..20 {
            took = took.min(second_frame(true).await);
        }
        assert!(took < 20 * MS, "all waited, {took:?}");
    });
}

// ---- where it runs ---------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
#[test]
fn a_transport_has_as_many_threads_as_configured() {
    alone(
        "settings::a_transport_has_as_many_threads_as_configured",
        || {
            let dedicated = |readers, writers| Placement::Dedicated { readers, writers };
            for (placement, expected) in [
                (Placement::Current, 0),
                (dedicated(1, 1), 2),
                (dedicated(3, 1), 4),
                (dedicated(1, 4), 5),
                (Placement::Shared { arbiters: 3 }, 3),
            ] {
                run(async {
                    // Those that do something. The one that waits for the others to end is left out.
                    let threads = || {
                        let mut names = threads();
                        names.retain(|name| name.trim_end() != "actix-transport");
                        names
                    };
                    let before = threads().len();
                    let a = node(Config::default().placement(placement));
                    let mut seen = serve(&a, [1]);
                    a.try_send(a.local_addr(), group(1), "to myself")
                        .expect("room");
                    seen.next().await;
                    // A thread has its name only when it runs.
                    let what = format!("{expected} threads for {placement:?}");
                    until(&what, || threads().len() - before == expected).await;
                    end([a]).await;
                    until("as before", || threads().len() == before).await;
                });
            }
        },
    );
}

// ---- values that cannot be used --------------------------------------------------------------------

/// For each bound of each field, a configuration just beyond it.
fn unusable() -> Vec<(&'static str, Config)> {
    let config = Config::default;
    let none = Duration::ZERO;
    let least = config().max_frame(64);
    let dedicated = |readers, writers| Placement::Dedicated { readers, writers };
    let shared = |arbiters| Placement::Shared { arbiters };
    let lane = |bounds| config().lane(Lane::BULK, bounds);
    vec![
        ("max_frame", config().max_frame(63)),
        (
            "max_frame",
            config()
                .max_frame((1 << 30) + 1)
                .queue_bytes(2 << 30)
                .inbound_bytes(4 << 30),
        ),
        ("queue_frames", config().queue_frames(0)),
        ("queue_bytes", config().queue_bytes((10 << 20) - 1)),
        ("stale_after", config().stale_after(none)),
        ("stale_after", config().stale_after(NEVER + MS)),
        ("group_share", config().group_share(0.0)),
        ("group_share", config().group_share(1.001)),
        ("group_share", config().group_share(f64::NAN)),
        ("idle_timeout", config().idle_timeout(none)),
        ("connect_timeout", config().connect_timeout(none)),
        ("redial_first", config().redial_first(none)),
        ("redial_max", config().redial_max(199 * MS)),
        ("redial_max", config().redial_max(NEVER + MS)),
        ("stable_after", config().stable_after(NEVER + MS)),
        ("max_dials", config().max_dials(0)),
        ("max_peers", config().max_peers(0)),
        ("keepalive", config().keepalive(999 * MS)),
        ("keepalive", config().keepalive(Duration::from_secs(3601))),
        ("user_timeout", config().user_timeout(none)),
        ("user_timeout", config().user_timeout(24 * NEVER + MS)),
        ("backlog", config().backlog(0)),
        ("backlog", config().backlog(65_536)),
        ("max_connections", config().max_connections(0)),
        ("max_connections_per_ip", config().max_connections_per_ip(0)),
        ("inbound_bytes", config().inbound_bytes((20 << 20) - 1)),
        ("inbound_bytes", least.clone().inbound_bytes((4 << 20) - 1)),
        ("lanes", lane(LaneConfig::new().queue_frames(0))),
        ("lanes", lane(LaneConfig::new().queue_bytes(63))),
        ("lanes", lane(LaneConfig::new().stale_after(none))),
        ("lanes", lane(LaneConfig::new().group_share(0.0))),
        ("lanes", config().lane(Lane::NORMAL, LaneConfig::new())),
        ("frame_timeout", config().frame_timeout(none)),
        ("handover_wait", config().handover_wait(none)),
        ("frame_floor", config().frame_floor(0)),
        ("batch_frames", config().batch_frames(0)),
        ("max_message", config().max_message((1 << 30) + 1)),
        ("call_deadline", config().call_deadline(none)),
        ("peer_calls", config().peer_calls(0)),
        ("peer_call_bytes", config().peer_call_bytes(0)),
        ("max_calls", config().max_calls(0)),
        ("max_call_bytes", config().max_call_bytes(0)),
        ("served_call_bytes", config().served_call_bytes(1_023)),
        ("max_datagram", config().max_datagram(0)),
        ("max_datagram", config().max_datagram(65_504)),
        ("udp_queue_frames", config().udp_queue_frames(0)),
        ("udp_queue_bytes", config().udp_queue_bytes(4096 + 7)),
        ("udp_receive_buffer", config().udp_receive_buffer(4095)),
        (
            "udp_receive_buffer",
            config().udp_receive_buffer((1 << 30) + 1),
        ),
        ("udp_send_buffer", config().udp_send_buffer(4095)),
        ("udp_send_buffer", config().udp_send_buffer((1 << 30) + 1)),
        ("udp_group_bytes", config().udp_group_bytes(4096 + 1023)),
        ("restart_limit", config().restart_limit((1 << 20) + 1)),
        ("restart_window", config().restart_window(none)),
        ("restart_first", config().restart_first(none)),
        ("failed_retry", config().failed_retry(none)),
        ("sessions", config().sessions(Sessions::Optional)),
        ("sessions", config().sessions(Sessions::Required)),
        ("placement", config().placement(dedicated(0, 1))),
        ("placement", config().placement(dedicated(1, 0))),
        ("placement", config().placement(dedicated(1025, 1))),
        ("placement", config().placement(shared(0))),
        ("placement", config().placement(shared(1025))),
    ]
}

#[test]
fn the_error_for_an_unusable_value_names_its_field() {
    run(async {
        for (field, config) in unusable() {
            let bound = Transport::builder().config(config).bind("127.0.0.1:0");
            let Err(BindError::Config(err)) = bound else {
                panic!("bound with an unusable {field}");
            };
            assert_eq!(err.field, field);
            assert!(err.to_string().contains(field), "{err}");
        }
    });
}

#[test]
fn the_smallest_and_largest_allowed_values_can_be_used() {
    run(async {
        let least = Config::default()
            .max_frame(64)
            .queue_frames(1)
            .queue_bytes(64)
            .group_share(f64::MIN_POSITIVE)
            .stale_after(MS)
            .idle_timeout(MS)
            .connect_timeout(MS)
            .redial_first(MS)
            .redial_max(MS)
            .stable_after(Duration::ZERO)
            .max_dials(1)
            .max_peers(1)
            .keepalive(Duration::from_secs(1))
            .user_timeout(MS)
            .backlog(1)
            .max_connections(1)
            .max_connections_per_ip(1)
            .inbound_bytes(4 << 20)
            .frame_timeout(MS)
            .frame_floor(1)
            .batch_frames(1)
            .max_datagram(1)
            .udp_queue_frames(1)
            .udp_queue_bytes(9)
            .udp_receive_buffer(4 << 10)
            .udp_send_buffer(4 << 10)
            .udp_group_bytes(1025)
            .restart_limit(0)
            .restart_window(MS)
            .restart_first(MS)
            .failed_retry(MS);
        let most = Config::default()
            .max_frame(1 << 30)
            .queue_bytes(usize::MAX)
            .group_share(1.0)
            .inbound_bytes(usize::MAX)
            .stale_after(NEVER)
            .redial_first(NEVER)
            .redial_max(NEVER)
            .stable_after(NEVER)
            .user_timeout(24 * NEVER)
            .keepalive(Duration::from_secs(3600))
            .backlog(65_535)
            .max_datagram(65_503)
            .udp_queue_bytes(usize::MAX)
            .udp_receive_buffer(1 << 30)
            .udp_send_buffer(1 << 30)
            .udp_group_bytes(usize::MAX)
            .restart_limit(1 << 20);
        for config in [least, most] {
            let a = node(config.clone());
            assert_eq!(a.config(), &config);
            end([a]).await;
        }
    });
}

#[test]
fn bind_before_or_after_a_system_runs_works_or_returns_an_error() {
    for config in placements() {
        let bound = || {
            let config = config.clone();
            match Transport::builder().config(config).bind("127.0.0.1:0") {
                Ok(transport) => Some(transport),
                Err(BindError::NoSystem) => None,
                Err(err) => panic!("{err}"),
            }
        };
        let thread = std::thread::scope(|threads| {
            let without = || {
                let system = actix::System::new();
                if let Some(a) = bound() {
                    system.block_on(async {
                        let mut seen = serve(&a, [1]);
                        a.try_send(a.local_addr(), group(1), "hello").expect("room");
                        seen.next().await;
                        end([a]).await;
                    });
                }
                drop(system);
                drop(bound());
            };
            threads.spawn(without).join()
        });
        assert!(thread.is_ok(), "panicked with {:?}", config.placement);
    }
}

// ---- from a file -----------------------------------------------------------------------------------

#[cfg(feature = "serde")]
mod files {
    use actix_transport::Overflow;

    use super::*;

    /// A configuration in which no field has its default.
    fn other() -> Config {
        Config::default()
            .max_frame(1 << 20)
            .queue_frames(11)
            .queue_bytes(12 << 20)
            .overflow(Overflow::DropOldest)
            .group_share(0.75)
            .stale_after(13 * MS)
            .idle_timeout(14 * MS)
            .connect_timeout(15 * MS)
            .redial_first(16 * MS)
            .redial_max(17 * MS)
            .stable_after(18 * MS)
            .max_dials(19)
            .max_peers(20)
            .nodelay(false)
            .keepalive(Duration::from_secs(21))
            .user_timeout(22 * MS)
            .backlog(23)
            .max_connections(24)
            .max_connections_per_ip(25)
            .inbound_bytes(25 << 20)
            .frame_timeout(26 * MS)
            .handover_wait(28 * MS)
            .frame_floor(27)
            .batch_frames(35)
            .udp(false)
            .max_message(40)
            .call_deadline(41 * MS)
            .peer_calls(42)
            .peer_call_bytes(43)
            .max_calls(44)
            .max_call_bytes(45)
            .served_call_bytes(46_000)
            .max_datagram(28)
            .udp_queue_frames(29)
            .udp_queue_bytes(30_000)
            .udp_receive_buffer(36_000)
            .udp_send_buffer(37_000)
            .udp_group_bytes(35_000)
            .sessions(Sessions::Optional)
            .lane(
                Lane::BULK,
                LaneConfig::new()
                    .queue_frames(38)
                    .stale_after(39 * MS)
                    .group_share(0.25),
            )
            .refuse_unknown_lanes(true)
            .restart_limit(31)
            .restart_window(32 * MS)
            .restart_first(33 * MS)
            .failed_retry(34 * MS)
            .placement(Placement::Current)
    }

    fn fields(config: &Config) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(config).expect("plain values") {
            serde_json::Value::Object(fields) => fields,
            value => panic!("{value}"),
        }
    }

    #[test]
    fn a_written_config_is_read_back_unchanged() {
        let dedicated = Placement::Dedicated {
            readers: 2,
            writers: 3,
        };
        for config in [
            Config::default(),
            Config::default().placement(dedicated),
            Config::default().placement(Placement::Shared { arbiters: 2 }),
            Config::large_messages(),
            other(),
        ] {
            let json = serde_json::to_string(&config).expect("plain values");
            assert_eq!(serde_json::from_str::<Config>(&json).expect(&json), config);
            let toml = toml::to_string(&config).expect("plain values");
            assert_eq!(toml::from_str::<Config>(&toml).expect(&toml), config);
        }
    }

    #[test]
    fn a_single_field_is_read_and_the_others_get_defaults() {
        let (defaults, others) = (fields(&Config::default()), fields(&other()));
        for (field, value) in &others {
            assert_ne!(defaults[field], *value, "{field}: nothing to see");
            let alone = serde_json::json!({ field: value });
            let config: Config = serde_json::from_value(alone).expect(field);
            let mut expected = defaults.clone();
            expected[field] = value.clone();
            assert_eq!(fields(&config), expected);
        }
    }

    #[test]
    fn durations_are_written_like_2s_or_1m_5ms() {
        let config: Config = toml::from_str("stale_after = '2s'\nredial_first = '1m 5ms'\n")
            .expect("as people write");
        assert_eq!(config.stale_after, Duration::from_secs(2));
        assert_eq!(config.redial_first, Duration::from_millis(60_005));
        assert_eq!(fields(&config)["stale_after"], "2s");
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_it() {
        let err = toml::from_str::<Config>("stale_afer = '2s'").expect_err("unknown");
        assert!(err.to_string().contains("stale_afer"), "{err}");
    }

    /// Also checks that the table at the top of this file and the list of unusable values are
    /// complete.
    #[test]
    fn every_field_has_a_test() {
        let table = include_str!("settings.rs");
        let unusable = unusable();
        for field in fields(&Config::default()).keys() {
            let row = format!("//! | `{field}` ");
            assert!(table.lines().any(|line| line.starts_with(&row)), "{field}");
            let bounded =
                !["overflow", "nodelay", "udp", "refuse_unknown_lanes"].contains(&field.as_str());
            let listed = unusable.iter().any(|(name, _)| name == field);
            assert_eq!(bounded, listed, "{field}");
        }
    }
}
