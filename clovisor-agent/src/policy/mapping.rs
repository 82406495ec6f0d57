//! Accepted mappings to their classes and compiled rules.

use super::allocation::{Allocation, Numbering};
use super::attachment::{Claims, problem};
use super::class::{ClassId, ClassName};
use super::model::{Class, Mapping, NamespacePolicy};
use super::rule::Rule;
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::cluster::wan_mapping::WanMappingSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every class that some mapping asks for; a namespace with a refused mapping keeps its number.
pub(super) fn wanted(snapshot: &Snapshot, claims: &Claims<'_>) -> BTreeMap<String, BTreeSet<ClassName>> {
    let mut wanted = BTreeMap::<_, BTreeSet<_>>::new();
    for key in snapshot.mappings.keys() {
        wanted.entry(key.namespace.clone()).or_default();
    }
    for (key, spec) in &claims.accepted {
        wanted.entry(key.namespace.clone()).or_default().extend(class_names(&key.name, spec));
    }
    wanted
}

/// The numbers in the statuses of the mappings, oldest mapping first.
pub(super) fn given(snapshot: &Snapshot) -> Vec<(String, ClassName, u16)> {
    let mut mappings: Vec<_> = snapshot.mappings.iter().collect();
    mappings.sort_by_key(|(key, mapping)| (mapping.created, *key));
    let of = |(key, mapping): (&ObjectKey, &Arc<crate::cluster::snapshot::Mapping>)| {
        let classes = mapping.classes.iter().filter_map(|class| {
            let name = ClassName { mapping: key.name.clone(), rule: class.rule.clone() };
            Some((key.namespace.clone(), name, u16::try_from(class.number).ok()?))
        });
        classes.collect::<Vec<_>>()
    };
    mappings.into_iter().flat_map(of).collect()
}

fn class_names(mapping: &str, spec: &WanMappingSpec) -> Vec<ClassName> {
    let own = (!spec.links.is_empty()).then(|| ClassName { mapping: mapping.to_owned(), rule: None });
    let of = |name: &String| ClassName { mapping: mapping.to_owned(), rule: Some(name.clone()) };
    own.into_iter().chain(spec.rules.iter().map(|rule| of(&rule.name))).collect()
}

/// Compiles the mappings of a namespace; one without numbers or with a bad rule leaves the claims.
pub(super) fn add_mappings(
    own: &mut NamespacePolicy,
    namespace: &str,
    claims: &mut Claims<'_>,
    numbers: &Allocation,
    numbering: Numbering,
) {
    let here: Vec<_> = claims.accepted.iter().filter(|(key, _)| key.namespace == namespace).collect();
    let here: Vec<_> = here.into_iter().map(|(key, spec)| (key.clone(), *spec)).collect();
    for (key, spec) in here {
        match mapping(&key, spec, numbers, numbering) {
            Ok((mapping, classes)) => {
                own.classes.extend(classes.into_iter().map(|class| (class.id, class)));
                own.mappings.insert(key.name, Arc::new(mapping));
            }
            Err(refused) => {
                claims.accepted.remove(&key);
                claims
                    .by_route
                    .retain(|(origin, _), by| origin.key().namespace != key.namespace || *by != key.name);
                claims.problems.push(refused);
            }
        }
    }
}

fn mapping(
    key: &ObjectKey,
    spec: &WanMappingSpec,
    numbers: &Allocation,
    numbering: Numbering,
) -> Result<(Mapping, Vec<Class>), Problem> {
    let mut classes = Vec::new();
    for name in class_names(&key.name, spec) {
        let id = numbers.zone(&key.namespace).and_then(|_| numbers.class(&key.namespace, &name));
        let Some(id) = id else {
            if numbering == Numbering::Status {
                let message = "has no class numbers in its status yet; see that the controller runs";
                return Err(problem("Pending", key, "status.classes".into(), message.into()));
            }
            let message = "the namespace needs more than 16 classes (one per mapping with links and one per \
                           rule), or the node has too many namespaces; join mappings or rules with equal links";
            return Err(problem("OutOfClasses", key, "spec".into(), message.into()));
        };
        classes.push(class(id, name, spec));
    }
    let number_of = |rule: Option<&str>| classes.iter().find(|c| c.key.rule.as_deref() == rule).map(|c| c.id);
    let mut rules = Vec::new();
    for (i, source) in spec.rules.iter().enumerate() {
        let Some(id) = number_of(Some(&source.name)) else { continue };
        rules.push(Rule::compile(source, id).map_err(|(field, message)| {
            let dot = if field.is_empty() { "" } else { "." };
            problem("InvalidRule", key, format!("spec.rules[{i}]{dot}{field}"), message)
        })?);
    }
    let class = number_of(None);
    let mapping = Mapping { name: key.name.clone(), class, on_agent_loss: spec.on_agent_loss, rules };
    Ok((mapping, classes))
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
