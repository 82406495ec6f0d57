//! The folder of a namespace's files: reading, and one write at a time.

use super::steps::EnvoyStep;
use clovisor_datapath::files::{Access, FileError, create_folder, remove, replace_with_mode};
use clovisor_render::names::BOOTSTRAP_FILE;
use clovisor_render::namespace::Files;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the files of a namespace could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyFolderError {
    #[error("{0}; check the folder given as --envoy-dir and its free space")]
    Io(#[from] FileError),
    #[error("namespace {0:?} is no valid folder name; use lower case letters, digits and '-'")]
    Namespace(String),
}

/// The folder of one namespace's proxies.
#[derive(Clone, Debug)]
pub struct EnvoyFolder {
    path: PathBuf,
}

impl EnvoyFolder {
    /// The folder of a namespace below `root`; creates it, readable for the proxy's own uid.
    ///
    /// # Errors
    /// The namespace is no folder name, or the folder cannot be created.
    pub fn open(root: &Path, namespace: &str) -> Result<Self, EnvoyFolderError> {
        if !is_name(namespace) {
            return Err(EnvoyFolderError::Namespace(namespace.to_owned()));
        }
        let path = root.join(namespace);
        create_folder(&path, Access { mode: 0o755, group: None })?;
        Ok(Self { path })
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The JSON files that are there; one that is no text counts as empty and is written again.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read(&self) -> Result<Files, EnvoyFolderError> {
        let mut files = Files::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable(&self.path))? {
            let entry = entry.map_err(unreadable(&self.path))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !name.ends_with(".json") {
                continue;
            }
            files.insert(name, fs::read_to_string(entry.path()).unwrap_or_default());
        }
        Ok(files)
    }

    /// Carries one step out.
    ///
    /// # Errors
    /// The file cannot be written or removed.
    pub fn apply(&self, step: &EnvoyStep) -> Result<(), EnvoyFolderError> {
        match step {
            EnvoyStep::Write { name, content } => {
                replace_with_mode(&self.path.join(name), content.as_bytes(), 0o644)?;
            }
            EnvoyStep::Remove { name } => remove(&self.path.join(name))?,
        }
        Ok(())
    }
}

/// Namespaces that have a folder of Clovisor's below `root`.
#[must_use]
pub fn namespaces(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.path().join(BOOTSTRAP_FILE).is_file());
    ours.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name)).collect()
}

fn is_name(namespace: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&namespace.len()) && namespace.chars().all(allowed)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError { action: "read", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_read_and_readable_for_all() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = EnvoyFolder::open(root.path(), "shop")?;
        let content = String::from("{\"node\": {}}");
        folder.apply(&EnvoyStep::Write { name: BOOTSTRAP_FILE.into(), content: content.clone() })?;
        assert_eq!(folder.read()?, Files::from([(BOOTSTRAP_FILE.to_owned(), content)]));
        let mode = fs::metadata(folder.path().join(BOOTSTRAP_FILE))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(namespaces(root.path()), BTreeSet::from(["shop".to_owned()]));
        let gone = EnvoyStep::Remove { name: BOOTSTRAP_FILE.into() };
        folder.apply(&gone)?;
        folder.apply(&gone)?;
        assert!(folder.read()?.is_empty());
        Ok(())
    }

    #[test]
    fn a_broken_file_counts_as_empty() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = EnvoyFolder::open(root.path(), "shop")?;
        fs::write(folder.path().join("cds.json"), [0xff, 0xfe])?;
        assert_eq!(folder.read()?, Files::from([("cds.json".to_owned(), String::new())]));
        Ok(())
    }

    #[test]
    fn a_namespace_cannot_leave_the_root() {
        for name in ["", "..", "a/b", "A", ".hidden"] {
            let opened = EnvoyFolder::open(Path::new("/nonexistent"), name);
            assert!(matches!(opened, Err(EnvoyFolderError::Namespace(_))), "{name:?}");
        }
    }
}
