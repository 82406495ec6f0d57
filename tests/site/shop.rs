//! The shop: four services that differ in HTTP version and address family, one set of routes and mappings.

use anyhow::Result;
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::{APP_PORT, Site};
use harness::summary::{Summary, summarize};

/// Size of the set that the agent decides on.
pub(crate) const CREW: usize = 10_000;

/// One service: what a client dials and writes as host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) host: &'static str,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
    pub(crate) ipv6: bool,
}

const fn service(host: &'static str, port: u16, protocol: &'static str, ipv6: bool) -> Service {
    Service { host, port, protocol, ipv6 }
}

/// Every pair of HTTP version and address family towards the far end.
pub(crate) const SERVICES: [Service; 4] = [
    service("h1v4.shop.svc.cluster.local", 8001, "HTTP", false),
    service("h2v4.shop.svc.cluster.local", 8002, "HTTP2", false),
    service("h1v6.shop.svc.cluster.local", 8003, "HTTP", true),
    service("h2v6.shop.svc.cluster.local", 8004, "HTTP2", true),
];

/// Applies links, services, routes and mappings: boss by s8, minions by s9, the crew by s9 as the agent decides,
/// everyone else by the default route.
pub(crate) fn apply(site: &Site) -> Result<()> {
    apply_with(site, "")
}

/// The same with more lines in the spec of every mapping.
pub(crate) fn apply_with(site: &Site, extra: &str) -> Result<()> {
    site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link("s9", "")))?;
    site.apply("2-services.yaml", &services())?;
    site.apply("3-pods.yaml", &objects::pods(&site.pods))?;
    site.apply("4-mappings.yaml", &mappings(extra))
}

pub(crate) fn services() -> String {
    let mut text = String::new();
    for service in SERVICES {
        let endpoint = Site::service(service.ipv6, APP_PORT);
        text += &objects::service(service.host, service.port, service.protocol, endpoint);
        text += &objects::routes(service.host, &["boss", "minions"]);
    }
    text
}

pub(crate) fn mappings(extra: &str) -> String {
    let hosts = SERVICES.map(|service| service.host);
    let crew = objects::set_rule("crew", &objects::users("crew-", CREW), &["s9", "s8"]);
    objects::mapping(&hosts, "boss", &["s8", "s9"], extra)
        + &objects::mapping(&hosts, "minions", &["s9", "s8"], extra)
        + &objects::mapping(&hosts, "users", &[], &(crew + extra))
}

/// Everyone who sends requests. Some forge the header that carries the agent's answer.
pub(crate) fn callers() -> Vec<Caller> {
    let mut crew = Caller::user("crew", "s9");
    crew.users = objects::users("crew-", CREW);
    let mut guests = Caller::user("guests", "s8").grouped("default");
    guests.users = objects::users("guest-", 100);
    let mut forgers = Caller::user("forgers", "s8").grouped("default");
    forgers.users = objects::users("forger-", 100);
    forgers.headers = (1..=3).map(|class| ("x-clovisor-class".to_owned(), class.to_string())).collect();
    let mut nobody = Caller::user("nobody", "s8").grouped("default");
    nobody.users.clear();
    vec![Caller::user("boss", "s8"), Caller::user("minions", "s9"), crew, guests, forgers, nobody]
}

/// Mixed requests to a service over 20 shared connections.
pub(crate) fn load(service: Service, http: Http, requests: usize) -> Load {
    let target = Site::service(service.ipv6, service.port);
    Load::new(target, service.host, callers()).over(http).requests(requests)
}

/// Requests of the minions alone, who go by s9.
pub(crate) fn minions(requests: usize) -> Load {
    let mut load = load(SERVICES[0], Http::H1, requests);
    load.callers.retain(|caller| caller.name == "minions");
    load
}

/// New connections of the first pod's proxy: those of before keep their link.
pub(crate) fn reconnect(site: &mut Site) -> Result<()> {
    site.stop_proxy(0)?;
    site.start_proxy(0)
}

/// Sends them from the first pod and judges.
pub(crate) fn run(site: &Site, service: Service, http: Http, requests: usize) -> Result<Summary> {
    Ok(summarize(&callers(), &load(service, http, requests).run(&site.pods[0].netns)?))
}

/// A site with agent and proxy, ready to send.
pub(crate) fn open(site: &mut Site) -> Result<()> {
    apply(site)?;
    site.start_agent()?;
    site.start_proxy(0)
}
