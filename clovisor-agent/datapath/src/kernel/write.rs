//! Carrying out writes, where one that is refused stops none of the others: maps are shared by namespaces.

use super::diff::Op;
use super::tables::TableError;
use std::collections::BTreeMap;

/// What became of the writes.
#[derive(Debug, Default)]
pub(super) struct WriteOutcome {
    pub(super) done: u64,
    /// Entries that a full map has no room for, by map.
    pub(super) left_out: BTreeMap<&'static str, usize>,
    /// The first failure of another kind.
    pub(super) failed: Option<TableError>,
}

impl WriteOutcome {
    /// Every write was carried out.
    pub(super) fn is_whole(&self) -> bool {
        self.left_out.is_empty() && self.failed.is_none()
    }

    /// What is missing, in words.
    pub(super) fn missing(&self) -> Option<String> {
        if let Some(error) = &self.failed {
            return Some(error.to_string());
        }
        let full = |(map, count): (&&str, &usize)| {
            format!("map {map} is full: {count} of its entries are not in force")
        };
        let all: Vec<_> = self.left_out.iter().map(full).collect();
        (!all.is_empty()).then(|| {
            format!(
                "{}; everything else is; remove destinations, prefixes or mappings of this node's namespaces",
                all.join("; ")
            )
        })
    }
}

/// Carries out `ops` in order. What a full map refuses is tried again after the deletions.
pub(super) fn write_all(ops: &[Op], mut apply: impl FnMut(&Op) -> Result<(), TableError>) -> WriteOutcome {
    let mut written = WriteOutcome::default();
    let mut refused = Vec::new();
    for op in ops {
        match apply(op) {
            Ok(()) => written.done += 1,
            Err(TableError::Full(_)) => refused.push(op),
            Err(error) => _ = written.failed.get_or_insert(error),
        }
    }
    for op in refused {
        match apply(op) {
            Ok(()) => written.done += 1,
            Err(TableError::Full(map)) => *written.left_out.entry(map).or_default() += 1,
            Err(error) => _ = written.failed.get_or_insert(error),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::diff::{Entry, Key, diff};
    use super::super::image::Image;
    use super::*;
    use clovisor_common::abi::{DestKey, Pod};
    use std::collections::BTreeSet;

    /// A kernel with room for three destinations.
    #[derive(Default)]
    struct Maps {
        dests: BTreeSet<u16>,
        pods: BTreeSet<u32>,
    }

    impl Maps {
        fn apply(&mut self, op: &Op) -> Result<(), TableError> {
            match op {
                Op::Put(Entry::Dest(key, _))
                    if self.dests.len() == 3 && !self.dests.contains(&key.port_be) =>
                {
                    return Err(TableError::Full("DESTS"));
                }
                Op::Put(Entry::Dest(key, _)) => _ = self.dests.insert(key.port_be),
                Op::Put(Entry::Pod(veth, _)) => _ = self.pods.insert(*veth),
                Op::Delete(Key::Dest(key)) => _ = self.dests.remove(&key.port_be),
                Op::Delete(Key::Pod(veth)) => _ = self.pods.remove(veth),
                other => panic!("{other:?}"),
            }
            Ok(())
        }
    }

    fn image(dests: &[u16], pods: &[u32]) -> Image {
        let key =
            |port_be: &u16| DestKey { addr: [9; 16], port_be: *port_be, zone: 1, proto: 6, pad: [0; 3] };
        let pod = Pod { zone: 1, traffic: 0, proxy_uid: 1337 };
        Image {
            dests: dests.iter().map(|port| (key(port), 1)).collect(),
            pods: pods.iter().map(|veth| (*veth, pod)).collect(),
            ..Image::default()
        }
    }

    #[test]
    fn a_full_map_stops_nobody_else() {
        let mut maps = Maps::default();
        let written =
            write_all(&diff(&Image::default(), &image(&[1, 2, 3, 4, 5], &[7])), |op| maps.apply(op));
        assert_eq!((written.left_out.get("DESTS"), maps.pods.len()), (Some(&2), 1));
        let text = written.missing().unwrap_or_default();
        assert!(!written.is_whole() && text.starts_with("map DESTS is full: 2 of its entries"), "{text}");
    }

    #[test]
    fn what_is_deleted_makes_room() {
        let mut maps = Maps::default();
        let (old, new) = (image(&[1, 2, 3], &[7, 8]), image(&[3, 4, 5], &[8, 9]));
        assert!(write_all(&diff(&Image::default(), &old), |op| maps.apply(op)).is_whole());
        let written = write_all(&diff(&old, &new), |op| maps.apply(op));
        assert!(written.is_whole() && written.missing().is_none(), "{written:?}");
        assert_eq!((maps.dests, maps.pods), ([3, 4, 5].into(), [8, 9].into()));
    }

    #[test]
    fn another_failure_is_told_and_stops_nobody_either() {
        let ops = diff(&Image::default(), &image(&[1, 2], &[7]));
        let mut done = 0;
        let written = write_all(&ops, |op| match op {
            Op::Put(Entry::Dest(..)) => Err(TableError::Missing("DESTS")),
            _ => {
                done += 1;
                Ok(())
            }
        });
        assert!(done == 1 && matches!(written.failed, Some(TableError::Missing("DESTS"))), "{written:?}");
    }
}
