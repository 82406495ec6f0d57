//! Files, folders and sockets that a reader never finds half made.
//!
//! **In**: a path and its content or permissions. **Out**: the finished file, folder or socket. **Owns**: nothing.
//! **Never**: knows what a file is for.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The step of giving a file to a group.
pub const CHANGE_GROUP: &str = "change the group of";

/// A step that failed, and the path on which it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Permissions of a folder or a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub mode: u32,
    /// Group id; `None` keeps the group of the process.
    pub group: Option<u32>,
}

/// Replaces the file atomically and durably: after a crash or a power failure either the old or the new content is
/// there. The mode is that of the umask.
///
/// # Errors
/// The folder cannot be written, or has no space.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write(path, content, None)
}

/// As [`replace`], with exactly this mode, whatever the umask.
///
/// # Errors
/// The folder cannot be written, or has no space.
pub fn replace_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    write(path, content, Some(mode))
}

fn write(path: &Path, content: &[u8], mode: Option<u32>) -> Result<(), FileError> {
    let temporary = beside(path);
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(content)
        .and_then(|()| mode.map_or(Ok(()), |mode| file.set_permissions(Permissions::from_mode(mode))))
        .and_then(|()| file.sync_all())
        .map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    // The rename is on disk only when the folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

/// Removes the file; one that is absent is no error.
///
/// # Errors
/// The folder cannot be written.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Creates the folder and those above it; the folder has exactly these permissions, also if it existed.
///
/// # Errors
/// The folder cannot be created or is another user's.
pub fn create_folder(path: &Path, access: Access) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(access.mode).create(path).map_err(failed("create", path))?;
    set_access(path, access)
}

/// Binds a unix socket, nonblocking. It is bound under another name and renamed, so that no client finds it without its
/// permissions, and the socket of an earlier process is replaced without a gap.
///
/// # Errors
/// The folder cannot be written.
pub fn bind_socket(path: &Path, access: Access) -> Result<UnixListener, FileError> {
    let fresh = beside(path);
    remove(&fresh)?;
    let listener = UnixListener::bind(&fresh).map_err(failed("listen on", &fresh))?;
    listener.set_nonblocking(true).map_err(failed("listen on", &fresh))?;
    set_access(&fresh, access)?;
    fs::rename(&fresh, path).map_err(failed("replace", path))?;
    Ok(listener)
}

fn set_access(path: &Path, access: Access) -> Result<(), FileError> {
    if access.group.is_some() {
        chown(path, None, access.group).map_err(failed(CHANGE_GROUP, path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(access.mode)).map_err(failed("change the mode of", path))
}

/// The temporary name in the same folder: hidden, and without the suffix by which readers find files.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o777)
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.json");
        replace(&path, b"one")?;
        replace_with_mode(&path, b"two", 0o604)?;
        assert_eq!((fs::read(&path)?, mode(&path)?), (b"two".to_vec(), 0o604));
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        remove(&path)?;
        remove(&path)?;
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn an_error_names_the_step_and_the_path() {
        let error = replace(Path::new("/nonexistent/a.json"), b"").err().map(|error| error.to_string());
        assert!(error.is_some_and(|e| e.starts_with("cannot create /nonexistent/.a.json.new: ")));
    }

    #[test]
    fn a_stale_socket_is_replaced() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let folder = dir.path().join("run");
        create_folder(&folder, Access { mode: 0o750, group: None })?;
        let path = folder.join("api.sock");
        drop(bind_socket(&path, Access { mode: 0o660, group: None })?);
        let _listener = bind_socket(&path, Access { mode: 0o660, group: None })?;
        std::os::unix::net::UnixStream::connect(&path)?;
        assert_eq!((mode(&path)?, mode(&folder)?), (0o660, 0o750));
        Ok(())
    }
}
