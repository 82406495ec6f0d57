//! The socket: its folder, its permissions, its connections.

use crate::connection::{Connection, ConnectionLimit, Patience};
use clovisor_datapath::files::{Access, CHANGE_GROUP, FileError, bind_socket, create_folder};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections at a time; a proxy has one per worker thread.
const CONNECTIONS: usize = 1024;
/// Bytes of the client's connection preface (RFC 9113, section 3.4), and how long it has for them: connections that say nothing
/// take the places of proxies.
const PREFACE: usize = 24;
const OPENING: Duration = Duration::from_secs(5);

/// Why the callout's socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("callout socket path {0} has no parent folder; give an absolute path")]
    NoFolder(PathBuf),
    #[error("{0} exists and is no socket; remove it or choose another path for the callout socket")]
    NotASocket(PathBuf),
    #[error(
        "callout socket: {source}; add group {gid} to the groups of the agent's user (supplementalGroups in a pod), give \
         the agent CAP_CHOWN, or name a group that it is in with --proxy-gid"
    )]
    NotInGroup { gid: u32, source: FileError },
    #[error("callout socket: {0}; check the path and that the agent may write there")]
    Io(#[from] FileError),
}

/// Binds the socket: folder 0750, socket 0660, both of the group `gid` if given.
///
/// # Errors
/// The path has no folder, a file that is no socket stands there, or the folder cannot be written.
pub fn bind(path: &Path, gid: Option<u32>) -> Result<UnixListener, ListenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.ok_or_else(|| ListenError::NoFolder(path.to_owned()))?;
    let not_in_group = |error| refused_group(gid, error);
    create_folder(folder, Access { mode: 0o750, group: gid }).map_err(not_in_group)?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    let listener = bind_socket(path, Access { mode: 0o660, group: gid }).map_err(not_in_group)?;
    UnixListener::from_std(listener)
        .map_err(|source| FileError { action: "listen on", path: path.to_owned(), source }.into())
}

/// Who is not root may give a file only to a group of its own.
fn refused_group(gid: Option<u32>, error: FileError) -> ListenError {
    match gid {
        Some(gid)
            if error.action == CHANGE_GROUP && error.source.kind() == io::ErrorKind::PermissionDenied =>
        {
            ListenError::NotInGroup { gid, source: error }
        }
        _ => error.into(),
    }
}

/// The listener's connections, without end; at most [`CONNECTIONS`] at a time, the next ones wait.
pub(crate) fn connections(
    listener: UnixListener,
) -> impl futures_util::Stream<Item = io::Result<Connection<UnixStream>>> {
    let places = ConnectionLimit::new(CONNECTIONS);
    futures_util::stream::unfold((listener, places), async |(listener, places)| {
        let place = places.take().await?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection =
                        Connection::new(stream, Some(place), Patience::for_opening(PREFACE, OPENING));
                    return Some((Ok(connection), (listener, places)));
                }
                // Out of file descriptors, most likely: others go on, and some will be free soon.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a callout connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

impl Connected for Connection<UnixStream> {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream().connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_the_rights_are_narrow() -> Result<(), Box<dyn std::error::Error>>
    {
        let root = tempfile::tempdir()?;
        let path = root.path().join("callout/callout.sock");
        drop(bind(&path, None)?);
        let _listener = bind(&path, None)?;
        let _connected = UnixStream::connect(&path).await?;
        let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
        assert_eq!(mode(&path)?, 0o660);
        assert_eq!(mode(&root.path().join("callout"))?, 0o750);
        Ok(())
    }

    #[test]
    fn a_group_that_the_agent_is_not_in_is_said_once_with_what_to_do() {
        let source = io::Error::from_raw_os_error(1);
        let error = FileError { action: CHANGE_GROUP, path: "/run/clovisor/callout".into(), source };
        let text = clovisor_datapath::causes::causes(&refused_group(Some(1337), error));
        assert_eq!(text.matches("Operation not permitted").count(), 1, "{text}");
        assert!(text.contains("/run/clovisor/callout") && text.contains("group 1337"), "{text}");
        assert!(text.contains("CAP_CHOWN") && text.contains("--proxy-gid"), "{text}");
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_kept() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let path = root.path().join("callout.sock");
        fs::write(&path, "mine")?;
        assert!(matches!(bind(&path, None), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path)?, "mine");
        Ok(())
    }
}
