//! The list of rows, in the order in which they run, and of their child processes.

mod bad_keys;
mod bad_keys_clients;
mod black_holes;
mod calls;
mod clean;
mod cuts;
mod cuts_share;
mod descriptors;
mod every_byte;
mod fair_group;
mod flood;
mod fragile;
mod fragile_load;
mod gap;
mod group_actor;
mod groups;
mod half_open;
mod hostile;
mod hostile_clients;
mod identity;
mod killed;
mod lanes;
mod loss;
mod mesh;
mod migration;
mod names;
mod panics;
mod paused;
mod raw_flood;
mod rotation;
mod sigstop;
mod soak;
mod stop;
mod storm;
mod torn;
mod unfinished;
mod unserved;

use crate::{named_node, row::Row, sink, world::Role};

/// All rows.
pub(crate) const ROWS: &[Row] = &[
    clean::ROW,
    cuts::ROW,
    cuts::WITH_SESSIONS,
    cuts::WITH_TLS,
    gap::ROW,
    lanes::ROW,
    calls::ROW,
    torn::ROW,
    identity::ROW,
    every_byte::ROW,
    sigstop::ROW,
    hostile::ROW,
    bad_keys::ROW,
    migration::ROW,
    rotation::ROW,
    unfinished::TRICKLE,
    unfinished::GONE,
    unfinished::INBOUND_MEMORY,
    descriptors::ROW,
    killed::ROW,
    paused::ROW,
    half_open::ROW,
    loss::ROW,
    panics::ROW,
    group_actor::ROW,
    storm::ROW,
    black_holes::ROW,
    names::ROW,
    flood::ROW,
    unserved::ROW,
    fair_group::ROW,
    groups::ROW,
    stop::ROW,
    soak::ROW,
];

/// The roles in which a child process can be started ([`world::Child`](crate::world::Child)).
pub(crate) const ROLES: &[Role] = &[
    sink::ROLE,
    named_node::ROLE,
    lanes::ROLE,
    calls::ROLE,
    sigstop::ROLE,
    killed::ROLE,
    hostile::ROLE,
    descriptors::ROLE,
    fragile::ROLE,
];
