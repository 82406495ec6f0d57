//! Netlink requests, and what can go wrong with them.

use rtnetlink::{Handle, new_multicast_connection};

/// The network of this node could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("netlink socket: {0}; the agent must run in the node's network namespace")]
    Socket(#[from] std::io::Error),
    #[error("netlink dump: {0}; the agent tries again")]
    Dump(#[from] rtnetlink::Error),
}

/// Runs one request over a socket of its own.
///
/// # Errors
/// There is no netlink socket, or the request failed.
pub(super) async fn request<T>(
    request: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, HostError> {
    let (connection, handle, _events) = new_multicast_connection(&[])?;
    let connection = tokio::spawn(connection);
    let result = request(handle).await;
    connection.abort();
    Ok(result?)
}

/// The same result, but success where netlink answered one of these error numbers.
pub(super) fn tolerate(result: Result<(), rtnetlink::Error>, errnos: &[i32]) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) if errnos.contains(&-error.raw_code()) => Ok(()),
        result => result,
    }
}
