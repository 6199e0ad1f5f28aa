//! The keys of both sides of a run: the bench makes them, and gives them to its processes as variables of
//! their environment.

use std::{env, sync::LazyLock};

use actix_transport::Tls;

use crate::{
    Failure,
    authority::{Authority, Request},
};

/// The certificate of the CA, that of the node, and the key of the node.
const NAMES: [&str; 3] = ["BENCH_CA", "BENCH_CERT", "BENCH_KEY"];

/// Returns the variables for the environment of a process.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    static KEYS: LazyLock<[String; 3]> = LazyLock::new(|| {
        let keys = Authority::new("bench").certificate(Request::node(1));
        [keys.ca_pem, keys.cert_pem, keys.key_pem]
    });
    NAMES.into_iter().zip(KEYS.iter().map(String::as_str))
}

/// Returns what this process was given, in the order of [`NAMES`].
pub(super) fn given() -> Result<[String; 3], Failure> {
    let [ca, cert, key] = NAMES.map(|name| env::var(name).map_err(|err| format!("{name}: {err}")));
    Ok([ca?, cert?, key?])
}

/// Returns the keys for a transport of ours. All nodes of a run have the same certificate.
pub(super) fn tls() -> Result<Tls, Failure> {
    let [ca, cert, key] = given()?;
    let tls = Tls::from_pem(ca.as_bytes(), cert.as_bytes(), key.as_bytes())?;
    Ok(tls.allow(["*"]).node_rule(|_, _| true))
}
