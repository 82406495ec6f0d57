//! A folder of YAML files as the source of objects: one reading.

use super::document::{Document, read, split};
use super::identity::Identity;
use super::last_good::LastGood;
use super::object::{Object, insert};
use super::problem::{Problem, Subject};
use super::reason::ProblemReason;
use super::refusal::Refusal;
use super::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; create the folder or set --config to the one with your YAML files")]
pub struct FolderError {
    pub path: PathBuf,
    pub source: std::io::Error,
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
    objects: LastGood<Identity, Object>,
    /// Of the file itself, and of documents that name no object.
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
        let of_files =
            self.files.values().flat_map(|file| file.problems.iter().chain(file.objects.problems()));
        let mut problems: Vec<_> = of_files.cloned().collect();
        let mut snapshot = Snapshot::default();
        let mut seen: BTreeMap<&Identity, &String> = BTreeMap::new();
        for (file, File { objects, .. }) in &self.files {
            for (identity, object) in objects.values() {
                if let Some(first) = seen.get(identity) {
                    let message = format!("is defined in {first} already, which holds; remove one of them");
                    let refusal = Refusal::invalid_object(file.clone(), message);
                    problems.push(Problem::new(Subject::Object(identity.clone()), refusal));
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
    let entries = std::fs::read_dir(dir).map_err(|source| FolderError { path: dir.to_owned(), source })?;
    let named = entries.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    let yaml = |name: &str| !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
    Ok(named.filter(|(name, path)| yaml(name) && path.is_file()).collect())
}

fn unreadable(name: &str, error: &std::io::Error, before: LastGood<Identity, Object>) -> File {
    let mut objects = LastGood::default();
    objects.keep_absent(before);
    let message = format!("{error}; the file's last good objects stay in force");
    let problem = Problem::whole(ProblemReason::InvalidObject, Subject::File(name.to_owned()), message);
    File { text: None, objects, problems: vec![problem] }
}

fn parsed(name: &str, text: String, before: LastGood<Identity, Object>) -> File {
    let mut file = File::default();
    let mut lost = false;
    for (offset, document) in split(&text) {
        match read(name, offset, &document) {
            Document::Ignored => {}
            Document::Object(identity, object) => {
                file.objects.list(&before, identity, Ok(object));
            }
            Document::Refused(Some(identity), problem) => {
                lost |= !file.objects.list(&before, identity, Err(problem));
            }
            Document::Refused(None, problem) => {
                lost = true;
                file.problems.push(problem);
            }
        }
    }
    if lost {
        // Which object the bad document was is not known: nothing of the file is lost.
        file.objects.keep_absent(before);
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
            (snapshot.problems[0].subject.kind(), snapshot.problems[0].subject.name()),
            ("File", "a.yaml".to_owned())
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

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let error = read_once(Path::new("/nonexistent/clovisor")).err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("/nonexistent/clovisor") && e.contains("--config")));
    }
}
