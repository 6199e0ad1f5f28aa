//! The bytes that a group's actor has not handled yet, against the bound of its group.
//!
//! Owns the bound of [`GroupOverflow::Drop`](crate::GroupOverflow::Drop) and of datagrams: a [`Charge`] adds a batch's
//! bytes to the sum of its group, and takes them off again when the batch goes away. What a batch
//! costs, and what happens to frames that do not fit, is decided by `deliver`.

use std::sync::Arc;

use parking_lot::Mutex;

/// The sum of a group's charges.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBytes(Arc<Mutex<usize>>);

impl HeldBytes {
    /// Charges as many bytes as `cost` returns, which is called with the bytes that are left below
    /// `max` and must return no more than those.
    pub(crate) fn charge(&self, max: usize, cost: impl FnOnce(usize) -> usize) -> Charge {
        let mut held = self.0.lock();
        let bytes = cost(max.saturating_sub(*held));
        *held += bytes;
        Charge {
            held: self.clone(),
            bytes,
        }
    }
}

/// Bytes that a group holds, until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: HeldBytes,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.held.0.lock() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_leaves_less_room_until_it_is_dropped() {
        let held = HeldBytes::default();
        let first = held.charge(100, |room| room - 40);
        let _second = held.charge(100, |room| {
            assert_eq!(room, 40);
            room
        });
        drop(first);
        assert_eq!(*held.0.lock(), 40);
    }
}
