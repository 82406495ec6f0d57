//! The two-node cluster to play with, and its demo.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use harness::cluster::{Cluster, shop};
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::try_out::POOLED;
use harness::site::{Site, journal};
use harness::summary::{Summary, summarize};
use nix::sys::signal::{SigSet, Signal};
use std::path::PathBuf;
use std::process::ExitCode;

const NAME: &str = "cluster";

/// A real Kubernetes of two nodes, edge and cloud, with two links between them; Clovisor on it.
#[derive(Parser, Debug)]
#[command(name = "clovisor-cluster", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Hold a cluster until SIGTERM; what to try is written into STATE when it is ready.
    Hold { state: PathBuf },
    /// Remove what clusters and sites of processes that are gone left: namespaces, processes, mounts.
    RemoveStale,
    /// Send mixed requests from each client; exit code 0 only if none took a wrong link.
    Demo {
        /// Requests of each client.
        #[arg(long, default_value_t = 1000)]
        requests: usize,
    },
}

fn main() -> ExitCode {
    // Every thread inherits this: the signal is taken where it is waited for.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    if stop.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    let result = match Arguments::parse().command {
        Command::Hold { state } => hold(&state, &stop),
        Command::RemoveStale => journal::remove_dead(),
        Command::Demo { requests } => {
            interruptible(stop);
            demo(requests)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C ends the demo and leaves nothing.
fn interruptible(stop: SigSet) {
    std::thread::spawn(move || {
        if stop.wait().is_ok() {
            journal::remove_own(NAME);
            std::process::exit(130);
        }
    });
}

fn start(site: &Site) -> Result<(Cluster, Vec<String>)> {
    eprintln!("starting etcd, Kubernetes and two nodes");
    let cluster = Cluster::start(site, "nftables")?;
    eprintln!("installing Clovisor: kubectl apply --server-side -k deploy/agent/overlays/standalone-crds");
    let ready = shop::install(&cluster, "agent/overlays/standalone-crds")?;
    eprintln!(
        "agents ready after {:.1} s; applying links, routes, mappings and three clients",
        ready.as_secs_f64()
    );
    shop::example(&cluster)?;
    let clients = shop::clients(&cluster)?;
    Ok((cluster, clients))
}

fn hold(state: &std::path::Path, stop: &SigSet) -> Result<()> {
    // Its processes must outlive the thread that starts them.
    let site = Site::builder(NAME).pods(0).outliving_its_thread().build()?;
    let (cluster, clients) = start(&site)?;
    let netns = cluster.netns().path();
    let kubeconfig = cluster.kubeconfig();
    let client = clients.first().context("no client")?;
    let text = format!(
        "The cluster is up. Its API server is reached inside its own network:\n\n\
         \x20   alias k='nsenter --net={netns} {kubectl} --kubeconfig {kubeconfig}'\n\
         \x20   k get nodes,wanlinks,wannodes -o wide\n\
         \x20   k get wanmappings -n shop\n\
         \x20   k logs -n clovisor-system daemonset/clovisor-agent\n\
         \x20   nsenter --net={netns} env KUBECONFIG={kubeconfig} {plugin} status\n\
         \x20   nsenter --net={netns} env KUBECONFIG={kubeconfig} {plugin} explain {client} -n shop -- --host {host}:{port} --header user=minions\n\
         \x20   ip -n {cloud} link set s9 down    # cut a link\n\
         \x20   ip -n {cloud} link set s9 up      # mend it\n\n\
         {pooled}\n\n\
         `cargo xtask cluster down` takes it away.\n",
        pooled = POOLED,
        netns = netns.display(),
        kubeconfig = kubeconfig.display(),
        kubectl = std::path::absolute("target/tools/kubectl").context("no current folder")?.display(),
        plugin = plugin()?.display(),
        host = shop::HOST,
        port = shop::PORT,
        cloud = site.cloud.name(),
    );
    // Renamed into place: who waits for the file reads all of it.
    let fresh = state.with_extension("new");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, state));
    written.with_context(|| format!("cannot write {}", state.display()))?;
    stop.wait().context("cannot wait for a signal")?;
    std::fs::remove_file(state).with_context(|| format!("cannot remove {}", state.display()))
}

/// `clovisorctl` by the name that makes it kubectl's plugin.
fn plugin() -> Result<PathBuf> {
    let link = std::path::absolute("target/tools/kubectl-clovisor").context("no current folder")?;
    if !link.exists() {
        let tool = std::path::absolute("target/debug/clovisorctl").context("no current folder")?;
        std::os::unix::fs::symlink(tool, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(link)
}

fn callers() -> Vec<Caller> {
    let of = |name: &str, link: &str, users: Vec<String>| Caller { users, ..Caller::user(name, link) };
    vec![
        Caller::user("boss", "s8"),
        Caller::user("minions", "s9"),
        of("crew", "s9", objects::users("crew-", 1000)),
        of("guests", "s8", objects::users("guest-", 100)).grouped("default"),
        of("nobody", "s8", Vec::new()).grouped("default"),
    ]
}

const DECIDED_BY: [&str; 5] =
    ["route boss", "route minions", "agent: set of 1,000", "agent: not in the set", "no mapping"];

fn demo(requests: usize) -> Result<()> {
    let site = Site::builder(NAME).pods(0).build()?;
    let (cluster, clients) = start(&site)?;
    let mut wrong = false;
    for client in &clients {
        let callers = callers();
        let load = Load::new(Site::service(false, 8001), shop::HOST, callers.clone()).over(Http::H2);
        let summary = summarize(&callers, &load.requests(requests).run(&cluster.pod_netns("shop", client)?)?);
        println!("\n{client}: {requests} requests over {} connections", summary.connections);
        table(&summary);
        wrong |= !summary.clean();
    }
    ensure!(!wrong, "some requests took a wrong link or failed");
    println!("\n{} requests, 0 wrong", requests * clients.len());
    Ok(())
}

fn table(summary: &Summary) {
    println!("    {:<9} {:<23} {:<6} {:>6} {:>6} {:>6}", "USER", "DECIDED BY", "ASKED", "s8", "s9", "WRONG");
    for (row, by) in summary.callers.iter().zip(DECIDED_BY) {
        let of = |link: &str| match row.links.get(link) {
            Some(count) => count.to_string(),
            None => "-".into(),
        };
        let bad = row.wrong + row.errors;
        println!("    {:<9} {by:<23} {:<6} {:>6} {:>6} {bad:>6}", row.name, row.asked, of("s8"), of("s9"));
    }
}
