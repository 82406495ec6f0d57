//! Numbers for namespaces and classes that stay the same while their owner exists.
//!
//! A number that was freed is taken again last, oldest first: a proxy that still uses it meets no new owner.

use super::class::{ClassId, ClassName};
use clovisor_common::abi::{MAX_CLASSES, MAX_ZONES};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Who gives numbers to classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// This process, for itself.
    #[default]
    Own,
    /// The controller, in the status of the mappings: all nodes and proxies agree.
    Status,
    /// This process is the controller: numbers in statuses stay, new owners get the next ones.
    Controller,
}

/// All numbers in use on this node; kept on disk across restarts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    zones: Numbers,
    classes: BTreeMap<String, Numbers>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    taken: BTreeMap<String, u16>,
    /// Oldest first.
    freed: Vec<u16>,
}

impl Numbers {
    /// Frees the numbers of absent owners and numbers new ones, from 1 to `max`; an owner may stay without.
    fn assign(&mut self, wanted: &BTreeSet<String>, max: u16) {
        let gone: Vec<_> = self
            .taken
            .iter()
            .filter(|(name, _)| !wanted.contains(*name))
            .map(|(n, i)| (n.clone(), *i))
            .collect();
        for (name, number) in gone {
            self.taken.remove(&name);
            self.freed.push(number);
        }
        for name in wanted {
            if self.taken.contains_key(name) {
                continue;
            }
            let used = |n: &u16| self.taken.values().any(|t| t == n) || self.freed.contains(n);
            let number = (1..=max)
                .find(|n| !used(n))
                .or_else(|| if self.freed.is_empty() { None } else { Some(self.freed.remove(0)) });
            if let Some(number) = number {
                self.taken.insert(name.clone(), number);
            }
        }
    }
}

impl Allocation {
    /// Numbers for exactly these namespaces and classes.
    #[must_use]
    pub fn assign(&self, wanted: &BTreeMap<String, BTreeSet<ClassName>>) -> Self {
        let mut next = self.clone();
        next.zones.assign(&wanted.keys().cloned().collect(), MAX_ZONES);
        for namespace in next.classes.keys().chain(wanted.keys()).cloned().collect::<BTreeSet<_>>() {
            let names = wanted.get(&namespace).into_iter().flatten().map(ToString::to_string).collect();
            next.classes.entry(namespace).or_default().assign(&names, u16::from(MAX_CLASSES));
        }
        next
    }

    /// The same for namespaces; classes have the numbers that are given, the first owner of a number before others.
    #[must_use]
    pub fn with_classes(
        &self,
        namespaces: &BTreeSet<String>,
        given: impl IntoIterator<Item = (String, ClassName, u16)>,
    ) -> Self {
        let mut next = Self { zones: self.zones.clone(), classes: BTreeMap::new() };
        next.zones.assign(namespaces, MAX_ZONES);
        next.adopt(given)
    }

    /// Takes over numbers that were given before, where they are free.
    #[must_use]
    pub fn adopt(&self, given: impl IntoIterator<Item = (String, ClassName, u16)>) -> Self {
        let mut next = self.clone();
        for (namespace, name, number) in given {
            let numbers = next.classes.entry(namespace).or_default();
            let is_free = !numbers.taken.values().any(|taken| *taken == number);
            let is_new = !numbers.taken.contains_key(&name.to_string());
            if is_free && is_new && (1..=u16::from(MAX_CLASSES)).contains(&number) {
                numbers.freed.retain(|freed| *freed != number);
                numbers.taken.insert(name.to_string(), number);
            }
        }
        next
    }

    /// The namespace's number, or none if the node has too many.
    #[must_use]
    pub fn zone(&self, namespace: &str) -> Option<u16> {
        self.zones.taken.get(namespace).copied()
    }

    /// The class's number, or none if the namespace has too many.
    #[must_use]
    pub fn class(&self, namespace: &str, name: &ClassName) -> Option<ClassId> {
        let number = self.classes.get(namespace)?.taken.get(&name.to_string())?;
        u8::try_from(*number).ok().map(ClassId)
    }

    /// The numbers read from disk are in range and unique.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sound = |numbers: &Numbers, max: u16| {
            let all: Vec<_> = numbers.taken.values().chain(&numbers.freed).collect();
            let unique: BTreeSet<_> = all.iter().collect();
            unique.len() == all.len() && all.iter().all(|n| (1..=max).contains(*n))
        };
        sound(&self.zones, MAX_ZONES) && self.classes.values().all(|n| sound(n, u16::from(MAX_CLASSES)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(list: &[u8]) -> BTreeMap<String, BTreeSet<ClassName>> {
        let classes = list.iter().map(|n| ClassName { mapping: format!("m{n}"), rule: None }).collect();
        BTreeMap::from([("shop".to_owned(), classes)])
    }

    fn class(allocation: &Allocation, n: u8) -> Option<u8> {
        allocation.class("shop", &ClassName { mapping: format!("m{n}"), rule: None }).map(|c| c.0)
    }

    #[test]
    fn numbers_stay_and_freed_ones_come_last() {
        let one = Allocation::default().assign(&names(&[1, 2]));
        assert_eq!((class(&one, 1), class(&one, 2)), (Some(1), Some(2)));
        let two = one.assign(&names(&[2, 3]));
        assert_eq!((class(&two, 2), class(&two, 3)), (Some(2), Some(3)));
        let full: Vec<u8> = (2..=18).collect();
        let three = two.assign(&names(&full));
        let given: BTreeSet<_> = full.iter().filter_map(|n| class(&three, *n)).collect();
        assert_eq!(given.len(), 16);
        assert_eq!(full.iter().filter(|n| class(&three, **n).is_none()).count(), 1);
    }

    proptest! {
        #[test]
        fn no_number_has_two_owners_and_none_moves(steps in prop::collection::vec(prop::collection::vec(0u8..24, 0..20), 1..30)) {
            let mut allocation = Allocation::default();
            for step in steps {
                let next = allocation.assign(&names(&step));
                prop_assert!(next.is_sound());
                for n in &step {
                    if let Some(before) = class(&allocation, *n) {
                        prop_assert_eq!(class(&next, *n), Some(before));
                    }
                }
                allocation = next;
            }
        }
    }
}
