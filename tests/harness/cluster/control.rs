//! The control plane: etcd, API server with RBAC and the Node authorizer, controllers, scheduler.

use super::addresses::API;
use crate::eventually::eventually;
use crate::netns::{Netns, run};
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its processes.
#[derive(Debug)]
pub(super) struct Control {
    root: PathBuf,
    etcd: Process,
    api: Process,
    /// Controllers and scheduler.
    others: Vec<Process>,
}

/// A program that `cargo xtask test cluster` puts into `target/tools`.
pub(super) fn tool(name: &str) -> Result<PathBuf> {
    let path = crate::repository::path("target/tools").join(name);
    if !path.is_file() {
        bail!("no {}; run `cargo xtask test cluster`, which builds it", path.display());
    }
    path.canonicalize().context("an unreadable path")
}

impl Control {
    /// Starts all; the API server is ready when it returns.
    pub(super) fn start(netns: &Netns, root: &Path) -> Result<Self> {
        let folder = root.join("kubernetes").display().to_string();
        let etcd = part(netns, root, "etcd", &ETCD.replace("FOLDER", &folder))?;
        let api = api(netns, root)?;
        let mut control = Self { root: root.to_owned(), etcd, api, others: Vec::new() };
        control.wait_api(netns)?;
        // Not before the API server has its first roles: they would give up.
        for (name, flags) in [("kube-controller-manager", MANAGER), ("kube-scheduler", SCHEDULER)] {
            control.others.push(part(netns, root, name, &flags.replace("FOLDER", &folder))?);
        }
        Ok(control)
    }

    fn wait_api(&mut self, netns: &Netns) -> Result<()> {
        eventually("the API server", Duration::from_secs(60), || {
            self.etcd.check()?;
            self.api.check()?;
            let answer = self.kubectl(netns, &["get", "--raw", "/readyz"], None)?;
            ensure!(answer.trim() == "ok", "{answer}");
            Ok(())
        })
    }

    pub(super) fn kubectl(&self, netns: &Netns, words: &[&str], input: Option<&str>) -> Result<String> {
        let folder = self.root.join("kubernetes");
        let mut command = netns.command(tool("kubectl")?);
        command.arg("--kubeconfig").arg(folder.join("admin")).args(words).env("HOME", folder);
        run(&mut command, input)
    }

    pub(super) fn kill_api(&mut self) -> Result<()> {
        self.api.kill().map(drop)
    }

    pub(super) fn restart_api(&mut self, netns: &Netns) -> Result<()> {
        self.api = api(netns, &self.root)?;
        self.wait_api(netns)
    }
}

fn api(netns: &Netns, root: &Path) -> Result<Process> {
    let folder = root.join("kubernetes").display().to_string();
    part(netns, root, "kube-apiserver", &API_SERVER.replace("FOLDER", &folder).replace("ADDRESS", API))
}

/// `flags`: one a line.
fn part(netns: &Netns, root: &Path, name: &str, flags: &str) -> Result<Process> {
    let mut command = netns.command(tool("kube")?);
    command.arg(name).args(flags.lines().map(str::trim).filter(|line| !line.is_empty()));
    Process::start(name, &mut command, root)
}

const ETCD: &str = "
    --name=site
    --unsafe-no-fsync
    --logger=zap
    --log-level=warn
    --data-dir=FOLDER/etcd
    --listen-client-urls=http://127.0.0.1:2379
    --advertise-client-urls=http://127.0.0.1:2379
    --listen-peer-urls=http://127.0.0.1:2380
    --initial-advertise-peer-urls=http://127.0.0.1:2380
    --initial-cluster=site=http://127.0.0.1:2380
";

const API_SERVER: &str = "
    --etcd-servers=http://127.0.0.1:2379
    --secure-port=6443
    --advertise-address=ADDRESS
    --tls-cert-file=FOLDER/server.crt
    --tls-private-key-file=FOLDER/server.key
    --token-auth-file=FOLDER/tokens.csv
    --authorization-mode=Node,RBAC
    --enable-admission-plugins=NodeRestriction
    --allow-privileged
    --service-cluster-ip-range=10.96.0.0/16
    --service-account-issuer=https://kubernetes.default.svc
    --service-account-key-file=FOLDER/accounts.pub
    --service-account-signing-key-file=FOLDER/accounts.pem
    --kubelet-preferred-address-types=InternalIP
";

const MANAGER: &str = "
    --kubeconfig=FOLDER/manager
    --use-service-account-credentials
    --service-account-private-key-file=FOLDER/accounts.pem
    --root-ca-file=FOLDER/ca.crt
    --leader-elect=false
    --kube-api-qps=1000
    --kube-api-burst=1000
    --node-monitor-period=1s
    --node-monitor-grace-period=16s
    --bind-address=127.0.0.1
";

const SCHEDULER: &str = "
    --kubeconfig=FOLDER/scheduler
    --leader-elect=false
    --kube-api-qps=1000
    --kube-api-burst=1000
    --bind-address=127.0.0.1
";
