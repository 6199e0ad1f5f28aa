//! A resolver whose answers the test gives.

use std::{collections::HashMap, future::pending, io, net::SocketAddr, sync::Arc};

use actix_transport::{Config, Resolve, Resolving, Transport};
use parking_lot::Mutex;

/// What a name leads to.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Addrs(Vec<SocketAddr>),
    /// The resolver fails.
    Fails,
    /// It panics.
    Panics,
    /// It never answers.
    Hangs,
}

/// The names of one test. A name that is not in it does not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameBook(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    entries: HashMap<String, Entry>,
    asked: HashMap<String, usize>,
}

impl NameBook {
    /// Lets a name lead to these addresses from now on.
    pub(crate) fn set(&self, host: &str, addrs: impl Into<Vec<SocketAddr>>) {
        self.put(host, Entry::Addrs(addrs.into()));
    }

    pub(crate) fn put(&self, host: &str, entry: Entry) {
        self.0.lock().entries.insert(host.to_owned(), entry);
    }

    /// Returns how often somebody has asked for this name.
    pub(crate) fn asked(&self, host: &str) -> usize {
        self.0.lock().asked.get(host).copied().unwrap_or(0)
    }

    /// A transport on a free port that resolves its names here.
    pub(crate) fn node(&self, config: Config) -> Transport {
        let builder = Transport::builder().config(config).resolver(self.clone());
        builder.bind("127.0.0.1:0").expect("free port")
    }
}

impl Resolve for NameBook {
    fn resolve(&self, host: &str, _: u16) -> Resolving {
        let mut pages = self.0.lock();
        *pages.asked.entry(host.to_owned()).or_default() += 1;
        let entry = pages.entries.get(host).cloned();
        drop(pages);
        Box::pin(async {
            match entry {
                Some(Entry::Addrs(addrs)) => Ok(addrs),
                Some(Entry::Fails) => Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the name server hung up",
                )),
                Some(Entry::Panics) => panic!("a resolver that panics"),
                Some(Entry::Hangs) => pending().await,
                None => Ok(Vec::new()),
            }
        })
    }
}
