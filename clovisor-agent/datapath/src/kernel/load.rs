//! Loading the object, pinning, attaching: the thin shell that carries out a [`plan`](super::plan).

use super::attach::{AttachError, attach, classifier};
use super::flows::Flows;
use super::pins::{self, FILTERS, LINKS, PinError, pin_root, pinned};
use super::plan::{AttachMode, AttachOrigin, AttachPoint, AttachStep, Attached, Hook, plan};
use super::state::NamedDevice;
use super::tables::{MapTables, TableError};
use super::verifier::RefusedProgram;
use super::versions::take_over;
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfError, EbpfLoader};
use clovisor_common::abi::ABI_VERSION;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clovisor.o"));

/// The kernel half could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("this agent was built without its eBPF object; run `cargo xtask ebpf` and build it again")]
    NoObject,
    #[error("{0} is not on a BPF file system; run `mount -t bpf bpf /sys/fs/bpf` or set --bpffs")]
    NotBpffs(PathBuf),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(
        "the kernel refused the eBPF object: {0}; the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Load(#[from] EbpfError),
    #[error(transparent)]
    Program(#[from] RefusedProgram),
    #[error("program not attached at {place}; was the device removed, or is CAP_NET_ADMIN missing?")]
    Attach { place: AttachPoint, source: AttachError },
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The loaded programs and their attachments. Pins outlive it.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    dir: PathBuf,
    mode: AttachMode,
    attached: BTreeMap<AttachPoint, Attached>,
    /// Pins of an earlier agent whose programs are not replaced yet.
    inherited: BTreeSet<AttachPoint>,
    _lock: Flock<File>,
}

/// Loads (or adopts) maps and programs under `<bpffs>/clovisor/v<ABI>`, with the attachments of other versions. Nothing is
/// attached yet. `port_secret`: the node's secret for the choice of source ports. Where the kernel refuses a program, the verifier's whole log is written to `log_dir`.
///
/// # Errors
/// See [`LoadError`]; nothing is changed then but created folders.
pub fn load(
    bpffs: &Path,
    mode: AttachMode,
    port_secret: u32,
    log_dir: &Path,
) -> Result<(Programs, MapTables, Flows), LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let on_bpffs = statfs(bpffs).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if !on_bpffs {
        return Err(LoadError::NotBpffs(bpffs.to_owned()));
    }
    let dir = pin_root(bpffs).join(format!("v{ABI_VERSION}"));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PinError::Io { path, source }
    };
    for kind in [LINKS, FILTERS] {
        std::fs::create_dir_all(dir.join(kind)).map_err(io(&dir))?;
    }
    let handle = File::open(&dir).map_err(io(&dir))?;
    let lock =
        Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(|_| PinError::Locked(dir.clone()))?;
    let taken_over = take_over(&dir)?;
    if taken_over > 0 {
        tracing::info!(taken_over, "attachments of another version, to be replaced in place");
    }
    let mut loader = EbpfLoader::new();
    loader.btf(None).default_map_pin_directory(&dir).override_global("PORT_SECRET", &port_secret, true);
    let mut ebpf = loader.load(OBJECT)?;
    for hook in Hook::ALL {
        classifier(&mut ebpf, hook)
            .and_then(SchedClassifier::load)
            .map_err(|error| RefusedProgram::new(hook.program(), error, log_dir))?;
    }
    let tables = MapTables::take(&mut ebpf)?;
    let flows = Flows::take(&mut ebpf)?;
    let inherited = pinned(&dir);
    let programs = Programs { ebpf, dir, mode, attached: BTreeMap::new(), inherited, _lock: lock };
    Ok((programs, tables, flows))
}

impl Programs {
    /// The attachments now.
    #[must_use]
    pub const fn attached(&self) -> &BTreeMap<AttachPoint, Attached> {
        &self.attached
    }

    /// The device is gone, and its attachments with it; another one may have its ifindex.
    pub fn forget(&mut self, ifindex: u32) {
        let gone: Vec<_> = self.attached.keys().filter(|place| place.ifindex == ifindex).copied().collect();
        for place in gone {
            self.detach(place, None);
        }
        pins::forget_qdisc(&self.dir, ifindex);
    }

    /// Attaches and detaches until the attachments are `wanted`; devices by ifindex. On an error the fresh ones of this call are undone.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn converge(
        &mut self,
        wanted: &BTreeSet<AttachPoint>,
        devices: &BTreeMap<u32, NamedDevice>,
    ) -> Result<(), LoadError> {
        let attached = self.attached.keys().copied().collect();
        let mut undo = Vec::new();
        for step in plan(&attached, &self.inherited, wanted) {
            match self.step(step, devices) {
                Ok(fresh) => undo.extend(step.undo(fresh)),
                Err(error) => {
                    for step in undo.into_iter().rev() {
                        if let Err(error) = self.step(step, devices) {
                            tracing::warn!(?step, %error, "undo failed");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: AttachStep, devices: &BTreeMap<u32, NamedDevice>) -> Result<bool, LoadError> {
        match step {
            AttachStep::Attach(place) => {
                let name = devices.get(&place.ifindex).map_or("", |device| device.name.as_str());
                let Self { ebpf, dir, mode, .. } = self;
                let attached = attach(ebpf, dir, *mode, place, name)
                    .map_err(|source| LoadError::Attach { place, source })?;
                self.inherited.remove(&place);
                self.attached.insert(place, attached);
                tracing::info!(program = place.hook.program(), device = name, origin = ?attached.origin, "attached");
                Ok(attached.origin == AttachOrigin::Fresh)
            }
            AttachStep::Detach(place) => {
                self.detach(place, devices.get(&place.ifindex).map(|device| device.name.as_str()));
                Ok(false)
            }
        }
    }

    /// Forgets the attachment; a device that is gone took its filter with it.
    fn detach(&mut self, place: AttachPoint, name: Option<&str>) {
        pins::detach(&self.dir, place, name);
        self.attached.remove(&place);
        self.inherited.remove(&place);
        tracing::info!(program = place.hook.program(), device = name.unwrap_or("(gone)"), "detached");
    }
}
