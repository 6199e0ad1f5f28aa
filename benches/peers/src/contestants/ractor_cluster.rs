//! ractor_cluster: two nodes, and a `cast` for each frame to the receiver's actor on the other.
//!
//! As its documentation recommends: the actor is found by its process group, the payload is a
//! `Vec<u8>`, which needs no serialization, and a cast has no answer. It has no back-pressure, so
//! the producer asks after every few thousand frames whether they have arrived, and two such
//! windows may be under way. A node runs entirely on one thread, which was faster. Built without
//! the spans that its messages carry by default. It sets `TCP_NODELAY` itself; the sizes of its
//! buffers and frames cannot be changed.

use std::{net::SocketAddr, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, concurrency::oneshot, pg};
use ractor_cluster::{NodeServer, RactorClusterMessage, client_connect};
use tokio::time::sleep;

use crate::{
    Failure,
    contestants::on_one_thread,
    cost::Cost,
    figures::Figures,
    goal::Goal,
    side::somewhere,
    started::{Side, announce},
    work::{Work, append, touch},
};

/// Bytes of the payloads of a window, and the most frames of a window.
const WINDOW: usize = 4 << 20;
const WINDOW_FRAMES: usize = 4_096;

/// The process group by which the sender finds the receiver.
const RECEIVERS: &str = "receivers";

/// Pause before the sender looks for the receiver again.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(RactorClusterMessage)]
enum Message {
    Frame(Vec<u8>),
    /// Answered when all frames before it have arrived.
    #[rpc]
    Settled(RpcReplyPort<()>),
}

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match (side, to) {
        (Side::Send, &[to]) => on_one_thread(send(work, to)),
        (Side::Receive, []) => on_one_thread(receive(work)),
        _ => Err("a node has one connection to another".into()),
    }
}

async fn send(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let node = start_node(somewhere()?, "sender").await?;
    client_connect(&node, to).await?;
    let receiver = loop {
        if let Some(receiver) = pg::get_members(&RECEIVERS.to_string()).first() {
            break ActorRef::<Message>::from(receiver.clone());
        }
        sleep(PAUSE).await;
    };

    let cost = Cost::begin();
    let window = (WINDOW / work.size).min(WINDOW_FRAMES) as u64;
    let mut settled = None;
    for (number, _) in work.frames_of(0) {
        let mut payload = Vec::with_capacity(work.size);
        append(&mut payload, work.size, number);
        receiver.cast(Message::Frame(payload))?;
        if number % window == window - 1 {
            let (tell, answer) = oneshot();
            receiver.cast(Message::Settled(tell.into()))?;
            // Waits for the answer about the window before this one.
            if let Some(answer) = settled.replace(answer) {
                answer.await?;
            }
        }
    }
    let (tell, answer) = oneshot();
    receiver.cast(Message::Settled(tell.into()))?;
    // The receiver may be gone already: it leaves when it has received everything.
    let _ = answer.await;
    Ok(cost.figures())
}

async fn receive(work: &Work) -> Result<Figures, Failure> {
    let addr = somewhere()?;
    start_node(addr, "receiver").await?;
    let (goal, reached) = Goal::new(work.frames);
    let (receiver, _) = Actor::spawn(None, Receiver, goal).await?;
    pg::join(RECEIVERS.to_string(), vec![receiver.get_cell()]);

    let cost = Cost::begin();
    announce(&[addr])?;
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

async fn start_node(
    addr: SocketAddr,
    name: &str,
) -> Result<ActorRef<ractor_cluster::NodeServerMessage>, Failure> {
    let cookie = "peers".to_string();
    let host = addr.ip().to_string();
    let server = NodeServer::new(addr.port(), cookie, name.to_string(), host, None, None);
    let (node, _) = Actor::spawn(None, server.with_listen_addr(addr.ip()), ()).await?;
    Ok(node)
}

struct Receiver;

impl Actor for Receiver {
    type Msg = Message;
    type State = Goal;
    type Arguments = Goal;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        goal: Goal,
    ) -> Result<Goal, ActorProcessingErr> {
        Ok(goal)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        goal: &mut Goal,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Frame(payload) => {
                goal.begin();
                touch(&payload);
                goal.add(1);
            }
            Message::Settled(tell) => tell.send(())?,
        }
        Ok(())
    }
}
