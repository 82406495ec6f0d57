use super::journal;
use crate::envoy::{self, PROXY_UID};
use crate::eventually::eventually;
use crate::netns::Netns;
use crate::process::{Identity, Process, setpriv};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

pub(super) fn start(
    name: &str,
    netns: &Netns,
    config: &Path,
    root: &Path,
    dies_with_thread: bool,
) -> Result<Process> {
    let words = setpriv(Identity::Plain(PROXY_UID), dies_with_thread);
    let mut command = netns.command(&words[0]);
    command.args(&words[1..]).arg(journal::reachable(&envoy::binary()?, root)?).arg("-c").arg(config);
    command.args(["--disable-hot-restart", "--concurrency", "2", "-l", "warning"]);
    Process::start(name, &mut command, root)
}

pub(super) fn listening(process: &mut Process, netns: &Netns, port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually(&format!("port {port}"), Duration::from_secs(20), || {
        let dial = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        netns.within(dial)?.map(drop).context("nobody listens")
    })
    .or_else(|error| process.check().and(Err(error)))
}

/// What a sidecar's init container sets up: every TCP connection of the pod goes to the proxy, except the
/// proxy's own.
pub(super) const REDIRECT: &str = include_str!("../../../deploy/envoy/redirect.nft");
