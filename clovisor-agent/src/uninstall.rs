//! `clovisor-agent cleanup`.
//!
//! **In**: flags, the answer of the user. **Out**: a kernel without anything of Clovisor's. **Never**: removes what others
//! made.

use crate::config::CleanupArgs;
use anyhow::{Context, Result, bail};
use clovisor_datapath::host;
use clovisor_datapath::host::fwmark::{change, changes};
use clovisor_datapath::host::local_ports::{LocalPorts, list, local_ports};
use clovisor_datapath::host::net::FwmarkEntry;
use clovisor_datapath::host::reserved_ports::{PortPlan, PortRecord, command, plan};
use clovisor_datapath::kernel::cleanup::{Report, cleanup, held};
use clovisor_datapath::kernel::plan::Hook;
use clovisor_datapath::kernel::verifier::log_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// What the agent writes into its state folder.
const STATE: [&str; 4] = ["numbers.json", "numbers.damaged", "objects.json", "envoy"];

/// Removes everything of Clovisor's; with `--dry-run` only lists it.
///
/// # Errors
/// Something could not be removed, or the question was not answered with yes.
pub fn run(args: &CleanupArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    kernel(args, &runtime)?;
    if let Some(dir) = args.state_dir.as_deref().filter(|_| !args.dry_run) {
        files(dir)?;
    }
    if args.stay {
        runtime.block_on(stopped()).context("cannot wait for a signal")?;
    }
    Ok(())
}

fn kernel(args: &CleanupArgs, runtime: &Runtime) -> Result<()> {
    let network = runtime.block_on(host::watch::watch())?.borrow().clone();
    let devices: BTreeMap<u32, String> =
        network.devices.iter().map(|(ifindex, device)| (*ifindex, device.name.clone())).collect();
    let planned = cleanup(&args.bpffs, &devices, true);
    let marked = &network.fwmark;
    let ports = ReservedPorts::reserved(&args.run_dir);
    if planned.removed.is_empty() && marked.is_empty() && ports.ours().is_empty() {
        println!("nothing of Clovisor under {}", args.bpffs.display());
        return Ok(());
    }
    show(&planned, &devices, marked, &ports);
    if args.dry_run {
        println!("nothing was removed (--dry-run)");
        return Ok(());
    }
    if let Some(held) = held(&args.bpffs).first() {
        bail!("an agent is running and holds {}; stop it, then run this again", held.display());
    }
    if !args.yes && !confirmed()? {
        bail!("nothing was removed; answer y, or give --yes");
    }
    // First what marks packets, then what forwards them.
    let done = cleanup(&args.bpffs, &devices, false);
    for (what, add) in changes(marked, &BTreeSet::new()) {
        let changed = runtime.block_on(change(what, add));
        changed.with_context(|| format!("{what} stays; remove it with `ip rule` or `ip route`"))?;
    }
    for ifindex in &done.clsact {
        runtime.block_on(host::change::remove_clsact(*ifindex)).unwrap_or_else(|error| {
            eprintln!("qdisc clsact of ifindex {ifindex} stays: {error}");
        });
    }
    if let Some((path, reason)) = done.failed.first() {
        bail!(
            "{} of {} could not be removed, first {}: {reason}; is an agent still running? stop it, then run this again",
            done.failed.len(),
            planned.removed.len(),
            path.display()
        );
    }
    ReservedPorts::reserved(&args.run_dir).release()?;
    println!("removed; steered connections end, new ones take the default route");
    Ok(())
}

/// Only what the agent writes there.
fn files(dir: &Path) -> Result<()> {
    let logs = Hook::ALL.map(|hook| log_name(hook.program()));
    for name in STATE.map(str::to_owned).into_iter().chain(logs) {
        let path = dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => println!("removed {}", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => bail!("{} could not be removed: {error}", path.display()),
        }
    }
    Ok(())
}

async fn stopped() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result,
    }
}

fn show(
    planned: &Report,
    devices: &BTreeMap<u32, String>,
    marked: &BTreeSet<FwmarkEntry>,
    ports: &ReservedPorts,
) {
    println!("of Clovisor in this kernel:");
    for path in &planned.removed {
        println!("  {}", path.display());
    }
    for ifindex in &planned.clsact {
        let name = devices.get(ifindex).map_or("a device that is gone", String::as_str);
        println!("  qdisc clsact on {name}, unless others use it");
    }
    for what in marked {
        println!("  {what}");
    }
    if !ports.ours().is_empty() {
        println!("  ports {} of net.ipv4.ip_local_reserved_ports", list(&ports.ours()));
    }
}

/// ReservedPorts that an agent reserved.
struct ReservedPorts {
    record: PortRecord,
    recorded: BTreeSet<u16>,
    now: LocalPorts,
    plan: PortPlan,
}

impl ReservedPorts {
    fn reserved(run_dir: &Path) -> Self {
        let (record, now) = (PortRecord::in_dir(run_dir), local_ports());
        let recorded = record.load();
        let plan = plan(&now.reserved, &recorded, &BTreeSet::new());
        Self { record, recorded, now, plan }
    }

    /// What goes.
    fn ours(&self) -> BTreeSet<u16> {
        &self.now.reserved - &self.plan.reserved
    }

    fn release(&self) -> Result<()> {
        let released = self.record.apply(&self.plan, &self.now, &self.recorded);
        released.with_context(|| {
            let command = command(&self.plan.reserved);
            format!("ports {} stay reserved; to release them: {command}", list(&self.ours()))
        })
    }
}

fn confirmed() -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("remove all this? [y/N] ");
    io::stdout().flush().context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
