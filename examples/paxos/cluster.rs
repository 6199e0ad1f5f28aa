//! Three nodes and the clients in one process, each with a transport of its own on loopback.
//!
//! A node is an arbiter with one replica of every group. What dies and comes back is its transport:
//! the replicas live on and keep what they promised, as they would if it had been on a disk.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Arbiter};
use actix_transport::{Config, GroupId, Shutdown, Stats, Transport};
use tokio::time::sleep;

use crate::{
    Failure,
    actor::{Connect, Legacy, ReplicaActor, Retire, Status},
    ask,
    client::Client,
    links::{Addresses, Links},
    message::{NodeId, REPLICAS},
    replica::Replica,
};
