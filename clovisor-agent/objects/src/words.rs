//! A large set of texts, in one block of memory that its copies share.

use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The set, sorted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Words(Arc<Block>);

#[derive(Default, PartialEq, Eq)]
struct Block {
    /// All texts, one behind the other.
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Block {
    fn get(&self, index: usize) -> &str {
        let end = |index: usize| self.ends.get(index).map_or(0, |end| *end as usize);
        let start = index.checked_sub(1).map_or(0, end);
        self.text.get(start..end(index)).unwrap_or_default()
    }

    /// False: there is no room.
    fn push(&mut self, word: &str) -> bool {
        self.text.push_str(word);
        u32::try_from(self.text.len()).map(|end| self.ends.push(end)).is_ok()
    }

    /// The same, sorted, each text once.
    fn sorted(self) -> Self {
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        if !order.is_sorted_by(|a, b| self.get(*a) < self.get(*b)) {
            order.sort_unstable_by_key(|index| self.get(*index));
            order.dedup_by_key(|index| self.get(*index));
            let mut sorted =
                Self { text: String::with_capacity(self.text.len()), ends: Vec::with_capacity(order.len()) };
            order.iter().for_each(|index| {
                sorted.push(self.get(*index));
            });
            return sorted.tight();
        }
        self.tight()
    }

    fn tight(mut self) -> Self {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self
    }
}

impl Words {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.0.get(index))
    }

    /// Is this one of them?
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.0.get(middle).cmp(word) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().take(3)).finish()?;
        write!(f, " of {}", self.len())
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List).map(|block| Self(Arc::new(block.sorted())))
    }
}

impl FromIterator<String> for Words {
    /// Texts for which there is no room (4 GiB) are left out.
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        let mut block = Block::default();
        words.into_iter().take_while(|word| block.push(word)).for_each(drop);
        Self(Arc::new(block.sorted()))
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Block;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Block, A::Error> {
        let mut block = Block::default();
        while list.next_element_seed(Entry(&mut block))?.is_some() {}
        Ok(block)
    }
}

/// The next text of a list.
struct Entry<'b>(&'b mut Block);

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.0.push(text) { Ok(()) } else { Err(E::custom("the set has more than 4 GiB")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(words in proptest::collection::vec("[a-cä]{0,3}", 0..40), other in "[a-cä]{0,3}") {
            let set: BTreeSet<_> = words.iter().cloned().collect();
            let found: Words = words.iter().cloned().collect();
            prop_assert!(found.iter().eq(set.iter().map(String::as_str)));
            prop_assert!(words.iter().all(|word| found.contains(word)));
            prop_assert_eq!(found.contains(&other), set.contains(&other));
            let json = serde_json::to_value(&words).unwrap_or_default();
            let read = serde_json::from_value::<Words>(json).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&read, &found);
            let written = serde_json::to_value(&found).unwrap_or_default();
            prop_assert_eq!(written.as_array().map(Vec::len), Some(set.len()));
        }
    }

    #[test]
    fn a_number_in_it_is_refused_by_its_place_in_the_list() {
        assert!(serde_json::from_str::<Words>("[\"a\", 7]").is_err_and(|e| e.to_string().contains("a text")));
    }
}
