//! The stage from snapshots to policies.

use super::allocation::{AllocationFile, Allocations};
use super::news;
use crate::link::table::LinkTable;
use clovisor_objects::change::changes;
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Purpose, compile};
use clovisor_policy::compiled::Compiled;
use std::sync::Arc;
use tokio::sync::watch;

/// The stage before it runs; the first policy is compiled.
#[derive(Debug)]
pub(super) struct Compiler {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The snapshot of the newest policy.
    compiled: Arc<Snapshot>,
    file: AllocationFile,
    numbers: Allocations,
    purpose: Purpose,
    policies: watch::Sender<Arc<Compiled>>,
}

impl Compiler {
    /// Compiles the first policy.
    pub(super) fn new(
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        file: AllocationFile,
        numbers: Allocations,
        purpose: Purpose,
    ) -> (Self, watch::Receiver<Arc<Compiled>>) {
        let snapshot = snapshots.borrow_and_update().clone();
        let (policies, policy) = watch::channel(Arc::default());
        let mut compiler = Self { snapshots, compiled: snapshot.clone(), file, numbers, purpose, policies };
        let first = compile(&snapshot, &compiler.numbers.classes, 1, purpose);
        compiler.publish(first);
        (compiler, policy)
    }

    /// Follows snapshots and links until their senders are gone.
    pub(super) async fn run(mut self, mut links: watch::Receiver<Arc<LinkTable>>) {
        links.mark_changed();
        loop {
            tokio::select! {
                changed = self.snapshots.changed() => {
                    if changed.is_err() { return }
                    let snapshot = self.snapshots.borrow_and_update().clone();
                    let before = std::mem::replace(&mut self.compiled, snapshot.clone());
                    let purpose = self.purpose;
                    let (numbers, generation) = (self.numbers.classes.clone(), self.policies.borrow().generation + 1);
                    // Large sets take their time: not on the threads that answer callouts.
                    let work = tokio::task::spawn_blocking(move || {
                        news::objects(&changes(&before, &snapshot));
                        compile(&snapshot, &numbers, generation, purpose)
                    });
                    let Ok(compiled) = work.await else { return };
                    self.publish(compiled);
                }
                changed = links.changed() => {
                    if changed.is_err() { return }
                    let kept = links.borrow_and_update().kept();
                    if kept != self.numbers.links {
                        self.numbers.links = kept;
                        self.save();
                    }
                }
            }
        }
    }

    /// Allocations are on disk before anything uses them.
    fn publish(&mut self, (mut compiled, classes): (Compiled, Allocation)) {
        let generation = compiled.generation;
        if classes != self.numbers.classes {
            self.numbers.classes = classes;
            compiled.problems.extend(self.save());
        }
        let published = self.policies.borrow().clone();
        news::problems(&published.problems, &compiled.problems);
        news::notes(&published.notes, &compiled.notes);
        let (namespaces, pods) = (compiled.policy.namespaces.len(), compiled.policy.pods.len());
        tracing::info!(generation, namespaces, pods, problems = compiled.problems.len(), "policy compiled");
        self.policies.send_replace(Arc::new(compiled));
    }

    fn save(&self) -> Option<Problem> {
        let error = self.file.save(&self.numbers).err()?;
        tracing::warn!(%error, "numbers not written");
        let message = format!("{error}; numbers may change at the next restart: make --state-dir writable");
        Some(Problem::whole(ProblemReason::StateNotWritten, Subject::Node("numbers.json"), message))
    }
}
