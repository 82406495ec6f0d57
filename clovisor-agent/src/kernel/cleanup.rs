//! Removing everything of ours from the kernel, and nothing else.

use super::load::{pin_root, pinned};
use super::plan::{Hook, Place};
use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
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

/// Removes programs, links, filters, maps and pins of every version under `bpffs`. `devices`: names by ifindex.
/// With `dry_run` nothing is touched.
#[must_use]
pub fn cleanup(bpffs: &Path, devices: &BTreeMap<u32, String>, dry_run: bool) -> Report {
    let mut report = Report::default();
    let root = pin_root(bpffs);
    for version in children(&root) {
        let links = version.join("links");
        for place in pinned(&links) {
            if !dry_run {
                unpin(&links, place, devices.get(&place.ifindex).map(String::as_str));
            }
            report.removed.push(links.join(place.to_string()));
        }
        for pin in children(&links) {
            let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(ifindex) = name.strip_prefix("clsact-").and_then(|i| i.parse().ok()) {
                report.clsact.push(ifindex);
                remove(&mut report, pin, dry_run, |p| std::fs::remove_file(p));
            }
        }
        remove(&mut report, links, dry_run, |p| std::fs::remove_dir(p));
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

fn children(dir: &Path) -> Vec<PathBuf> {
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

/// Removes one attachment: the pin holds a TCX link alive; a filter is removed by the program's name.
pub(super) fn unpin(links: &Path, place: Place, name: Option<&str>) {
    if let Err(error) = std::fs::remove_file(links.join(place.to_string())) {
        tracing::debug!(%place, %error, "no pin to remove");
    }
    let direction = if place.hook == Hook::WanOut { TcAttachType::Egress } else { TcAttachType::Ingress };
    if let Some(name) = name
        && links.join(format!("clsact-{}", place.ifindex)).exists()
        && let Err(error) = qdisc_detach_program(name, direction, place.hook.program())
    {
        tracing::debug!(%place, %error, "no filter to remove");
    }
}
