//! The keys of nodes, and TLS clients that are no nodes: they show whatever certificate they are told to, and
//! take everybody's.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use actix_transport::{Tls, TlsError};
use rustls::{
    ClientConfig, ClientConnection, Error,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use self::takes_all::TakesAll;
use crate::{keys::Keys, row::Failure};

#[path = "../support/takes_all.rs"]
mod takes_all;

/// The keys of a node, which lets in whoever is called `node-*.test`.
pub(crate) fn tls(keys: &Keys) -> Result<Tls, TlsError> {
    let [ca, cert, key] = [&keys.ca_pem, &keys.cert_pem, &keys.key_pem].map(String::as_bytes);
    Ok(Tls::from_pem(ca, cert, key)?.allow(["node-*.test"]))
}

/// What a client shows: a certificate, or none. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub(crate) fn showing(keys: Option<&Keys>) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAll(provider.clone())));
        let mut config = match keys {
            None => builder.with_no_client_auth(),
            Some(keys) => {
                let chain = CertificateDer::pem_slice_iter(keys.cert_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(keys.key_pem.as_bytes())?;
                // Also a key that does not belong to the certificate.
                let key = provider.key_provider.load_private_key(key)?;
                let own = CertifiedKey::new(chain.collect::<Result<_, _>>()?, key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
        };
        config.resumption = Resumption::disabled();
        Ok(TlsClient(Arc::new(config)))
    }

    /// Returns a connection that has said nothing yet.
    pub(crate) fn begin(&self) -> Result<ClientConnection, Error> {
        let name = ServerName::try_from("node-1.test").expect("a name");
        ClientConnection::new(self.0.clone(), name)
    }

    /// Returns the first bytes of a client.
    pub(crate) fn first_flight(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.begin()?.write_tls(&mut bytes)?;
        Ok(bytes)
    }
}

/// Makes the handshake, says this, and reads until the end. Returns how many bytes came that were encrypted
/// for this client. It does not matter how the connection ends.
pub(crate) fn say(rustls: ClientConnection, stream: TcpStream, words: &[u8]) -> usize {
    let mut encrypted = rustls::StreamOwned::new(rustls, stream);
    let mut came = Vec::new();
    let said = |encrypted: &mut rustls::StreamOwned<_, _>| -> io::Result<()> {
        encrypted.write_all(words)?;
        encrypted.flush()
    };
    let _ = said(&mut encrypted);
    let _ = encrypted.read_to_end(&mut came);
    came.len()
}
