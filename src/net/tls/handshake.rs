//! The handshake on one connection, at both ends.

use std::{
    io::{self, IoSlice},
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
            current::Current,
            failures::HandshakeFailure,
            from_server::FromServer,
            handshake_error::HandshakeError,
            keys::Keys,
            places::Place,
            secured::Secured,
            trust::Trust,
            verifier::{Role, parse},
        },
    },
};

/// The most bytes that the far end may send in a handshake. The certificates take almost all of them: three of
/// the largest kind in use take 8 KiB.
const MAX_RECEIVED: usize = 32 << 10;

/// How long, and for how many bytes, the connection stays open after a handshake that failed, so that the far end
/// receives the alert. If the connection were closed while bytes come, the system would answer with a reset, which may overtake
/// the alert.
const LINGER: Duration = Duration::from_millis(500);
const MAX_DISCARDED: u64 = 64 << 10;

/// Makes the handshake on a connection that was accepted.
pub(super) async fn accept(
    current: &Arc<Current>,
    stream: Stream,
    place: &Place<'_>,
) -> Result<Stream, Failed> {
    let keys = current.keys();
    let acceptor = TlsAcceptor::from(keys.server().clone());
    let accepting = acceptor.accept(Counted::new(stream)).into_fallible();
    match place.in_turn(accepting).await {
        Ok(stream) => {
            let (io, rustls) = stream.into_inner();
            secure(current, keys, Role::Client, io, rustls.into())
        }
        Err((err, io)) => Err(Failed::new(&err, io)),
    }
}

/// Makes the handshake on a connection to a peer. Its certificate must be for `name`, or for `meant`.
pub(super) async fn connect(
    current: &Arc<Current>,
    stream: Stream,
    name: ServerName<'static>,
    meant: Option<NodeId>,
) -> Result<Stream, Failed> {
    let keys = current.keys();
    let verifier = FromServer {
        keys: keys.clone(),
        meant,
    };
    let client = keys.client(Arc::new(verifier));
    let client = client.map_err(|err| HandshakeError::unable(&err))?;
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = connector.connect(name, Counted::new(stream));
    match connecting.into_fallible().await {
        Ok(stream) => {
            let (io, rustls) = stream.into_inner();
            secure(current, keys, Role::Server, io, rustls.into())
        }
        Err((err, io)) => Err(Failed::new(&err, io)),
    }
}

/// Puts the encryption under a connection whose handshake is done.
fn secure(
    current: &Arc<Current>,
    keys: Arc<Keys>,
    role: Role,
    io: Counted,
    rustls: Connection,
) -> Result<Stream, Failed> {
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
    let trust = Trust::new(current.clone(), keys, (role, ip), chain, certificate);
    Ok(Stream {
        tcp: io.tcp,
        sent: Sent::default(),
        tls: Some(Arc::new(Secured::new(rustls, io.sent, trust))),
    })
}

/// A handshake that failed, and what is left of the connection.
pub(super) struct Failed {
    pub(super) error: HandshakeError,
    /// `None` if nothing can be said on it.
    io: Option<Counted>,
}

impl Failed {
    fn new(err: &io::Error, io: Counted) -> Self {
        Failed {
            error: HandshakeError::new(err, io.received, io.received > MAX_RECEIVED),
            io: Some(io),
        }
    }

    /// Lets the far end read why the handshake failed.
    pub(super) async fn tell(self) -> HandshakeError {
        if let Some(mut io) = self.io.filter(|io| io.received > 0)
            && io.tcp.shutdown().await.is_ok()
        {
            let (mut rest, mut nowhere) = (io.tcp.take(MAX_DISCARDED), tokio::io::sink());
            let discarding = tokio::io::copy(&mut rest, &mut nowhere);
            let _ = timeout(LINGER, discarding).await;
        }
        self.error
    }
}

impl<E: Into<HandshakeError>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = error.into();
        Failed { error, io: None }
    }
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

/// Slices are put together first: std writes a list of them so that it raises a SIGPIPE if the other side has
/// closed the connection. They must all be written, because an alert is the last of them, and tokio-rustls tries
/// only once to write it.
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

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.poll_write(cx, &slices.concat())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
