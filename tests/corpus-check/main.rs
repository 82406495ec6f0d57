//! `cargo xtask check-corpus`: check, explain, render and the real Envoy over any folder, file by file.

mod added;
mod tally;

use anyhow::{Context, Result, bail};
use clap::Parser;
use clovisor_objects::folder::read_once;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::compiled::{Compiled, Proxies};
use clovisor_render::api::ExplainRequest;
use clovisor_render::explain::explain;
use clovisor_render::proxy::RenderConfig;
use harness::corpus::{envoy_files, istio_objects, judge, validation};
use harness::envoy;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tally::Tally;

/// Judge every YAML or JSON file below a folder by itself, and print a table of refusals by reason. Routes that no
/// `WanMapping` of the file targets get one, and hosts that no `ServiceEntry` of the file defines get one by address, so
/// that files of any repository can be tried. Exit code 1: a panic, or a configuration that Envoy does not take.
#[derive(Parser)]
#[command(name = "clovisor-corpus", max_term_width = 100)]
struct Arguments {
    /// The folder.
    folder: PathBuf,
    /// Add nothing.
    #[arg(long)]
    as_is: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let envoy = envoy::binary()?;
    let mut files = Vec::new();
    list(&arguments.folder, &mut files)?;
    if files.is_empty() {
        bail!("no YAML or JSON file below {}", arguments.folder.display());
    }
    let mut tally = Tally::default();
    for file in &files {
        let one = || of_file(file, arguments.as_is, &envoy, &mut tally);
        match catch_unwind(AssertUnwindSafe(one)) {
            Ok(result) => result.with_context(|| file.display().to_string())?,
            Err(_) => tally.failures.push(format!("{}: a panic, see above", file.display())),
        }
    }
    print!("{tally}");
    if tally.failures.is_empty() { Ok(()) } else { bail!("{} failures", tally.failures.len()) }
}

/// Files in the order of their paths; hidden ones are left out.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
    Ok(())
}

fn of_file(file: &Path, as_is: bool, envoy: &Path, tally: &mut Tally) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::copy(file, folder.path().join(file.file_name().context("a file without a name")?))?;
    let mut snapshot = read_once(folder.path())?;
    tally.objects(&snapshot);
    if !as_is {
        tally.added += added::complete(&mut snapshot);
    }
    let managed = judge(&snapshot, Proxies::Managed);
    let sidecars = judge(&snapshot, Proxies::Sidecars);
    tally.judged(&managed, &sidecars);
    tally.explained += explained(&snapshot, &[&managed, &sidecars]);
    tally.istio_objects += istio_objects(&snapshot);
    let config = RenderConfig {
        mount: folder.path().to_owned(),
        certificates: folder.path().to_owned(),
        ..RenderConfig::default()
    };
    for (namespace, rendered) in envoy_files(&managed, &config) {
        tally.configurations += 1;
        if let Some(said) = validation::objection(envoy, &rendered.files, folder.path())? {
            tally.failures.push(format!("{} {namespace}: Envoy: {said}", file.display()));
        }
    }
    Ok(())
}

/// Asks for every host of a VirtualService; how many requests that were.
fn explained(snapshot: &Snapshot, all: &[&Compiled]) -> usize {
    let mut count = 0;
    for vs in snapshot.virtual_services.values() {
        for (pod, host) in snapshot.pods.keys().flat_map(|pod| vs.spec.hosts.iter().map(move |h| (pod, h))) {
            let request = ExplainRequest {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                host: host.clone(),
                method: "GET".into(),
                path: "/".into(),
                headers: Vec::new(),
                protocol: None,
            };
            count += all.iter().filter(|compiled| explain(&compiled.policy, &request, None).is_ok()).count();
        }
    }
    count
}
