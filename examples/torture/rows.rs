//! The rows, in the order in which they run, and what their processes do.

mod clean;
mod descriptors;
mod flood;
mod fragile;
mod fragile_load;
mod group_actor;
mod hostile;
mod hostile_clients;
mod panics;
mod soak;
mod stop;
mod storm;

use crate::{row::Row, world::Role};

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    clean::ROW,
    hostile::ROW,
    descriptors::ROW,
    panics::ROW,
    group_actor::ROW,
    storm::ROW,
    flood::ROW,
    stop::ROW,
    soak::ROW,
];

/// What a process of its own can be started as ([`world::Child`](crate::world::Child)).
pub(crate) const ROLES: &[Role] = &[hostile::ROLE, descriptors::ROLE, fragile::ROLE];
