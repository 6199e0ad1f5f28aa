//! A peer that panics, is restarted, and loses nothing that was queued.
//!
//! ```text
//! cargo run --example supervised_restart
//! ```
//!
//! A counting actor panics on an unlucky number. Its own supervisor (here: the loop in `main`) starts
//! another and registers it anew; the batch in the panicking handler's hands is the price, and the
//! counters say exactly what it was. Then the whole receiving node goes away and comes back on the
//! same port: what is sent meanwhile waits in the queue and arrives.

use std::time::Duration;

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, PeerEvent, Shutdown, Transport};
use tokio::sync::mpsc;

const GROUP: GroupId = GroupId::new(7);
const UNLUCKY: u32 = 13;
const FRAMES: u32 = 40;

type Error = Box<dyn std::error::Error>;

/// What happens, told to `main`.
enum News {
    Frame(u32),
    Ended,
    Event(PeerEvent),
}

/// Panics on the unlucky number, and is missed: its `Drop` tells.
struct Counter(mpsc::UnboundedSender<News>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Counter {
    type Result = ();

    fn handle(&mut self, frames: Inbound, _: &mut Context<Self>) {
        for payload in frames {
            let number = payload.as_ref().try_into().map_or(0, u32::from_be_bytes);
            assert_ne!(number, UNLUCKY, "an unlucky number");
            let _ = self.0.send(News::Frame(number));
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.0.send(News::Ended);
    }
}

/// Hears what becomes of the link.
struct Watcher(mpsc::UnboundedSender<News>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Watcher {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = self.0.send(News::Event(event));
    }
}

fn main() -> Result<(), Error> {
    System::new().block_on(async {
        let (tell, mut news) = mpsc::unbounded_channel();
        let config = Config::default().redial_max(Duration::from_millis(400));
        let sender = Transport::builder().config(config).bind("127.0.0.1:0")?;
        sender.subscribe(Watcher(tell.clone()).start().recipient());
        let mut receiver = Transport::builder().bind("127.0.0.1:0")?;
        let addr = receiver.local_addr();
        receiver.register(GROUP, Counter(tell.clone()).start().recipient())?;

        println!(
            "sending 0 to {}, one a batch; {UNLUCKY} is unlucky",
            FRAMES / 2 - 1
        );
        for number in 0..FRAMES / 2 {
            sender.send(addr, GROUP, number.to_be_bytes()).await?;
            // One at a time, so that the panic costs one.
            loop {
                match next(&mut news).await? {
                    News::Frame(got) if got == number => break,
                    News::Ended => {
                        println!("the actor panicked on {number}; a new one takes its place");
                        receiver.register(GROUP, Counter(tell.clone()).start().recipient())?;
                        break;
                    }
                    News::Frame(_) => {}
                    News::Event(event) => println!("  {event:?}"),
                }
            }
        }

        println!("the node at {addr} goes away");
        receiver.stop(Shutdown::Now).await;
        let inbound = receiver.stats().inbound;
        println!(
            "  it delivered {}, lost {}",
            inbound.delivered, inbound.dropped.actor_gone
        );
        loop {
            // The link's end is seen while it is idle, so that no frame is written into the void.
            if let News::Event(event @ PeerEvent::Down { .. }) = next(&mut news).await? {
                println!("  {event:?}");
                break;
            }
        }
        for number in FRAMES / 2..FRAMES {
            sender.send(addr, GROUP, number.to_be_bytes()).await?;
        }
        println!("  meanwhile queued: {}", sender.stats().tcp.queued);

        println!("it comes back on the same port");
        receiver = Transport::builder().bind(addr)?;
        receiver.register(GROUP, Counter(tell.clone()).start().recipient())?;
        let mut arrived = 0;
        while arrived < FRAMES / 2 {
            match next(&mut news).await? {
                News::Frame(number) => {
                    assert_eq!(number, FRAMES / 2 + arrived, "in order");
                    arrived += 1;
                }
                News::Ended => {}
                News::Event(event) => println!("  {event:?}"),
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

async fn next(news: &mut mpsc::UnboundedReceiver<News>) -> Result<News, Error> {
    let next = tokio::time::timeout(Duration::from_secs(20), news.recv()).await?;
    next.ok_or_else(|| "everybody has gone".into())
}
