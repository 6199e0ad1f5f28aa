//! The rows, in the order in which they run, and what their processes do.

mod clean;
mod cuts;
mod every_byte;
mod half_open;
mod killed;
mod loss;
mod paused;
mod sigstop;

use crate::{row::Row, sink, world::Role};

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    clean::ROW,
    cuts::ROW,
    every_byte::ROW,
    sigstop::ROW,
    killed::ROW,
    paused::ROW,
    half_open::ROW,
    loss::ROW,
];

/// What a process of its own can be started as ([`world::Child`](crate::world::Child)).
pub(crate) const ROLES: &[Role] = &[sink::ROLE, sigstop::ROLE, killed::ROLE];
