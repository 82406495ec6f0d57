//! The crates of this workspace, as cargo knows them.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The agent's crates lie in this folder, the agent itself and those nested in it.
pub(crate) const AGENT: &str = "clovisor-agent";

/// A member of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// In one sentence, from its manifest.
    pub(crate) description: String,
    /// Relative to the repository, as every path here.
    pub(crate) folder: PathBuf,
    /// The root files of its targets: library, programs, tests, build script.
    pub(crate) roots: Vec<PathBuf>,
    /// The members that it needs to be built, by name; those of its tests are not among them.
    pub(crate) dependencies: Vec<String>,
}

/// A source file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Every member, each behind those that it is built from.
pub(crate) fn crates() -> Result<Vec<Crate>> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let metadata: Value =
        serde_json::from_str(&shell::output(&mut cargo)?).context("cargo printed no JSON")?;
    members(&metadata)
}

fn members(metadata: &Value) -> Result<Vec<Crate>> {
    let root = Path::new(metadata["workspace_root"].as_str().context("cargo names no workspace")?);
    let inside = |path: &Value| {
        let path = Path::new(path.as_str()?);
        Some(path.strip_prefix(root).unwrap_or(path).to_owned())
    };
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]);
    let names: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut crates = Vec::new();
    for package in &packages {
        let manifest = inside(&package["manifest_path"]).context("a package without a manifest")?;
        let needed = list(&package["dependencies"]);
        let needed = needed.iter().filter(|dependency| dependency["kind"] != "dev");
        let mut dependencies: Vec<_> = needed
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(str::to_owned)
            .collect();
        dependencies.sort();
        dependencies.dedup();
        crates.push(Crate {
            name: package["name"].as_str().context("a package without a name")?.to_owned(),
            description: package["description"].as_str().unwrap_or_default().to_owned(),
            folder: manifest.parent().unwrap_or(Path::new("")).to_owned(),
            roots: list(&package["targets"])
                .iter()
                .filter_map(|target| inside(&target["src_path"]))
                .collect(),
            dependencies,
        });
    }
    crates.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(ordered(crates))
}

/// Each behind those that it is built from; else as they come.
fn ordered(mut open: Vec<Crate>) -> Vec<Crate> {
    let mut done: Vec<Crate> = Vec::new();
    while !open.is_empty() {
        let ready = |one: &Crate| one.dependencies.iter().all(|name| done.iter().any(|d| d.name == *name));
        // Cargo allows no circle, so that there is always one.
        let next = open.iter().position(ready).unwrap_or(0);
        done.push(open.remove(next));
    }
    done
}

impl Crate {
    /// The crate's own sources in the order of their paths. The folder of a crate that is nested in it is not its own.
    pub(crate) fn sources(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        collect(&self.folder, &mut sources)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sources)
    }
}

/// Every source of every crate.
pub(crate) fn sources(crates: &[Crate]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for one in crates {
        sources.extend(one.sources()?);
    }
    Ok(sources)
}

/// Lines of sources.
pub(crate) fn lines(sources: &[Source]) -> usize {
    sources.iter().map(|source| source.text.lines().count()).sum()
}

fn collect(folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            let foreign = path.ends_with("target") || path.join("Cargo.toml").is_file();
            if !foreign {
                collect(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_read_from_cargo_with_what_they_need_of_each_other() -> Result<()> {
        let package = |name: &str, folder: &str, needs: Value| {
            json!({
                "name": name, "manifest_path": format!("/repo/{folder}/Cargo.toml"), "dependencies": needs,
                "targets": [{ "src_path": format!("/repo/{folder}/src/lib.rs") }],
            })
        };
        let metadata = json!({ "workspace_root": "/repo", "packages": [
            package("b", "a/b", json!([])),
            package("a", "a", json!([
                { "name": "b", "kind": null }, { "name": "serde", "kind": null }, { "name": "c", "kind": "dev" },
            ])),
            package("c", "c", json!([])),
        ]});
        let crates = members(&metadata)?;
        let names: Vec<_> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
        let first = crates.get(1).context("no crate")?;
        assert_eq!(first.dependencies, ["b"]);
        assert_eq!(first.roots, [PathBuf::from("a/src/lib.rs")]);
        Ok(())
    }

    #[test]
    fn a_nested_crate_is_walked_once_as_its_own() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("xtask-nested-{}", std::process::id()));
        for place in ["outer/src", "outer/inner/src", "outer/target"] {
            std::fs::create_dir_all(folder.join(place))?;
            std::fs::write(folder.join(place).join("lib.rs"), "")?;
        }
        std::fs::write(folder.join("outer/inner/Cargo.toml"), "")?;
        let sources = |name: &str| {
            let (name, folder) = (name.to_owned(), folder.join(name));
            let description = String::new();
            Crate { name, description, folder, roots: Vec::new(), dependencies: Vec::new() }.sources()
        };
        let (outer, inner) = (sources("outer")?, sources("outer/inner")?);
        std::fs::remove_dir_all(&folder)?;
        let paths = |sources: Vec<Source>| sources.into_iter().map(|source| source.path).collect::<Vec<_>>();
        assert_eq!(paths(outer), [folder.join("outer/src/lib.rs")]);
        assert_eq!(paths(inner), [folder.join("outer/inner/src/lib.rs")]);
        Ok(())
    }
}
