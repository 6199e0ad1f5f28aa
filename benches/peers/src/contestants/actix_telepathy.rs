//! actix-telepathy: two nodes of a cluster, and a remote message for each frame.
//!
//! As its documentation recommends: `do_send` to the remote actor's address, the only way without
//! an answer; the payload is `Bytes`, which its serialization (flexbuffers) takes as one piece and
//! not number by number. It has no back-pressure, so the receiver reports after every few thousand
//! frames that they have arrived, and two such windows may be under way. A node runs entirely on
//! one thread: its actors are services of the actix system. It does not set `TCP_NODELAY` and has
//! no setting for it, nor for buffers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix::prelude::*;
use actix_broker::BrokerSubscribe;
use actix_telepathy::prelude::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, oneshot},
    time::sleep,
};

use crate::{
    Failure,
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

/// How long the receiver stays after it has received everything and taken the time: nothing tells
/// it when its last message has left.
const LAST_WORD: Duration = Duration::from_millis(50);

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    System::new().block_on(async {
        match (side, to) {
            (Side::Send, &[to]) => send(work, to).await,
            (Side::Receive, []) => receive(work).await,
            _ => Err("a node has one connection to another".into()),
        }
    })
}

fn window(work: &Work) -> u32 {
    (WINDOW / work.size).min(WINDOW_FRAMES) as u32
}

async fn send(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let window = window(work);
    let room = Arc::new(Semaphore::new(2 * window as usize));
    let (found, receiver) = oneshot::channel();
    let sender = Sender {
        room: room.clone(),
        window,
        found: Some(found),
    };
    sender.start();
    Cluster::new(somewhere()?, vec![to]);
    let receiver = receiver.await?;

    let cost = Cost::begin();
    for (number, _) in work.frames_of(0) {
        if number % u64::from(window) == 0 {
            room.acquire_many(window).await?.forget();
        }
        let mut payload = Vec::with_capacity(work.size);
        append(&mut payload, work.size, number);
        receiver.do_send(Frame {
            payload: payload.into(),
        });
    }
    // Waits until nothing is under way any more.
    room.acquire_many(2 * window).await?.forget();
    Ok(cost.figures())
}

async fn receive(work: &Work) -> Result<Figures, Failure> {
    let addr = somewhere()?;
    let (goal, reached) = Goal::new(work.frames);
    let receiver = Receiver {
        goal,
        window: window(work).into(),
        frames: 0,
        all: work.frames,
        sender: None,
    };
    receiver.start();
    Cluster::new(addr, Vec::new());

    let cost = Cost::begin();
    announce(&[addr])?;
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    sleep(LAST_WORD).await;
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

#[derive(RemoteMessage, Serialize, Deserialize)]
struct Frame {
    payload: Bytes,
}

/// Reports that a window has arrived.
#[derive(RemoteMessage, Serialize, Deserialize)]
struct Arrived {}

#[derive(RemoteActor)]
#[remote_messages(Arrived)]
struct Sender {
    room: Arc<Semaphore>,
    window: u32,
    /// `None` once the receiver is known.
    found: Option<oneshot::Sender<RemoteAddr>>,
}

impl Actor for Sender {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.register(ctx.address().recipient());
        self.subscribe_system_async::<ClusterLog>(ctx);
    }
}

impl Handler<ClusterLog> for Sender {
    type Result = ();

    fn handle(&mut self, log: ClusterLog, _: &mut Context<Self>) {
        if let (ClusterLog::NewMember(node), Some(found)) = (log, self.found.take()) {
            let receiver = node.get_remote_addr(Receiver::ACTOR_ID.to_string());
            // `send` waits for this, so the other end exists.
            let _ = found.send(receiver);
        }
    }
}

impl ClusterListener for Sender {}

impl Handler<Arrived> for Sender {
    type Result = ();

    fn handle(&mut self, _: Arrived, _: &mut Context<Self>) {
        self.room.add_permits(self.window as usize);
    }
}

#[derive(RemoteActor)]
#[remote_messages(Frame)]
struct Receiver {
    goal: Goal,
    window: u64,
    /// Frames that have arrived, and how many there are in all.
    frames: u64,
    all: u64,
    sender: Option<RemoteAddr>,
}

impl Actor for Receiver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.register(ctx.address().recipient());
        self.subscribe_system_async::<ClusterLog>(ctx);
    }
}

impl Handler<ClusterLog> for Receiver {
    type Result = ();

    fn handle(&mut self, log: ClusterLog, _: &mut Context<Self>) {
        if let ClusterLog::NewMember(node) = log {
            self.sender = Some(node.get_remote_addr(Sender::ACTOR_ID.to_string()));
        }
    }
}

impl ClusterListener for Receiver {}

impl Handler<Frame> for Receiver {
    type Result = ();

    fn handle(&mut self, frame: Frame, _: &mut Context<Self>) {
        self.goal.begin();
        touch(&frame.payload);
        self.frames += 1;
        let arrived = self.frames.is_multiple_of(self.window) || self.frames == self.all;
        if let (true, Some(sender)) = (arrived, &self.sender) {
            sender.do_send(Arrived {});
        }
        self.goal.add(1);
    }
}
