//! What to try on a site that stays: commands that are complete as they are, for a shell of root.

use super::{SERVICE4, Site};
use crate::agent::binary;
use anyhow::{Context, Result};
use std::path::Path;

/// What surprises who cuts a link and mends it, and then looks at single requests.
pub const POOLED: &str = "\
Connections that were opened while a link was down stay on the other one until they end (`established: Stay`), and proxies
keep idle connections for later requests: after the link is mended such a pooled connection may still answer by the other
link, where `explain` names the link of a new connection.";

/// A command with what it is for.
#[derive(Clone, Debug)]
pub struct TryOut {
    pub what: &'static str,
    pub command: String,
}

/// The commands. `host`: what the clients ask for, with its port.
pub fn commands(site: &Site, host: &str) -> Result<Vec<TryOut>> {
    // Neither is on PATH.
    let ctl = std::path::absolute(binary("clovisorctl")?).context("no current folder")?;
    let (ctl, socket) = (quoted(&ctl), quoted(&site.path("run/agent.sock")));
    let pod = quoted(&site.pods.first().context("a site without a pod")?.netns.path());
    let cloud = site.cloud.name();
    let ask = |words: &str| format!("{ctl} --socket {socket} {words}");
    let explain = format!("explain --pod shop/client-0 --host {host} --header user=crew-00042 --path /");
    let curl =
        format!("nsenter --net={pod} curl -s -H 'user: minions' --resolve {host}:{SERVICE4} http://{host}/");
    let all = [
        ("one request of a minion; the answer names its link (needs curl)", curl),
        ("the agent", ask("status")),
        ("its links", ask("links")),
        ("its connections", ask("sessions")),
        ("why a request takes its link", ask(&explain)),
        ("cut s9", format!("ip -n {cloud} link set s9 down")),
        ("mend s9", format!("ip -n {cloud} link set s9 up")),
    ];
    Ok(all.into_iter().map(|(what, command)| TryOut { what, command }).collect())
}

/// The commands as a text, with what else is good to know.
pub fn text(site: &Site, host: &str) -> Result<String> {
    let mut text = "The site stays until Ctrl-C. Try, as root:\n".to_owned();
    for TryOut { what, command } in commands(site, host)? {
        text += &format!("\n  # {what}\n  {command}\n");
    }
    let objects = site.path("config");
    Ok(format!("{text}\n{POOLED}\n\nObjects: {} (the agent watches them)", objects.display()))
}

/// A path as one word of a shell.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
