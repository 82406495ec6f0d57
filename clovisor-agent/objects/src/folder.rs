//! A folder of YAML and JSON files as the source of objects: one reading.

use super::file::{File, Reading};
use super::identity::Identity;
use super::listing::{Listing, text};
use super::object::insert;
use super::problem::{Problem, Subject};
use super::reason::ProblemReason;
use super::refusal::Refusal;
use super::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The folder cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FolderError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

/// Remembers the last good state of every object of every file.
#[derive(Debug, Default)]
pub struct Folder {
    files: BTreeMap<String, File>,
    /// Of the folder itself.
    problems: Vec<Problem>,
}

impl Folder {
    /// The snapshot of the folder now. What became bad keeps its last good state and gives a problem; what disappears
    /// stays until a later reading confirms it.
    ///
    /// # Errors
    /// The folder itself cannot be listed.
    pub fn read(&mut self, dir: &Path, now: Instant) -> Result<Snapshot, FolderError> {
        let listing = Listing::of(dir).map_err(|source| FolderError { path: dir.to_owned(), source })?;
        let mut before = std::mem::take(&mut self.files);
        self.problems = listing.unlisted.iter().map(|(name, why)| of_file(name, why)).collect();
        if listing.files.is_empty() && listing.unlisted.is_empty() {
            self.problems.push(of_file(".", "holds no file .yaml, .yml or .json; is it the right folder?"));
        }
        for (name, path) in listing.files {
            let reading = path.and_then(|path| text(&path)).map_or_else(Reading::Failed, Reading::Text);
            let file = before.remove(&name).unwrap_or_default().read(&name, reading, now);
            self.files.extend(file.map(|file| (name, file)));
        }
        for (name, file) in before {
            let is_unlisted = listing
                .unlisted
                .keys()
                .any(|dir| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
            let file = if is_unlisted { Some(file) } else { file.read(&name, Reading::Gone, now) };
            self.files.extend(file.map(|file| (name, file)));
        }
        Ok(self.snapshot())
    }

    /// When the next reading is due, because something disappeared.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.files.values().filter_map(File::due).min()
    }

    /// The first file by name holds an object that two have; one that waits to be forgotten yields to any other.
    fn snapshot(&self) -> Snapshot {
        let mut problems = self.problems.clone();
        problems.extend(self.files.values().flat_map(File::problems).cloned());
        let mut snapshot = Snapshot::default();
        let mut seen: BTreeMap<&Identity, &String> = BTreeMap::new();
        let all =
            || self.files.iter().flat_map(|(name, file)| file.objects().map(move |object| (name, object)));
        for (name, (identity, object, _)) in all().filter(|(_, (.., is_lost))| !is_lost) {
            if let Some(first) = seen.get(identity) {
                let message = format!("is in {first} already, which holds; remove one of the two");
                let refusal = Refusal::invalid_object(name.clone(), message);
                problems.push(Problem::new(Subject::Object(identity.clone()), refusal));
            } else {
                seen.insert(identity, name);
                insert(&mut snapshot, identity, object);
            }
        }
        for (name, (identity, object, _)) in all().filter(|(_, (.., is_lost))| *is_lost) {
            seen.entry(identity).or_insert_with(|| {
                insert(&mut snapshot, identity, object);
                name
            });
        }
        problems.sort();
        snapshot.problems = problems;
        snapshot
    }
}

fn of_file(name: &str, message: &str) -> Problem {
    Problem::whole(ProblemReason::InvalidObject, Subject::File(name.to_owned()), message)
}

/// Reads the folder, or a single file, once.
///
/// # Errors
/// It cannot be listed.
pub fn read_once(dir: &Path) -> Result<Snapshot, FolderError> {
    Folder::default().read(dir, Instant::now())
}

#[cfg(test)]
mod tests;
