//! Routes of managed proxies, whose configuration Clovisor writes itself.

pub(super) mod service;

mod route;

mod virtual_service;

mod http_route;

pub(super) mod routing;

pub(super) mod unused;
