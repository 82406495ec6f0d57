use anyhow::{Context, Result, ensure};
use harness::envoy::Exposed;
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::{APP_PORT, Site, journal};
use std::time::Duration;

/// Host of the service, as a client writes it.
pub(crate) const HOST: &str = "reviews.shop.svc.cluster.local:8000";
/// Size of the set that the agent decides on.
pub(crate) const CREW: usize = 10_000;

/// Who decides for a caller, for the table.
pub(crate) const DECIDED_BY: [(&str, &str); 5] = [
    ("boss", "route boss"),
    ("minions", "route minions"),
    ("crew", "agent: set of 10,000"),
    ("guests", "agent: not in the set"),
    ("nobody", "no mapping"),
];

/// The site with the example's objects, and nothing started yet.
pub(crate) fn build() -> Result<Site> {
    let site = Site::builder("demo").build()?;
    let folder = harness::repository::path("deploy/example");
    for entry in std::fs::read_dir(&folder).context("cannot read deploy/example")? {
        let entry = entry.context("cannot read deploy/example")?;
        let name = entry.file_name();
        let name = name.to_str().context("a file name that is not UTF-8")?;
        let text = std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {name}"))?;
        site.apply(name, &filled(&text)?)?;
    }
    Ok(site)
}

/// The example with its three users replaced by 10,000.
fn filled(text: &str) -> Result<String> {
    const SHORT: &str = "in: [kevin, stuart, bob]";
    if !text.contains("kind: WanMapping\nmetadata:\n  name: crew\n") {
        return Ok(text.to_owned());
    }
    ensure!(text.contains(SHORT), "the crew example has no `{SHORT}` any more");
    let users = objects::users("crew-", CREW).join(", ");
    Ok(text.replace(SHORT, &format!("in: [{users}]")))
}

/// Starts the cloud's gateway: mTLS, server names as Istio writes them.
pub(crate) fn start_gateway(site: &mut Site) -> Result<()> {
    site.start_gateway(&[Exposed {
        host: "reviews.shop.svc.cluster.local".to_owned(),
        port: 8000,
        local_port: APP_PORT,
    }])
}

/// Everyone who sends requests, and the link that the crew has now.
pub(crate) fn callers(crew_link: &str) -> Vec<Caller> {
    let group = if crew_link == "s9" { "crew" } else { "default" };
    let mut crew = Caller::user("crew", crew_link).grouped(group);
    crew.users = objects::users("crew-", CREW);
    let mut guests = Caller::user("guests", "s8").grouped("default");
    guests.users = objects::users("guest-", 100);
    let mut nobody = Caller::user("nobody", "s8").grouped("default");
    nobody.users.clear();
    vec![Caller::user("boss", "s8"), Caller::user("minions", "s9"), crew, guests, nobody]
}

/// Requests of these callers over 20 shared connections.
pub(crate) fn load(callers: &[Caller], requests: usize) -> Load {
    let target = Site::service(false, APP_PORT);
    Load::new(target, HOST, callers.to_vec()).over(Http::H1).requests(requests)
}

/// Requests of minions alone, a few clients with a short pause, for at most ten seconds.
pub(crate) fn minions(requests: usize) -> Load {
    let load = load(&[Caller::user("minions", "s9")], requests);
    let mut load = load.concurrency(4).pace(Duration::from_millis(5));
    load.limit = Duration::from_secs(10);
    load
}

/// Removes the site on Ctrl-C and SIGTERM: the main thread may be anywhere, so the work is done from what
/// is on disk.
pub(crate) fn clean_up_on_signal() {
    let listen = async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok::<(), std::io::Error>(())
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(listen).is_ok()) {
            eprintln!("\ninterrupted; removing the site");
            journal::remove_own("demo");
            std::process::exit(130);
        }
    });
}
