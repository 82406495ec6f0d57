//! A real cluster of two nodes: the DaemonSet, pods with real Envoys, kube-proxy, and everything that goes away.

use anyhow::{Context, Result, ensure};
use harness::agent::binary;
use harness::cluster::Cluster;
use harness::cluster::shop::{
    AGENT, HOST, PORT, clients, deploy, example, install, mappings, pods, wait_pods,
};
use harness::eventually::eventually;
use harness::load::{Caller, Http, Load};
use harness::netns::{Netns, run};
use harness::objects;
use harness::site::Site;
use harness::summary::summarize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Mixed requests from a pod, each by its own link.
fn exact(cluster: &Cluster, pod: &str, minions: &str, requests: usize) -> Result<()> {
    exact_in(&cluster.pod_netns("shop", pod)?, minions, requests, Duration::ZERO, true)
        .context(pod.to_owned())
}

/// `asks`: some of them need the agent's answer.
fn exact_in(netns: &Netns, minions: &str, requests: usize, pace: Duration, asks: bool) -> Result<()> {
    let others = Caller::user("others", "s8").grouped("default");
    let mut crew = Caller::user("crew", "s9");
    crew.users = objects::users("crew-", 1000);
    let mut callers = vec![Caller::user("boss", "s8"), Caller::user("minions", minions), others];
    callers.extend(asks.then_some(crew));
    let mut load =
        Load::new(Site::service(false, PORT), HOST, callers.clone()).over(Http::H1).requests(requests);
    load.pace = pace;
    let summary = summarize(&callers, &load.run(netns)?);
    ensure!(summary.clean() && summary.requests == requests, "{summary:#?}");
    Ok(())
}

/// What others have set up on the edge: rules, routes, qdiscs.
fn others(cluster: &Cluster) -> Result<String> {
    let mut all = String::new();
    for words in [
        "nft -s list ruleset",
        "ip rule",
        "ip route",
        "ip -6 route",
        "tc qdisc show dev s8",
        "tc qdisc show dev s9",
    ] {
        let mut parts = words.split(' ');
        let mut command = cluster.in_node(0, parts.next().context("a program")?)?;
        all += &format!("--- {words}\n{}", run(command.args(parts), None)?);
    }
    Ok(all)
}

/// The same once kube-proxy has its rules and the bridge of the pods is there: a first pod has come and gone.
fn settled(cluster: &Cluster) -> Result<String> {
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: first, labels: {app: first}}\n\
         spec: {nodeName: edge, terminationGracePeriodSeconds: 0, containers: [{name: app, image: 'localhost/pause:1'}]}\n",
    )?;
    wait_pods(cluster, "default", "app=first", 1)?;
    cluster.kubectl(&["delete", "pod", "first"], None)?;
    eventually("kube-proxy's rules and an empty bridge", Duration::from_secs(30), || {
        let now = others(cluster)?;
        ensure!(now.contains("10.96.0.1 . tcp . 443") && now.contains("src 10.244.0.1 linkdown"), "{now}");
        Ok(now)
    })
}

/// Services go on: a pod reaches the API server by its ClusterIP, through its proxy and kube-proxy.
fn cluster_ip(cluster: &Cluster, pod: &str) -> Result<()> {
    let kubectl = harness::repository::path("target/tools/kubectl");
    let mut command = cluster.pod_netns("shop", pod)?.command(kubectl);
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--server", "https://10.96.0.1"]);
    let version = run(command.args(["get", "--raw", "/version"]), None)?;
    ensure!(version.contains("gitVersion"), "{version}");
    Ok(())
}

/// The tool as kubectl's plugin.
fn plugin(cluster: &Cluster, site: &Site) -> Result<()> {
    let folder = site.path("plugin");
    std::fs::create_dir_all(&folder).context("cannot make a folder")?;
    std::os::unix::fs::symlink(binary("clovisorctl")?, folder.join("kubectl-clovisor"))
        .context("cannot link")?;
    let ask = |words: &str| -> Result<String> {
        let kubectl = harness::repository::path("target/tools/kubectl");
        let mut command = cluster.netns().command(kubectl);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", folder.display())).env("KUBECONFIG", cluster.kubeconfig());
        command.env("HOME", &folder).current_dir(&folder).arg("clovisor").args(words.split(' '));
        run(&mut command, None)
    };
    let status = ask("status")?;
    ensure!(status.contains("edge    ready   2/2") && status.contains("cloud   ready   0/0"), "{status}");
    let links = ask("links --node edge")?;
    ensure!(
        links.contains("edge   s9     Up      IPv4,IPv6   Active") && !links.contains("cloud"),
        "{links}"
    );
    let sessions = ask("sessions -n shop -l app=client")?;
    ensure!(sessions.contains("(minions)") && sessions.contains("(boss)"), "{sessions}");
    ensure!(!ask("sessions -n default")?.contains("(boss)"));
    let pod = pods(cluster, "shop", "app=client")?.remove(0);
    let explained = ask(&format!("explain {pod} -n shop -- --host {HOST}:{PORT} --header user=minions"))?;
    ensure!(explained.contains("s9"), "{explained}");
    eventually("every check passes", Duration::from_secs(60), || ask("check").map(drop))?;
    let spare = objects::link("s7", "  nodeSelector: {kubernetes.io/hostname: nowhere}\n");
    cluster.apply(&spare)?;
    eventually("the check of a link that no node has", Duration::from_secs(20), || {
        let checked = ask("check").err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(checked.contains("1 of 13 checks failed"), "{checked}");
        Ok(())
    })?;
    cluster.kubectl(&["delete", "wanlink", "s7"], None)?;
    ensure!(ask("check --pre")?.contains("kernel of node edge"));
    let dumped = ask("sysdump dump")?;
    ensure!(dumped == "dump\n" && folder.join("dump/edge-status.json").is_file(), "{dumped}");
    ensure!(!folder.join("dump/missing.txt").exists(), "see missing.txt in the dump");
    Ok(())
}

/// The agent's answer to a scrape, from its node.
fn scrape(edge: &Netns) -> Result<String> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:9464").context("the agent does not listen")?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").context("cannot ask")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("cannot read")?;
        Ok(text)
    };
    edge.within(ask)?
}

/// Nobody reaches the agent from another machine.
fn hidden(cluster: &Cluster) -> Result<()> {
    let connect = || TcpStream::connect("10.250.0.11:9464").map(drop).map_err(|error| error.kind());
    let tried = cluster.netns().within(connect)?;
    ensure!(tried == Err(ErrorKind::ConnectionRefused), "{tried:?}");
    Ok(())
}

/// From nothing to requests on their links, through a cluster's life, and back to nothing.
#[test]
fn a_real_cluster_steers_and_survives() -> Result<()> {
    Site::builder("nodes").pods(0).run(|site| {
        let begin = Instant::now();
        let mut cluster = Cluster::start(site, "nftables")?;
        eprintln!("nodes ready after {:.1?}", begin.elapsed());
        let before = settled(&cluster)?;
        let ready = install(&cluster, "agent")?;
        eprintln!("DaemonSet ready {ready:.1?} after its apply");
        example(&cluster)?;
        let names = clients(&cluster)?;
        eprintln!("clients ready after {:.1?}", begin.elapsed());
        for pod in &names {
            exact(&cluster, pod, "s9", 700)?;
        }
        eprintln!("first 2,100 requests after {:.1?}", begin.elapsed());
        cluster_ip(&cluster, names.first().context("no pod")?)?;
        let metrics = scrape(&site.edge)?;
        hidden(&cluster)?;
        ensure!(
            metrics.contains("clovisor_link_up{link=\"s9\"} 1") && metrics.ends_with("# EOF\n"),
            "{metrics}"
        );
        plugin(&cluster, site)?;
        let names = pods_come_and_go(&cluster, &names)?;
        let names = objects_change(&cluster, names)?;
        server_away(&mut cluster, &names, &site.edge)?;
        uninstall(&cluster, &before)
    })
}

/// The agents write their own WanNodes, twice a minute at most; what has the rights of one may not write another's.
fn only_its_own_node(cluster: &Cluster) -> Result<()> {
    let wait = ["wait", "wannode/edge", "--for=jsonpath={.status.linksReady}=2/2", "--timeout=60s"];
    cluster.kubectl(&wait, None)?;
    let write = |node: &str| {
        let account = "--as=system:serviceaccount:clovisor-system:clovisor-agent";
        let extra = format!("--as-user-extra=authentication.kubernetes.io/node-name={node}");
        let forged = "{apiVersion: clovisor.io/v1alpha1, kind: WanNode, metadata: {name: edge, annotations: {a: b}}, spec: {}}";
        cluster.kubectl(&[account, &extra, "apply", "--server-side", "-f", "-"], Some(forged))
    };
    let refused = write("cloud").err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(
        refused.contains("the agent of node cloud may only write its own WanNode, not edge"),
        "{refused}"
    );
    write("edge").map(drop)
}

/// The same with kube-proxy's other mode.
#[test]
fn kube_proxy_with_iptables_is_unharmed() -> Result<()> {
    Site::builder("nodes-iptables").pods(0).run(|site| {
        let cluster = Cluster::start(site, "iptables")?;
        install(&cluster, "agent/overlays/node-restriction")?;
        example(&cluster)?;
        for pod in clients(&cluster)? {
            exact(&cluster, &pod, "s9", 300)?;
            cluster_ip(&cluster, &pod)?;
        }
        only_its_own_node(&cluster)
    })
}

fn pods_come_and_go(cluster: &Cluster, names: &[String]) -> Result<Vec<String>> {
    cluster.kubectl(&["delete", "pod", "-n", "clovisor-system", "-l", AGENT, "--wait=false"], None)?;
    for pod in names {
        exact_in(&cluster.pod_netns("shop", pod)?, "s9", 300, Duration::ZERO, false)?;
    }
    wait_pods(cluster, "clovisor-system", AGENT, 2)?;
    cluster.kubectl(&["delete", "pod", "-n", "shop", names.first().context("no pod")?], None)?;
    let names = wait_pods(cluster, "shop", "app=client", 3)?;
    for pod in &names {
        exact(cluster, pod, "s9", 300)?;
    }
    Ok(names)
}

/// A route that is new, and a mapping that prefers another link; connections that are open stay, so pods are renewed.
fn objects_change(cluster: &Cluster, names: Vec<String>) -> Result<Vec<String>> {
    cluster.apply(&objects::routes(HOST, &["gru", "boss", "minions"]))?;
    for pod in &names {
        exact(cluster, pod, "s9", 100)?;
    }
    cluster.apply(&mappings(&["s8", "s9"]))?;
    let seen =
        ["wait", "wm/minions", "-n", "shop", "--for=jsonpath={.status.conditions[0].observedGeneration}=2"];
    cluster.kubectl(&[&seen[..], &["--timeout=20s"]].concat(), None)?;
    cluster.kubectl(&["delete", "pod", "-n", "shop", "--all"], None)?;
    let names = wait_pods(cluster, "shop", "app=client", 3)?;
    for pod in &names {
        exact(cluster, pod, "s8", 300)?;
    }
    Ok(names)
}

/// A minute without the API server; the edge's agent is killed meanwhile and comes back by what it has on disk.
fn server_away(cluster: &mut Cluster, names: &[String], edge: &Netns) -> Result<()> {
    let words =
        ["get", "pods", "-n", "clovisor-system", "-l", AGENT, "--field-selector=spec.nodeName=edge", "-o"];
    let name = cluster.kubectl(&[&words[..], &["jsonpath={.items[0].metadata.name}"]].concat(), None)?;
    let pid = cluster.pid_of("clovisor-system", &name, "clovisor-agent")?;
    let networks = names.iter().map(|pod| cluster.pod_netns("shop", pod)).collect::<Result<Vec<_>>>()?;
    let away = Instant::now();
    cluster.kill_api()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL)?;
    while away.elapsed() < Duration::from_secs(60) {
        for network in &networks {
            // Spread over the minute.
            exact_in(network, "s8", 200, Duration::from_millis(300), false)?;
        }
    }
    let metrics = scrape(edge)?;
    ensure!(metrics.contains("clovisor_stale{} 1"), "{metrics}");
    cluster.restart_api()?;
    eventually("the server is heard again", Duration::from_secs(30), || {
        ensure!(scrape(edge)?.contains("clovisor_stale{} 0"));
        Ok(())
    })?;
    for pod in names {
        exact(cluster, pod, "s8", 100)?;
    }
    Ok(())
}

/// As the README says; nothing of ours is left, and everything of others is as it was.
fn uninstall(cluster: &Cluster, before: &str) -> Result<()> {
    cluster.kubectl(&["delete", "deployment", "client", "-n", "shop"], None)?;
    cluster.kubectl(&["delete", "daemonset,deployment", "-n", "clovisor-system", "--all"], None)?;
    cluster.kubectl(&["apply", "--server-side", "-k", &deploy("agent/cleanup")], None)?;
    let rolled =
        ["rollout", "status", "daemonset/clovisor-cleanup", "-n", "clovisor-system", "--timeout=180s"];
    cluster.kubectl(&rolled, None)?;
    cluster.kubectl(&["delete", "-k", &deploy("agent/cleanup")], None)?;
    cluster.kubectl(&["delete", "--ignore-not-found", "-k", &deploy("agent")], None)?;
    let left = cluster.kubectl(
        &["get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy", "-o", "name"],
        None,
    )?;
    ensure!(!left.contains("clovisor"), "{left}");
    eventually("the edge is as before", Duration::from_secs(30), || {
        let after = others(cluster)?;
        ensure!(after == before, "{before}\n=== after\n{after}");
        Ok(())
    })?;
    let pins = run(cluster.in_node(0, "ls")?.arg("/sys/fs/bpf"), None)?;
    ensure!(!pins.contains("clovisor"), "{pins}");
    Ok(())
}
