//! A program on a plain tokio-rustls stream: TLS 1.3 with certificates on both sides, by `ring`, as in this
//! crate with TLS, and frames as on our wire.
//!
//! It has no queue and no actors: the sender gathers frames to 64 KiB, which is also what rustls takes at
//! once, and writes them; the receiver reads 64 KiB at a time and walks through the frames. Each side runs on
//! one thread if it has one connection.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

use crate::{
    Failure,
    contestants::{on_threads_for, read},
    cost::Cost,
    figures::Figures,
    goal::Goal,
    keys,
    started::{Side, announce, anywhere},
    work::{HEADER, Work, append, header},
};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;

const NAME: &str = "localhost";

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match side {
        Side::Send => on_threads_for(work, send(work.clone(), to.to_vec())),
        Side::Receive => on_threads_for(work, receive(work.clone())),
    }
}

async fn send(work: Work, to: Vec<SocketAddr>) -> Result<Figures, Failure> {
    let connector = connector()?;
    let mut streams = Vec::new();
    for addr in to {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let stream = connector
            .connect(ServerName::try_from(NAME)?, stream)
            .await?;
        streams.push((stream, Vec::with_capacity(GATHERED.max(HEADER + work.size))));
    }

    let cost = Cost::begin();
    for (number, route) in work.frames_of(0) {
        let (stream, gathered) = &mut streams[route.peer];
        gathered.extend_from_slice(&header(route.group, work.size));
        append(gathered, work.size, number);
        if gathered.len() + HEADER + work.size > GATHERED {
            stream.write_all(gathered).await?;
            gathered.clear();
        }
    }
    for (stream, gathered) in &mut streams {
        stream.write_all(gathered).await?;
        stream.shutdown().await?;
    }
    Ok(cost.figures())
}

async fn receive(work: Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let addr = listener.local_addr()?;
    let acceptor = acceptor()?;
    let (goal, reached) = Goal::new(work.frames);

    let cost = Cost::begin();
    announce(&vec![addr; work.peers])?;
    for _ in 0..work.peers {
        let (stream, _) = listener.accept().await?;
        let (acceptor, goal) = (acceptor.clone(), goal.clone());
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await?;
            read(stream, work.size, &goal).await
        });
    }
    // Without this, the wait below would not end when all tasks have failed.
    drop(goal);
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

fn connector() -> Result<TlsConnector, Failure> {
    let (roots, chain, key) = credentials()?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

fn acceptor() -> Result<TlsAcceptor, Failure> {
    let (roots, chain, key) = credentials()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    // The sender never reads. Tickets that nobody has read would make the system reset the connection when the
    // sender closes it, and the last frames would be lost.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config).into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

type Credentials = (
    RootCertStore,
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

fn credentials() -> Result<Credentials, Failure> {
    let [ca, cert, key] = keys::given()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let chain: Result<_, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
    Ok((
        roots,
        chain?,
        PrivateKeyDer::from_pem_slice(key.as_bytes())?,
    ))
}
