//! The files of a folder that may hold objects, and their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a file that is read.
pub const MAX_FILE: u64 = 64 << 20;
/// Folders inside each other.
const MAX_DEPTH: usize = 8;

/// The files of a folder and of the folders below, each by its path from there; or why one is none.
#[derive(Debug, Default)]
pub struct Listing {
    pub files: BTreeMap<String, Result<PathBuf, String>>,
    /// Folders below that cannot be listed, and why: what they hold is not known.
    pub unlisted: BTreeMap<String, String>,
    /// Device and inode of the folders: links between them may form circles.
    seen: BTreeSet<(u64, u64)>,
}

impl Listing {
    /// The files of `root`, or `root` itself where it is a file.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        let metadata = fs::metadata(root)?;
        if metadata.is_dir() {
            listing.folder(root, "", &metadata)?;
        } else {
            let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
            listing.files.insert(name, regular(root.to_owned(), &metadata));
        }
        Ok(listing)
    }

    fn folder(&mut self, dir: &Path, prefix: &str, metadata: &Metadata) -> io::Result<()> {
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(['.', '#', '~']) {
                continue;
            }
            self.entry(path, format!("{prefix}{name}"));
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, name: String) {
        let holds_objects = is_named_so(&name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && !holds_objects => {
                let depth = name.split('/').count();
                let listed = match depth {
                    0..MAX_DEPTH => {
                        self.folder(&path, &format!("{name}/"), &metadata).map_err(|e| e.to_string())
                    }
                    _ => Err(format!("more than {MAX_DEPTH} folders inside each other are not read")),
                };
                if let Err(reason) = listed {
                    self.unlisted.insert(name, reason);
                }
            }
            Ok(metadata) if holds_objects => drop(self.files.insert(name, regular(path, &metadata))),
            Err(error) if holds_objects => drop(self.files.insert(name, Err(said(&path, &error)))),
            _ => {}
        }
    }
}

/// By its ending, in any case.
fn is_named_so(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    matches!(ending.as_str(), "yaml" | "yml" | "json")
}

fn regular(path: PathBuf, metadata: &Metadata) -> Result<PathBuf, String> {
    match metadata.len() {
        _ if metadata.is_dir() => {
            Err("is a folder; a container runtime makes one where the file of a mount is missing".into())
        }
        _ if !metadata.is_file() => Err("is a pipe, a socket or a device, no file".into()),
        MAX_FILE.. => Err(format!(
            "has {} MiB; files of up to {} MiB are read: split it",
            metadata.len() >> 20,
            MAX_FILE >> 20
        )),
        _ => Ok(path),
    }
}

fn said(path: &Path, error: &io::Error) -> String {
    match fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => {
            format!("is a link to {}, which does not exist", target.display())
        }
        _ => error.to_string(),
    }
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, or is not UTF-8; why.
pub fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| said(path, &error))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save it as UTF-8".into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })?;
    match text.bytes().position(|byte| byte == 0) {
        Some(_) => Err("holds NUL bytes, as a crash or UTF-16 leaves them; write it again".into()),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn files_are_found_by_their_endings_in_folders_below_and_through_links() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for name in ["below/deep", "..2026_01/sub", ".git"] {
            fs::create_dir_all(at(name))?;
        }
        for name in
            ["a.yaml", "b.YML", "c.Json", "below/deep/d.yml", "..2026_01/e.yaml", "..2026_01/sub/f.yaml"]
        {
            fs::write(at(name), "a: 1")?;
        }
        for name in [
            ".a.yaml.swp",
            "a.yaml~",
            "#a.yaml#",
            ".git/x.yaml",
            "a.yaml.bak",
            "4913",
            "README.md",
            "~$a.yaml",
            "#b.yaml",
        ] {
            fs::write(at(name), "a: 1")?;
        }
        symlink("..2026_01", at("..data"))?;
        symlink("..data/e.yaml", at("e.yaml"))?;
        symlink("..data/sub", at("sub"))?;
        symlink("..", at("below/circle"))?;
        symlink("nowhere", at(".#a.yaml"))?;
        let listing = Listing::of(dir.path())?;
        let names: Vec<_> = listing.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.yaml", "b.YML", "below/deep/d.yml", "c.Json", "e.yaml", "sub/f.yaml"]);
        assert!(listing.files.values().all(|file| file.as_ref().is_ok_and(|path| text(path).is_ok())));
        assert_eq!(listing.unlisted, BTreeMap::new());
        assert_eq!(Listing::of(&at("a.yaml"))?.files.len(), 1);
        Ok(())
    }

    #[test]
    fn what_is_no_readable_file_is_said() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder.yaml"))?;
        let _socket = UnixListener::bind(at("socket.yaml"))?;
        symlink("nowhere", at("link.yaml"))?;
        symlink("circle.yaml", at("circle.yaml"))?;
        fs::File::create(at("large.yaml"))?.set_len(200 << 20)?;
        fs::write(at("utf16.yaml"), b"\xff\xfea\0")?;
        fs::write(at("latin.yaml"), b"a: 1\nb: caf\xe9\n")?;
        fs::write(at("zeros.yaml"), [0; 40])?;
        let files = Listing::of(dir.path())?.files;
        let why = |name: &str| {
            let file = files.get(name).cloned().unwrap_or_else(|| panic!("{name} is not listed"));
            file.and_then(|path| text(&path)).err().unwrap_or_else(|| panic!("{name} is read"))
        };
        for (name, words) in [
            ("folder.yaml", "is a folder"),
            ("socket.yaml", "a socket"),
            ("link.yaml", "is a link to nowhere, which does not exist"),
            ("circle.yaml", "symbolic links"),
            ("large.yaml", "has 200 MiB; files of up to 64 MiB are read"),
            ("utf16.yaml", "UTF-16"),
            ("latin.yaml", "line 2 is not UTF-8"),
            ("zeros.yaml", "NUL bytes"),
        ] {
            assert!(why(name).contains(words), "{name}: {}", why(name));
        }
        Ok(())
    }
}
