//! [`Current`]: the keys of a transport at this moment, which every connection looks at, and what came of
//! handshakes.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;

use crate::net::tls::{
    failures::{Failures, HandshakeFailure},
    keys::Keys,
};

/// What all connections of a transport share.
#[derive(Debug)]
pub(super) struct Current {
    keys: ArcSwap<Keys>,
    pub(super) failures: Failures,
}

impl Current {
    pub(super) fn new(keys: Keys) -> Self {
        Current {
            keys: ArcSwap::from_pointee(keys),
            failures: Failures::default(),
        }
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Lets these keys count from now on.
    pub(super) fn set_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    /// Counts a connection that the other end ended because it does not accept this one.
    pub(super) fn rejected(&self, ip: IpAddr, err: &rustls::Error) {
        tracing::debug!(%ip, %err, "the other end does not accept this node");
        self.failures.count(ip, HandshakeFailure::Rejected);
    }
}
