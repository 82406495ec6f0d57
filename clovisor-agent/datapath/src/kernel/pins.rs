//! The folder of pins, and the removal of one attachment.

use super::plan::{AttachPoint, Hook};
use aya::programs::TcAttachType;
use aya::programs::links::Link as _;
use aya::programs::tc::{SchedClassifierLink, TcHandle};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Folder of the pinned TCX links.
pub(super) const LINKS: &str = "links";
/// Folder of the programs that clsact filters run, and of the markers of qdiscs that an agent made.
pub(super) const FILTERS: &str = "filters";
/// Prefix of such a marker; the ifindex follows.
pub(super) const QDISC: &str = "clsact-";

/// Priority and handle of the clsact filters.
pub(super) const PRIORITY: u16 = 1;
pub(super) const HANDLE: TcHandle = TcHandle::new(0, 0xc10);

/// A pin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("another agent holds {0}; stop it first, one node has one agent")]
    Locked(PathBuf),
    #[error("{path}: {source}; the agent needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Io { path: PathBuf, source: std::io::Error },
}

/// `<bpffs>/clovisor`.
#[must_use]
pub(super) fn pin_root(bpffs: &Path) -> PathBuf {
    bpffs.join("clovisor")
}

/// The entries of a folder by name; none if there is no folder.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

/// A running agent holds this folder.
#[must_use]
pub(super) fn is_held(dir: &Path) -> bool {
    let handle = File::open(dir).ok();
    handle.is_some_and(|handle| Flock::lock(handle, FlockArg::LockExclusiveNonblock).is_err())
}

/// The attachments that are pinned in a version's folder.
#[must_use]
pub(super) fn pinned(dir: &Path) -> BTreeSet<AttachPoint> {
    let folders = [LINKS, FILTERS].map(|kind| std::fs::read_dir(dir.join(kind)));
    let names = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| AttachPoint::parse(&name.to_string_lossy())).collect()
}

/// The side of a device at which a hook is.
pub(super) const fn direction(hook: Hook) -> TcAttachType {
    match hook {
        Hook::PodIn | Hook::WanIn => TcAttachType::Ingress,
        Hook::PodOut | Hook::WanOut => TcAttachType::Egress,
    }
}

/// Clovisor's filter on a device, by its priority and handle.
pub(super) fn filter(device: &str, hook: Hook) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, direction(hook), PRIORITY, HANDLE, None)
}

/// Removes one attachment, whichever way it is attached.
pub(super) fn detach(version: &Path, place: AttachPoint, name: Option<&str>) {
    remove_link(version, place);
    remove_filter(version, place, name);
}

/// The pin keeps a TCX link alive.
pub(super) fn remove_link(version: &Path, place: AttachPoint) {
    forget(&version.join(LINKS).join(place.to_string()));
}

/// A filter needs no pin, and goes with its device.
pub(super) fn remove_filter(version: &Path, place: AttachPoint, name: Option<&str>) {
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

/// Removes the marker of a qdisc that went with its device.
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
