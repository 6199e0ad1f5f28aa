//! The handshake on one connection, at both ends.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{Connection, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    ids::NodeId,
    net::{
        sent::Sent,
        tcp::Stream,
        time::timeout,
        tls::{
            endpoint::Endpoint,
            failures::HandshakeFailure,
            keys::Keys,
            places::Place,
            secured::Secured,
            trust::{Role, Trust},
            verifier::{FromServer, parse},
        },
    },
};

/// The most bytes that the far end may send in a handshake. The certificates take almost all of them: three of
/// the largest kind in use take 8 KiB.
const MAX_RECEIVED: usize = 32 << 10;

/// After a handshake that failed, the far end has so long to read why, and may send so many bytes until then.
/// If the connection were closed while bytes come, the system would answer with a reset, which may overtake
/// the alert.
const LINGER: Duration = Duration::from_millis(500);
const MAX_DISCARDED: u64 = 64 << 10;

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    pub(crate) reason: HandshakeFailure,
    /// What rustls or the system says.
    detail: Option<String>,
    /// Whether the far end has sent anything.
    is_answered: bool,
}

impl HandshakeError {
    /// Of a connection that failed.
    pub(super) fn lost(err: &io::Error) -> Self {
        HandshakeError {
            reason: HandshakeFailure::Closed,
            detail: Some(err.to_string()),
            is_answered: false,
        }
    }

    fn new(err: &io::Error, io: &Counted) -> Self {
        let cause = err.get_ref().and_then(|err| err.downcast_ref());
        let reason = match cause {
            _ if io.received > MAX_RECEIVED => HandshakeFailure::TooLong,
            Some(err) => HandshakeFailure::of(err),
            None => HandshakeFailure::Closed,
        };
        HandshakeError {
            reason,
            detail: cause.map(rustls::Error::to_string),
            is_answered: io.received > 0,
        }
    }

    /// Returns whether the far end may be one without TLS: it has closed the connection without an answer.
    pub(crate) fn may_be_plain(&self) -> bool {
        self.reason == HandshakeFailure::Closed && !self.is_answered
    }

    /// Returns whether the next handshake will most likely fail, too.
    pub(crate) fn lasts(&self) -> bool {
        !matches!(
            self.reason,
            HandshakeFailure::Closed | HandshakeFailure::TimedOut | HandshakeFailure::Crowded
        )
    }

    /// Returns the error of a link that could not be made.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.reason {
            HandshakeFailure::TimedOut => io::ErrorKind::TimedOut,
            HandshakeFailure::Closed => io::ErrorKind::UnexpectedEof,
            HandshakeFailure::NotTls | HandshakeFailure::TooLong => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, self)
    }
}

impl From<HandshakeFailure> for HandshakeError {
    fn from(reason: HandshakeFailure) -> Self {
        HandshakeError {
            reason,
            detail: None,
            is_answered: false,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

impl Error for HandshakeError {}

/// Makes the handshake on a connection that was accepted.
pub(super) async fn accept(
    endpoint: &Arc<Endpoint>,
    stream: Stream,
    place: &Place,
) -> Result<Stream, HandshakeError> {
    let keys = endpoint.keys();
    let acceptor = TlsAcceptor::from(keys.server().clone());
    let accepting = acceptor.accept(Counted::new(stream)).into_fallible();
    match place.in_turn(accepting).await {
        Ok(stream) => {
            let (io, rustls) = stream.into_inner();
            secure(endpoint, keys, Role::Client, io, rustls.into())
        }
        Err((err, io)) => Err(failed(&err, io).await),
    }
}

/// Makes the handshake on a connection to a peer. Its certificate must be for `name`, or for `meant`.
pub(super) async fn connect(
    endpoint: &Arc<Endpoint>,
    stream: Stream,
    name: ServerName<'static>,
    meant: Option<NodeId>,
) -> Result<Stream, HandshakeError> {
    let keys = endpoint.keys();
    let verifier = FromServer {
        keys: keys.clone(),
        meant,
    };
    let client = keys.client(Arc::new(verifier));
    let client = client.map_err(|err| HandshakeError {
        reason: HandshakeFailure::of(&err),
        detail: Some(err.to_string()),
        is_answered: false,
    })?;
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = connector.connect(name, Counted::new(stream));
    match connecting.into_fallible().await {
        Ok(stream) => {
            let (io, rustls) = stream.into_inner();
            secure(endpoint, keys, Role::Server, io, rustls.into())
        }
        Err((err, io)) => Err(failed(&err, io).await),
    }
}

/// Puts the encryption under a connection whose handshake is done.
fn secure(
    endpoint: &Arc<Endpoint>,
    keys: Arc<Keys>,
    role: Role,
    io: Counted,
    rustls: Connection,
) -> Result<Stream, HandshakeError> {
    let chain = rustls.peer_certificates().unwrap_or_default().to_vec();
    // It was read in the handshake, so this cannot fail.
    let Some(Ok(certificate)) = chain.first().map(parse) else {
        return Err(HandshakeFailure::NoCertificate.into());
    };
    let ip = io
        .tcp
        .peer_addr()
        .map_err(|err| HandshakeError::lost(&err))?
        .ip();
    let trust = Trust::new(endpoint.clone(), keys, (role, ip), chain, certificate);
    Ok(Stream {
        tcp: io.tcp,
        sent: Sent::default(),
        tls: Some(Arc::new(Secured::new(rustls, io.sent, trust))),
    })
}

/// Lets the far end read why the handshake failed.
async fn failed(err: &io::Error, mut io: Counted) -> HandshakeError {
    let error = HandshakeError::new(err, &io);
    if io.received > 0 && io.tcp.shutdown().await.is_ok() {
        let mut rest = io.tcp.take(MAX_DISCARDED);
        let mut nowhere = tokio::io::sink();
        let discarding = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = timeout(LINGER, discarding).await;
    }
    error
}

/// A connection in its handshake. Counts what is written, and bounds what is read.
struct Counted {
    tcp: TcpStream,
    sent: Sent,
    received: usize,
}

impl Counted {
    fn new(stream: Stream) -> Self {
        Counted {
            tcp: stream.tcp,
            sent: stream.sent,
            received: 0,
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf)?;
        self.received += buf.filled().len() - before;
        if self.received > MAX_RECEIVED {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        read.map(Ok)
    }
}

/// Not vectored: std writes a list of slices so that it raises a SIGPIPE if the other side has closed the
/// connection.
impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.sent.wrote(written);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
