//! Keys that the tests make, with the helpers that the programs use.

// Shared with the programs; the tests need only a part of it.
#[allow(dead_code)]
#[path = "../../../examples/support/keys.rs"]
mod made;

pub(crate) use made::*;

/// The keys of nodes with these DNS names, whose certificates a CA of their own signed.
#[allow(dead_code)]
pub(crate) fn cluster<const NODES: usize>(names: [&str; NODES]) -> [Keys; NODES] {
    let authority = Authority::new("cluster");
    names.map(|name| authority.certificate(Request::new().dns(name)))
}
