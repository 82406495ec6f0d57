//! No two files of a crate need each other, neither directly nor through others.

use crate::modules::{Found, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which file uses which, with the lines that do.
type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<usize>>>;

/// One finding for each group of files that need each other. `text` gives a file's text.
pub(super) fn check(targets: &[Tree], text: &dyn Fn(&Path) -> String) -> Vec<String> {
    let mut graph = Graph::new();
    for tree in targets {
        add(tree, &mut graph);
    }
    circles(&graph).iter().map(|files| finding(files, &graph, text)).collect()
}

fn add(tree: &Tree, graph: &mut Graph) {
    for (at, module) in tree.modules.iter().enumerate() {
        for name in &module.names {
            // Whoever names a module needs only what it names behind it.
            let Some(Found::Item(to)) = tree.resolve(at, &name.path) else { continue };
            let Some(to) = tree.modules.get(to).filter(|to| to.file != module.file) else { continue };
            let used = graph.entry(module.file.clone()).or_default().entry(to.file.clone()).or_default();
            used.insert(name.line);
        }
    }
}

/// The strongly connected components of more than one file.
fn circles(graph: &Graph) -> Vec<BTreeSet<&PathBuf>> {
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reached(graph, file))).collect();
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, others) in &reached {
        if !others.contains(file) || seen.contains(file) {
            continue;
        }
        let back = |other: &&&PathBuf| reached.get(**other).is_some_and(|back| back.contains(file));
        let circle: BTreeSet<_> = others.iter().filter(back).copied().collect();
        seen.extend(circle.iter().copied());
        circles.push(circle);
    }
    circles
}

/// What a file needs, directly or through others; itself only if it lies on a circle.
fn reached<'a>(graph: &'a Graph, file: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = graph.get(file).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(graph.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

fn finding(files: &BTreeSet<&PathBuf>, graph: &Graph, text: &dyn Fn(&Path) -> String) -> String {
    let mut shown =
        format!("{} files need each other; move what they share to a file below them:", files.len());
    for file in files {
        let text = text(file);
        for (to, lines) in graph.get(*file).into_iter().flatten().filter(|(to, _)| files.contains(to)) {
            // The first is the `use`, if there is one.
            if let Some(line) = lines.first() {
                let code = text.lines().nth(line - 1).unwrap_or_default().trim();
                shown += &format!("\n    {}:{line} -> {}: {code}", file.display(), to.display());
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::planted;
    use anyhow::Result;

    fn found(files: &[(&str, &str)]) -> Result<Vec<String>> {
        Ok(check(&[planted(files)?], &|_| String::new()))
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "use crate::{\n    c,\n    b::B,\n};\npub struct A(B, c::C);"),
            ("b.rs", "pub struct B; fn f() { println!(\"{}\", super::a::A) }"),
            ("c.rs", "pub struct C;"),
        ];
        let found = found(&files)?;
        let text = found.join("\n");
        assert_eq!(found.len(), 1, "{text}");
        assert!(
            text.contains("2 files") && text.contains("a.rs:3 -> b.rs") && text.contains("b.rs:1 -> a.rs"),
            "{text}"
        );
        Ok(())
    }

    #[test]
    fn a_circle_through_what_a_parent_passes_on_is_found() -> Result<()> {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod c; mod d; pub use c::Item; pub use d::Other;"),
            ("a/c.rs", "use crate::b::B; pub struct Item;"),
            ("a/d.rs", "pub struct Other;"),
            ("b.rs", "use crate::a::Item; pub struct B;"),
        ];
        assert_eq!(found(&files)?.len(), 1);
        Ok(())
    }

    #[test]
    fn a_parent_that_uses_a_child_that_uses_it_is_a_circle() -> Result<()> {
        let child = ("a/c.rs", "use super::Own; pub struct Item(Own);");
        let user = ("a.rs", "mod c; use c::Item; pub struct Own; fn f(_: Item) {}");
        let declares = ("a.rs", "mod c; pub use c::Item; pub struct Own;");
        assert_eq!(found(&[("lib.rs", "mod a;"), user, child])?.len(), 1);
        assert_eq!(found(&[("lib.rs", "mod a;"), declares, child])?.len(), 0);
        Ok(())
    }

    #[test]
    fn siblings_that_their_parent_passes_on_and_tests_are_no_circle() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod c; mod d; pub use c::Item; use d::run; fn f() { run() }"),
            ("a/c.rs", "pub struct Item; #[cfg(test)] mod tests { use crate::a::d::run; }"),
            ("a/d.rs", "use super::Item; pub fn run() {}"),
        ];
        assert_eq!(found(&files)?.len(), 0);
        Ok(())
    }
}
