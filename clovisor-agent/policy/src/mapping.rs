//! Accepted mappings to their classes and compiled rules.

use super::allocation::{Allocation, Numbering};
use super::attachment::Attachments;
use super::class::{ClassId, ClassName};
use super::model::{Class, Mapping, NamespacePolicy};
use super::rule::Rule;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::{MappingObject, Snapshot};
use clovisor_objects::wan_mapping::WanMappingSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The classes of all accepted mappings, by namespace; a namespace with refused mappings only keeps its number.
pub(super) fn wanted(
    snapshot: &Snapshot,
    attachments: &Attachments<'_>,
) -> BTreeMap<String, BTreeSet<ClassName>> {
    let mut wanted = BTreeMap::<_, BTreeSet<_>>::new();
    for key in snapshot.mappings.keys() {
        wanted.entry(key.namespace.clone()).or_default();
    }
    for (key, spec) in &attachments.accepted {
        wanted.entry(key.namespace.clone()).or_default().extend(class_names(&key.name, spec));
    }
    wanted
}

/// The class numbers in the statuses of the mappings, oldest mapping first.
pub(super) fn given(snapshot: &Snapshot) -> Vec<(String, ClassName, u16)> {
    let mut mappings: Vec<_> = snapshot.mappings.iter().collect();
    mappings.sort_by_key(|(key, mapping)| (mapping.created, *key));
    let of_mapping = |(key, mapping): (&ObjectKey, &Arc<MappingObject>)| {
        let classes = mapping.classes.iter().filter_map(|class| {
            let name = ClassName { mapping: key.name.clone(), rule: class.rule.clone() };
            Some((key.namespace.clone(), name, u16::try_from(class.number).ok()?))
        });
        classes.collect::<Vec<_>>()
    };
    mappings.into_iter().flat_map(of_mapping).collect()
}

/// One class for the mapping's own links, one for each rule.
fn class_names(mapping: &str, spec: &WanMappingSpec) -> Vec<ClassName> {
    let name = |rule: Option<&String>| ClassName { mapping: mapping.to_owned(), rule: rule.cloned() };
    let of_links = (!spec.links.is_empty()).then(|| name(None));
    of_links.into_iter().chain(spec.rules.iter().map(|rule| name(Some(&rule.name)))).collect()
}

/// Compiles the mappings of a namespace; a mapping without numbers or with a bad rule is detached.
pub(super) fn add_mappings(
    policy: &mut NamespacePolicy,
    namespace: &str,
    attachments: &mut Attachments<'_>,
    allocation: &Allocation,
    numbering: Numbering,
) {
    let here: Vec<_> = attachments.accepted.iter().filter(|(key, _)| key.namespace == namespace).collect();
    let here: Vec<_> = here.into_iter().map(|(key, spec)| (key.clone(), *spec)).collect();
    for (key, spec) in here {
        match mapping(&key, spec, allocation, numbering) {
            Ok((mapping, classes)) => {
                policy.classes.extend(classes.into_iter().map(|class| (class.id, class)));
                policy.mappings.insert(key.name, Arc::new(mapping));
            }
            Err(refusal) => attachments.refuse(&key, refusal),
        }
    }
}

fn mapping(
    key: &ObjectKey,
    spec: &WanMappingSpec,
    allocation: &Allocation,
    numbering: Numbering,
) -> Result<(Mapping, Vec<Class>), Refusal> {
    let mut classes = Vec::new();
    for name in class_names(&key.name, spec) {
        let id = allocation.zone(&key.namespace).and_then(|_| allocation.class(&key.namespace, &name));
        let id = id.ok_or_else(|| unnumbered(numbering))?;
        classes.push(class(id, name, spec));
    }
    let number_of = |rule: Option<&str>| classes.iter().find(|c| c.key.rule.as_deref() == rule).map(|c| c.id);
    let mut rules = Vec::new();
    for (i, source) in spec.rules.iter().enumerate() {
        let Some(id) = number_of(Some(&source.name)) else { continue };
        let at = FieldPath::from("spec.rules").index(i);
        rules.push(Rule::compile(source, id).map_err(|refusal| refusal.under(&at))?);
    }
    let class = number_of(None);
    let mapping = Mapping { name: key.name.clone(), class, on_agent_loss: spec.on_agent_loss, rules };
    Ok((mapping, classes))
}

fn unnumbered(numbering: Numbering) -> Refusal {
    if numbering == Numbering::Status {
        let message = "has no class numbers in its status yet; check that the controller runs";
        return Refusal::new(ProblemReason::Pending, "status.classes", message);
    }
    let message = "the namespace needs more than 16 classes (one per mapping with links and one per rule), or the \
                   node has too many namespaces; join mappings or rules with equal links";
    Refusal::new(ProblemReason::OutOfClasses, "spec", message)
}

fn class(id: ClassId, key: ClassName, spec: &WanMappingSpec) -> Class {
    let of_rule = |name: &String| spec.rules.iter().find(|r| r.name == *name).map(|r| r.links.clone());
    let links = key.rule.as_ref().map_or_else(|| Some(spec.links.clone()), of_rule).unwrap_or_default();
    Class {
        id,
        key,
        links,
        established: spec.established,
        on_links_down: spec.on_links_down,
        wire_dscp: spec.dscp.and_then(|dscp| u8::try_from(dscp).ok()).unwrap_or(0),
    }
}
