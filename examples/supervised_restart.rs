//! An actor that panics and is replaced, and a node that restarts without losing a queued frame.
//!
//! ```text
//! cargo run --example supervised_restart
//! ```
//!
//! A counting actor panics on a certain number. Its supervisor (here the loop in `main`) starts
//! another actor and registers it. The batch that the panicking handler held is lost, and the
//! counters show how many frames that was. Then the whole receiving node stops and starts again on
//! the same port. Frames sent in the meantime wait in the send queue and arrive.

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, PeerEvent, Shutdown, Transport};
use tokio::sync::mpsc;

const GROUP: GroupId = GroupId::new(7);
const UNLUCKY: u32 = 13;
const FRAMES: u32 = 40;

type Error = Box<dyn std::error::Error>;

/// What the actors report to `main`.
enum Report {
    Frame(u32),
    Ended,
    Event(PeerEvent),
}

/// Panics on the unlucky number. Its `Drop` reports its end.
struct Counter(mpsc::UnboundedSender<Report>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Counter {
    type Result = ();

    fn handle(&mut self, frames: Inbound, _: &mut Context<Self>) {
        for payload in frames {
            let number = payload.as_ref().try_into().map_or(0, u32::from_be_bytes);
            assert_ne!(number, UNLUCKY, "an unlucky number");
            let _ = self.0.send(Report::Frame(number));
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.0.send(Report::Ended);
    }
}

/// Forwards the events of the link.
struct Watcher(mpsc::UnboundedSender<Report>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Watcher {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = self.0.send(Report::Event(event));
    }
}

fn main() -> Result<(), Error> {
    System::new().block_on(async {
        let (report, mut reports) = mpsc::unbounded_channel();
        let config = Config::default().redial_max(Duration::from_millis(400));
        let sender = Transport::builder().config(config).bind("127.0.0.1:0")?;
        sender.subscribe(Watcher(report.clone()).start().recipient());
        let mut receiver = Transport::builder().bind("127.0.0.1:0")?;
        let addr = receiver.local_addr();
        receiver.register(GROUP, Counter(report.clone()).start().recipient())?;

        println!(
            "sending 0 to {}, one a batch; {UNLUCKY} is unlucky",
            FRAMES / 2 - 1
        );
        for number in 0..FRAMES / 2 {
            sender.send(addr, GROUP, number.to_be_bytes()).await?;
            // One frame at a time, so that the panic costs one frame.
            loop {
                match next(&mut reports).await? {
                    Report::Frame(got) if got == number => break,
                    Report::Ended => {
                        println!("the actor panicked on {number}; a new one takes its place");
                        receiver.register(GROUP, Counter(report.clone()).start().recipient())?;
                        break;
                    }
                    Report::Frame(_) => {}
                    Report::Event(event) => println!("  {event}"),
                }
            }
        }

        println!("the node at {addr} stops");
        receiver.stop(Shutdown::Now).await;
        let inbound = receiver.stats().inbound;
        println!(
            "  it delivered {}, lost {}",
            inbound.delivered, inbound.dropped.actor_gone
        );
        loop {
            // Wait until the sender has seen the end of the link, so that it writes no frame into
            // it.
            if let Report::Event(event @ PeerEvent::Down { .. }) = next(&mut reports).await? {
                println!("  {event}");
                break;
            }
        }
        for number in FRAMES / 2..FRAMES {
            sender.send(addr, GROUP, number.to_be_bytes()).await?;
        }
        println!("  meanwhile queued: {}", sender.stats().tcp.queued);

        println!("it starts again on the same port");
        receiver = Transport::builder().bind(addr)?;
        receiver.register(GROUP, Counter(report.clone()).start().recipient())?;
        let mut arrived = 0;
        while arrived < FRAMES / 2 {
            match next(&mut reports).await? {
                Report::Frame(number) => {
                    assert_eq!(number, FRAMES / 2 + arrived, "in order");
                    arrived += 1;
                }
                Report::Ended => {}
                Report::Event(event) => println!("  {event}"),
            }
        }
        println!("  all {arrived} queued frames arrived, in order");

        for transport in [sender, receiver] {
            transport.stop(Shutdown::Now).await;
            transport.stats().balance()?;
        }
        println!("every frame is accounted for");
        Ok(())
    })
}

async fn next(reports: &mut mpsc::UnboundedReceiver<Report>) -> Result<Report, Error> {
    let next = tokio::time::timeout(Duration::from_secs(20), reports.recv()).await?;
    next.ok_or_else(|| "no actor is left that could report".into())
}
