//! The serve role: answers calls.

use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::{Call, GroupId};
use bytes::Bytes;
use clap::value_parser;
use futures::future::OptionFuture;
use tokio::time::sleep;

use crate::{
    Failure,
    node::{Node, NodeArgs},
    report::Report,
    threads::Threads,
};

/// The group whose calls are served.
pub(crate) const GROUP: GroupId = GroupId::new(0);

/// The number of this node if there is no `--node`.
const NODE: u64 = 1;

/// Answers calls, with their own bytes or as many as are wanted.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    #[command(flatten)]
    answer: Answer,

    /// Lets an actor serve the calls. Without this it is a function.
    #[arg(long)]
    actor: bool,

    /// Where the function runs: on the arbiter that has read the call, or on a multi-threaded tokio runtime.
    #[arg(long = "runtime", value_enum, default_value_t = Threads::Current, conflicts_with = "actor")]
    threads: Threads,

    /// How many calls the function serves at a time. Further ones are refused.
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "actor",
          value_parser = value_parser!(u32).range(1..))]
    limit: u32,

    /// Ends after this many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,
}

/// What the answers are, and when they come.
#[derive(Copy, Clone, clap::Args)]
struct Answer {
    /// Bytes of an answer: the first bytes of the call, then zeros. Without this, all bytes of the call.
    #[arg(long = "answer", value_name = "BYTES")]
    size: Option<usize>,

    /// How long a call takes to be served, such as 10ms.
    #[arg(long, value_name = "S", default_value = "0", value_parser = crate::seconds)]
    delay: Duration,
}

pub(crate) async fn run(mut args: Args) -> Result<(), Failure> {
    args.node.for_calls(NODE)?;
    let mut node = Node::bind(&args.node, args.node.config())?;
    let threads = args.threads.start()?;
    let (answer, limit) = (args.answer, args.limit as usize);
    let serve = move |call| answer.to(call);
    match threads.handle() {
        _ if args.actor => {
            let actor = Server(answer).start();
            node.transport.serve_calls(GROUP, actor.recipient())?;
        }
        Some(runtime) => node.transport.serve_fn_on(runtime, GROUP, limit, serve)?,
        None => node.transport.serve_fn(GROUP, limit, serve)?,
    }
    node.announce();

    tokio::select! {
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let served = serde_json::to_value(stats.served)?;
    Report::new("serve", stats)
        .with("served", served)
        .print(&args.node)
}

impl Answer {
    async fn to(self, call: Call) {
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        let asked = call.payload();
        let answer = match self.size {
            None => asked.clone(),
            Some(size) => {
                let mut answer = vec![0; size];
                let same = size.min(asked.len());
                answer[..same].copy_from_slice(&asked[..same]);
                Bytes::from(answer)
            }
        };
        call.reply(answer);
    }
}

struct Server(Answer);

impl Actor for Server {
    type Context = Context<Self>;
}

impl Handler<Call> for Server {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, call: Call, _: &mut Context<Self>) -> ResponseFuture<()> {
        Box::pin(self.0.to(call))
    }
}
