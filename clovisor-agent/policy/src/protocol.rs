//! What the port of a service speaks: its declared protocol, else the first word of its name, as in Istio.

use clovisor_objects::istio::ServicePort;
use clovisor_objects::service::Port;

/// Application protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppProtocol {
    Http1,
    /// HTTP/2 and gRPC.
    Http2,
    /// A protocol in which the proxy sees no requests.
    Opaque,
    /// Undeclared or unknown: Istio's sidecars inspect the first bytes and route what turns out to be HTTP.
    Undeclared,
}

impl AppProtocol {
    /// The protocol of a ServiceEntry's port.
    #[must_use]
    pub(crate) fn of_entry(port: &ServicePort) -> Self {
        Self::of_word(if port.protocol.is_empty() { first_word(&port.name) } else { &port.protocol })
    }

    /// The protocol of a Service's port.
    #[must_use]
    pub(crate) fn of_service(port: &Port) -> Self {
        Self::of_word(port.app_protocol.as_deref().unwrap_or_else(|| first_word(&port.name)))
    }

    /// Whether Istio's sidecars route requests on the port. Managed proxies need the protocol declared.
    #[must_use]
    pub(crate) fn is_http(self) -> bool {
        self != Self::Opaque
    }

    fn of_word(word: &str) -> Self {
        match word.to_ascii_uppercase().as_str() {
            "HTTP" => Self::Http1,
            "HTTP2" | "GRPC" | "GRPC-WEB" => Self::Http2,
            "TCP" | "TLS" | "HTTPS" | "UDP" | "MONGO" | "MYSQL" | "REDIS" | "KUBERNETES.IO/WSS" => {
                Self::Opaque
            }
            _ => Self::Undeclared,
        }
    }
}

fn first_word(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_protocol_wins_over_the_name_of_the_port() {
        let entry = |name: &str, protocol: &str| {
            let port = ServicePort { name: name.into(), protocol: protocol.into(), ..ServicePort::default() };
            AppProtocol::of_entry(&port)
        };
        assert_eq!(entry("http", "HTTP"), AppProtocol::Http1);
        assert_eq!(entry("grpc-x", ""), AppProtocol::Http2);
        assert_eq!(entry("db", "TCP"), AppProtocol::Opaque);
        assert_eq!(entry("http", "HTTPS"), AppProtocol::Opaque);
        let service = |name: &str, app_protocol: Option<&str>| {
            let port = Port { name: name.into(), app_protocol: app_protocol.map(Into::into), port: 80 };
            AppProtocol::of_service(&port)
        };
        assert_eq!(service("http-api", None), AppProtocol::Http1);
        assert_eq!(service("http", Some("kubernetes.io/wss")), AppProtocol::Opaque);
        assert!(service("", None).is_http() && !service("redis", None).is_http());
    }
}
