//! Who this process is, if it introduces itself to other nodes.

use actix_transport::{BindError, Builder, Identity, IdentityError, NodeId, Sessions};
use clap::ValueEnum;

use crate::{Failure, tls};

#[derive(clap::Args)]
pub(crate) struct IdentityArgs {
    /// This node's number. With it, nodes introduce themselves to each other, and answers take the
    /// connection of the question.
    #[arg(long, value_name = "ID")]
    node: Option<u64>,

    /// The cluster that this node belongs to. Nodes of other clusters are refused.
    #[arg(long, value_name = "NAME", requires = "node")]
    cluster: Option<String>,

    /// Where other nodes reach this one, as ip:port or name:port. The default is the ip that they
    /// see, with the port of `--listen`.
    #[arg(long, value_name = "ADDR", requires = "node")]
    advertise: Option<String>,

    /// Whether nodes must introduce themselves, may, or do not. The default is `required` with
    /// `--node`, and `off` without.
    #[arg(long, value_enum, requires_ifs = [("optional", "node"), ("required", "node")])]
    sessions: Option<Mode>,
}

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    Off,
    Optional,
    Required,
}

impl IdentityArgs {
    pub(crate) fn mode(&self) -> Mode {
        match (self.sessions, self.node) {
            (Some(mode), _) => mode,
            (None, Some(_)) => Mode::Required,
            (None, None) => Mode::Off,
        }
    }

    /// Gives this node a number if it has none.
    pub(crate) fn node_or(&mut self, number: u64) {
        self.node.get_or_insert(number);
    }

    pub(crate) fn has_node(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn has_sessions(&self) -> bool {
        self.mode() != Mode::Off
    }

    pub(crate) fn sessions(&self) -> Sessions {
        match self.mode() {
            Mode::Off => Sessions::Off,
            Mode::Optional => Sessions::Optional,
            Mode::Required => Sessions::Required,
        }
    }

    /// Gives the builder this identity, also if sessions are off: then it is checked, and not used.
    pub(crate) fn introduce(&self, builder: Builder) -> Builder {
        let Some(node) = self.node else {
            return builder;
        };
        let mut identity = Identity::new(NodeId::new(node));
        if let Some(cluster) = &self.cluster {
            identity = identity.cluster(cluster);
        }
        if let Some(addr) = &self.advertise {
            identity = identity.advertise(addr);
        }
        builder.identity(identity)
    }
}

/// Names the flag whose value cannot be used.
pub(crate) fn name_flag(err: BindError) -> Failure {
    let flag = match &err {
        BindError::Identity(IdentityError::Cluster { .. }) => "--cluster",
        BindError::Identity(IdentityError::Advertised { .. }) => "--advertise",
        BindError::Bind { .. } => "--listen",
        BindError::Tls(tls) => match tls::flag_of(tls) {
            Some(flag) => flag,
            None => return err.into(),
        },
        _ => return err.into(),
    };
    format!("{flag}: {err}").into()
}
