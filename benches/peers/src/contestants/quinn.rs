//! quinn: one unidirectional stream on each connection, frames as on our wire.
//!
//! Tuned as its documentation recommends for a fast path that is known: frames are gathered to 64
//! KiB before they are given to the stream, which takes them without copying; datagrams as large as
//! the loopback carries (`initial_mtu`, and `max_udp_payload_size` for those received), with
//! segmentation offload, as by default; windows and socket buffers that hold many times the delay,
//! and an equally large initial congestion window, as the path needs no probing. With a `min_mtu`
//! above the default no run succeeded. It encrypts with AES-256-GCM by `ring`; this cannot be
//! switched off. Certificates are not verified, which does not affect the measurement.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::QuicClientConfig,
    rustls::{
        self, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    },
};
use socket2::SockRef;

use crate::{
    Failure,
    contestants::{on_threads_for, read},
    cost::Cost,
    figures::Figures,
    goal::Goal,
    started::{Side, announce, anywhere},
    work::{HEADER, Work, append, header},
};

/// Bytes that are gathered before they are given to the stream.
const GATHERED: usize = 64 << 10;

/// Bytes of a datagram: what the loopback carries, without the headers of IP and UDP.
const DATAGRAM: u16 = 65_535 - 28;

/// The most bytes under way on a connection.
const WINDOW: u32 = 2 << 20;

/// Bytes of the initial congestion window.
const FIRST_WINDOW: u64 = 1 << 20;

/// Bytes asked for as socket buffers. The system gives at most what it allows every process.
const BUFFER: usize = 4 << 20;

const NAME: &str = "localhost";

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match side {
        Side::Send => on_threads_for(work, send(work.clone(), to.to_vec())),
        Side::Receive => on_threads_for(work, receive(work.clone())),
    }
}

async fn send(work: Work, to: Vec<SocketAddr>) -> Result<Figures, Failure> {
    let endpoint = bind(None)?;
    let provider = Arc::new(ring::default_provider());
    let crypto = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto)?));
    config.transport_config(transport());
    let mut streams = Vec::new();
    for addr in to {
        let connection = endpoint.connect_with(config.clone(), addr, NAME)?.await?;
        streams.push((connection.open_uni().await?, Vec::new()));
    }

    let cost = Cost::begin();
    for (number, route) in work.frames_of(0) {
        let (stream, gathered) = &mut streams[route.peer];
        if gathered.capacity() == 0 {
            gathered.reserve(GATHERED.max(HEADER + work.size));
        }
        gathered.extend_from_slice(&header(route.group, work.size));
        append(gathered, work.size, number);
        if gathered.len() + HEADER + work.size > GATHERED {
            let gathered = std::mem::take(gathered);
            stream.write_chunk(Bytes::from(gathered)).await?;
        }
    }
    for (stream, gathered) in &mut streams {
        stream.write_chunk(std::mem::take(gathered).into()).await?;
        stream.finish()?;
    }
    for (stream, _) in &mut streams {
        // The receiver may be gone already: it leaves when it has received everything.
        let _ = stream.stopped().await;
    }
    Ok(cost.figures())
}

async fn receive(work: Work) -> Result<Figures, Failure> {
    let certified = rcgen::generate_simple_self_signed(vec![NAME.to_string()])?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![certified.cert.into()], key.into())?;
    config.transport_config(transport());
    let endpoint = bind(Some(config))?;
    let (goal, reached) = Goal::new(work.frames);

    let cost = Cost::begin();
    announce(&vec![endpoint.local_addr()?; work.peers])?;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let goal = goal.clone();
            tokio::spawn(async move {
                let connection = incoming.await?;
                let stream = connection.accept_uni().await?;
                read(stream, work.size, &goal).await?;
                // Keeps the connection until either side closes it.
                connection.closed().await;
                Ok::<_, Failure>(())
            });
        }
    });
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    endpoint.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

fn bind(config: Option<ServerConfig>) -> Result<Endpoint, Failure> {
    let socket = UdpSocket::bind(anywhere())?;
    let options = SockRef::from(&socket);
    options.set_send_buffer_size(BUFFER)?;
    options.set_recv_buffer_size(BUFFER)?;
    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(DATAGRAM)?;
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(endpoint, config, socket, runtime)?)
}

fn transport() -> Arc<TransportConfig> {
    let mut congestion = CubicConfig::default();
    congestion.initial_window(FIRST_WINDOW);
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(DATAGRAM)
        .mtu_discovery_config(None)
        .initial_rtt(Duration::from_millis(1))
        .stream_receive_window(WINDOW.into())
        .send_window(WINDOW.into())
        .congestion_controller_factory(Arc::new(congestion));
    Arc::new(transport)
}

/// Accepts any certificate.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
