//! Loading the object, pinning, attaching: the thin shell that carries out a [`plan`](super::plan).

use super::flows::Flows;
use super::pins;
use super::pins::{FILTERS, HANDLE, LINKS, PRIORITY, PinError, QDISC, direction, filter, pin_root, pinned};
use super::plan::{AttachMode, Hook, Place, Step, plan};
use super::state::NamedDevice;
use super::tables::{TableError, Tables};
use super::versions::take_over;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{ProgramError, SchedClassifier};
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
    #[error(
        "program {program}: {source}; the kernel must be 5.10 or newer and allow CAP_BPF and CAP_PERFMON"
    )]
    Program { program: &'static str, source: ProgramError },
    #[error("attach {place}: {reason}; was the device removed, or is CAP_NET_ADMIN missing?")]
    Attach { place: Place, reason: String },
    #[error(transparent)]
    Table(#[from] TableError),
}

/// How an attachment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was none.
    Fresh,
    /// The program of an agent before was replaced in place.
    Replaced,
}

/// An attachment as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub mode: AttachMode,
    pub origin: Origin,
}

/// The loaded programs and their attachments. Pins outlive it.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    dir: PathBuf,
    mode: AttachMode,
    attached: BTreeMap<Place, Attached>,
    /// Pins of an agent before that were not looked at yet.
    inherited: BTreeSet<Place>,
    _lock: Flock<File>,
}

/// Loads (or adopts) maps and programs under `<bpffs>/clovisor/v<ABI>`, with the attachments of other versions. Nothing is
/// attached yet.
///
/// # Errors
/// See [`LoadError`]; nothing is changed then but created folders.
pub fn load(bpffs: &Path, mode: AttachMode) -> Result<(Programs, Tables, Flows), LoadError> {
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
    let mut ebpf = EbpfLoader::new().btf(None).default_map_pin_directory(&dir).load(OBJECT)?;
    for hook in Hook::ALL {
        let program = hook.program();
        classifier(&mut ebpf, hook)
            .and_then(SchedClassifier::load)
            .map_err(|source| LoadError::Program { program, source })?;
    }
    let tables = Tables::take(&mut ebpf)?;
    let flows = Flows::take(&mut ebpf)?;
    let inherited = pinned(&dir);
    let programs = Programs { ebpf, dir, mode, attached: BTreeMap::new(), inherited, _lock: lock };
    Ok((programs, tables, flows))
}

fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(hook.program()).ok_or(ProgramError::NotLoaded)?.try_into()
}

impl Programs {
    /// The attachments now.
    #[must_use]
    pub const fn attached(&self) -> &BTreeMap<Place, Attached> {
        &self.attached
    }

    /// The device is another one than before under the same ifindex: what was attached went with it.
    pub fn forget(&mut self, ifindex: u32) {
        let gone: Vec<_> = self.attached.keys().filter(|place| place.ifindex == ifindex).copied().collect();
        for place in gone {
            self.detach(place, None);
        }
        pins::forget_qdisc(&self.dir, ifindex);
    }

    /// Makes the attachments be `wanted`; devices by ifindex. On an error the fresh ones of this call are undone.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn converge(
        &mut self,
        wanted: &BTreeSet<Place>,
        devices: &BTreeMap<u32, NamedDevice>,
    ) -> Result<(), LoadError> {
        let found: BTreeSet<_> = self.attached.keys().chain(&self.inherited).copied().collect();
        let own: BTreeSet<_> = self.attached.keys().copied().collect();
        let renewed = plan(&own, &wanted.difference(&own).copied().collect(), false);
        let attach = renewed.into_iter().filter(|step| matches!(step, Step::Attach(_)));
        let detach = plan(&found, wanted, false).into_iter().filter(|step| matches!(step, Step::Detach(_)));
        let mut undo = Vec::new();
        for step in attach.chain(detach).collect::<Vec<_>>() {
            match self.step(step, devices) {
                Ok(fresh) => undo.extend(step.undo(fresh)),
                Err(error) => {
                    for step in undo.into_iter().rev() {
                        if let Err(error) = self.step(step, devices) {
                            tracing::warn!(?step, %error, "could not take back");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step, devices: &BTreeMap<u32, NamedDevice>) -> Result<bool, LoadError> {
        match step {
            Step::Attach(place) => {
                let name = devices.get(&place.ifindex).map_or("", |device| device.name.as_str());
                let attached =
                    self.attach(place, name).map_err(|reason| LoadError::Attach { place, reason })?;
                self.inherited.remove(&place);
                self.attached.insert(place, attached);
                tracing::info!(program = place.hook.program(), device = name, origin = ?attached.origin, "attached");
                Ok(attached.origin == Origin::Fresh)
            }
            Step::Detach(place) => {
                self.detach(place, devices.get(&place.ifindex).map(|device| device.name.as_str()));
                Ok(false)
            }
        }
    }

    fn attach(&mut self, place: Place, name: &str) -> Result<Attached, String> {
        let attached = if self.mode == AttachMode::Clsact {
            self.attach_clsact(place, name)
        } else {
            match self.attach_tcx(place, name) {
                Err(reason) if self.mode == AttachMode::Auto && !tcx_supported() => {
                    tracing::debug!(%reason, "no TCX, using clsact");
                    self.attach_clsact(place, name)
                }
                result => result,
            }
        }?;
        // An agent before may have used the other way: no packet may meet both.
        if attached.mode == AttachMode::Tcx {
            pins::remove_filter(&self.dir, place, Some(name));
        } else {
            pins::remove_link(&self.dir, place);
        }
        Ok(attached)
    }

    fn attach_tcx(&mut self, place: Place, name: &str) -> Result<Attached, String> {
        let pin = self.dir.join(LINKS).join(place.to_string());
        let program = classifier(&mut self.ebpf, place.hook).map_err(|e| e.to_string())?;
        if let Ok(old) = PinnedLink::from_pin(&pin) {
            let link: Result<SchedClassifierLink, _> = FdLink::from(old).try_into();
            match link
                .map_err(|e| e.to_string())
                .and_then(|l| program.attach_to_link(l).map_err(|e| e.to_string()))
            {
                Ok(id) => {
                    // The pin keeps the link; our own reference may go.
                    drop(program.take_link(id).map_err(|e| e.to_string())?);
                    return Ok(Attached { mode: AttachMode::Tcx, origin: Origin::Replaced });
                }
                Err(reason) => {
                    tracing::info!(%place, %reason, "pinned link is defunct, attaching anew");
                    std::fs::remove_file(&pin).map_err(|e| format!("{}: {e}", pin.display()))?;
                }
            }
        }
        let order = if place.hook == Hook::WanOut { LinkOrder::last() } else { LinkOrder::first() };
        let id = program
            .attach_with_options(name, direction(place.hook), TcAttachOptions::TcxOrder(order))
            .map_err(|e| chain(&e))?;
        let link: FdLink =
            program.take_link(id).map_err(|e| e.to_string())?.try_into().map_err(|e| format!("{e:?}"))?;
        link.pin(&pin).map_err(|e| chain(&e))?;
        Ok(Attached { mode: AttachMode::Tcx, origin: Origin::Fresh })
    }

    fn attach_clsact(&mut self, place: Place, name: &str) -> Result<Attached, String> {
        let folder = self.dir.join(FILTERS);
        let marker = folder.join(format!("{QDISC}{}", place.ifindex));
        if qdisc_add_clsact(name).is_ok() {
            // Cleanup removes the qdisc only where we made it; a pin is the only thing bpffs can hold.
            let program = classifier(&mut self.ebpf, place.hook).map_err(|e| e.to_string())?;
            program.pin(&marker).map_err(|e| chain(&e))?;
        }
        let pin = folder.join(place.to_string());
        let program = classifier(&mut self.ebpf, place.hook).map_err(|e| e.to_string())?;
        let attach = direction(place.hook);
        let replaced = pin.exists();
        let id = if replaced {
            program.attach_to_link(filter(name, place.hook).map_err(|e| e.to_string())?)
        } else {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program.attach_with_options(name, attach, TcAttachOptions::Netlink(options))
        };
        let link = program.take_link(id.map_err(|e| chain(&e))?).map_err(|e| e.to_string())?;
        // Dropping it would remove the filter, which must outlive the agent.
        std::mem::forget(link);
        if !replaced {
            program.pin(&pin).map_err(|e| chain(&e))?;
        }
        let origin = if replaced { Origin::Replaced } else { Origin::Fresh };
        Ok(Attached { mode: AttachMode::Clsact, origin })
    }

    /// Forgets the attachment; a device that is gone took its filter with it.
    fn detach(&mut self, place: Place, name: Option<&str>) {
        pins::detach(&self.dir, place, name);
        self.attached.remove(&place);
        self.inherited.remove(&place);
        tracing::info!(program = place.hook.program(), device = name.unwrap_or("(gone)"), "detached");
    }
}

/// Does this kernel attach TCX links at all?
fn tcx_supported() -> bool {
    aya::util::KernelVersion::current().is_ok_and(|v| v >= aya::util::KernelVersion::new(6, 6, 0))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
