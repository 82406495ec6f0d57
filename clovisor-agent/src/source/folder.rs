//! Follows a folder of YAML files.

use clovisor_objects::folder::{Folder, FolderError};
use clovisor_objects::snapshot::Snapshot;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Editors and `kubectl` write in several steps; one reading serves them.
const SETTLE: Duration = Duration::from_millis(50);
/// A reading without an event, should one have been lost (network file systems send none).
const RESCAN: Duration = Duration::from_secs(5);
const WRITTEN: AccessKind = AccessKind::Close(AccessMode::Write);

/// The folder cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FolderWatchError {
    #[error("{0}; create the folder, or set --config to the one with your YAML files")]
    Read(#[from] FolderError),
    #[error("{path}: cannot be watched: {source}; is fs.inotify.max_user_watches used up?")]
    Watch { path: PathBuf, source: notify::Error },
}

/// The snapshot now, and a task that follows the folder.
///
/// # Errors
/// The folder cannot be listed or watched.
pub fn watch(dir: &Path) -> Result<watch::Receiver<Arc<Snapshot>>, FolderWatchError> {
    let mut folder = Folder::default();
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an access too; an error may have cost an event.
        if !event.is_ok_and(|e| matches!(e.kind, EventKind::Access(kind) if kind != WRITTEN)) {
            // A full channel means that a reading is due anyway.
            let _due = wake.try_send(());
        }
    })
    .map_err(|source| FolderWatchError::Watch { path: dir.to_owned(), source })?;
    let (publish, snapshots) = watch::channel(Arc::new(folder.read(dir, Instant::now())?));
    watcher
        .watch(dir, RecursiveMode::Recursive)
        .map_err(|source| FolderWatchError::Watch { path: dir.to_owned(), source })?;
    let dir = dir.to_owned();
    tokio::spawn(async move {
        let _watcher = watcher;
        while !publish.is_closed() {
            let due = folder.due().map(|due| due.saturating_duration_since(Instant::now()));
            if let Ok(Some(())) = timeout(due.map_or(RESCAN, |due| due.min(RESCAN)), woken.recv()).await {
                sleep(SETTLE).await;
            }
            // Large files take their time: not on the threads that answer callouts.
            let place = dir.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let snapshot = folder.read(&place, Instant::now());
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
                Err(error) => {
                    tracing::warn!(%error, "the folder cannot be listed; what was read last stays in force");
                }
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
}
