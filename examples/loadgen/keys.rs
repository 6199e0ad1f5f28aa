//! The keys command: makes a CA, and keys and certificates of nodes.

use std::{
    fs,
    io::{Write, stdout},
    iter,
    path::PathBuf,
};

use clap::value_parser;

use crate::{
    Failure,
    authority::{Authority, Request},
};

/// Makes a CA, and certificates and keys of nodes, for experiments on this machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory for the files. It is made if it does not exist.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// How many nodes get a certificate. Node N is called `node-N.test` in it.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=10_000))]
    nodes: u64,

    /// Replaces files that are already there. Those of further nodes stay, and belong to the former CA.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = args.dir.display();
    if let (false, Some(file)) = (args.force, args.existing()) {
        return Err(format!("{}: already there; --force replaces it", file.display()).into());
    }
    fs::create_dir_all(&args.dir).map_err(|err| format!("{dir}: {err}"))?;

    // The name tells the CAs of two directories apart.
    let authority = Authority::new(&format!("loadgen {dir}"));
    authority.write(&args.dir)?;
    for node in 1..=args.nodes {
        let keys = authority.certificate(Request::node(node));
        keys.write(&args.dir, &format!("node-{node}"))?;
    }

    let mut out = stdout();
    for name in args.names() {
        let [cert, key] = args.files(&name).map(|file| file.display().to_string());
        writeln!(out, "wrote {cert} and {key}")?;
    }
    writeln!(
        out,
        "flags of node 1: --node 1 --tls-ca {ca} --tls-cert {cert} --tls-key {key} \
         --tls-allow 'node-*.test'",
        ca = args.dir.join("ca.pem").display(),
        cert = args.dir.join("node-1.pem").display(),
        key = args.dir.join("node-1.key").display(),
    )?;
    Ok(())
}

impl Args {
    /// Returns the names of what gets a certificate and a key.
    fn names(&self) -> impl Iterator<Item = String> {
        let nodes = (1..=self.nodes).map(|node| format!("node-{node}"));
        iter::once("ca".to_string()).chain(nodes)
    }

    /// Returns the files of the certificate and of the key.
    fn files(&self, name: &str) -> [PathBuf; 2] {
        ["pem", "key"].map(|extension| self.dir.join(format!("{name}.{extension}")))
    }

    /// Returns the first file to be written that is already there.
    fn existing(&self) -> Option<PathBuf> {
        let mut files = self.names().flat_map(|name| self.files(&name));
        files.find(|file| file.symlink_metadata().is_ok())
    }
}
