//! Match blocks of VirtualServices and HTTPRoutes to conditions on requests.

pub(super) mod http_route;

pub(super) mod virtual_service;
