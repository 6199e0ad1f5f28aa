//! [`ReadLinks`]: who reads the links that this node dialled.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    net::halves::ReadHalf, session::open_link::OpenLink, wire::control::node_info::NodeInfo,
};

/// Reads links on which frames come back. Sending knows of receiving only this.
pub(crate) trait ReadLinks: fmt::Debug + Send + Sync {
    /// Starts a task on this arbiter that reads the link until it ends. `begun` is what was read already,
    /// and `from` is the node at the far end.
    fn read(&self, reading: ReadHalf, begun: Bytes, link: Arc<OpenLink>, from: &NodeInfo);
}
