//! A map from groups to values that is cheap to copy and cheap to change.
//!
//! It is a tree whose nodes are shared between copies. A change copies only the nodes on the way to the
//! changed group, three or four of them among 40,000 groups, and none that this copy alone owns. So a
//! table that readers look into can be replaced by a changed copy at a cost that hardly depends on the
//! number of groups.

use std::{array, mem, sync::Arc};

use crate::ids::GroupId;

/// Bits of the key that choose one of a node's slots.
///
/// A wider node makes the tree lower and a change dearer. With 4 bits, a change among 40,000 groups
/// copies 1 KiB.
const BITS: u32 = 4;
const SLOTS: usize = 1 << BITS;

/// The map. A clone costs one reference count.
#[derive(Debug, Clone)]
pub(super) struct GroupMap<V>(Slot<V>);

impl<V> Default for GroupMap<V> {
    fn default() -> Self {
        GroupMap(Slot::Empty)
    }
}

impl<V> GroupMap<V> {
    pub(super) fn get(&self, group: GroupId) -> Option<&V> {
        let mut key = key(group);
        let mut slot = &self.0;
        loop {
            match slot {
                Slot::Empty => return None,
                Slot::Entry(found, value) => return (*found == group).then_some(value),
                Slot::Node(node) => {
                    slot = &node.0[(key >> (u32::BITS - BITS)) as usize];
                    key <<= BITS;
                }
            }
        }
    }
}

impl<V: Clone> GroupMap<V> {
    /// Adds a group, and returns the value that it had before.
    pub(super) fn insert(&mut self, group: GroupId, value: V) -> Option<V> {
        self.0.insert(group, value, 0)
    }

    /// Removes a group, and returns its value.
    pub(super) fn remove(&mut self, group: GroupId) -> Option<V> {
        // Looked up first, so that no nodes are copied for a group that is not there.
        self.get(group)?;
        self.0.remove(group, 0)
    }
}

/// A part of the tree. A group is in the first slot on its way that no other group shares.
#[derive(Debug, Clone)]
enum Slot<V> {
    Empty,
    Entry(GroupId, V),
    Node(Arc<Node<V>>),
}

#[derive(Debug, Clone)]
struct Node<V>([Slot<V>; SLOTS]);

impl<V: Clone> Slot<V> {
    fn insert(&mut self, group: GroupId, value: V, depth: u32) -> Option<V> {
        match self {
            Slot::Empty => {
                *self = Slot::Entry(group, value);
                None
            }
            Slot::Entry(found, old) if *found == group => Some(mem::replace(old, value)),
            Slot::Entry(other, _) => {
                // Two groups differ in some bits of their keys, so this ends.
                let mut node = Node(array::from_fn(|_| Slot::Empty));
                let other = index(*other, depth);
                node.0[other] = mem::replace(self, Slot::Empty);
                node.0[index(group, depth)].insert(group, value, depth + 1);
                *self = Slot::Node(Arc::new(node));
                None
            }
            Slot::Node(node) => {
                let slot = &mut Arc::make_mut(node).0[index(group, depth)];
                slot.insert(group, value, depth + 1)
            }
        }
    }

    /// Removes a group. A node that is left with one group or none ends, so that the tree is never
    /// larger than its groups need.
    fn remove(&mut self, group: GroupId, depth: u32) -> Option<V> {
        match self {
            Slot::Empty => None,
            Slot::Entry(found, _) if *found != group => None,
            Slot::Entry(..) => match mem::replace(self, Slot::Empty) {
                Slot::Entry(_, value) => Some(value),
                Slot::Empty | Slot::Node(_) => None,
            },
            Slot::Node(node) => {
                let node = Arc::make_mut(node);
                let removed = node.0[index(group, depth)].remove(group, depth + 1);
                if let Some(slot) = node.take_last() {
                    *self = slot;
                }
                removed
            }
        }
    }
}

impl<V> Node<V> {
    /// Takes out the only group that is left in this node, or an empty slot if none is left. Returns
    /// `None` if there are more.
    fn take_last(&mut self) -> Option<Slot<V>> {
        let mut used = self.0.iter_mut().filter(|slot| !slot.is_empty());
        match (used.next(), used.next()) {
            (None, _) => Some(Slot::Empty),
            (Some(last @ Slot::Entry(..)), None) => Some(mem::replace(last, Slot::Empty)),
            _ => None,
        }
    }
}

impl<V> Slot<V> {
    fn is_empty(&self) -> bool {
        matches!(self, Slot::Empty)
    }
}

/// Returns which slot of a node at this depth leads to the group.
fn index(group: GroupId, depth: u32) -> usize {
    ((key(group) << (BITS * depth)) >> (u32::BITS - BITS)) as usize
}

/// Returns the bits that a group is found by, from the highest to the lowest.
///
/// Group indexes tend to be neighbours or multiples of something. The factor, near 2³² divided by the
/// golden ratio, spreads them over the slots of the first nodes. It is odd, so no two groups get one
/// key.
fn key(group: GroupId) -> u32 {
    group.get().wrapping_mul(0x9E37_79B1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::net::random;

    #[test]
    fn agrees_with_a_hash_map_and_leaves_its_copies_as_they_were() {
        let mut map = GroupMap::default();
        let mut model = HashMap::new();
        for step in 0..20_000_u32 {
            let group = GroupId::new((random::fraction() * 500.0) as u32 * 4096);
            let (copy, before) = (map.clone(), map.get(group).copied());
            if random::fraction() < 0.5 {
                assert_eq!(map.insert(group, step), model.insert(group, step));
            } else {
                assert_eq!(map.remove(group), model.remove(&group));
            }
            assert_eq!(map.get(group), model.get(&group));
            assert_eq!(copy.get(group).copied(), before);
        }
        assert!((0..500).all(|index| {
            let group = GroupId::new(index * 4096);
            map.get(group) == model.get(&group)
        }));
    }

    #[test]
    fn a_map_from_which_everything_was_removed_holds_no_memory() {
        let mut map = GroupMap::default();
        for index in 0..1000 {
            map.insert(GroupId::new(index), ());
        }
        for index in (0..1000).rev() {
            assert_eq!(map.remove(GroupId::new(index)), Some(()));
        }
        assert!(map.0.is_empty());
    }

    #[test]
    fn all_bits_of_an_index_count() {
        let mut map = GroupMap::default();
        let groups = || [0, 1, 1 << 31, u32::MAX - 1].map(GroupId::new);
        for group in groups() {
            map.insert(group, group);
        }
        for group in groups() {
            assert_eq!(map.get(group), Some(&group));
        }
    }
}
