//! Attaching one program: a pinned TCX link, or a clsact filter with a pin beside it.

use super::pins::{self, FILTERS, HANDLE, LINKS, PRIORITY, QDISC, direction, filter};
use super::plan::{AttachMode, AttachOrigin, AttachPoint, Attached, Hook};
use crate::causes::causes;
use aya::Ebpf;
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, qdisc_add_clsact};
use aya::programs::{ProgramError, SchedClassifier};
use std::io;
use std::path::{Path, PathBuf};

/// A program was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("the kernel refused the program")]
    Program(#[from] ProgramError),
    #[error("the link is not usable")]
    Link(#[from] LinkError),
    #[error("the attachment cannot be pinned")]
    Pin(#[from] PinError),
    #[error("the pin {path} of an attachment that is gone cannot be removed")]
    DefunctPin { path: PathBuf, source: io::Error },
    #[error("the clsact filter cannot be opened")]
    Filter(#[source] io::Error),
}

/// The loaded program of a hook.
pub(super) fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(hook.program()).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// Attaches the program of `point` to the device `name`; `dir` is the folder of pins.
///
/// # Errors
/// See [`AttachError`]; an attachment of an earlier agent is as it was then.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    dir: &Path,
    mode: AttachMode,
    point: AttachPoint,
    name: &str,
) -> Result<Attached, AttachError> {
    let program = classifier(ebpf, point.hook)?;
    let attached = match mode {
        AttachMode::Clsact => attach_clsact(program, dir, point, name),
        AttachMode::Tcx => attach_tcx(program, dir, point, name),
        AttachMode::Auto => attach_tcx(program, dir, point, name).or_else(|error| {
            if has_tcx() {
                return Err(error);
            }
            tracing::debug!(%error, "no TCX in this kernel, using clsact");
            attach_clsact(program, dir, point, name)
        }),
    }?;
    // An earlier agent may have attached the other way: no packet may pass both programs.
    if attached.mode == AttachMode::Tcx {
        pins::remove_filter(dir, point, Some(name));
    } else {
        pins::remove_link(dir, point);
    }
    Ok(attached)
}

fn attach_tcx(
    program: &mut SchedClassifier,
    dir: &Path,
    point: AttachPoint,
    name: &str,
) -> Result<Attached, AttachError> {
    let pin = dir.join(LINKS).join(point.to_string());
    if let Ok(old) = PinnedLink::from_pin(&pin) {
        match replace_program(program, old) {
            Ok(()) => return Ok(Attached { mode: AttachMode::Tcx, origin: AttachOrigin::Replaced }),
            Err(error) => {
                tracing::info!(%point, %error, "pinned link is defunct, attaching anew");
                forget_pin(pin.clone())?;
            }
        }
    }
    let order = if point.hook == Hook::WanOut { LinkOrder::last() } else { LinkOrder::first() };
    let options = TcAttachOptions::TcxOrder(order);
    let id = program.attach_with_options(name, direction(point.hook), options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(&pin)?;
    Ok(Attached { mode: AttachMode::Tcx, origin: AttachOrigin::Fresh })
}

/// Puts the program in place of that of a pinned link. The pin keeps the link; the agent's own reference may go.
fn replace_program(program: &mut SchedClassifier, pinned: PinnedLink) -> Result<(), AttachError> {
    let link: SchedClassifierLink = FdLink::from(pinned).try_into()?;
    let id = program.attach_to_link(link)?;
    drop(program.take_link(id)?);
    Ok(())
}

fn attach_clsact(
    program: &mut SchedClassifier,
    dir: &Path,
    point: AttachPoint,
    name: &str,
) -> Result<Attached, AttachError> {
    let folder = dir.join(FILTERS);
    if qdisc_add_clsact(name).is_ok() {
        // There was no qdisc, so that a marker is of a device that had this ifindex before.
        pins::forget_qdisc(dir, point.ifindex);
        // Cleanup removes the qdisc only where an agent made it; a pin is the only mark that bpffs can hold.
        program.pin(folder.join(format!("{QDISC}{}", point.ifindex)))?;
    }
    let pin = folder.join(point.to_string());
    if pin.exists() {
        let old = filter(name, point.hook).map_err(AttachError::Filter)?;
        match program.attach_to_link(old) {
            Ok(id) => {
                keep_filter(program.take_link(id)?);
                return Ok(Attached { mode: AttachMode::Clsact, origin: AttachOrigin::Replaced });
            }
            Err(error) => {
                tracing::info!(%point, error = causes(&error), "the filter is gone, attaching anew");
                forget_pin(pin.clone())?;
            }
        }
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let id = program.attach_with_options(name, direction(point.hook), TcAttachOptions::Netlink(options))?;
    keep_filter(program.take_link(id)?);
    program.pin(&pin)?;
    Ok(Attached { mode: AttachMode::Clsact, origin: AttachOrigin::Fresh })
}

/// Dropping the link would remove the filter, which must outlive the agent.
fn keep_filter(link: SchedClassifierLink) {
    std::mem::forget(link);
}

fn forget_pin(path: PathBuf) -> Result<(), AttachError> {
    std::fs::remove_file(&path).map_err(|source| AttachError::DefunctPin { path, source })
}

/// Probes for TCX by a query, which kernels without it refuse. The version would not tell: vendors backport.
fn has_tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}
