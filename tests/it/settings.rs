//! Every setting changes something that can be seen.
//!
//! | field                    | seen by                                                              |
//! |--------------------------|----------------------------------------------------------------------|
//! | `max_frame`              | `limits`: the longest frame…; `wire`: a length below its header…     |
//! | `queue_frames`           | `queueing`: a queue takes the frames…                                |
//! | `queue_bytes`            | `queueing`: a queue takes the bytes…                                 |
//! | `overflow`               | `queueing`: a queue that drops the oldest…                           |
//! | `stale_after`            | `queueing`: frames for a peer that is away go stale…                 |
//! | `idle_timeout`           | `links`: an idle link is closed…; `peers`: a peer that nobody holds… |
//! | `connect_timeout`        | `links`: a peer that does not answer…                                |
//! | `redial_first`           | here                                                                 |
//! | `redial_max`             | here                                                                 |
//! | `stable_after`           | here                                                                 |
//! | `max_dials`              | `limits`: no more peers are dialled…                                 |
//! | `max_peers`              | `limits`: one peer too many…                                         |
//! | `nodelay`                | here                                                                 |
//! | `keepalive`              | here                                                                 |
//! | `user_timeout`           | here                                                                 |
//! | `backlog`                | `supervision`: the backlog holds as many connections…                |
//! | `max_connections`        | `listening`: a connection beyond the cap…                            |
//! | `max_connections_per_ip` | `listening`: the cap of one ip…                                      |
//! | `frame_timeout`          | `reading`: a frame that does not complete…                           |
//! | `frame_floor`            | `reading`: a large frame is given the time…                          |
//! | `udp`                    | `datagrams`: without datagrams…                                      |
//! | `max_datagram`           | `datagrams`: the longest payload goes…                               |
//! | `udp_queue_frames`       | `datagrams`: the queue of datagrams is bounded in frames             |
//! | `udp_queue_bytes`        | `datagrams`: the queue of datagrams is bounded in bytes              |
//! | `restart_limit`          | `supervision`: a part that panics too often…                         |
//! | `restart_window`         | `supervision`: restarts that are long past…                          |
//! | `restart_first`          | `supervision`: the first wait before a restart…                      |
//! | `failed_retry`           | `supervision`: a part that panics too often…                         |
//! | `placement`              | here                                                                 |

use std::{
    future::Future,
    time::{Duration, Instant},
};

use actix_transport::{BindError, Config, DownReason, PeerEvent, Placement, Transport};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than a test.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Waits for the first, and says that the other one had not come to its end by then.
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

/// A transport with a frame for a peer that refuses to be dialled.
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
            // The wait is drawn from nothing to a day: a second and third dial within seconds are
            // beyond all luck.
            let dials = slow.stats().links.dials;
            assert!((1..=2).contains(&dials), "{dials} dials");
            end([fast, slow]).await;
        });
    }
}

#[test]
fn the_waits_between_redials_grow_up_to_the_longest_configured() {
    for config in placements() {
        run(async {
            let (capped, _one) = refused(config.clone().redial_first(MS).redial_max(2 * MS));
            let (free, _other) = refused(config.redial_first(MS).redial_max(NEVER));
            until("dialled often", || capped.stats().links.dials >= 150).await;
            // Doubled with each dial, the wait is longer than all of these together after ten.
            let dials = free.stats().links.dials;
            assert!((2..50).contains(&dials), "{dials} dials");
            end([capped, free]).await;
        });
    }
}

#[test]
fn a_link_that_lived_long_enough_makes_the_waits_start_over() {
    /// Has a peer hang up on link after link.
    async fn hang_up(a: &Transport) -> std::convert::Infallible {
        let (listener, to) = listener();
        loop {
            let links = a.stats().links.disconnects;
            a.try_send(to, group(1), "x").expect("room");
            // However long the wait for it.
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

// ---- the socket's options --------------------------------------------------------------------------

/// The time that is left on each connection's keepalive timer, of those from or to `port`.
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
fn both_ends_of_a_link_probe_it_when_it_was_quiet_for_as_long_as_configured() {
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
fn a_link_is_given_up_when_the_other_side_takes_nothing_for_as_long_as_configured() {
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
fn a_small_frame_waits_for_the_one_before_to_be_acknowledged_if_so_configured() {
    /// How long a frame takes to a peer that has not yet acknowledged the one before: it may take
    /// some 40 ms for that if it has nothing to say.
    async fn second_frame(nodelay: bool) -> Duration {
        let a = node(Config::default().nodelay(nodelay));
        let (listener, to) = listener();
        a.try_send(to, group(1), numbered(1, 4)).expect("room");
        let mut tap = Tap::accept(&listener).await;
        tap.acknowledge_late();
        tap.number().await;
        let mut took = Duration::ZERO;
        // The first ones are acknowledged at once, whatever is asked for.
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
        // A machine that is busy may take as long, but not again and again.
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
fn as_many_threads_read_and_write_as_configured() {
    alone(
        "settings::as_many_threads_read_and_write_as_configured",
        || {
            let dedicated = |readers, writers| Placement::Dedicated { readers, writers };
            for (placement, expected) in [
                (Placement::Current, 0),
                (dedicated(1, 1), 2),
                (dedicated(3, 1), 4),
                (dedicated(1, 4), 5),
            ] {
                run(async {
                    let before = threads().len();
                    let a = node(Config::default().placement(placement));
                    let mut seen = serve(&a, [1]);
                    a.try_send(a.local_addr(), group(1), "to myself")
                        .expect("room");
                    seen.next().await;
                    assert_eq!(threads().len() - before, expected, "{placement:?}");
                    end([a]).await;
                    until("as before", || threads().len() == before).await;
                });
            }
        },
    );
}

// ---- what cannot be used ---------------------------------------------------------------------------

/// Each field that has bounds, beyond one of them.
fn unusable() -> Vec<(&'static str, Config)> {
    let config = Config::default;
    let none = Duration::ZERO;
    let dedicated = |readers, writers| Placement::Dedicated { readers, writers };
    vec![
        ("max_frame", config().max_frame(63)),
        (
            "max_frame",
            config().max_frame((1 << 30) + 1).queue_bytes(2 << 30),
        ),
        ("queue_frames", config().queue_frames(0)),
        ("queue_bytes", config().queue_bytes((10 << 20) - 1)),
        ("stale_after", config().stale_after(none)),
        ("stale_after", config().stale_after(NEVER + MS)),
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
        ("frame_timeout", config().frame_timeout(none)),
        ("frame_floor", config().frame_floor(0)),
        ("max_datagram", config().max_datagram(0)),
        ("max_datagram", config().max_datagram(65_504)),
        ("udp_queue_frames", config().udp_queue_frames(0)),
        ("udp_queue_bytes", config().udp_queue_bytes(4096 + 7)),
        ("restart_limit", config().restart_limit((1 << 20) + 1)),
        ("restart_window", config().restart_window(none)),
        ("restart_first", config().restart_first(none)),
        ("failed_retry", config().failed_retry(none)),
        ("placement", config().placement(dedicated(0, 1))),
        ("placement", config().placement(dedicated(1, 0))),
        ("placement", config().placement(dedicated(1025, 1))),
    ]
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_field() {
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
fn the_bounds_themselves_can_be_used() {
    run(async {
        let least = Config::default()
            .max_frame(64)
            .queue_frames(1)
            .queue_bytes(64)
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
            .frame_timeout(MS)
            .frame_floor(1)
            .max_datagram(1)
            .udp_queue_frames(1)
            .udp_queue_bytes(9)
            .restart_limit(0)
            .restart_window(MS)
            .restart_first(MS)
            .failed_retry(MS);
        let most = Config::default()
            .max_frame(1 << 30)
            .queue_bytes(usize::MAX)
            .stale_after(NEVER)
            .redial_first(NEVER)
            .redial_max(NEVER)
            .stable_after(NEVER)
            .user_timeout(24 * NEVER)
            .keepalive(Duration::from_secs(3600))
            .backlog(65_535)
            .max_datagram(65_503)
            .udp_queue_bytes(usize::MAX)
            .restart_limit(1 << 20);
        for config in [least, most] {
            let a = node(config.clone());
            assert_eq!(a.config(), &config);
            end([a]).await;
        }
    });
}

#[test]
fn without_a_system_there_are_no_threads_to_be_had() {
    let [dedicated, current] = placements();
    let no_system = |config: &Config| {
        let bound = Transport::builder()
            .config(config.clone())
            .bind("127.0.0.1:0");
        matches!(bound, Err(BindError::NoSystem))
    };
    assert!(
        no_system(&dedicated) && no_system(&current),
        "nothing runs here"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { assert!(no_system(&dedicated), "a runtime is no system") });
    // For who needs no other thread it is enough.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let a = node(current);
        let mut seen = serve(&a, [1]);
        a.try_send(a.local_addr(), group(1), "hello").expect("room");
        assert_eq!(seen.next().await.payload, "hello");
        end([a]).await;
    });
}

#[test]
fn where_a_system_does_not_run_yet_or_any_more_bind_works_or_says_so() {
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

    /// No field as it is by default.
    fn other() -> Config {
        Config::default()
            .max_frame(1 << 20)
            .queue_frames(11)
            .queue_bytes(12 << 20)
            .overflow(Overflow::DropOldest)
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
            .frame_timeout(26 * MS)
            .frame_floor(27)
            .udp(false)
            .max_datagram(28)
            .udp_queue_frames(29)
            .udp_queue_bytes(30_000)
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
    fn what_was_written_is_read_again() {
        let dedicated = Placement::Dedicated {
            readers: 2,
            writers: 3,
        };
        for config in [
            Config::default(),
            Config::default().placement(dedicated),
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
    fn every_field_alone_is_read_with_defaults_for_the_others() {
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
    fn times_are_written_as_people_write_them() {
        let config: Config = toml::from_str("stale_after = '2s'\nredial_first = '1m 5ms'\n")
            .expect("as people write");
        assert_eq!(config.stale_after, Duration::from_secs(2));
        assert_eq!(config.redial_first, Duration::from_millis(60_005));
        assert_eq!(fields(&config)["stale_after"], "2s");
    }

    #[test]
    fn a_field_that_there_is_not_is_an_error_that_names_it() {
        let err = toml::from_str::<Config>("stale_afer = '2s'").expect_err("unknown");
        assert!(err.to_string().contains("stale_afer"), "{err}");
    }

    /// The table at the top of this file is complete, and so is the list of unusable values.
    #[test]
    fn no_field_is_without_a_test() {
        let table = include_str!("settings.rs");
        let unusable = unusable();
        for field in fields(&Config::default()).keys() {
            let row = format!("//! | `{field}` ");
            assert!(table.lines().any(|line| line.starts_with(&row)), "{field}");
            let bounded = !["overflow", "nodelay", "udp"].contains(&field.as_str());
            let listed = unusable.iter().any(|(name, _)| name == field);
            assert_eq!(bounded, listed, "{field}");
        }
    }
}
