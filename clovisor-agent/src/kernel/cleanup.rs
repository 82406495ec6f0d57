//! Removing everything of ours from the kernel, and nothing else.

use super::load::{FILTERS, LINKS, QDISC, filter, is_held, pin_root, pinned};
use super::plan::Place;
use aya::programs::links::Link as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why.
    pub failed: Vec<(PathBuf, String)>,
    /// Devices that have a clsact qdisc of ours, to be removed by the caller's netlink.
    pub clsact: Vec<u32>,
}

/// The folders that a running agent holds: it would put back what is removed.
#[must_use]
pub fn held(bpffs: &Path) -> Vec<PathBuf> {
    children(&pin_root(bpffs)).into_iter().filter(|dir| is_held(dir)).collect()
}

/// Removes programs, links, filters, maps and pins of every version under `bpffs`. `devices`: names by ifindex.
/// With `dry_run` nothing is touched.
#[must_use]
pub fn cleanup(bpffs: &Path, devices: &BTreeMap<u32, String>, dry_run: bool) -> Report {
    let mut report = Report::default();
    let root = pin_root(bpffs);
    for version in children(&root) {
        for place in pinned(&version) {
            if !dry_run {
                detach(&version, place, devices.get(&place.ifindex).map(String::as_str));
            }
            report.removed.push(version.join(place.to_string()));
        }
        for pin in children(&version.join(FILTERS)) {
            let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(ifindex) = name.strip_prefix(QDISC).and_then(|i| i.parse().ok()) {
                report.clsact.push(ifindex);
                remove(&mut report, pin, dry_run, |p| std::fs::remove_file(p));
            }
        }
        for folder in [LINKS, FILTERS].map(|kind| version.join(kind)).into_iter().filter(|f| f.exists()) {
            remove(&mut report, folder, dry_run, |p| std::fs::remove_dir(p));
        }
        for pin in children(&version).into_iter().filter(|p| p.is_file()) {
            remove(&mut report, pin, dry_run, |p| std::fs::remove_file(p));
        }
        remove(&mut report, version, dry_run, |p| std::fs::remove_dir(p));
    }
    if root.exists() {
        remove(&mut report, root, dry_run, |p| std::fs::remove_dir(p));
    }
    report
}

pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

fn remove(report: &mut Report, path: PathBuf, dry_run: bool, how: fn(&Path) -> std::io::Result<()>) {
    if !dry_run && let Err(error) = how(&path) {
        report.failed.push((path, error.to_string()));
        return;
    }
    report.removed.push(path);
}

/// Removes one attachment, whichever way it is attached.
pub(super) fn detach(version: &Path, place: Place, name: Option<&str>) {
    remove_link(version, place);
    remove_filter(version, place, name);
}

/// A TCX link lives by its pin.
pub(super) fn remove_link(version: &Path, place: Place) {
    forget(&version.join(LINKS).join(place.to_string()));
}

/// A filter lives by itself, and goes with its device.
pub(super) fn remove_filter(version: &Path, place: Place, name: Option<&str>) {
    let pin = version.join(FILTERS).join(place.to_string());
    if !pin.exists() {
        return;
    }
    let filter = name.map(|name| filter(name, place.hook));
    if let Some(Ok(filter)) = filter
        && let Err(error) = filter.detach()
    {
        tracing::debug!(%place, %error, "no filter to remove");
    }
    forget(&pin);
}

/// The mark of a qdisc of ours that went with its device.
pub(super) fn forget_qdisc(version: &Path, ifindex: u32) {
    forget(&version.join(FILTERS).join(format!("{QDISC}{ifindex}")));
}

fn forget(pin: &Path) {
    if let Err(error) = std::fs::remove_file(pin)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(pin = %pin.display(), %error, "pin not removed");
    }
}
