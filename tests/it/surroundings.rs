//! Where a transport can be started and stopped: in an actix system, on plain tokio, on a plain thread.

use std::{future::Future, time::Duration};

use actix::prelude::*;
use actix_transport::{BindError, Config, Inbound, Shutdown, Transport};
use futures::executor;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::LocalSet,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// An actor that reports each payload to the test.
struct Telling(mpsc::UnboundedSender<String>);

impl Actor for Telling {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Telling {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        for payload in inbound {
            let text = String::from_utf8_lossy(&payload).into_owned();
            self.0.send(text).expect("the test waits");
        }
    }
}

/// Binds a transport, sends frames to actors that run on its arbiters, and stops it.
async fn use_and_stop() {
    let a = Transport::builder().bind("127.0.0.1:0").expect("free port");
    let mut tellers = Vec::new();
    for (number, arbiter) in [(1, a.arbiter()), (2, a.receiving_arbiter())] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let actor = Telling::start_in_arbiter(&arbiter, |_| Telling(tell));
        let group = group(number);
        a.register(group, actor.recipient()).expect("free group");
        for how in ["sent", "waited"] {
            match how {
                "sent" => a.try_send(a.local_addr(), group, how).expect("room"),
                _ => a.send(a.local_addr(), group, how).await.expect("room"),
            }
            assert_eq!(told.recv().await.as_deref(), Some(how));
        }
        tellers.push(told);
    }
    a.stop(Shutdown::Drain(Duration::from_secs(3600))).await;
    balanced([&a]);
    assert_eq!(a.stats().inbound.delivered.frames, 4);
    // The one where the transport receives has ended with that thread.
    assert!(tellers[1].is_closed());
}

fn runtimes() -> [Runtime; 2] {
    let many = Builder::new_multi_thread().enable_all().build();
    let one = Builder::new_current_thread().enable_all().build();
    [many, one].map(|runtime| runtime.expect("a runtime"))
}

#[cfg(target_os = "linux")]
#[test]
fn on_plain_tokio_or_a_plain_thread_it_works_and_leaves_no_thread() {
    let test = "surroundings::on_plain_tokio_or_a_plain_thread_it_works_and_leaves_no_thread";
    alone(test, || {
        for runtime in runtimes() {
            let running = threads().len();
            runtime.block_on(async {
                use_and_stop().await;
                // In a task of the runtime as well as in its first future.
                tokio::spawn(use_and_stop()).await.expect("no panic");
                until("the threads ended", || threads().len() == running).await;
            });
        }
        let running = threads().len();
        executor::block_on(use_and_stop());
        block_until("the threads ended", || threads().len() == running);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_that_a_transport_started_ends_with_its_last_handle() {
    let test = "surroundings::the_system_that_a_transport_started_ends_with_its_last_handle";
    alone(test, || {
        let running = threads().len();
        let a = Transport::builder().bind("127.0.0.1:0").expect("free port");
        let (arbiter, addr) = (a.arbiter(), a.local_addr());
        assert!(arbiter.alive() && threads().len() > running);
        drop(a);
        block_until("the threads ended", || threads().len() == running);
        assert!(!arbiter.alive());
        std::net::TcpListener::bind(addr).expect("free");
    });
}

#[test]
fn the_current_placement_where_no_arbiter_runs_is_an_error_that_names_the_fix() {
    let [.., current] = placements();
    let refused = || {
        let bound = Transport::builder()
            .config(current.clone())
            .bind("127.0.0.1:0");
        let err = bound.expect_err("no arbiter");
        assert!(matches!(err, BindError::NoSystem), "{err:?}");
        let text = err.to_string();
        for fix in ["System::block_on", "Placement::Dedicated"] {
            assert!(text.contains(fix), "{text}");
        }
    };
    refused();
    for runtime in runtimes() {
        runtime.block_on(async { refused() });
        LocalSet::new().block_on(&runtime, async { refused() });
    }
}

#[test]
fn on_a_local_set_the_actors_that_serve_groups_run_there() {
    let [_, runtime] = runtimes();
    LocalSet::new().block_on(&runtime, async {
        let a = node(Config::default());
        let mut seen = serve(&a, [1]);
        a.try_send(a.local_addr(), group(1), "hello").expect("room");
        assert_eq!(seen.next().await.payload, "hello");
        end([a]).await;
    });
}

/// Runs this on a thread without a runtime, and waits for it without blocking this one.
async fn on_a_plain_thread<F>(work: impl FnOnce() -> F + Send + 'static)
where
    F: Future,
{
    let thread = std::thread::spawn(move || {
        executor::block_on(work());
    });
    until("the thread ended", || thread.is_finished()).await;
    thread.join().expect("no panic");
}

#[test]
fn a_stop_works_on_a_plain_thread_with_any_executor() {
    for config in placements() {
        for how in [Shutdown::Now, Shutdown::Drain(20 * MS)] {
            run(async {
                let a = node(config.clone());
                let (_seen, _events) = (serve(&a, [1]), watch(&a));
                let (listener, to) = listener();
                // Never read, so the drain reaches its limit.
                a.try_send(to, group(1), vec![0; 8 << 20]).expect("room");
                let _tap = Tap::accept(&listener).await;
                let stopped = a.clone();
                on_a_plain_thread(move || async move { stopped.stop(how).await }).await;
                balanced([&a]);
                assert_eq!(a.stats().tcp.dropped.stopped.frames, 1);
            });
        }
    }
}

/// The memory that this process has mapped, in bytes.
#[cfg(target_os = "linux")]
fn mapped() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_stop_needs_no_new_thread() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let test = "surroundings::a_stop_needs_no_new_thread";
    alone(test, || {
        run(async {
            let before = threads().len();
            let a = node(placements()[0].clone());
            let mut seen = serve(&a, [1]);
            a.try_send(a.local_addr(), group(1), "hello").expect("room");
            seen.next().await;
            // No room for the stack of another thread. A limit on the number of threads would not
            // concern a test that runs as root.
            let limit = getrlimit(Resource::As);
            let tight = Rlimit {
                current: Some(mapped() + (512 << 10)),
                ..limit
            };
            setrlimit(Resource::As, tight).expect("below the hard limit");
            let thread = std::thread::Builder::new().spawn(|| ());
            let stopped = a.stop(Shutdown::Drain(20 * MS)).await;
            setrlimit(Resource::As, limit).expect("as it was");
            assert!(thread.is_err(), "the limit has no effect");
            assert!(stopped.undelivered.is_empty());
            until("the threads ended", || threads().len() == before).await;
        });
    });
}

#[test]
fn in_a_system_the_transports_arbiter_is_the_first_of_that_system() {
    for config in placements() {
        run(async {
            let a = node(config);
            let (tell, told) = tokio::sync::oneshot::channel();
            a.arbiter().spawn_fn(move || {
                let _ = tell.send(std::thread::current().id());
            });
            let there = told.await.expect("it runs");
            assert_eq!(there, std::thread::current().id());
            end([a]).await;
        });
    }
}
