//! A folder of YAML files as the source of objects.

use super::document::{Document, read, split};
use super::object::{Identity, Object, insert, label};
use super::snapshot::{Problem, Snapshot};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Editors and `kubectl` write in several steps; one reading serves them.
const SETTLE: Duration = Duration::from_millis(50);
/// A reading without an event, should one have been lost (network file systems send none).
const RESCAN: Duration = Duration::from_secs(5);
const WRITTEN: AccessKind = AccessKind::Close(AccessMode::Write);

/// The folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path}: {source}; create the folder or set --config to the one with your YAML files")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: cannot be watched: {source}; is fs.inotify.max_user_watches used up?")]
    Watch { path: PathBuf, source: notify::Error },
}

/// Remembers the last good state of every object of every file.
#[derive(Debug, Default)]
pub struct Folder {
    files: BTreeMap<String, File>,
}

/// A file as it was read.
#[derive(Debug, Default)]
struct File {
    /// None: it could not be read.
    text: Option<String>,
    objects: BTreeMap<Identity, Object>,
    problems: Vec<Problem>,
}

impl Folder {
    /// The snapshot of the folder now. What became bad keeps its last good state and gives a problem.
    ///
    /// # Errors
    /// The folder itself cannot be listed.
    pub fn read(&mut self, dir: &Path) -> Result<Snapshot, FolderError> {
        let mut files = BTreeMap::new();
        for (name, path) in list(dir)? {
            let before = self.files.remove(&name).unwrap_or_default();
            let file = match std::fs::read_to_string(&path) {
                // A set of thousands is parsed again only when its own file changes.
                Ok(text) if before.text.as_ref() == Some(&text) => before,
                Ok(text) => parsed(&name, text, before.objects),
                Err(error) => unreadable(&name, &error, before.objects),
            };
            files.insert(name, file);
        }
        self.files = files;
        Ok(self.snapshot())
    }

    fn snapshot(&self) -> Snapshot {
        let mut problems: Vec<_> = self.files.values().flat_map(|file| file.problems.clone()).collect();
        let mut snapshot = Snapshot::default();
        let mut seen: BTreeMap<&Identity, &String> = BTreeMap::new();
        for (file, File { objects, .. }) in &self.files {
            for (identity, object) in objects {
                if let Some(first) = seen.get(identity) {
                    problems.push(Problem {
                        reason: "InvalidObject",
                        kind: identity.kind.clone(),
                        object: label(identity),
                        field: file.clone(),
                        message: format!("is defined in {first} already, which holds; remove one of them"),
                    });
                } else {
                    seen.insert(identity, file);
                    insert(&mut snapshot, identity, object);
                }
            }
        }
        problems.sort();
        snapshot.problems = problems;
        snapshot
    }
}

/// The YAML files of a folder by name, in order; links are followed, hidden files left out.
fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>, FolderError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| FolderError::Read { path: dir.to_owned(), source })?;
    let named = entries.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    let yaml = |name: &str| !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
    Ok(named.filter(|(name, path)| yaml(name) && path.is_file()).collect())
}

fn unreadable(name: &str, error: &std::io::Error, objects: BTreeMap<Identity, Object>) -> File {
    let problem = Problem {
        reason: "InvalidObject",
        kind: "File".into(),
        object: name.to_owned(),
        field: String::new(),
        message: format!("{error}; the file's last good objects stay in force"),
    };
    File { text: None, objects, problems: vec![problem] }
}

fn parsed(name: &str, text: String, before: BTreeMap<Identity, Object>) -> File {
    let mut file = File::default();
    let mut lost = false;
    for (offset, document) in split(&text) {
        match read(name, offset, &document) {
            Document::Ignored => {}
            Document::Object(identity, object) => {
                file.objects.insert(identity, object);
            }
            Document::Refused(identity, problem) => {
                match identity.and_then(|i| before.get(&i).map(|old| (i, old.clone()))) {
                    Some((identity, old)) => drop(file.objects.insert(identity, old)),
                    None => lost = true,
                }
                file.problems.push(problem);
            }
        }
    }
    if lost {
        // Which object the bad document was is not known: nothing of the file is lost.
        for (identity, old) in before {
            file.objects.entry(identity).or_insert(old);
        }
    }
    file.text = Some(text);
    file
}

/// Reads the folder once.
///
/// # Errors
/// It cannot be listed.
pub fn read_once(dir: &Path) -> Result<Snapshot, FolderError> {
    Folder::default().read(dir)
}

/// The snapshot now, and a task that follows the folder.
///
/// # Errors
/// The folder cannot be listed or watched.
pub fn watch(dir: &Path) -> Result<watch::Receiver<Arc<Snapshot>>, FolderError> {
    let mut folder = Folder::default();
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an access too; an error may have cost an event.
        if !event.is_ok_and(|e| matches!(e.kind, EventKind::Access(kind) if kind != WRITTEN)) {
            // A full channel means that a reading is due anyway.
            let _due = wake.try_send(());
        }
    })
    .map_err(|source| FolderError::Watch { path: dir.to_owned(), source })?;
    let (publish, snapshots) = watch::channel(Arc::new(folder.read(dir)?));
    watcher
        .watch(dir, RecursiveMode::NonRecursive)
        .map_err(|source| FolderError::Watch { path: dir.to_owned(), source })?;
    let dir = dir.to_owned();
    tokio::spawn(async move {
        let _watcher = watcher;
        while !publish.is_closed() {
            if let Ok(Some(())) = timeout(RESCAN, woken.recv()).await {
                sleep(SETTLE).await;
            }
            // Large files take their time: not on the threads that answer callouts.
            let place = dir.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let snapshot = folder.read(&place);
                (folder, snapshot)
            });
            let Ok((back, snapshot)) = reading.await else { return };
            folder = back;
            match snapshot {
                Ok(snapshot) => drop(publish.send_if_modified(|old| {
                    let changed = **old != snapshot;
                    *old = Arc::new(snapshot);
                    changed
                })),
                Err(error) => tracing::warn!(%error, "last good objects stay in force"),
            }
        }
    });
    Ok(snapshots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LINK: &str =
        "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: NAME}\nspec: {device: DEVICE}\n";

    fn link(name: &str, device: &str) -> String {
        LINK.replace("NAME", name).replace("DEVICE", device)
    }

    fn devices(snapshot: &Snapshot) -> Vec<(&str, &str)> {
        snapshot
            .links
            .iter()
            .map(|(name, l)| (name.as_str(), l.device.as_deref().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_bad_file_keeps_its_last_good_objects() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("a.yaml");
        let mut folder = Folder::default();
        let mut read = |text: String| -> std::io::Result<Snapshot> {
            fs::write(&file, text)?;
            folder.read(dir.path()).map_err(std::io::Error::other)
        };
        let both = format!("{}---\n{}", link("s8", "s8"), link("s9", "s9"));
        assert_eq!(devices(&read(both)?), [("s8", "s8"), ("s9", "s9")]);
        let bad_one = format!(
            "{}---\n{}  oops: 1\n",
            link("s8", "eth8"),
            link("s9", "s9").replace("spec: {device: s9}\n", "spec:\n  device: s9\n")
        );
        let snapshot = read(bad_one)?;
        assert_eq!(devices(&snapshot), [("s8", "eth8"), ("s9", "s9")]);
        assert_eq!(snapshot.problems.len(), 1);
        let snapshot = read("{ this is : [not yaml".into())?;
        assert_eq!(devices(&snapshot), [("s8", "eth8"), ("s9", "s9")]);
        assert_eq!(
            (snapshot.problems[0].kind.as_str(), snapshot.problems[0].object.as_str()),
            ("File", "a.yaml")
        );
        assert_eq!(devices(&read(link("s9", "s9"))?), [("s9", "s9")]);
        Ok(())
    }

    #[test]
    fn the_first_file_holds_an_object_that_two_define() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("b.yaml"), link("s9", "second"))?;
        fs::write(dir.path().join("a.yaml"), link("s9", "first"))?;
        fs::write(dir.path().join(".hidden.yaml"), link("s7", "hidden"))?;
        let snapshot = read_once(dir.path()).map_err(std::io::Error::other)?;
        assert_eq!(devices(&snapshot), [("s9", "first")]);
        assert!(snapshot.problems[0].message.contains("a.yaml"));
        Ok(())
    }

    #[tokio::test]
    async fn changes_are_followed_also_through_swapped_links() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        // As the kubelet mounts a ConfigMap: files are links into ..data, which is a link that is swapped.
        for (version, device) in [("one", "s9"), ("two", "eth9")] {
            fs::create_dir(dir.path().join(version))?;
            fs::write(dir.path().join(version).join("a.yaml"), link("s9", device))?;
        }
        std::os::unix::fs::symlink("one", dir.path().join("..data"))?;
        std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml"))?;
        let mut snapshots = watch(dir.path()).map_err(std::io::Error::other)?;
        assert_eq!(devices(&snapshots.borrow_and_update()), [("s9", "s9")]);
        std::os::unix::fs::symlink("two", dir.path().join("..next"))?;
        fs::rename(dir.path().join("..next"), dir.path().join("..data"))?;
        next(&mut snapshots).await?;
        assert_eq!(devices(&snapshots.borrow_and_update()), [("s9", "eth9")]);
        fs::write(dir.path().join(".b"), link("s8", "s8"))?;
        fs::rename(dir.path().join(".b"), dir.path().join("b.yaml"))?;
        next(&mut snapshots).await?;
        assert_eq!(devices(&snapshots.borrow_and_update()), [("s8", "s8"), ("s9", "eth9")]);
        Ok(())
    }

    async fn next(snapshots: &mut watch::Receiver<Arc<Snapshot>>) -> std::io::Result<()> {
        timeout(Duration::from_secs(4), snapshots.changed())
            .await
            .map_err(std::io::Error::other)?
            .map_err(std::io::Error::other)
    }

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let error = read_once(Path::new("/nonexistent/clovisor")).err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("/nonexistent/clovisor") && e.contains("--config")));
    }
}
