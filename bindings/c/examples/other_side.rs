//! A node in Rust that sends each message back the way it came, for the test of `ActixNetWork` with such a node.
//!
//! The argument is the address that it sends to. It prints its own, and ends when its input does.

use std::{error::Error, io, net::SocketAddr, thread};

use actix::prelude::*;
use actix_transport::{Inbound, Shutdown, Transport, Via};
use tokio::sync::oneshot;

struct Back {
    transport: Transport,
    to: SocketAddr,
}

impl Actor for Back {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Back {
    type Result = ();

    fn handle(&mut self, messages: Inbound, _: &mut Context<Self>) {
        let (group, via) = (messages.group(), messages.via());
        for message in messages {
            let sent = match via {
                Via::Tcp => self.transport.try_send(self.to, group, message),
                _ => self.transport.send_datagram(self.to, group, message),
            };
            sent.expect("the test sends less than fits into the queue");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let to = std::env::args().nth(1).ok_or("an address is missing")?;
    let to = to.parse()?;
    System::new().block_on(async {
        let transport = Transport::builder().bind("127.0.0.1:0")?;
        let back = Back {
            transport: transport.clone(),
            to,
        };
        transport.catch_all(Some(back.start().recipient()));
        println!("{}", transport.local_addr());
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            ended.send(())
        });
        end.await?;
        transport.stop(Shutdown::Now).await;
        Ok(())
    })
}
