//! Stand-ins for the types of `tls` when the feature is off. They have no values, so the compiler removes the code
//! that uses them.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
};

use bytes::BufMut;
use tokio::net::TcpStream;

use crate::{ids::NodeId, net::tcp::Stream};

/// Stands for `tls::Certificate`.
#[derive(Debug)]
pub(crate) enum Certificate {}

/// Stands for `tls::Secured`.
#[derive(Debug)]
pub(crate) enum Secured {}

impl Secured {
    pub(super) fn has_more(&self) -> bool {
        match *self {}
    }

    pub(super) fn read(
        &self,
        _: &mut impl BufMut,
        _: impl FnMut(&mut &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        match *self {}
    }

    pub(super) fn answer(&self, _: &TcpStream) {
        match *self {}
    }

    pub(super) fn try_write(&self, _: &TcpStream, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn encrypted(&self) -> usize {
        match *self {}
    }

    pub(super) fn written(&self) -> Option<u64> {
        match *self {}
    }

    pub(super) fn acknowledged(&self, _: &TcpStream) -> Option<u64> {
        match *self {}
    }

    pub(super) fn end_writing(&self, _: &TcpStream) {
        match *self {}
    }

    pub(crate) fn vouches_for(&self, _: NodeId) -> bool {
        match *self {}
    }

    pub(super) fn is_of_another_node(&self, _: NodeId) {
        match *self {}
    }

    pub(crate) fn certificate(&self) -> &Arc<Certificate> {
        match *self {}
    }

    pub(crate) fn failure(&self) -> Option<String> {
        match *self {}
    }
}

/// Stands for `tls::Endpoint`.
#[derive(Debug)]
pub(crate) enum Endpoint {}

impl Endpoint {
    pub(crate) fn is_optional(&self) -> bool {
        match *self {}
    }

    pub(crate) async fn accept(
        self: &Arc<Self>,
        _: Stream,
        _: SocketAddr,
    ) -> Result<Stream, HandshakeError> {
        match **self {}
    }

    pub(crate) async fn connect(
        self: &Arc<Self>,
        _: Stream,
        _: SocketAddr,
        _: Expected<'_>,
    ) -> Result<Stream, HandshakeError> {
        match **self {}
    }
}

/// Stands for `tls::Expected`.
#[derive(Debug)]
#[expect(dead_code, reason = "read by TLS only")]
pub(crate) struct Expected<'e> {
    pub(crate) host: Option<&'e str>,
    pub(crate) node: Option<NodeId>,
}

/// Stands for `tls::HandshakeError`.
#[derive(Debug)]
pub(crate) struct HandshakeError(Secured);

impl HandshakeError {
    pub(crate) fn may_be_plain(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn lasts(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn into_io(self) -> io::Error {
        match self.0 {}
    }
}
