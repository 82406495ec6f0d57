//! The sums, and the table of refusals.

use clovisor_objects::problem::Problem;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::compiled::Compiled;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What was seen of all files.
#[derive(Debug, Default)]
pub(super) struct Tally {
    files: usize,
    kinds: BTreeMap<&'static str, usize>,
    pub(super) added: usize,
    /// Mappings without a refusal, for managed proxies and for sidecars.
    in_force: [usize; 2],
    /// By reason, kind and field; for managed proxies, for sidecars, and as notes.
    refusals: BTreeMap<(&'static str, &'static str, String), [usize; 3]>,
    pub(super) explained: usize,
    pub(super) istio_objects: usize,
    pub(super) configurations: usize,
    /// Panics and objections of Envoy.
    pub(super) failures: Vec<String>,
}

impl Tally {
    /// The objects of a file.
    pub(super) fn objects(&mut self, snapshot: &Snapshot) {
        self.files += 1;
        for (kind, count) in [
            ("VirtualService", snapshot.virtual_services.len()),
            ("HTTPRoute", snapshot.http_routes.len()),
            ("DestinationRule", snapshot.destination_rules.len()),
            ("ServiceEntry", snapshot.service_entries.len()),
            ("WanMapping", snapshot.mappings.len()),
        ] {
            *self.kinds.entry(kind).or_default() += count;
        }
    }

    /// What is said of a file.
    pub(super) fn judged(&mut self, managed: &Compiled, sidecars: &Compiled) {
        for (place, compiled) in [managed, sidecars].into_iter().enumerate() {
            compiled.problems.iter().for_each(|problem| self.refusal(problem, place));
            let of_mappings = compiled.problems.iter().filter(|p| p.subject.kind() == "WanMapping");
            let refused: BTreeSet<_> =
                of_mappings.filter(|p| !p.reason.is_partial()).map(|p| p.subject.name()).collect();
            let namespaces = &compiled.policy.namespaces;
            let names =
                namespaces.iter().flat_map(|(ns, of)| of.mappings.keys().map(move |m| format!("{ns}/{m}")));
            self.in_force[place] += names.filter(|name| !refused.contains(name)).count();
        }
        managed.notes.iter().for_each(|note| self.refusal(note, 2));
    }

    fn refusal(&mut self, problem: &Problem, place: usize) {
        let counts = (problem.reason.name(), problem.subject.kind(), without_indexes(problem.field.as_str()));
        self.refusals.entry(counts).or_default()[place] += 1;
    }
}

/// A field without what is its object's own: indexes, keys, lines.
fn without_indexes(field: &str) -> String {
    if field.starts_with("line ") {
        return "(text)".into();
    }
    let mut parts = field.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "[]" + part.split_once(']').map_or("", |(_, rest)| rest))
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(f, "{} files: {}; {} mappings were added", self.files, kinds.join(", "), self.added)?;
        let [managed, sidecars] = self.in_force;
        writeln!(f, "mappings in force: {managed} for managed proxies, {sidecars} for sidecars\n")?;
        let heads = ("REASON", "KIND", "FIELD", "MANAGED", "SIDECARS", "NOTES");
        let (reason, kind, field, managed, sidecars, notes) = heads;
        writeln!(f, "{reason:<22}{kind:<17}{field:<50}{managed:>8}{sidecars:>9}{notes:>6}")?;
        for ((reason, kind, field), [managed, sidecars, notes]) in &self.refusals {
            writeln!(f, "{reason:<22}{kind:<17}{field:<50}{managed:>8}{sidecars:>9}{notes:>6}")?;
        }
        writeln!(
            f,
            "\n{} requests explained, {} objects for Istio, {} configurations given to Envoy, {} failures",
            self.explained,
            self.istio_objects,
            self.configurations,
            self.failures.len()
        )?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}
