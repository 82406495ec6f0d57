//! The folder on disk: what is there, and one write at a time.

use super::bootstrap;
use super::steps::{Files, Step};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why the files of a namespace could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {action} {path}: {source}; check the folder given as --envoy-dir and its space")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("namespace {0:?} is no valid folder name; use lower case letters, digits and '-'")]
    Namespace(String),
}

/// The folder of one namespace's proxies.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of a namespace below `root`; creates it, readable for the proxy's own uid.
    pub fn open(root: &Path, namespace: &str) -> Result<Self, FolderError> {
        if !is_name(namespace) {
            return Err(FolderError::Namespace(namespace.to_owned()));
        }
        let path = root.join(namespace);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(&path).map_err(failed("create", &path))?;
        // The mode above is cut by the process's umask.
        fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(failed("make readable", &path))?;
        Ok(Self { path })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The JSON files that are there; one that is no text counts as empty and is written again.
    pub fn read(&self) -> Result<Files, FolderError> {
        let mut files = Files::new();
        for entry in fs::read_dir(&self.path).map_err(failed("read", &self.path))? {
            let entry = entry.map_err(failed("read", &self.path))?;
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

    /// Does one step; a write is complete or not there at all, also after a power cut.
    pub fn apply(&self, step: &Step) -> Result<(), FolderError> {
        match step {
            Step::Write { name, content } => self.replace(name, content),
            Step::Remove { name } => {
                let path = self.path.join(name);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(failed("remove", &path)(error))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn replace(&self, name: &str, content: &str) -> Result<(), FolderError> {
        let target = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)
            .map_err(failed("create", &temporary))?;
        file.write_all(content.as_bytes())
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &target).map_err(failed("replace", &target))?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed("write", &self.path))
    }
}

/// Namespaces that have a folder of ours below `root`.
pub fn namespaces(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.path().join(bootstrap::FILE).is_file());
    ours.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name)).collect()
}

fn is_name(namespace: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&namespace.len()) && namespace.chars().all(allowed)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_readable_for_all() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = Folder::open(root.path(), "shop")?;
        let content = String::from("{\"node\": {}}");
        folder.apply(&Step::Write { name: bootstrap::FILE.into(), content: content.clone() })?;
        assert_eq!(folder.read()?, Files::from([(bootstrap::FILE.to_owned(), content)]));
        let mode = fs::metadata(folder.path().join(bootstrap::FILE))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(namespaces(root.path()), BTreeSet::from(["shop".to_owned()]));
        let gone = Step::Remove { name: bootstrap::FILE.into() };
        folder.apply(&gone)?;
        folder.apply(&gone)?;
        assert!(folder.read()?.is_empty());
        Ok(())
    }

    #[test]
    fn a_broken_file_counts_as_empty() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = Folder::open(root.path(), "shop")?;
        fs::write(folder.path().join("cds.json"), [0xff, 0xfe])?;
        assert_eq!(folder.read()?, Files::from([("cds.json".to_owned(), String::new())]));
        Ok(())
    }

    #[test]
    fn a_namespace_cannot_leave_the_root() {
        for name in ["", "..", "a/b", "A", ".hidden"] {
            let opened = Folder::open(Path::new("/nonexistent"), name);
            assert!(matches!(opened, Err(FolderError::Namespace(_))), "{name:?}");
        }
    }
}
