//! Removes everything of Clovisor's from the kernel, and nothing else.

use super::pins::{FILTERS, LINKS, QDISC, children, detach, is_held, pin_root, pinned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why.
    pub failed: Vec<(PathBuf, String)>,
    /// Devices with a clsact qdisc that an agent made; the caller removes it by netlink.
    pub clsact: Vec<u32>,
}

/// The folders that a running agent holds; the agent would restore what is removed.
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

fn remove(report: &mut Report, path: PathBuf, dry_run: bool, how: fn(&Path) -> std::io::Result<()>) {
    if !dry_run && let Err(error) = how(&path) {
        report.failed.push((path, error.to_string()));
        return;
    }
    report.removed.push(path);
}
