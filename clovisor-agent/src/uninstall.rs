//! `clovisor-agent cleanup`: shows what is ours in the kernel, asks, removes it.

use crate::config::CleanupArgs;
use crate::host;
use crate::kernel::cleanup::{Report, cleanup, held};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

/// Removes everything of ours; with `--dry-run` only shows it.
///
/// # Errors
/// Something could not be removed, or the question was not answered with yes.
pub fn run(args: &CleanupArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let network = runtime.block_on(host::watch::watch())?.borrow().clone();
    let devices: BTreeMap<u32, String> =
        network.devices.iter().map(|(ifindex, device)| (*ifindex, device.name.clone())).collect();
    let planned = cleanup(&args.bpffs, &devices, true);
    if planned.removed.is_empty() {
        println!("nothing of Clovisor under {}", args.bpffs.display());
        return Ok(());
    }
    show(&planned, &devices);
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
    let done = cleanup(&args.bpffs, &devices, false);
    for ifindex in &done.clsact {
        runtime.block_on(host::watch::remove_clsact(*ifindex)).unwrap_or_else(|error| {
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
    println!("removed; steered connections end, new ones take the default route");
    Ok(())
}

fn show(planned: &Report, devices: &BTreeMap<u32, String>) {
    println!("of Clovisor in this kernel:");
    for path in &planned.removed {
        println!("  {}", path.display());
    }
    for ifindex in &planned.clsact {
        let name = devices.get(ifindex).map_or("a device that is gone", String::as_str);
        println!("  qdisc clsact on {name}, unless others use it");
    }
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("remove all this? [y/N] ");
    std::io::stdout().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
