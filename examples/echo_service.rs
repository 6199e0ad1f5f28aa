//! Two actix services that talk through groups: the smallest complete program.
//!
//! ```text
//! cargo run --example echo_service
//! ```
//!
//! Both nodes have an identity, so `Echo` knows who asks, and its answer comes back on the connection of the
//! question: the asker listens nowhere.

use actix::prelude::*;
use actix_transport::{GroupId, Identity, Inbound, NodeId, Shutdown, Transport};
use tokio::sync::oneshot;

const ECHO: GroupId = GroupId::new(1);
const ANSWERS: GroupId = GroupId::new(2);

/// Sends each question back in upper case.
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ();

    fn handle(&mut self, questions: Inbound, _: &mut Context<Self>) {
        let Some(Ok(asker)) = questions.sender().map(|sender| sender.peer()) else {
            return;
        };
        for question in questions {
            if let Err(err) = asker.try_send(ANSWERS, question.to_ascii_uppercase()) {
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
        let (answered, answer) = oneshot::channel();
        let there = Transport::builder()
            .identity(Identity::new(NodeId::new(1)).cluster("echo"))
            .register(ECHO, Echo.start().recipient())
            .bind("127.0.0.1:0")?;
        let here = Transport::builder()
            .identity(Identity::new(NodeId::new(2)).cluster("echo"))
            .register(ANSWERS, Asker(Some(answered)).start().recipient())
            .connect_only()?;

        here.send(there.local_addr(), ECHO, "is anybody there?")
            .await?;
        println!("{}", answer.await?);

        here.stop(Shutdown::Now).await;
        there.stop(Shutdown::Now).await;
        Ok(())
    })
}
