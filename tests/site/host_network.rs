//! Pods of the node's network: nothing comes out of a device of their own.

use crate::traffic::{self, ECHO};
use anyhow::{Context as _, Result, ensure};
use harness::agent::ctl;
use harness::eventually::eventually;
use harness::netns::Netns;
use harness::objects;
use harness::site::Site;
use serde_json::Value;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

/// The node's address on s8, which is that of such a pod.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);

fn pod(spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: host-0, namespace: shop, labels: {{app: client}}}}\n\
         spec: {spec}\nstatus: {{podIP: {NODE}}}\n"
    )
}

/// A datagram of 10 bytes in an Ethernet frame for the edge's `s8`, as somebody in the network of that link writes it.
fn spoofed() -> Vec<u8> {
    let mut ip =
        [&[0x45, 0, 0, 38, 0, 0, 0, 0, 64, 17, 0, 0][..], &NODE.octets(), &[203, 0, 113, 10]].concat();
    let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let ethernet = [2, 0, 0, 0, 8, 2, 2, 0, 0, 0, 8, 1, 8, 0];
    let udp = [4000_u16, ECHO, 18, 0].map(u16::to_be_bytes).concat();
    [&ethernet[..], &ip, &udp, &[7; 10]].concat()
}

fn send(netns: &Netns, device: &str, frame: &[u8]) -> Result<()> {
    let mut command = netns.command("socat");
    let mut child =
        command.args(["-u", "-", &format!("INTERFACE:{device}")]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(frame)?;
    ensure!(child.wait()?.success(), "socat failed");
    Ok(())
}

fn attached(site: &mut Site, program: &str) -> Result<Vec<String>> {
    let status = site.agent()?.json("/v1/status")?;
    let all = status["attachments"].as_array().context("no attachments")?;
    let found = all.iter().filter(|a| a["program"] == program);
    Ok(found.map(|a| a["device"].as_str().unwrap_or_default().to_owned()).collect())
}

/// A mapping selects it: no program is attached to the uplink that has its address, a datagram from that uplink's network in
/// its name goes nowhere, and status and explain say why. The pod beside it is steered.
#[test]
fn a_pod_of_the_nodes_network_is_not_steered() -> Result<()> {
    Site::builder("host-network").run(|site| {
        traffic::open(site, traffic::MAPPING)?;
        // The second form is what a snapshot of an older agent holds: only the address tells.
        for (round, spec) in ["{hostNetwork: true}", "{}"].into_iter().enumerate() {
            site.apply("3-pods.yaml", &(objects::pods(&site.pods) + &pod(spec)))?;
            let status = eventually("the pod is known", Duration::from_secs(10), || {
                let status = site.agent()?.json("/v1/status")?;
                let has_problem = status["problems"].to_string().contains("PodNotSteered");
                let known = status["pods"].as_array().is_some_and(|pods| pods.len() == 2);
                ensure!(known && has_problem == (round == 0), "{status:#}");
                Ok(status)
            })?;
            let by_name = |p: &&Value| p["name"] == "host-0";
            let host = status["pods"].as_array().and_then(|pods| pods.iter().find(by_name));
            let host = host.context("no such pod")?;
            ensure!(host["reason"].to_string().contains("hostNetwork") && host["device"].is_null(), "{host}");
            let pod_in = attached(site, "pod_in")?;
            ensure!(pod_in == ["veth0"], "pod_in is attached to {pod_in:?}");
            for _ in 0..10 {
                send(&site.cloud, "s8", &spoofed())?;
            }
            traffic::datagrams(site, false, 5, 2)?;
            let relayed = traffic::counted(site, "udp9")?;
            ensure!(relayed == 10 * (round + 1), "{relayed} datagrams came by s9");
            let host = ["--host", "203.0.113.10:5060", "--protocol", "udp"];
            let said = ctl(&site.path(""), &[&["explain", "--pod", "shop/host-0"][..], &host].concat())?;
            ensure!(said.contains("hostNetwork") && said.contains("default route"), "{said}");
            let said = ctl(&site.path(""), &[&["explain", "--pod", "shop/client-0"][..], &host].concat())?;
            ensure!(!said.contains("hostNetwork") && said.contains("s9"), "{said}");
        }
        Ok(())
    })
}
