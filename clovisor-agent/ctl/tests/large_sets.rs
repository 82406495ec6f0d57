//! A set of half a million users: how much memory it may take.
#![cfg(test)]

use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const USERS: usize = 500_000;

const OBJECTS: &str = "\
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s9}
spec: {device: s9}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec: {hosts: [reviews], http: [{name: users, route: [{destination: {host: reviews, port: {number: 8000}}}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  ports: [{number: 8000, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 203.0.113.10}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-0, namespace: shop}
status: {podIP: 10.1.0.5}
---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: crew, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews}]
  links: [s9]
  rules:
  - name: crew
    links: [s9]
    headers:
    - name: user
      in:
";

/// `clovisorctl` with so many KiB of memory of its own.
fn limited(kib: usize, words: &[&str], folder: &Path) -> Result<Output> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -d {kib} && exec \"$0\" \"$@\""));
    shell.arg(env!("CARGO_BIN_EXE_clovisorctl")).args(words).arg("-f").arg(folder);
    shell.output().context("sh did not start")
}

#[test]
fn half_a_million_users_take_a_moment_and_60_mib() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut text = OBJECTS.to_owned();
    (0..USERS).try_for_each(|n| writeln!(text, "      - user-{n}"))?;
    std::fs::write(folder.path().join("a.yaml"), text)?;
    let start = Instant::now();
    let checked = limited(60 << 10, &["check"], folder.path())?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(
        checked.status.success() && said.contains("no problems: 1 mapping in force for 1 pod"),
        "{checked:?}"
    );
    // Not optimised, on a machine that does other things too; optimised it is below a second.
    ensure!(took < Duration::from_secs(30), "{took:?}");
    let explain = ["explain", "--pod", "shop/client-0", "--host", "reviews:8000", "--header"];
    for (user, is_crew) in [("user=user-499999", true), ("user=user-500000", false)] {
        let explained = limited(60 << 10, &[&explain[..], &[user]].concat(), folder.path())?;
        let said = String::from_utf8_lossy(&explained.stdout).into_owned();
        ensure!(said.contains("Class     2 (crew/crew)") == is_crew, "{user}: {said}");
    }
    // The control: the limit is one.
    let refused = limited(16 << 10, &["check"], folder.path())?;
    ensure!(!refused.status.success(), "{refused:?}");
    Ok(())
}
