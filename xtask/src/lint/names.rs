//! A type that others may name has a name of its own within the agent's crates.
//!
//! The one exception is a twin: the same thing in another form, such as its JSON in the local API. Its documentation
//! says so: "twin of [`path`]", with the path of the other one.

use crate::modules::{Item, Tree};
use std::collections::BTreeMap;
use std::path::Path;

/// Begins the sentence that names the other one.
const TWIN: &str = "twin of [`";

/// Each name with more than one definition; `trees` are all targets of the agent's crates.
pub(super) fn check(trees: &[Tree]) -> Vec<String> {
    let mut types: BTreeMap<&str, BTreeMap<(&Path, usize), &Item>> = BTreeMap::new();
    for module in trees.iter().flat_map(|tree| &tree.modules) {
        for item in module.items.iter().filter(|item| item.shared_type) {
            types.entry(&item.name).or_default().insert((&module.file, item.line), item);
        }
    }
    let mut findings = Vec::new();
    for (name, places) in types {
        let alone = places.values().filter(|item| !is_twin(item)).count();
        if places.len() > 1 && alone > 1 {
            let shown: Vec<_> =
                places.keys().map(|(file, line)| format!("{}:{line}", file.display())).collect();
            findings.push(format!(
                "{name} is defined {} times ({}); rename all but one, or say \"{TWIN}path`]\" in the documentation of a twin",
                places.len(),
                shown.join(", "),
            ));
        }
    }
    findings
}

/// Does its documentation name another of the same name?
fn is_twin(item: &Item) -> bool {
    let text = item.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let other = text.to_lowercase().find(TWIN).and_then(|at| text.get(at + TWIN.len()..)?.split('`').next());
    other.is_some_and(|other| other.rsplit("::").next() == Some(&item.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::planted;
    use anyhow::Result;

    #[test]
    fn a_name_with_two_meanings_is_found_unless_it_is_a_twin() -> Result<()> {
        let found = |one: &str, other: &str| -> Result<usize> {
            Ok(check(&[planted(&[("lib.rs", "mod a; mod b;"), ("a.rs", one), ("b.rs", other)])?]).len())
        };
        assert_eq!(found("pub struct Link;", "pub(crate) enum Link {}")?, 1);
        assert_eq!(found("pub struct Link;", "pub type Link = u8;")?, 1);
        assert_eq!(found("pub struct Link;", "struct Link;")?, 0);
        assert_eq!(
            found("pub struct Link;", "/// JSON, the twin\n/// of [`super::a::Link`].\npub struct Link;")?,
            0
        );
        assert_eq!(found("pub struct Link;", "/// A twin of [`Peer`].\npub struct Link;")?, 1);
        Ok(())
    }
}
