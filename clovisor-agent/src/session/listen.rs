//! The socket: its folder, its rights, its connections.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections at a time; a proxy has one per worker thread.
const CONNECTIONS: usize = 1024;

/// Why the callout's socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("callout socket path {0} has no parent folder; give an absolute path")]
    NoFolder(PathBuf),
    #[error("{0} exists and is no socket; remove it or choose another path for the callout socket")]
    NotASocket(PathBuf),
    #[error(
        "cannot {action} {path} for the callout: {source}; check the path and that the agent may write there"
    )]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Binds the socket: folder 0750, socket 0660, both of the group `gid` if given.
///
/// It is made under another name and moved to its place, so that a proxy never finds it without its rights, and
/// a stale one (or that of an agent that is about to end) is replaced without a gap.
pub fn bind(path: &Path, gid: Option<u32>) -> Result<UnixListener, ListenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.ok_or_else(|| ListenError::NoFolder(path.to_owned()))?;
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o750).create(folder).map_err(failed("create", folder))?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &fresh)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("listen on", &fresh))?;
    grant(folder, 0o750, gid)?;
    grant(&fresh, 0o660, gid)?;
    fs::rename(&fresh, path).map_err(failed("create", path))?;
    Ok(listener)
}

fn grant(path: &Path, mode: u32, gid: Option<u32>) -> Result<(), ListenError> {
    if gid.is_some() {
        chown(path, None, gid).map_err(failed("change the group of", path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("change the mode of", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |source| ListenError::Io { action, path, source }
}

/// The listener's connections, without end; at most [`CONNECTIONS`] at a time, the next ones wait.
pub(crate) fn connections(
    listener: UnixListener,
) -> impl futures_util::Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    futures_util::stream::unfold((listener, permits), async |(listener, permits)| {
        let permit = permits.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = Connection { stream, _permit: permit };
                    return Some((Ok(connection), (listener, permits)));
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

/// A connection that counts against the limit while it lives.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
