//! [`Serving`]: the threads that run the callbacks of one registration, and the actor in front of them.

use std::{
    any::Any,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use actix::{Actor, ActorResponse, Addr, Context, Handler, Recipient, WrapFuture};
use actix_transport::{Inbound, PeerEvent, Transport};
use crossbeam_channel as channel;
use tokio::sync::oneshot;

use crate::{
    callback::{Callback, OnMessages, User, axt_event},
    code::axt_code::*,
    context::Shared,
    error::Failure,
};

/// The most threads that one registration may have.
pub(crate) const MAX_THREADS: u32 = 256;

/// Threads that run the callbacks of one registration. They end when this is ended.
#[derive(Debug)]
pub(crate) struct Serving {
    closed: Arc<AtomicBool>,
    /// Whether the callbacks get events. If not, they get messages.
    events: bool,
    /// Ends the thread of the actor when it is dropped.
    actor: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Starts what gets messages. With one thread the actor itself calls C. With more, it passes each batch on
    /// to one of them: a connection is read again when its batches are handled, so those of one connection
    /// for one group stay in order, and only the connections of a slow callback wait for it.
    pub(crate) fn messages(
        shared: &Arc<Shared>,
        node: u64,
        on: OnMessages,
        user: User,
        threads: u32,
    ) -> Result<(Recipient<Inbound>, Self), Failure> {
        if threads > MAX_THREADS {
            let text = format_args!("{threads} threads, but there may be {MAX_THREADS} at most");
            return Err(Failure::new(AXT_BAD_VALUE, text));
        }
        let mut serving = Serving::new();
        let callback = Arc::new(serving.callback(shared, node, on, user));
        let pool = (threads > 1).then(|| {
            // Holds one batch for each connection and group at most: the connection is read again when its batches
            // are handled.
            let (pool, jobs) = channel::unbounded::<Job>();
            (pool, jobs)
        });
        if let Some((_, jobs)) = &pool {
            for _ in 0..threads {
                let (callback, jobs) = (callback.clone(), jobs.clone());
                serving.spawn(shared, move || {
                    for Job { inbound, done } in jobs {
                        call(|| callback.deliver(inbound));
                        // The actor may have ended.
                        let _ = done.send(());
                    }
                })?;
            }
        }
        let pool = pool.map(|(pool, _)| pool);
        let addr = serving.start(shared, move || Receiver {
            callback,
            pool,
            _noted: None,
        })?;
        Ok((addr.recipient(), serving))
    }

    /// Starts what gets messages on the thread on which the transport receives. It ends with the transport.
    pub(crate) fn receiving(
        shared: &Arc<Shared>,
        node: u64,
        on: OnMessages,
        user: User,
        transport: &Transport,
    ) -> (Recipient<Inbound>, Self) {
        let serving = Serving::new();
        let callback = Arc::new(serving.callback(shared, node, on, user));
        let shared = shared.clone();
        let addr = Receiver::start_in_arbiter(&transport.receiving_arbiter(), move |_| Receiver {
            callback,
            pool: None,
            _noted: Some(Box::new(shared.callback_thread())),
        });
        (addr.recipient(), serving)
    }

    /// Starts what gets events, on a thread of its own.
    pub(crate) fn events(
        shared: &Arc<Shared>,
        node: u64,
        on: unsafe extern "C" fn(*mut c_void, *const axt_event),
        user: User,
    ) -> Result<(Recipient<PeerEvent>, Self), Failure> {
        let mut serving = Serving::new();
        serving.events = true;
        let callback = serving.callback(shared, node, on, user);
        let addr = serving.start(shared, move || Subscriber(callback))?;
        Ok((addr.recipient(), serving))
    }

    fn new() -> Self {
        Serving {
            closed: Arc::default(),
            events: false,
            actor: None,
            threads: Vec::new(),
        }
    }

    fn callback<F>(&self, shared: &Arc<Shared>, node: u64, on: F, user: User) -> Callback<F> {
        Callback {
            shared: shared.clone(),
            node,
            on,
            user,
            closed: self.closed.clone(),
        }
    }

    /// Starts a thread, which is known to run callbacks.
    fn spawn(
        &mut self,
        shared: &Arc<Shared>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let shared = shared.clone();
        let thread = thread::Builder::new().name("axt-callback".to_owned());
        let thread = thread.spawn(move || {
            let _noted = shared.callback_thread();
            run();
        });
        self.threads.push(thread.map_err(|err| no_thread(&err))?);
        Ok(())
    }

    /// Starts an actor on a thread of its own. There is no actix `System` there, so a transport that a callback
    /// makes brings its own and does not end with this thread.
    fn start<A: Actor<Context = Context<A>>>(
        &mut self,
        shared: &Arc<Shared>,
        make: impl FnOnce() -> A + Send + 'static,
    ) -> Result<Addr<A>, Failure> {
        let (started, start) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        self.spawn(shared, move || {
            let runtime = match actix_rt::Runtime::new() {
                Ok(runtime) => runtime,
                Err(err) => {
                    let _ = started.send(Err(no_thread(&err)));
                    return;
                }
            };
            runtime.block_on(async move {
                let _ = started.send(Ok(make().start()));
                let _ = ended.await;
            });
        })?;
        self.actor = Some(end);
        start.recv().map_err(|_| AXT_SYSTEM)?
    }

    /// Lets no callback for messages begin any more. The last events are still told.
    pub(crate) fn close_to_messages(&self) {
        if !self.events {
            self.close();
        }
    }

    /// Lets no callback begin any more. To drop this waits for those that run.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.close();
        // The actor owns the way to the other threads, so they end after it.
        drop(self.actor.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn no_thread(err: &std::io::Error) -> Failure {
    Failure::new(
        AXT_SYSTEM,
        format_args!("cannot start a thread for callbacks: {err}"),
    )
}

/// Runs what calls C. A panic of this library ends neither the actor nor the thread.
fn call(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        std::mem::forget(panic);
    }
}

struct Job {
    inbound: Inbound,
    done: oneshot::Sender<()>,
}

struct Receiver {
    callback: Arc<Callback<OnMessages>>,
    /// `None` if this actor itself calls C.
    pool: Option<channel::Sender<Job>>,
    /// Keeps a thread that was not started for callbacks known as one that runs them.
    _noted: Option<Box<dyn Any>>,
}

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Receiver {
    type Result = ActorResponse<Self, ()>;

    fn handle(&mut self, inbound: Inbound, _: &mut Self::Context) -> Self::Result {
        let Some(pool) = &self.pool else {
            call(|| self.callback.deliver(inbound));
            return ActorResponse::reply(());
        };
        let (done, is_done) = oneshot::channel();
        // The threads end after this actor.
        let _ = pool.send(Job { inbound, done });
        let handled = async {
            let _ = is_done.await;
        };
        ActorResponse::r#async(handled.into_actor(self))
    }
}

struct Subscriber(Callback<unsafe extern "C" fn(*mut c_void, *const axt_event)>);

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Subscriber {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Self::Context) {
        call(|| self.0.tell(&event));
    }
}
