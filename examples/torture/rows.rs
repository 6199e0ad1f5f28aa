//! The rows, in the order in which they run, and what their processes do.

mod clean;

use crate::{row::Row, world::Role};

/// All of them.
pub(crate) const ROWS: &[Row] = &[clean::ROW];

/// What a process of its own can be started as ([`world::Child`](crate::world::Child)).
pub(crate) const ROLES: &[Role] = &[];
