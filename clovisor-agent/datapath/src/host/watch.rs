//! The netlink shell: follows the node's network event by event. It is dumped at the start, after an overrun, and where the
//! kernel changes something without an event; meanwhile events are followed, and are applied to the dump afterwards.

use super::dump::{complete, device, everything, fill};
use super::event::{NetEvent, event};
use super::event_socket::{EventSocket, Notice};
use super::forward_policy::ForwardPolicy;
use super::net::HostNet;
use super::netlink::HostError;
use super::state::{Doubt, Impact, NetState, Urgency};
use rtnetlink::MulticastGroup;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

/// Events come in bursts; one snapshot serves a burst.
const BURST: Duration = Duration::from_millis(5);
/// Between two snapshots for what changes often on a lively node.
const BRISK: Duration = Duration::from_millis(100);
const CALM: Duration = Duration::from_secs(1);
/// Between two looks at what no event tells of: rules of a firewall, settings of devices.
const REFRESH: Duration = Duration::from_secs(10);
/// After a dump, how many times as long as it took no further one starts.
const REST: u32 = 4;
const RETRY: Duration = Duration::from_millis(500);
/// Datagrams that are read before anything else is looked at.
const BATCH: usize = 512;

/// Two sockets, so that a storm of routes neither delays nor loses the rest.
const DEVICES: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];
const ROUTES: [MulticastGroup; 3] =
    [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route, MulticastGroup::Nexthop];

/// Reads the network once and keeps following it in a task of its own.
///
/// # Errors
/// No netlink socket, or the first dump failed.
pub async fn watch() -> Result<watch::Receiver<Arc<HostNet>>, HostError> {
    let sockets = [EventSocket::subscribe(&DEVICES)?, EventSocket::subscribe(&ROUTES)?];
    let mut policy = ForwardPolicy::default();
    let mut state = everything().await?;
    let mut first = state.view();
    policy.read().await;
    policy.write_to(&mut first);
    let (publish, host) = watch::channel(Arc::new(first));
    let now = Instant::now();
    let follower = Follower {
        sockets,
        state,
        policy,
        publish,
        published: now,
        due: None,
        doubts: BTreeSet::new(),
        dump: None,
        rested: now,
        log: Vec::new(),
        lost: false,
    };
    tokio::spawn(async move {
        if let Err(error) = follower.run().await {
            tracing::error!(%error, "netlink socket lost");
        }
    });
    Ok(host)
}

/// What a dump found.
enum Dumped {
    Everything(Box<NetState>),
    Device(u32, Vec<NetEvent>),
}

type Dumping = JoinHandle<Result<Dumped, HostError>>;

/// The task's state.
struct Follower {
    /// Of devices and of routes.
    sockets: [EventSocket; 2],
    state: NetState,
    policy: ForwardPolicy,
    publish: watch::Sender<Arc<HostNet>>,
    published: Instant,
    /// When the next snapshot is published; none: nothing changed.
    due: Option<Instant>,
    /// Devices whose addresses and routes are to be dumped.
    doubts: BTreeSet<u32>,
    dump: Option<(Dumping, NetState, Instant)>,
    /// When the next dump may start.
    rested: Instant,
    /// Events since the running dump began.
    log: Vec<NetEvent>,
    /// Everything is to be dumped.
    lost: bool,
}

impl Follower {
    /// Until nobody wants to know. The end of the task ends the stages that wait for its snapshots.
    async fn run(mut self) -> io::Result<()> {
        let mut refresh = interval_at(Instant::now() + REFRESH, REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looking: Option<JoinHandle<ForwardPolicy>> = None;
        loop {
            self.start_dump()?;
            let wake = self.wake();
            let [devices, routes] = &self.sockets;
            tokio::select! {
                biased;
                () = self.publish.closed() => return Ok(()),
                notices = devices.next() => self.note(notices?),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                dumped = finished(&mut self.dump) => self.finish_dump(dumped),
                notices = routes.next() => self.note(notices?),
                policy = finished_look(&mut looking) => self.note_policy(policy),
                _ = refresh.tick() => {
                    self.refresh();
                    looking.get_or_insert_with(|| tokio::spawn(self.policy.clone().look()));
                }
            }
            self.drain(BATCH)?;
            self.publish_if_due();
        }
    }

    /// When there is something to do without an event: a snapshot to publish, or a dump to start.
    fn wake(&self) -> Option<Instant> {
        let waiting = self.dump.is_none() && (self.lost || !self.doubts.is_empty());
        [self.due, waiting.then_some(self.rested)].into_iter().flatten().min()
    }

    /// Applies what is there already, so many datagrams of each socket at most; returns whether that was all.
    fn drain(&mut self, most: usize) -> io::Result<bool> {
        let mut all = true;
        for socket in 0..self.sockets.len() {
            let mut left = most;
            while let Some(notices) = self.sockets.get(socket).map_or(Ok(None), EventSocket::waiting)? {
                self.note(notices);
                left -= 1;
                if left == 0 {
                    all = false;
                    break;
                }
            }
        }
        Ok(all)
    }

    fn note(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Message(message) => self.follow(event(&message).map(complete)),
                Notice::NextHop => self.lost = true,
                Notice::Overrun => {
                    tracing::info!(
                        "more events of the network than the socket had room for: reading everything"
                    );
                    self.lost = true;
                }
            }
        }
    }

    fn follow(&mut self, event: Option<NetEvent>) {
        let Some(event) = event else { return };
        let impact = self.state.apply(&event);
        if self.dump.is_some() {
            self.log.push(event);
        }
        self.note_impact(impact);
    }

    fn note_impact(&mut self, Impact { changed, doubt }: Impact) {
        match doubt {
            Some(Doubt::Device(ifindex)) => _ = self.doubts.insert(ifindex),
            Some(Doubt::Everything) => self.lost = true,
            None => {}
        }
        let Some(urgency) = changed else { return };
        let rest = match urgency {
            Urgency::Urgent => Duration::ZERO,
            Urgency::Brisk => BRISK,
            Urgency::Calm => CALM,
        };
        let due = (self.published + rest).max(Instant::now() + BURST);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn publish_if_due(&mut self) {
        let now = Instant::now();
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let mut net = self.state.view();
        self.policy.write_to(&mut net);
        self.publish.send_if_modified(|old| {
            let changed = **old != net;
            if changed {
                *old = Arc::new(net);
            }
            changed
        });
        self.published = now;
    }

    /// Starts the dump that is wanted. Events of before it are applied first: one of them, applied afterwards, could bring back
    /// what the kernel has removed since without an event.
    fn start_dump(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let wanted = self.lost || !self.doubts.is_empty();
        if !wanted || self.dump.is_some() || now < self.rested || !self.drain(BATCH)? {
            return Ok(());
        }
        let task = if self.lost {
            self.lost = false;
            self.doubts.clear();
            tokio::spawn(async { Ok(Dumped::Everything(Box::new(everything().await?))) })
        } else if let Some(ifindex) = self.doubts.pop_first() {
            tokio::spawn(async move { Ok(Dumped::Device(ifindex, device(ifindex).await?)) })
        } else {
            return Ok(());
        };
        self.log.clear();
        self.dump = Some((task, self.state.without_routes(), now));
        Ok(())
    }

    fn finish_dump(&mut self, dumped: Result<Dumped, HostError>) {
        let Some((_, before, started)) = self.dump.take() else { return };
        let log = std::mem::take(&mut self.log);
        match dumped {
            Ok(Dumped::Everything(fresh)) => {
                self.rested = Instant::now() + started.elapsed() * REST;
                self.state = fresh.after(&before);
                for event in &log {
                    self.state.apply(event);
                }
                self.note_impact(Impact { changed: Some(Urgency::Urgent), doubt: None });
            }
            Ok(Dumped::Device(ifindex, found)) => {
                self.rested = Instant::now() + started.elapsed() * REST;
                let impact = self.state.replace(ifindex, &found, &log);
                self.note_impact(impact);
            }
            Err(error) => {
                tracing::warn!(%error, "network of the node not read");
                self.rested = Instant::now() + RETRY;
                self.lost = true;
            }
        }
    }

    /// Reads again what no event tells of devices.
    fn refresh(&mut self) {
        let mut changed = Vec::new();
        for device in self.state.devices() {
            let mut now = device.clone();
            fill(&mut now);
            if now != *device {
                changed.push(NetEvent::Device(Box::new(now)));
            }
        }
        for event in changed {
            let impact = self.state.apply(&event);
            self.note_impact(impact);
        }
    }

    fn note_policy(&mut self, policy: ForwardPolicy) {
        if policy != self.policy {
            self.policy = policy;
            self.note_impact(Impact { changed: Some(Urgency::Urgent), doubt: None });
        }
    }
}

/// Waits for the running dump; for ever where there is none.
async fn finished(dump: &mut Option<(Dumping, NetState, Instant)>) -> Result<Dumped, HostError> {
    match dump {
        Some((task, ..)) => task.await.unwrap_or_else(|error| Err(io::Error::other(error).into())),
        None => std::future::pending().await,
    }
}

/// Waits for the running look at the firewall; for ever where there is none.
async fn finished_look(looking: &mut Option<JoinHandle<ForwardPolicy>>) -> ForwardPolicy {
    let policy = match looking {
        Some(task) => task.await.unwrap_or_default(),
        None => std::future::pending().await,
    };
    *looking = None;
    policy
}
