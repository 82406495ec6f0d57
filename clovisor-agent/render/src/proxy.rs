//! What the renderers must know of a proxy's pod: paths, ports and limits.

use std::path::PathBuf;
use std::time::Duration;

/// Settings that the proxies of a namespace share; paths are as the pod sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderConfig {
    /// The folder with this namespace's files.
    pub mount: PathBuf,
    /// The agent's callout socket.
    pub callout: PathBuf,
    /// The folder with `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    pub certificates: PathBuf,
    pub admin: Admin,
    /// Port that the pod's outbound connections are redirected to.
    pub outbound_port: u16,
    /// Whether to listen on `::` too.
    pub ipv6: bool,
    /// How long a request waits for the agent's answer.
    pub callout_timeout: Duration,
    /// How long a connection to an endpoint may take, TLS included.
    pub connect_timeout: Duration,
}

/// Where Envoy's own admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Port on the pod's loopback address.
    Loopback(u16),
    /// Unix socket; not to be shared by two pods.
    Pipe(PathBuf),
}

impl Default for RenderConfig {
    /// Paths as Clovisor's own deployment mounts them, ports as in Istio.
    fn default() -> Self {
        Self {
            mount: PathBuf::from("/etc/clovisor/envoy"),
            callout: PathBuf::from("/run/clovisor/callout/callout.sock"),
            certificates: PathBuf::from("/etc/clovisor/certs"),
            admin: Admin::Loopback(15000),
            outbound_port: 15001,
            ipv6: true,
            callout_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(5),
        }
    }
}
