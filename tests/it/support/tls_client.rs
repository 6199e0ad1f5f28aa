//! A TLS client that is no node: it shows whatever certificate it is told to, and takes everybody's.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use actix_transport::{Tls, Transport};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use self::takes_all::TakesAll;
use super::keys::Keys;

#[path = "../../../examples/support/takes_all.rs"]
mod takes_all;

/// The keys of a node, which lets in whoever is called `node-*.test`.
pub(crate) fn tls(keys: &Keys) -> Tls {
    tls_of_all(keys).allow(["node-*.test"])
}

/// The keys of a node that has still to say whom it lets in.
pub(crate) fn tls_of_all(keys: &Keys) -> Tls {
    let [ca, cert, key] = [&keys.ca_pem, &keys.cert_pem, &keys.key_pem].map(String::as_bytes);
    Tls::from_pem(ca, cert, key).expect("keys that fit together")
}

/// An encrypted connection, for blocking calls.
pub(crate) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a node, and shows this certificate, or none. The handshake is made by the first call.
pub(crate) fn connect(to: SocketAddr, keys: Option<&Keys>) -> Encrypted {
    let stream = TcpStream::connect(to).expect("it listens");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a time");
    let name = ServerName::from(to.ip());
    let client = ClientConnection::new(Arc::new(config(keys)), name).expect("a name");
    StreamOwned::new(client, stream)
}

/// Returns how a connection ends that should never get an answer: the number of bytes that came, and the
/// error.
pub(crate) fn fate(mut stream: Encrypted, says: &[u8]) -> (usize, io::Result<()>) {
    use std::io::{Read, Write};

    let mut came = Vec::new();
    let end = stream
        .write_all(says)
        .and_then(|()| stream.read_to_end(&mut came).map(|_| ()));
    (came.len(), end)
}

/// The first bytes of a client.
pub(crate) fn first_flight() -> Vec<u8> {
    let name = ServerName::try_from("node-1.test").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config(None)), name).expect("a name");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("to memory");
    bytes
}

/// Listens as whoever has these keys, and lets everybody in. Says `answer` when the first bytes have come.
/// Returns where.
pub(crate) fn impostor(keys: &Keys, answer: Vec<u8>) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own(keys, &provider))));
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        use std::io::{Read, Write};

        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(server.clone()).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            let mut bytes = [0; 1024];
            if matches!(stream.read(&mut bytes), Ok(1..)) {
                let _ = stream.write_all(&answer);
                while matches!(stream.read(&mut bytes), Ok(1..)) {}
            }
        }
    });
    addr
}

/// Sends bytes as they are.
pub(crate) fn send_raw(transport: &Transport, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(transport.local_addr()).expect("it listens");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a time");
    io::Write::write_all(&mut stream, bytes).expect("room");
    stream
}

fn config(keys: Option<&Keys>) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAll(provider.clone())));
    match keys {
        None => builder.with_no_client_auth(),
        Some(keys) => {
            let own = SingleCertAndKey::from(own(keys, &provider));
            builder.with_client_cert_resolver(Arc::new(own))
        }
    }
}

/// Also with a key that does not belong to the certificate.
fn own(keys: &Keys, provider: &CryptoProvider) -> CertifiedKey {
    let chain = CertificateDer::pem_slice_iter(keys.cert_pem.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(keys.key_pem.as_bytes()).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    CertifiedKey::new(chain, key)
}
