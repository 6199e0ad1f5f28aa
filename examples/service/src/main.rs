//! An actix-web service of three nodes in front of typed actors. One node is killed and comes back.
//!
//! ```text
//! cargo run --manifest-path examples/service/Cargo.toml --target-dir target/service
//! ```
//!
//! Each node is a process with a web server, a transport and an actor that counts. A counter belongs to one of the
//! nodes. Clients may ask any node for it: the web handler there asks the actor of the owner. The parts: `counters.rs`
//! (the actor and its message), `web.rs` (the handler, and what its client is told if there is no answer), `node.rs`
//! (a process), and for the test `client.rs` and `story.rs`, which kill a node and check what clients see meanwhile.

mod client;
mod counters;
mod node;
mod story;
mod web;

use std::{env, error::Error, process, thread, time::Duration};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    if let (Some(number), Some(http), Some(addr)) = (args.next(), args.next(), args.next()) {
        return actix::System::new().block_on(node::run(number.parse()?, &http, &addr));
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(60));
        eprintln!("what should happen does not happen");
        process::exit(1);
    });
    story::tell()
}
