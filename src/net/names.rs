//! Host names: who finds their addresses, and what can go wrong with it.
//!
//! Which of the addresses are dialled, and in which order, is decided in `candidates`.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    thread,
};

use futures::{FutureExt, future::Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// How many names the system looks up at the same time for one transport. Each needs a thread, which cannot
/// be interrupted and may wait for half a minute if the name server does not answer.
const MAX_LOOKUPS: usize = 64;

/// What finds the addresses of a host name. The default asks the operating system; give another one to
/// [`Builder::resolver`](crate::Builder::resolver), such as one that asks a service discovery.
///
/// A closure that returns a future is one:
///
/// ```
/// use std::net::SocketAddr;
///
/// use actix_transport::Transport;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # actix::System::new().block_on(async {
/// let transport = Transport::builder()
///     .resolver(|host: &str, port: u16| {
///         let known = host == "node-3.svc";
///         async move {
///             let addr = SocketAddr::from(([10, 0, 0, 3], port));
///             Ok(known.then_some(addr).into_iter().collect())
///         }
///     })
///     .bind("127.0.0.1:0")?;
/// let peer = transport.peer("node-3.svc:7000")?; // 10.0.0.3:7000 at each dial
/// # transport.stop(actix_transport::Shutdown::Now).await;
/// # Ok(())
/// # })
/// # }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// Finds the addresses of `host`, the most preferred first. `port` is the one that was given with the
    /// name. The addresses may have another one.
    ///
    /// Called at each dial of a peer that is called by a name, and polled on the thread of the transport that
    /// writes to the peer. It must not block: other peers are written to on this thread. The future is
    /// dropped when [`Config::connect_timeout`](crate::Config::connect_timeout) is over, when other peers
    /// need to be dialled, and when the peer is forgotten or the transport stops. If it panics, only this
    /// dial fails.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved now. The peer is dialled again after the usual wait. A name that
    /// exists and has no address is no error, but an empty list.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

/// What [`Resolve::resolve`] returns.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl<R, F> Resolve for R
where
    R: Fn(&str, u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        Box::pin(self(host, port))
    }
}

/// Why a name gave no address to dial.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It could not be resolved: the name does not exist, or the resolver failed, panicked or did not answer
    /// in time.
    #[error("the name cannot be resolved")]
    Unresolved,
    /// It has no address.
    #[error("the name has no address")]
    NoAddress,
    /// It has no address that a peer can have. This is one of those it has: with port 0, or with an
    /// unspecified, multicast or broadcast ip.
    #[error("the name has the address {0}, where no peer can be reached")]
    Unusable(SocketAddr),
    /// It has only addresses of this node itself. This is one of them. See
    /// [`Transport::peer`](crate::Transport::peer).
    #[error("the name has the address {0}, which is that of this node itself")]
    ThisNode(SocketAddr),
}

impl From<NameError> for io::Error {
    fn from(err: NameError) -> Self {
        let kind = match err {
            NameError::Unresolved | NameError::NoAddress => io::ErrorKind::NotFound,
            NameError::Unusable(_) | NameError::ThisNode(_) => io::ErrorKind::AddrNotAvailable,
        };
        io::Error::new(kind, err)
    }
}

/// The resolver of one transport. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<dyn Resolve>);

impl Resolver {
    pub(crate) fn new(resolver: impl Resolve) -> Self {
        Resolver(Arc::new(resolver))
    }

    /// Finds the addresses of a name. Dropping the future cancels the search.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let (resolver, host) = (self.0.clone(), host.to_owned());
        // A task of its own, because this is foreign code: its panic must not end the writer.
        let task = tokio::spawn(async move { resolver.resolve(&host, port).await });
        let found = AbortOnDropHandle::new(task).await;
        found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))
    }
}

/// Asks the operating system.
impl Default for Resolver {
    fn default() -> Self {
        let lookups = Arc::new(Lookups::default());
        let look_up = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
        Resolver::new(move |host: &str, port: u16| lookups.clone().run(host, port, look_up))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// The look-ups that block a thread. The threads are not those of tokio, which waits for them when a runtime
/// ends: stopping a transport must not wait for a name server.
#[derive(Debug)]
struct Lookups {
    /// One for each name at most. Whoever looks for the same name meanwhile gets the same answer, so that a
    /// name server that does not answer costs one thread for each name and not one for each dial.
    running: Mutex<HashMap<(String, u16), Answer>>,
    places: Arc<Semaphore>,
}

type Answer = Shared<oneshot::Receiver<Found>>;

/// Can be cloned, as an `io::Error` cannot.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl Default for Lookups {
    fn default() -> Self {
        Lookups {
            running: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }
}

impl Lookups {
    /// Runs `look_up` on a thread of its own.
    fn run<F>(
        self: Arc<Self>,
        host: &str,
        port: u16,
        look_up: F,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + use<F>
    where
        F: FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    {
        let name = (host.to_owned(), port);
        async move {
            let running = self.running.lock().get(&name).cloned();
            let answer = match running {
                Some(answer) => answer,
                None => self.start(name, look_up).await?,
            };
            // The sender is dropped only if the look-up panicked.
            let found = answer.await.map_err(io::Error::other)?;
            found.map_err(|(kind, text)| io::Error::new(kind, text))
        }
    }

    async fn start<F>(self: &Arc<Self>, name: (String, u16), look_up: F) -> io::Result<Answer>
    where
        F: FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let (tell, answer) = oneshot::channel();
        let answer = answer.shared();
        self.running.lock().insert(name.clone(), answer.clone());
        let ended = RemoveOnDrop(self.clone(), name);
        let work = move || {
            let RemoveOnDrop(_, (host, port)) = &ended;
            let found = look_up(host, *port).map_err(|err| (err.kind(), err.to_string()));
            drop((ended, place));
            // Nobody may be waiting any more.
            let _ = tell.send(found);
        };
        // At most 15 characters are shown on Linux.
        let thread = thread::Builder::new().name("actix-transp-dns".to_owned());
        thread.spawn(work)?;
        Ok(answer)
    }
}

/// Ends the entry of a look-up that is running.
struct RemoveOnDrop(Arc<Lookups>, (String, u16));

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::mpsc};

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        ([10, 0, 0, 3], port).into()
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_holds_up_nobody_and_is_shared_by_those_who_need_it() {
        let lookups = Arc::new(Lookups::default());
        let (go, wait) = mpsc::channel::<()>();
        let hangs = move |_: &str, port| {
            let _ = wait.recv();
            Ok(vec![addr(port)])
        };
        let mut first = pin!(lookups.clone().run("slow", 1, hangs));
        assert!(first.as_mut().now_or_never().is_none());
        // This thread is the only one of the runtime, and it is free.
        let other = lookups
            .clone()
            .run("fast", 2, |_, port| Ok(vec![addr(port)]));
        assert_eq!(other.await.expect("found"), [addr(2)]);
        let never = |_: &str, _| panic!("asked twice");
        let mut second = pin!(lookups.clone().run("slow", 1, never));
        assert!(second.as_mut().now_or_never().is_none());
        drop(go);
        assert_eq!(first.await.expect("found"), [addr(1)]);
        assert_eq!(second.await.expect("found"), [addr(1)]);
        assert!(lookups.running.lock().is_empty());
        assert_eq!(lookups.places.available_permits(), MAX_LOOKUPS);
    }

    #[tokio::test]
    async fn a_look_up_that_fails_says_how_and_the_next_one_asks_anew() {
        let lookups = Arc::new(Lookups::default());
        let fails = |_: &str, _| Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        let err = lookups
            .clone()
            .run("gone", 1, fails)
            .await
            .expect_err("it fails");
        assert_eq!(
            (err.kind(), err.to_string()),
            (io::ErrorKind::NotFound, "no such name".into())
        );
        let found = lookups
            .clone()
            .run("gone", 1, |_, port| Ok(vec![addr(port)]));
        assert_eq!(found.await.expect("found"), [addr(1)]);
    }

    #[tokio::test]
    async fn a_resolver_that_panics_fails_its_own_look_up_only() {
        let resolver = Resolver::new(|host: &str, port: u16| {
            assert_ne!(host, "panics");
            async move { Ok(vec![addr(port)]) }
        });
        let err = resolver.resolve("panics", 1).await.expect_err("it panics");
        assert_eq!(err.to_string(), "the resolver panicked");
        assert_eq!(
            resolver.resolve("other", 1).await.expect("found"),
            [addr(1)]
        );
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = Resolver::default()
            .resolve("localhost", 7)
            .await
            .expect("known");
        assert!(
            found
                .iter()
                .all(|addr| addr.ip().is_loopback() && addr.port() == 7)
        );
        assert!(!found.is_empty());
    }
}
