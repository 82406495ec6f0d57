//! Routes of the proxies that Clovisor configures itself.

pub(super) mod service;

pub(super) mod route;

mod virtual_service;

mod http_route;

pub(super) mod routing;
