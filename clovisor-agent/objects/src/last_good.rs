//! Values by key that survive a bad update.

use super::problem::Problem;
use std::collections::BTreeMap;

/// The last good value of each key, and the problem of the key's newest version.
#[derive(Clone, Debug)]
pub struct LastGood<K, V> {
    entries: BTreeMap<K, Entry<V>>,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    /// None: no version was good yet.
    value: Option<V>,
    problems: Vec<Problem>,
}

impl<K, V> Default for LastGood<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: Clone> LastGood<K, V> {
    /// Records the newest version of a key: a bad one adds its problem and keeps the value that `self` has.
    pub fn update(&mut self, key: K, version: Result<V, Problem>) {
        let before = self.entries.remove(&key).and_then(|entry| entry.value);
        self.entries.insert(key, Entry::new(before, version));
    }

    /// Records a version of a key in a new list; a bad one adds its problem and keeps the value that `before` has.
    /// False: `before` has none either.
    pub fn list(&mut self, before: &Self, key: K, version: Result<V, Problem>) -> bool {
        let mut entry = Entry::new(before.get(&key).cloned(), version);
        let has_value = entry.value.is_some();
        if let Some(same) = self.entries.remove(&key) {
            entry.problems.extend(same.problems);
            entry.value = entry.value.or(same.value);
        }
        self.entries.insert(key, entry);
        has_value
    }

    /// Adds the values of `before` whose keys have none here; false: there are none.
    pub fn keep_absent(&mut self, before: &Self) -> bool {
        let mut is_kept = false;
        for (key, value) in before.values() {
            let entry =
                self.entries.entry(key.clone()).or_insert(Entry { value: None, problems: Vec::new() });
            is_kept |= entry.value.is_none();
            entry.value.get_or_insert_with(|| value.clone());
        }
        is_kept
    }

    /// Every key, also one without a good value.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)?.value.as_ref()
    }

    /// The values in force.
    pub fn values(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().filter_map(|(key, entry)| Some((key, entry.value.as_ref()?)))
    }

    /// What is wrong with the newest versions.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.entries.values().flat_map(|entry| &entry.problems)
    }
}

impl<V> Entry<V> {
    /// The problem says whether an earlier state is in force.
    fn new(before: Option<V>, version: Result<V, Problem>) -> Self {
        match version {
            Ok(value) => Self { value: Some(value), problems: Vec::new() },
            Err(mut problem) => {
                if before.is_some() {
                    problem.message += "; the object's last good state stays in force";
                }
                Self { value: before, problems: vec![problem] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Subject;
    use crate::reason::ProblemReason;

    fn bad(message: &str) -> Result<u32, Problem> {
        let subject = Subject::File(String::new());
        Err(Problem::whole(ProblemReason::InvalidObject, subject, message))
    }

    fn values(state: &LastGood<&'static str, u32>) -> Vec<(&'static str, u32)> {
        state.values().map(|(key, value)| (*key, *value)).collect()
    }

    #[test]
    fn a_bad_update_keeps_the_value_until_the_next_good_one() {
        let mut state = LastGood::default();
        state.update("a", Ok(1));
        state.update("a", bad("x"));
        state.update("b", bad("y"));
        let kept: Vec<_> = state.problems().map(|p| p.message.contains("stays in force")).collect();
        assert_eq!(kept, [true, false]);
        assert_eq!((values(&state), state.problems().count()), (vec![("a", 1)], 2));
        state.update("a", Ok(2));
        state.remove(&"b");
        assert_eq!((values(&state), state.problems().count()), (vec![("a", 2)], 0));
    }

    #[test]
    fn a_new_list_takes_bad_versions_from_the_old_one_and_drops_what_it_does_not_name() {
        let (mut old, mut new) = (LastGood::default(), LastGood::default());
        old.update("a", Ok(1));
        old.update("b", Ok(2));
        assert!(new.list(&old, "a", bad("x")));
        assert!(new.list(&old, "a", bad("y")));
        assert!(!new.list(&old, "c", bad("z")));
        assert_eq!((values(&new), new.problems().count()), (vec![("a", 1)], 3));
        assert!(new.keep_absent(&old));
        assert_eq!(values(&new), [("a", 1), ("b", 2)]);
    }
}
