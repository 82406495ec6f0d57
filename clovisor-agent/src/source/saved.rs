//! The last known objects on disk: what an agent steers by that starts while the API server is away.

use clovisor_datapath::files::replace;
use clovisor_objects::identity::Identity;
use clovisor_objects::object::{Object, insert};
use clovisor_objects::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Raised with every change of the form; another version is not read.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct SavedObjects {
    version: u32,
    saved: jiff::Timestamp,
    objects: Vec<(Identity, Object)>,
}

/// What the file says.
#[derive(Clone, Debug)]
pub struct Saved {
    pub time: jiff::Timestamp,
    pub objects: Vec<(Identity, Object)>,
}

impl Saved {
    /// The objects, marked with the time.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { stale_since: Some(self.time), ..Snapshot::default() };
        self.objects.iter().for_each(|(identity, object)| insert(&mut snapshot, identity, object));
        snapshot
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct SavedFile(PathBuf);

impl SavedFile {
    /// The file in the state folder.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self(dir.join("objects.json"))
    }

    /// What was saved last; none at the first start, or if it is damaged.
    #[must_use]
    pub fn load(&self) -> Option<Saved> {
        let text = fs::read(&self.0).ok()?;
        match decode(&text) {
            Ok(SavedObjects { saved, objects, .. }) => Some(Saved { time: saved, objects }),
            Err(reason) => {
                tracing::warn!(path = %self.0.display(), reason, "saved objects not used");
                None
            }
        }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, objects: Vec<(Identity, Object)>, now: jiff::Timestamp) -> io::Result<()> {
        let content = serde_json::to_vec(&SavedObjects { version: VERSION, saved: now, objects })?;
        let checksum = format!("{:08x}\n", crc32fast::hash(&content));
        Ok(replace(&self.0, &[checksum.as_bytes(), &content].concat())?)
    }
}

/// A line with the checksum of what follows, then the content.
fn decode(text: &[u8]) -> Result<SavedObjects, String> {
    let end = text.iter().position(|byte| *byte == b'\n').ok_or("no checksum")?;
    let (line, content) = (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default());
    if line != format!("{:08x}", crc32fast::hash(content)).as_bytes() {
        return Err("damaged: the checksum differs".into());
    }
    let content: SavedObjects = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    match content.version {
        VERSION => Ok(content),
        other => Err(format!("written in version {other}, this agent reads {VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_objects::document::{Document, read};

    fn example() -> Vec<(Identity, Object)> {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
        let folders = Path::new(&own).ancestors().map(|folder| folder.join("deploy/example"));
        let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap_or_default();
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let texts: Vec<_> = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
        let found = texts.iter().flat_map(|text| read("f", text));
        let objects = found.filter_map(|found| match found.document {
            Document::Object(identity, object) => Some((identity, object)),
            Document::Refused(..) => None,
        });
        objects.collect()
    }

    #[test]
    fn objects_come_back_as_they_were() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = SavedFile::in_dir(dir.path());
        assert!(file.load().is_none());
        let objects = example();
        assert!(objects.len() >= 9, "{} objects", objects.len());
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap_or_default();
        file.save(objects.clone(), now)?;
        let mut expected = Snapshot { stale_since: Some(now), ..Snapshot::default() };
        objects.iter().for_each(|(identity, object)| insert(&mut expected, identity, object));
        assert_eq!(file.load().map(|saved| saved.snapshot()), Some(expected));
        Ok(())
    }

    #[test]
    fn damage_is_noticed() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = SavedFile::in_dir(dir.path());
        file.save(example(), jiff::Timestamp::UNIX_EPOCH)?;
        let path = dir.path().join("objects.json");
        let whole = fs::read(&path)?;
        for damaged in [&whole[..whole.len() - 1], &whole[..40], b"", b"x\n{}"] {
            fs::write(&path, damaged)?;
            assert!(file.load().is_none());
        }
        Ok(())
    }
}
