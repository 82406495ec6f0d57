//! Files as people write them: what is said of them, for managed proxies and for sidecars.

/// The expectation beside a file.
pub mod expectation;

/// Rendered files of a namespace before the real Envoy.
pub mod validation;

use anyhow::{Context, Result};
use clovisor_objects::folder::read_once;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Purpose, compile};
use clovisor_policy::compiled::{Compiled, Proxies};
use clovisor_render::istio::object::IstioConfig;
use clovisor_render::istio::objects;
use clovisor_render::namespace::{Rendered, render};
use clovisor_render::proxy::RenderConfig;
use std::fs;
use std::path::{Path, PathBuf};

/// The end of the name of an expectation.
pub const EXPECTATION: &str = "expect";

/// Objects of a folder whose files do not name one.
const SHARED: &str = "prelude.yaml";

/// A file or folder of the corpus, and its expectation.
#[derive(Clone, Debug)]
pub struct Case {
    /// The path below the corpus.
    pub name: String,
    pub path: PathBuf,
    pub expectation: PathBuf,
    /// Objects that are added to those of the case.
    pub shared: Option<PathBuf>,
}

/// The cases of the corpus, by name; also those without an expectation.
pub fn cases(corpus: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for area in entries(corpus)?.into_iter().filter(|path| path.is_dir()) {
        let shared = Some(area.join(SHARED)).filter(|path| path.is_file());
        for path in entries(&area)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_expectation = path.extension().is_some_and(|end| end == EXPECTATION);
            if file == SHARED || is_expectation {
                continue;
            }
            let expectation = area.join(format!("{file}.{EXPECTATION}"));
            let name = path.strip_prefix(corpus).unwrap_or(&path).display().to_string();
            cases.push(Case { name, path, expectation, shared: shared.clone() });
        }
    }
    Ok(cases)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

impl Case {
    /// The objects of the case as the product reads them: from a folder of their own.
    pub fn read(&self) -> Result<Snapshot> {
        let folder = tempfile::tempdir()?;
        if let Some(shared) = &self.shared {
            fs::copy(shared, folder.path().join(SHARED))?;
        }
        let file = self.path.file_name().context("a case without a name")?;
        copy(&self.path, &folder.path().join(file))?;
        Ok(read_once(folder.path())?)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    entries(from)?.iter().try_for_each(|inner| copy(inner, &to.join(inner.file_name().unwrap_or_default())))
}

/// What the objects mean for one kind of proxies.
#[must_use]
pub fn judge(snapshot: &Snapshot, proxies: Proxies) -> Compiled {
    compile(snapshot, &Allocation::default(), 1, Purpose { proxies, ..Purpose::default() }).0
}

/// The files of each namespace with services, for its managed proxies.
#[must_use]
pub fn envoy_files(managed: &Compiled, config: &RenderConfig) -> Vec<(String, Rendered)> {
    let with_services = managed.policy.namespaces.iter().filter(|(_, ns)| !ns.services.is_empty());
    with_services.map(|(name, _)| (name.clone(), render(name, &managed.policy, config))).collect()
}

/// How many objects are written for sidecars.
#[must_use]
pub fn istio_objects(snapshot: &Snapshot) -> usize {
    let purpose = Purpose { proxies: Proxies::Sidecars, numbering: Numbering::Controller, local: false };
    let (compiled, _) = compile(snapshot, &Allocation::default(), 1, purpose);
    objects(snapshot, &compiled.sidecars, &IstioConfig::default()).len()
}
