//! The loop, while this process holds the Lease.

use super::stages::{IstioKey, IstioStep, WantedObject, stages};
use super::status::{self, LinkReadiness, MappingState, Written};
use super::write::Writer;
use crate::config::ControllerArgs;
use crate::source::api::{View, client, watch};
use anyhow::{Context as _, Result, bail};
use clovisor_datapath::causes::causes;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_policy::compiled::Compiled;
use clovisor_render::istio::object::{IstioConfig, IstioObject, Phase};
use clovisor_render::istio::objects;
use kube_lease_manager::LeaseManagerBuilder;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Name of the Lease, and how long it holds without its holder.
const LEASE: &str = "clovisor-controller";
const LEASE_SECONDS: u64 = 15;
const RENEW_BEFORE_SECONDS: u64 = 5;
/// Between two reconciliations without a change of the objects, which repair what others changed.
const RESYNC: Duration = Duration::from_secs(300);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Between two writes of one link's status: nodes come and go together.
const LINK_PACE: Duration = Duration::from_secs(10);

/// Runs until `shutdown` is ready; then gives the Lease back. `ready` is called when the objects are known.
///
/// # Errors
/// There is no way to the API server, or the Lease cannot be held.
pub async fn run(
    args: &ControllerArgs,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let client = client().await?;
    let lease = LeaseManagerBuilder::new(client.clone(), LEASE)
        .with_namespace(&args.namespace)
        .with_identity(&args.identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(RENEW_BEFORE_SECONDS)
        .build()
        .await
        .with_context(|| {
            format!("cannot use the Lease {}/{LEASE}; see the controller's role", args.namespace)
        })?;
    let (mut leads, holding) = lease.watch().await;
    let writer = Writer::new(client.clone(), &args.identity);
    let mut snapshots = watch(client, View::Controller).await;
    ready();
    let mut controller = Controller::new(args, writer);
    tokio::pin!(shutdown);
    loop {
        let is_leader = *leads.borrow_and_update();
        if is_leader && controller.due(snapshots.has_changed().unwrap_or(false)) {
            let snapshot = snapshots.borrow_and_update().clone();
            // A lost Lease ends the work at once: another process may have begun it.
            tokio::select! {
                () = controller.reconcile(&snapshot) => {}
                _ = leads.wait_for(|leads| !leads) => tracing::warn!("the Lease is lost"),
                () = &mut shutdown => break,
            }
            continue;
        }
        tokio::select! {
            changed = leads.changed() => {
                if changed.is_err() { bail!("the Lease {}/{LEASE} can no longer be held; see the log before this line", args.namespace) }
                tracing::info!(leads = *leads.borrow(), "Lease");
            }
            changed = snapshots.changed(), if is_leader => {
                if changed.is_err() { bail!("the watches ended") }
                snapshots.mark_changed();
            }
            () = sleep_until(controller.next), if is_leader => {}
            () = &mut shutdown => break,
        }
    }
    // Nobody listens any more: the manager gives the Lease back.
    drop(leads);
    match tokio::time::timeout(Duration::from_secs(3), holding).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => bail!("the Lease was not given back: {error}"),
        _ => bail!("the Lease was not given back in time; another replica takes it in {LEASE_SECONDS} s"),
    }
}

struct Controller {
    purpose: Purpose,
    manages_istio: bool,
    settle: Duration,
    istio: IstioConfig,
    writer: Writer,
    numbers: Allocation,
    generation: u64,
    /// When to look again without a change.
    next: Instant,
    /// When to look at everything again.
    resync: Instant,
    published: Published,
}

/// The statuses that were written last: an object whose status stays the same is not read again.
#[derive(Default)]
struct Published {
    mappings: BTreeMap<ObjectKey, (MappingState, Option<i64>)>,
    links: BTreeMap<String, (LinkReadiness, Instant)>,
}

impl Controller {
    fn new(args: &ControllerArgs, writer: Writer) -> Self {
        let proxies = if args.sidecars { Proxies::Sidecars } else { Proxies::Managed };
        Self {
            purpose: Purpose { proxies, numbering: Numbering::Controller, local: false },
            manages_istio: args.sidecars && args.manage_istio,
            settle: args.settle(),
            istio: IstioConfig { callout: args.callout.clone(), ..IstioConfig::default() },
            writer,
            numbers: Allocation::default(),
            generation: 0,
            next: Instant::now(),
            resync: Instant::now(),
            published: Published::default(),
        }
    }

    fn due(&self, changed: bool) -> bool {
        changed || Instant::now() >= self.next
    }

    /// One turn: numbers into statuses, then Istio's objects, then what came of it.
    async fn reconcile(&mut self, snapshot: &Arc<Snapshot>) {
        if Instant::now() >= self.resync {
            self.published = Published::default();
            self.resync = Instant::now() + RESYNC;
        }
        self.next = self.resync;
        self.generation += 1;
        let (old, before, generation, purpose) =
            (snapshot.clone(), self.numbers.clone(), self.generation, self.purpose);
        let work = tokio::task::spawn_blocking(move || compile(&old, &before, generation, purpose));
        let Ok((compiled, numbers)) = work.await else { return self.retry() };
        self.numbers = numbers;
        let links = status::links(snapshot);
        if self.write_new_numbers(snapshot, &compiled).await {
            // Nodes learn a number before a proxy can send it.
            sleep(self.settle).await;
        }
        let written = self.istio(snapshot, &compiled).await;
        let states = status::mappings(snapshot, &compiled, &links, |_| written.clone());
        self.write_mappings(snapshot, states).await;
        self.write_links(links).await;
    }

    fn retry(&mut self) {
        self.next = self.next.min(Instant::now() + RETRY);
    }

    /// Writes new numbers into statuses; true if there were any.
    async fn write_new_numbers(&mut self, snapshot: &Snapshot, compiled: &Compiled) -> bool {
        let mut any = false;
        let numbers = status::classes(compiled);
        let new = numbers
            .iter()
            .filter(|(key, now)| snapshot.mappings.get(*key).is_some_and(|m| m.classes != **now));
        for (key, classes) in new {
            if let Err(error) = self.writer.numbers(key, classes).await {
                tracing::warn!(mapping = %key, error = causes(&error), "numbers not written");
                self.retry();
            }
            self.published.mappings.remove(key);
            any = true;
        }
        any
    }

    /// Reconciles Istio's objects, stage by stage.
    async fn istio(&mut self, snapshot: &Snapshot, compiled: &Compiled) -> Written {
        if !self.manages_istio {
            return Written::NotNeeded;
        }
        let existing = match self.writer.existing().await {
            Ok(Some(existing)) => existing,
            Ok(None) => {
                self.retry();
                return Written::Failed(
                    "the API server does not know DestinationRule and EnvoyFilter; install Istio".into(),
                );
            }
            Err(error) => {
                self.retry();
                return Written::Failed(format!("Istio's objects cannot be listed: {}", causes(&error)));
            }
        };
        let wanted = objects(snapshot, &compiled.sidecars, &self.istio);
        let wanted = wanted.iter().map(|object| wanted_of(snapshot, object)).collect();
        let stages = stages(&existing, &wanted);
        let count = stages.len();
        for (i, stage) in stages.iter().enumerate() {
            for step in stage {
                if let Err(error) = self.writer.step(step).await {
                    let (IstioStep::Apply((kind, key), _) | IstioStep::Delete((kind, key))) = step;
                    let error = causes(&error);
                    tracing::warn!(kind = kind.names().0, object = %key, error, "not written");
                    self.retry();
                    return Written::Failed(error);
                }
            }
            if i + 1 < count {
                sleep(self.settle).await;
            }
        }
        Written::Done
    }

    async fn write_mappings(&mut self, snapshot: &Snapshot, states: BTreeMap<ObjectKey, MappingState>) {
        self.published.mappings.retain(|key, _| states.contains_key(key));
        for (key, state) in states {
            let generation = snapshot.mappings.get(&key).and_then(|m| m.generation);
            let now = (state, generation);
            if self.published.mappings.get(&key) == Some(&now) {
                continue;
            }
            match self.writer.mapping(&key, &now.0, generation).await {
                Ok(()) => drop(self.published.mappings.insert(key, now)),
                Err(error) => {
                    tracing::warn!(mapping = %key, error = causes(&error), "status not written");
                    self.retry();
                }
            }
        }
    }

    async fn write_links(&mut self, links: BTreeMap<String, LinkReadiness>) {
        self.published.links.retain(|name, _| links.contains_key(name));
        for (name, readiness) in links {
            let last = self.published.links.get(&name);
            if last.is_some_and(|(before, _)| *before == readiness) {
                continue;
            }
            if let Some(early) = last
                .filter(|(before, _)| before.total > 0)
                .map(|(_, at)| *at + LINK_PACE)
                .filter(|at| *at > Instant::now())
            {
                self.next = self.next.min(early);
                continue;
            }
            match self.writer.link(&name, &readiness).await {
                Ok(()) => drop(self.published.links.insert(name, (readiness, Instant::now()))),
                Err(error) => {
                    tracing::warn!(link = name, error = causes(&error), "status not written");
                    self.retry();
                }
            }
        }
    }
}

/// With the owner: a mapping that is deleted takes its routes with it, also while no controller runs. What only
/// adds clusters stays for the controller to remove, after the proxies have let go of it.
fn wanted_of(snapshot: &Snapshot, object: &IstioObject) -> (IstioKey, WantedObject) {
    let mut document = object.document();
    let mut mappings = object.mappings.iter();
    if let (Phase::Routes, Some(key), None) = (object.phase, mappings.next(), mappings.next())
        && let Some(uid) = snapshot.mappings.get(key).and_then(|m| m.uid.as_ref())
    {
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "clovisor.io/v1alpha1", "kind": "WanMapping", "name": key.name, "uid": uid, "controller": true,
        }]);
    }
    ((object.kind, object.key.clone()), WantedObject { phase: object.phase, document })
}
