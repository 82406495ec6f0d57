//! The modules of a target: what each defines, what its code names, and which file that comes from.
//!
//! **In**: the root file of a target. **Out**: a [`Tree`] that resolves paths through `use`, `pub use` and globs.
//! **Never**: knows types: a method's file is not found, as no path names it.

mod parse;

pub(crate) use parse::{Item, Name};

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `use` that leads to `use` that leads to …: beyond this many it is a circle.
const DEPTH: usize = 16;

/// The modules of one target; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
}

/// A module, in a file of its own or inline.
#[derive(Debug)]
pub(crate) struct Module {
    /// Names from the root on; the root's own is empty.
    pub(crate) path: Vec<String>,
    pub(crate) file: PathBuf,
    pub(crate) items: Vec<Item>,
    /// Paths in its code.
    pub(crate) names: Vec<Name>,
    /// In the order of their declarations.
    children: Vec<(String, usize)>,
    parent: usize,
    aliases: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

/// What a path leads to; both by the module's place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The module itself.
    Module(usize),
    /// Something that is defined there.
    Item(usize),
}

impl Tree {
    /// Reads the target below a root file, with or without what only tests see. `read` gives the text of a file.
    pub(crate) fn read(root: &Path, tests: bool, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self> {
        let mut tree = Self { modules: Vec::new() };
        let files = Files { tests, read };
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        let parsed = files.parsed(root)?;
        tree.add(Place { path: Vec::new(), file: root.to_owned(), folder, parent: 0 }, parsed, &files)?;
        Ok(tree)
    }

    /// Names of the modules that the root declares, in its order.
    pub(crate) fn declared(&self) -> Vec<String> {
        let root = self.modules.first().map_or(&[][..], |root| &root.children);
        root.iter().map(|(name, _)| name.clone()).collect()
    }

    fn add(&mut self, place: Place, parsed: parse::Parsed, files: &Files<'_>) -> Result<usize> {
        let own = self.modules.len();
        self.modules.push(Module {
            path: place.path.clone(),
            file: place.file.clone(),
            items: parsed.items,
            names: parsed.names,
            children: Vec::new(),
            parent: place.parent,
            aliases: parsed.aliases,
            globs: parsed.globs,
        });
        for (name, inline) in parsed.modules {
            let path = [place.path.clone(), vec![name.clone()]].concat();
            let folder = place.folder.join(&name);
            let (file, parsed) = match inline {
                Some(parsed) => (place.file.clone(), parsed),
                None => {
                    let file = folder.with_extension("rs");
                    let parsed = files.parsed(&file)?;
                    (file, parsed)
                }
            };
            let child = self.add(Place { path, file, folder, parent: own }, parsed, files)?;
            if let Some(module) = self.modules.get_mut(own) {
                module.children.push((name, child));
            }
        }
        Ok(own)
    }

    /// What a path in a module's code leads to, if it stays in this target.
    pub(crate) fn resolve(&self, from: usize, path: &[String]) -> Option<Found> {
        self.follow(from, path, DEPTH)
    }

    fn follow(&self, from: usize, path: &[String], depth: usize) -> Option<Found> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Found::Module(0),
            "self" => Found::Module(from),
            "super" => Found::Module(self.modules.get(from)?.parent),
            name => self.look_up(from, name, depth)?,
        };
        for name in rest {
            // Behind an item come its variants and functions.
            let Found::Module(at) = found else { break };
            found = match name.as_str() {
                "super" => Found::Module(self.modules.get(at)?.parent),
                // Not seen: a macro defines it there.
                name => self.look_up(at, name, depth).unwrap_or(Found::Item(at)),
            };
        }
        Some(found)
    }

    /// A name in a module's scope.
    fn look_up(&self, at: usize, name: &str, depth: usize) -> Option<Found> {
        let module = self.modules.get(at)?;
        if let Some((_, child)) = module.children.iter().find(|(child, _)| child == name) {
            return Some(Found::Module(*child));
        }
        if module.items.iter().any(|item| item.name == name) {
            return Some(Found::Item(at));
        }
        if let Some(path) = module.aliases.get(name) {
            return self.follow(at, path, depth);
        }
        let depth = depth.checked_sub(1)?;
        module.globs.iter().find_map(|path| match self.follow(at, path, depth)? {
            Found::Module(glob) if glob != at => self.look_up(glob, name, depth),
            _ => None,
        })
    }
}

/// Where a module stands, and where the files of its own modules lie.
struct Place {
    path: Vec<String>,
    file: PathBuf,
    folder: PathBuf,
    parent: usize,
}

/// Where texts come from, and whether what only tests see counts.
struct Files<'a> {
    tests: bool,
    read: &'a dyn Fn(&Path) -> Option<String>,
}

impl Files<'_> {
    fn parsed(&self, file: &Path) -> Result<parse::Parsed> {
        let text = (self.read)(file).with_context(|| format!("no file {}", file.display()))?;
        parse::file(&text, self.tests).with_context(|| format!("parse {}", file.display()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree of files that are written here.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Result<Tree> {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        Tree::read(Path::new("lib.rs"), false, &read)
    }

    #[test]
    fn paths_lead_to_the_file_that_defines() -> Result<()> {
        let tree = planted(&[
            ("lib.rs", "mod a; pub mod b { pub fn here() {} }"),
            (
                "a.rs",
                "mod c; mod d; pub use c::{Item, self as other}; use super::b::*; use kube::api; pub struct Own;",
            ),
            ("a/c.rs", "pub enum Item { One } produce!(Made);"),
            ("a/d.rs", "use super::Item;"),
        ])?;
        let file = |from: usize, path: &str| {
            let path: Vec<_> = path.split("::").map(str::to_owned).collect();
            let at = tree.resolve(from, &path)?;
            let (Found::Module(at) | Found::Item(at)) = at;
            Some((at, tree.modules.get(at)?.file.display().to_string()))
        };
        let named = |file: &str, at: usize| Some((at, file.to_owned()));
        assert_eq!(file(3, "super::Item::One"), named("a/c.rs", 2));
        assert_eq!(file(3, "crate::a::Item"), named("a/c.rs", 2));
        assert_eq!(file(3, "super::other::Made"), named("a/c.rs", 2));
        assert_eq!(file(3, "super::super::a::Own"), named("a.rs", 1));
        assert_eq!(file(1, "here"), named("lib.rs", 4));
        assert_eq!(file(1, "api::Api"), None);
        assert_eq!(tree.declared(), ["a", "b"]);
        Ok(())
    }
}
