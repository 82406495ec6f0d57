//! A real Kubernetes API server: etcd and kube-apiserver, without controllers or kubelets.

use crate::eventually::eventually;
use crate::netns::{Netns, run};
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Port on the loopback address of its namespace.
const PORT: u16 = 6443;
/// Users by token; groups decide what they may.
const TOKENS: &str = "admin-token,admin,1,system:masters\nagent-token,clovisor-agent,2,\n\
                      controller-token,clovisor-controller,3,\n";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May everything.
    Admin,
    /// The agent: what its role says.
    Agent,
    /// The controller: what its role says.
    Controller,
}

impl User {
    const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Agent => "agent",
            Self::Controller => "controller",
        }
    }
}

/// The running server; killed by drop.
#[derive(Debug)]
pub struct ApiServer {
    netns: Netns,
    folder: PathBuf,
    etcd: Process,
    server: Process,
}

impl ApiServer {
    /// Starts both inside the namespace, with their data below the site's folder; ready when it returns.
    pub fn start(netns: &Netns, site: &Path) -> Result<Self> {
        let folder = site.join("kubernetes");
        std::fs::create_dir_all(&folder).context("cannot make the server's folder")?;
        std::fs::write(folder.join("tokens.csv"), TOKENS).context("cannot write tokens")?;
        let key = rcgen::KeyPair::generate().context("cannot make a key")?;
        std::fs::write(folder.join("accounts.pem"), key.serialize_pem()).context("cannot write the key")?;
        std::fs::write(folder.join("accounts.pub"), key.public_key_pem()).context("cannot write the key")?;
        for user in [User::Admin, User::Agent, User::Controller] {
            std::fs::write(folder.join(user.name()), kubeconfig(user))
                .context("cannot write a kubeconfig")?;
        }
        let etcd = etcd(netns, site, &folder)?;
        let server = server(netns, site, &folder)?;
        let mut started = Self { netns: netns.clone(), folder, etcd, server };
        started.wait_ready()?;
        Ok(started)
    }

    /// Waits until it serves.
    pub fn wait_ready(&mut self) -> Result<()> {
        eventually("the API server", Duration::from_secs(60), || {
            let answer = self.kubectl(User::Admin, &["get", "--raw", "/readyz"], None)?;
            ensure!(answer.trim() == "ok", "{answer}");
            Ok(())
        })
        .or_else(|error| self.etcd.check().and_then(|()| self.server.check()).and(Err(error)))
    }

    /// Ends the server as a crash would; the data stay.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill().map(drop)
    }

    /// Starts it again.
    pub fn restart(&mut self, site: &Path) -> Result<()> {
        self.server = server(&self.netns, site, &self.folder)?;
        self.wait_ready()
    }

    /// The kubeconfig of a user.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.join(user.name())
    }

    /// Runs kubectl with `input` on stdin; its output, or an error with its own words.
    pub fn kubectl(&self, user: User, words: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.netns.command(tool("kubectl")?);
        command.arg("--kubeconfig").arg(self.kubeconfig(user)).args(words);
        command.env("HOME", &self.folder);
        run(&mut command, input)
    }

    /// Applies objects by server-side apply; what kubectl says, warnings included.
    pub fn apply(&self, objects: &str) -> Result<String> {
        let file = self.folder.join("applied.yaml");
        std::fs::write(&file, objects).context("cannot write the objects")?;
        let mut command = self.netns.command(tool("kubectl")?);
        command.arg("--kubeconfig").arg(self.kubeconfig(User::Admin)).env("HOME", &self.folder);
        command.args(["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f"]).arg(file);
        let output = command.output().context("kubectl did not start")?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(output.status.success(), "kubectl apply: {text}");
        Ok(text)
    }
}

/// A program that `cargo xtask test cluster` puts into `target/tools`.
fn tool(name: &str) -> Result<PathBuf> {
    let path = crate::repository::path("target/tools").join(name);
    if !path.is_file() {
        bail!("no {}; run `cargo xtask test cluster`, which builds it", path.display());
    }
    path.canonicalize().context("an unreadable path")
}

fn etcd(netns: &Netns, site: &Path, folder: &Path) -> Result<Process> {
    let mut command = netns.command(tool("kube")?);
    command.args(["etcd", "--name", "test", "--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"]);
    command.arg("--data-dir").arg(folder.join("etcd"));
    for (flag, url) in [
        ("--listen-client-urls", "http://127.0.0.1:2379"),
        ("--advertise-client-urls", "http://127.0.0.1:2379"),
        ("--listen-peer-urls", "http://127.0.0.1:2380"),
        ("--initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        ("--initial-cluster", "test=http://127.0.0.1:2380"),
    ] {
        command.args([flag, url]);
    }
    Process::start("etcd", &mut command, site)
}

fn server(netns: &Netns, site: &Path, folder: &Path) -> Result<Process> {
    let mut command = netns.command(tool("kube")?);
    command.args([
        "kube-apiserver",
        "--etcd-servers",
        "http://127.0.0.1:2379",
        "--authorization-mode",
        "RBAC",
    ]);
    command.args([
        "--secure-port",
        &PORT.to_string(),
        "--advertise-address",
        "127.0.0.1",
        "--bind-address",
        "127.0.0.1",
    ]);
    command.args([
        "--disable-admission-plugins",
        "ServiceAccount",
        "--service-cluster-ip-range",
        "10.96.0.0/16",
    ]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    command.arg("--token-auth-file").arg(folder.join("tokens.csv"));
    command.arg("--cert-dir").arg(folder.join("certs"));
    command.arg("--service-account-key-file").arg(folder.join("accounts.pub"));
    command.arg("--service-account-signing-key-file").arg(folder.join("accounts.pem"));
    let keys = folder.join("accounts.pem");
    std::fs::set_permissions(keys, PermissionsExt::from_mode(0o600)).context("cannot chmod")?;
    Process::start("kube-apiserver", &mut command, site)
}

fn kubeconfig(user: User) -> String {
    let name = user.name();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"https://127.0.0.1:{PORT}\", insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: {name}, user: {{token: {name}-token}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: {name}}}}}]\n"
    )
}
