//! Two actix services that talk through groups: the smallest complete program.
//!
//! ```text
//! cargo run --example echo_service
//! ```
//!
//! Links are one-way, so `Echo` sends its answer to the address on which the asker listens. Here it
//! is given that address at its start; in a real program the question would contain it.

use std::net::SocketAddr;

use actix::prelude::*;
use actix_transport::{GroupId, Inbound, Shutdown, Transport};
use tokio::sync::oneshot;

const ECHO: GroupId = GroupId::new(1);
const ANSWERS: GroupId = GroupId::new(2);

/// Sends each question back in upper case.
struct Echo {
    transport: Transport,
    asker: SocketAddr,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ();

    fn handle(&mut self, questions: Inbound, _: &mut Context<Self>) {
        for question in questions {
            let answer = question.to_ascii_uppercase();
            if let Err(err) = self.transport.try_send(self.asker, ANSWERS, answer) {
                eprintln!("no answer: {err}");
            }
        }
    }
}

/// Receives the answer.
struct Asker(Option<oneshot::Sender<String>>);

impl Actor for Asker {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Asker {
    type Result = ();

    fn handle(&mut self, mut answers: Inbound, _: &mut Context<Self>) {
        if let (Some(answer), Some(answered)) = (answers.next(), self.0.take()) {
            let _ = answered.send(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    System::new().block_on(async {
        let here = Transport::builder().bind("127.0.0.1:0")?;
        let there = Transport::builder().bind("127.0.0.1:0")?;

        let (transport, asker) = (there.clone(), here.local_addr());
        there.register(ECHO, Echo { transport, asker }.start().recipient())?;
        let (answered, answer) = oneshot::channel();
        here.register(ANSWERS, Asker(Some(answered)).start().recipient())?;

        here.send(there.local_addr(), ECHO, "is anybody there?")
            .await?;
        println!("{}", answer.await?);

        here.stop(Shutdown::Now).await;
        there.stop(Shutdown::Now).await;
        Ok(())
    })
}
