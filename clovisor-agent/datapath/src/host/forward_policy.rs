//! The node's policy for forwarded packets, read at intervals: no event on the netlink socket tells of changed rules.

use super::legacy::{LegacyTables, legacy_tables};
use super::net::HostNet;
use super::nftables::forward_policy;
use std::io;
use tokio::task::spawn_blocking;

/// The policy at the last reading.
#[derive(Clone, Default, PartialEq)]
pub(super) struct ForwardPolicy {
    chain: Option<String>,
    tables: LegacyTables,
}

impl ForwardPolicy {
    pub(super) fn write_to(&self, net: &mut HostNet) {
        net.forward_policy.clone_from(&self.chain);
        net.legacy_tables = self.tables;
    }

    /// Reads it again.
    pub(super) async fn look(mut self) -> Self {
        self.read().await;
        self
    }

    pub(super) async fn read(&mut self) {
        let chain = read("rules of nftables", forward_policy).await;
        let tables = read("names of iptables-legacy's tables", legacy_tables).await;
        if let Some(policy) = chain.as_ref().filter(|_| chain != self.chain) {
            tracing::warn!(%policy, "links in mode Redirect bypass the node's policy for forwarded packets");
        }
        if !tables.is_empty() && tables != self.tables {
            tracing::warn!(
                %tables,
                "tables of iptables-legacy, whose rules the agent cannot read: links in mode Redirect bypass what \
                 they do with forwarded packets"
            );
        }
        (self.chain, self.tables) = (chain, tables);
    }
}

/// Nothing where the kernel has none of it, or does not show it.
async fn read<T: Default + Send + 'static>(what: &'static str, how: fn() -> io::Result<T>) -> T {
    let result = spawn_blocking(how).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.unwrap_or_else(|error| {
        tracing::debug!(what, %error, "not read");
        T::default()
    })
}
