//! What this kernel can do, found out by trying.

use crate::loaded::Loaded;
use anyhow::{Context as _, Result, ensure};
use aya::maps::MapType;
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use nix::sched::{CloneFlags, unshare};
use std::fs::OpenOptions;
use std::io::Write as _;

/// File of [`report`].
const REPORT: &str = "CLOVISOR_FEATURES";

/// Adds `NAME yes|no` to the file that somebody may have asked for; the last line about a name holds.
pub(crate) fn report(name: &str, has: bool) -> Result<()> {
    let Some(path) = std::env::var_os(REPORT) else {
        return Ok(());
    };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(writeln!(file, "{name} {}", if has { "yes" } else { "no" })?)
}

/// The first two numbers of this kernel's version.
pub(crate) fn version() -> Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("a kernel called {release}"))
}

/// Can TCX links be attached?
pub(crate) fn has_tcx() -> Result<bool> {
    let attempt = || -> Result<bool> {
        unshare(CloneFlags::CLONE_NEWNET).context("kernel tests need root")?;
        let mut loaded = Loaded::with_flows(64)?;
        let program: &mut SchedClassifier =
            loaded.ebpf_mut()?.program_mut("pod_in").context("no pod_in")?.try_into()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options("lo", TcAttachType::Ingress, options) {
            Ok(id) => program.detach(id).map(|()| true).map_err(Into::into),
            Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(attempt).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn helper(helper: BpfHelper) -> Result<bool> {
    Ok(is_helper_supported(ProgramType::SchedClassifier, helper)?)
}

#[test]
fn what_this_kernel_has() -> Result<()> {
    let floor = [
        ("redirect_neigh", helper(BpfHelper::BPF_FUNC_redirect_neigh)?),
        ("redirect_peer", helper(BpfHelper::BPF_FUNC_redirect_peer)?),
        ("get_socket_uid", helper(BpfHelper::BPF_FUNC_get_socket_uid)?),
        ("skb_change_tail", helper(BpfHelper::BPF_FUNC_skb_change_tail)?),
        ("ring buffer", is_map_supported(MapType::RingBuf)?),
        ("socket storage", is_map_supported(MapType::SkStorage)?),
        ("sockmap", is_map_supported(MapType::SockHash)? && is_program_supported(ProgramType::SkMsg)?),
        ("sk_lookup", is_program_supported(ProgramType::SkLookup)?),
    ];
    for (name, has) in floor {
        ensure!(has, "no {name}; Clovisor needs kernel 5.10 or newer");
    }
    let optional = [
        ("TCX", has_tcx()?),
        ("check_mtu", helper(BpfHelper::BPF_FUNC_check_mtu)?),
        ("bpf_loop", helper(BpfHelper::BPF_FUNC_loop)?),
    ];
    optional.into_iter().try_for_each(|(name, has)| report(name, has))
}

/// The verifier gives up at a million instructions; older kernels know fewer ways to look at the same twice.
#[test]
fn the_verifier_is_far_from_its_limit() -> Result<()> {
    let loaded = Loaded::with_flows(64)?;
    for name in clovisor_common::abi::PROGRAMS {
        let program: &SchedClassifier =
            loaded.ebpf()?.program(name).context("no such program")?.try_into()?;
        // Told from 5.16 on.
        let walked = program.info()?.verified_instruction_count().unwrap_or(0);
        println!("{name}: {walked} instructions walked");
        ensure!(walked < 200_000, "{name}: {walked} instructions walked");
    }
    Ok(())
}
