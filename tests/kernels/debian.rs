//! Kernels of Debian's suites, fetched from the mirror that this machine uses, unpacked, never installed.

use crate::programs::{output, text};
use crate::series::choose;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where kernels come from, the oldest first.
const SUITES: [&str; 6] = ["bullseye", "bookworm", "trixie", "trixie-backports", "forky", "sid"];
const FLAVOUR: &str = "-cloud-amd64";
/// What a guest's network needs that is not built in; what these need is found in the packages.
const MODULES: [&str; 7] = ["veth", "sch_ingress", "cls_bpf", "8021q", "macvlan", "wireguard", "ip_gre"];
/// Names a mirror where the machine's own sources name none of Debian's.
const MIRROR: &str = "DEBIAN_MIRROR";

/// A kernel, unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) version: String,
    pub(crate) image: PathBuf,
    /// In the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// The wanted kernels, from `folder` or fetched into it.
pub(crate) fn kernels(folder: &Path) -> Result<Vec<Kernel>> {
    let wanted = wanted(folder)?;
    wanted.iter().map(|(version, suite)| kernel(folder, version, suite)).collect()
}

/// Version and suite of each wanted kernel. What was found stays true for a week.
fn wanted(folder: &Path) -> Result<Vec<(String, String)>> {
    let list = folder.join("list");
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let age = std::fs::metadata(&list).and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age < week) {
        let text = std::fs::read_to_string(&list).context("read the list of kernels")?;
        let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        return Ok(text.lines().filter_map(pair).collect());
    }
    let mirror = mirror()?;
    let mut found = BTreeMap::new();
    for suite in SUITES {
        match offered(folder, suite, &mirror) {
            Ok(versions) => found.extend(versions.into_iter().map(|version| (version, suite.to_owned()))),
            Err(error) => eprintln!("no kernels of {suite}: {error:#}"),
        }
    }
    let chosen = choose(&found);
    let text: String = chosen.iter().map(|(version, suite)| format!("{version} {suite}\n")).collect();
    std::fs::write(list, text).context("write the list of kernels")?;
    Ok(chosen)
}

/// The mirror of Debian that this machine's own sources name.
fn mirror() -> Result<String> {
    if let Ok(named) = std::env::var(MIRROR) {
        return Ok(named);
    }
    let targets =
        text("apt-get", &["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"])?;
    let found = targets.lines().find_map(|line| line.strip_prefix("Debian ")).map(str::to_owned);
    found.with_context(|| format!("apt knows no mirror of Debian here; set {MIRROR} to the address of one"))
}

/// An apt program that sees one suite and keeps what it learns in `folder`.
fn apt(folder: &Path, suite: &str, program: &str) -> Result<Command> {
    let own = std::path::absolute(folder.join("apt").join(suite)).context("no current folder")?;
    let mut command = Command::new(program);
    for (option, place) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::Etc::sourceparts", "none"),
        ("Dir::State::lists", "lists"),
        ("Dir::Cache", "cache"),
    ] {
        command.arg("-o").arg(format!("{option}={}", own.join(place).display()));
    }
    command.args(["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-qq"]);
    Ok(command)
}

/// Versions of the suite's kernels.
fn offered(folder: &Path, suite: &str, mirror: &str) -> Result<Vec<String>> {
    eprintln!("asking for the kernels of {suite}");
    let own = folder.join("apt").join(suite);
    for place in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(own.join(place)).context("create target/kernels")?;
    }
    std::fs::write(own.join("sources.list"), format!("deb {mirror} {suite} main\n"))
        .context("write a list of sources")?;
    output(apt(folder, suite, "apt-get")?.arg("update"))?;
    let names = packages(folder, suite, "^linux-image-[0-9].*-cloud-amd64$")?;
    Ok(names.iter().filter_map(|name| name.strip_prefix("linux-image-")).map(str::to_owned).collect())
}

fn packages(folder: &Path, suite: &str, pattern: &str) -> Result<Vec<String>> {
    let mut search = apt(folder, suite, "apt-cache")?;
    let found = output(search.args(["search", "--names-only", pattern]))?;
    Ok(found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn kernel(folder: &Path, version: &str, suite: &str) -> Result<Kernel> {
    let place = folder.join(version);
    // A folder of another time may lack some of them.
    if !std::fs::read_to_string(place.join("wanted")).is_ok_and(|wanted| wanted == MODULES.join(" ")) {
        fetch(folder, version, suite).with_context(|| {
            format!("kernel {version} of {suite}; remove {} and try again", folder.display())
        })?;
    }
    let modules = std::fs::read_to_string(place.join("modules")).context("read the list of modules")?;
    Ok(Kernel {
        version: version.to_owned(),
        image: place.join("vmlinuz"),
        modules: modules.lines().map(|name| place.join(name)).collect(),
    })
}

/// Downloads, unpacks, and keeps the image and the modules.
fn fetch(folder: &Path, version: &str, suite: &str) -> Result<()> {
    eprintln!("downloading kernel {version}");
    let place = folder.join(version);
    let unpacked = place.join("unpacked");
    std::fs::create_dir_all(&unpacked).context("create target/kernels")?;
    // From 7.x on the image package only names those that hold the image and the modules.
    let exact =
        version.strip_suffix(FLAVOUR).context("another flavour")?.replace('.', "\\.").replace('+', "\\+");
    let names = packages(folder, suite, &format!("^linux-(image|binary|modules|base)-{exact}{FLAVOUR}$"))?;
    ensure!(!names.is_empty(), "no packages of that version any more");
    let mut download = apt(folder, suite, "apt-get")?;
    output(download.current_dir(&unpacked).arg("download").args(&names))?;
    for entry in std::fs::read_dir(&unpacked).context("read target/kernels")?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&unpacked))?;
        }
    }
    let files = files(&unpacked)?;
    let image = files.get(&format!("vmlinuz-{version}")).or_else(|| files.get("vmlinuz"));
    let image = image.context("the packages hold no image")?;
    std::fs::copy(image, place.join("vmlinuz")).context("copy the image")?;
    let mut order = Vec::new();
    for module in MODULES {
        add_module(module, &files, &place, &mut order)?;
    }
    std::fs::remove_dir_all(&unpacked).context("remove what was unpacked")?;
    std::fs::write(place.join("modules"), order.join("\n")).context("write the list of modules")?;
    std::fs::write(place.join("wanted"), MODULES.join(" ")).context("write which modules were wanted")
}

/// Every file below the folder by its name, `-` in a module's name as `_`.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?.flatten()
        {
            let kind = entry.file_type().context("a file without a type")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Some((module, _)) = name.split_once(".ko") {
                found.insert(format!("{}.ko", module.replace('-', "_")), entry.path());
            } else {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

/// Copies a module behind those it needs; none if it is built in.
fn add_module(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    place: &Path,
    order: &mut Vec<String>,
) -> Result<()> {
    let file = format!("{}.ko", name.replace('-', "_"));
    let Some(path) = files.get(&file).filter(|_| !order.contains(&file)) else {
        return Ok(());
    };
    let shown = path.to_string_lossy();
    for needed in
        text("modinfo", &["-F", "depends", &shown])?.trim().split(',').filter(|name| !name.is_empty())
    {
        add_module(needed, files, place, order)?;
    }
    let bytes = match path.extension().is_some_and(|extension| extension == "xz") {
        true => Command::new("xz").arg("-dc").arg(path).output().context("xz did not start")?.stdout,
        false => std::fs::read(path).with_context(|| format!("read {shown}"))?,
    };
    std::fs::write(place.join(&file), bytes).with_context(|| format!("write {file}"))?;
    order.push(file);
    Ok(())
}
