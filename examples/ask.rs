//! Two actors on two nodes, of which one asks the other: `cargo run --example ask --features remote`.

use actix::prelude::*;
use actix_transport::{GroupId, Identity, NodeId, RemoteMessage, RemoteRecipient, Transport};
use serde::{Deserialize, Serialize};

const DICTIONARY: GroupId = GroupId::new(1);

#[derive(Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Result<String, String>")]
#[remote(id = 1)]
struct Translate(String);

/// Knows one word, and somebody to ask for the others.
struct Dictionary(&'static str, &'static str, Vec<RemoteRecipient<Translate>>);

impl Actor for Dictionary {
    type Context = Context<Self>;
}

impl Handler<Translate> for Dictionary {
    type Result = ResponseFuture<Result<String, String>>;

    fn handle(&mut self, Translate(word): Translate, _: &mut Context<Self>) -> Self::Result {
        let (known, translation, next) = (self.0, self.1, self.2.first().cloned());
        Box::pin(async move {
            match next {
                _ if word == known => Ok(translation.to_owned()),
                None => Err(format!("nobody knows `{word}`")),
                Some(next) => match next.send(Translate(word)).await {
                    Ok(result) => result,
                    Err(no_result) => Err(no_result.to_string()),
                },
            }
        })
    }
}

fn node(id: u64) -> Result<Transport, actix_transport::BindError> {
    let identity = Identity::new(NodeId::new(id));
    Transport::builder().identity(identity).bind("127.0.0.1:0")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    System::new().block_on(async {
        let (here, there) = (node(1)?, node(2)?);
        let last = Dictionary("water", "Wasser", vec![]).start();
        there.serve::<Translate>(DICTIONARY, last)?;
        let next = here.peer(there.local_addr())?.recipient(DICTIONARY);
        let first = Dictionary("fire", "Feuer", vec![next]).start();
        here.serve::<Translate>(DICTIONARY, first)?;

        let asked = there.peer(here.local_addr())?.recipient(DICTIONARY);
        for word in ["fire", "water", "earth"] {
            println!("{word}: {:?}", asked.send(Translate(word.into())).await?);
        }
        Ok(())
    })
}
