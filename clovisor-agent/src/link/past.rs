//! Since when links have their state, over a restart of the agent.

use super::table::{LinkEntry, LinkTable};
use super::told::is_pending;
use clovisor_datapath::files::replace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long links may take at the start to show the state that they had.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two writings: a link that flaps does not wear out the disk.
const PAUSE: Duration = Duration::from_secs(2);
/// Another one after each start of the node.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The links as an agent saw them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The start of the node since which it saw them.
    boot: String,
    links: BTreeMap<String, Since>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct Since {
    state: String,
    since: jiff::Timestamp,
}

/// The links as the agent before left them, until they have shown themselves to this one.
#[derive(Debug)]
pub struct Past {
    links: BTreeMap<String, Since>,
    until: Instant,
}

impl Past {
    /// Gives links that have the state of before the time of before. A link that has another one, and does not only wait for its
    /// next hop, has changed.
    pub(super) fn restore(&mut self, table: &mut LinkTable, now: Instant) {
        if now >= self.until {
            self.links.clear();
        }
        let mut restored = |name: &String, past: &Since| {
            let Some(link) = table.links.get_mut(name) else { return false };
            let is_same = past.state == state(link);
            if is_same {
                link.since = past.since;
            }
            !is_same && is_pending(link)
        };
        self.links.retain(|name, past| restored(name, past));
    }
}

fn state(link: &LinkEntry) -> &'static str {
    link.overall().name()
}

/// The file.
#[derive(Clone, Debug)]
pub struct PastFile(PathBuf);

impl PastFile {
    /// The file in the state folder.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self(dir.join("links.json"))
    }

    /// What an agent wrote since the node was started; nothing where there is no such file.
    #[must_use]
    pub fn load(&self) -> Past {
        let seen = fs::read(&self.0).ok().and_then(|text| serde_json::from_slice::<Seen>(&text).ok());
        let seen = seen.filter(|seen| !seen.boot.is_empty() && seen.boot == boot());
        Past { links: seen.unwrap_or_default().links, until: Instant::now() + SETTLE }
    }

    /// Keeps the file like the table, until the table's sender is gone.
    pub async fn run(self, mut links: watch::Receiver<Arc<LinkTable>>) {
        let mut written = None;
        loop {
            // At the start, too: links that wait for their next hop are no change.
            sleep(PAUSE).await;
            let seen = seen(&links.borrow_and_update());
            if written.as_ref() != Some(&seen) {
                if let Err(error) = self.save(&seen) {
                    tracing::warn!(path = %self.0.display(), %error, "times of links not written; they begin anew at a restart");
                }
                written = Some(seen);
            }
            if links.changed().await.is_err() {
                return;
            }
        }
    }

    fn save(&self, seen: &Seen) -> io::Result<()> {
        Ok(replace(&self.0, &serde_json::to_vec_pretty(seen)?)?)
    }
}

fn seen(table: &LinkTable) -> Seen {
    let since = |link: &LinkEntry| Since { state: state(link).into(), since: link.since };
    let links = table.links.iter().map(|(name, link)| (name.clone(), since(link)));
    Seen { boot: boot(), links: links.collect() }
}

fn boot() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::health::observe;
    use super::super::table::{DownReason, Health, Kept, MarkMask};
    use super::*;
    use clovisor_datapath::host::net::HostNet;
    use clovisor_objects::family::PerFamily;
    use clovisor_objects::wan_link::WanLinkSpec;

    fn table(health: Health, since: i64) -> LinkTable {
        let spec: WanLinkSpec =
            serde_json::from_value(serde_json::json!({ "device": "s9" })).unwrap_or_else(|e| panic!("{e}"));
        let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec))]);
        let (net, marks) = (HostNet::default(), MarkMask(0x7f00_0000));
        let time = jiff::Timestamp::from_second(since).unwrap_or_default();
        let mut table = observe(&specs, &net, &LinkTable::default(), &Kept::default(), marks, time);
        for link in table.links.values_mut() {
            link.health = PerFamily::each(|_| health);
            link.expected = PerFamily::each(|_| true);
        }
        table
    }

    fn restored(past: &mut Past, mut table: LinkTable, now: Instant) -> i64 {
        past.restore(&mut table, now);
        table.links.values().map(|link| link.since.as_second()).sum()
    }

    #[test]
    fn a_link_that_is_as_the_agent_before_left_it_is_so_since_then() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = PastFile::in_dir(dir.path());
        let now = Instant::now();
        let pending = Health::Down(DownReason::GatewayUnresolved);
        file.save(&seen(&table(Health::Up, 10)))?;
        let mut past = file.load();
        assert_eq!(restored(&mut past, table(pending, 20), now), 20, "it waits for its gateway");
        assert_eq!(restored(&mut past, table(Health::Up, 21), now), 10);
        assert_eq!(restored(&mut past, table(pending, 22), now), 22);
        assert_eq!(restored(&mut past, table(Health::Up, 23), now), 23, "a change of now");
        let mut past = file.load();
        assert_eq!(restored(&mut past, table(Health::Down(DownReason::NoCarrier), 20), now), 20);
        assert_eq!(restored(&mut past, table(Health::Up, 21), now), 21, "it was down in between");
        let mut past = file.load();
        assert_eq!(restored(&mut past, table(pending, 20), now), 20);
        assert_eq!(
            restored(&mut past, table(Health::Up, 29), now + 2 * SETTLE),
            29,
            "its gateway was silent for long"
        );
        Ok(())
    }

    #[test]
    fn what_was_seen_before_the_node_was_started_says_nothing() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = PastFile::in_dir(dir.path());
        file.save(&Seen { boot: "another".into(), ..seen(&table(Health::Up, 10)) })?;
        assert_eq!(restored(&mut file.load(), table(Health::Up, 20), Instant::now()), 20);
        fs::write(dir.path().join("links.json"), "{")?;
        assert_eq!(restored(&mut file.load(), table(Health::Up, 20), Instant::now()), 20);
        Ok(())
    }
}
