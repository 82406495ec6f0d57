//! What DestinationRules ask of the connections to one port of a host: the HTTP version, and TLS.
//!
//! TLS that is asked for and cannot be given is an error, never plain text. So is TLS of which it is not certain for
//! whom it is meant; the user can always say `tls: {mode: DISABLE}`.

mod wish;

use crate::hosts::{DestinationRules, HostMatch, ROOT_NAMESPACE, default_sni, visible};
use crate::model::{Protocol, Tls};
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::istio::DestinationRule;
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use serde_json::Value;
use std::collections::BTreeMap;
use wish::{TlsWish, Wish};

/// The pods of a namespace and the rules that they see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients<'a> {
    pub(super) rules: &'a DestinationRules<'a>,
    pub(super) namespace: &'a str,
    /// Labels of its pods.
    pub(super) pods: &'a [&'a BTreeMap<String, String>],
}

/// What is asked of connections to one port of a host.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tls: Result<Tls, Problem>,
    /// Some rule asks for TLS on this port, whoever it is for: it must not leave in plain text by another way.
    pub(super) wants_tls: bool,
    pub(super) upgraded: Option<Protocol>,
}

type Found<'a> = HostMatch<'a, DestinationRule>;

/// A host of a namespace, with a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostPort<'a> {
    pub(super) namespace: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl Clients<'_> {
    /// What the rules ask of the connections to a place.
    pub(super) fn ask(&self, place: HostPort<'_>) -> Asked {
        let covering = self.rules.covering(place.host);
        let concerns = |found: &&Found<'_>| {
            let at = found.key.namespace.as_str();
            [self.namespace, place.namespace, ROOT_NAMESPACE].contains(&at)
                && visible(&found.object.export_to, at, self.namespace)
                && self.selected(found) != Selected::None
        };
        let all: Vec<_> = covering.iter().filter(concerns).collect();
        let groups = self.effective(&all, place.namespace);
        let wishes: Vec<_> = groups.iter().map(|group| merged(group, place.port)).collect();
        let somewhere = all.iter().flat_map(|found| wish::all(found.key, found.object, place.port));
        let somewhere = somewhere.into_iter().find(|wish| wish.mode.is_tls());
        let wants_tls = somewhere.is_some();
        let tls = agreed(wishes).and_then(|wish| match (wish.mode, somewhere) {
            (TlsWish::Plain, _) | (TlsWish::Silent, None) => Ok(Tls::Disable),
            (TlsWish::Mutual(sni), _) => {
                let sni = sni.unwrap_or_else(|| default_sni(place.host, place.port));
                Ok(Tls::IstioMutual { sni })
            }
            (TlsWish::Other(what), _) => {
                let why = format!("asks for {what}, which managed proxies do not support");
                Err(Clash { key: wish.key, field: wish.field, why })
            }
            (TlsWish::Silent, Some(other)) => {
                let why =
                    "asks for TLS, and the settings that hold for this port do not say whether they do too";
                Err(Clash { key: other.key, field: other.field, why: why.into() })
            }
        });
        let tls = tls.map_err(|clash| clash.problem(place));
        let first = groups.iter().flatten().find_map(|found| found.object.traffic_policy.as_ref());
        Asked { tls, wants_tls, upgraded: first.and_then(|policy| upgraded(policy, place.port)) }
    }

    /// For which of the pods a rule is; as in Istio, a selector speaks of pods of its own namespace.
    fn selected(&self, found: &Found<'_>) -> Selected {
        let Some(selector) = &found.object.workload_selector else { return Selected::All };
        if found.key.namespace != self.namespace {
            return Selected::None;
        }
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        let has = |pod: &&&BTreeMap<String, String>| {
            let mut wanted = labels.into_iter().flatten();
            wanted.all(|(key, value)| pod.get(key).map(String::as_str) == value.as_str())
        };
        match self.pods.iter().filter(has).count() {
            0 if !self.pods.is_empty() => Selected::None,
            all if all == self.pods.len() && all > 0 => Selected::All,
            _ => Selected::Some,
        }
    }

    /// The rules that hold for some pod: those of the nearest namespace with the most specific host, by selector.
    fn effective<'r, 'a>(&self, all: &[&'r Found<'a>], service: &str) -> Vec<Vec<&'r Found<'a>>> {
        let nearest = [self.namespace, service, ROOT_NAMESPACE].into_iter().find_map(|namespace| {
            let here: Vec<_> = all.iter().copied().filter(|found| found.key.namespace == namespace).collect();
            let best = here.iter().map(|found| found.specificity).max()?;
            Some(here.into_iter().filter(|found| found.specificity == best).collect::<Vec<_>>())
        });
        let mut groups = BTreeMap::<Option<String>, Vec<&Found<'_>>>::new();
        for found in nearest.unwrap_or_default() {
            let selector = found.object.workload_selector.as_ref().map(Value::to_string);
            groups.entry(selector).or_default().push(found);
        }
        // A selector that picks every pod leaves nothing to the rules without one.
        let for_all = |group: &Vec<&Found<'_>>| {
            group.iter().any(|f| f.object.workload_selector.is_some() && self.selected(f) == Selected::All)
        };
        if groups.values().any(for_all) {
            groups.remove(&None);
        } else {
            groups.entry(None).or_default();
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.iter_mut().for_each(|group| group.sort_by_key(|found| found.key));
        groups
    }
}

/// Which of the pods a rule is for; without any pod the next one may be one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    All,
    Some,
    None,
}

/// Why it is not certain that a connection may go out as it would.
struct Clash<'a> {
    key: Option<&'a ObjectKey>,
    field: String,
    why: String,
}

impl Clash<'_> {
    fn problem(&self, HostPort { host, port, namespace }: HostPort<'_>) -> Problem {
        let message = format!(
            "{} for {host}:{port}; its requests are answered with 503, so that none leaves in plain text: set \
             tls.mode ISTIO_MUTUAL or DISABLE for this port in one DestinationRule of the host without workloadSelector",
            self.why
        );
        let none = ObjectKey { namespace: namespace.to_owned(), name: host.to_owned() };
        let subject = Subject::object(ObjectKind::DestinationRule, self.key.unwrap_or(&none));
        Problem::new(subject, Refusal::new(ProblemReason::TlsNotSupported, self.field.clone(), message))
    }
}

/// What rules that Istio merges ask for together. Which of their policies holds is a question of their age, so they
/// must agree.
fn merged<'a>(group: &[&Found<'a>], port: u16) -> Result<Wish<'a>, Clash<'a>> {
    let policies = group.iter().filter(|found| found.object.traffic_policy.is_some());
    agreed(policies.map(|found| Ok(wish::of_rule(found.key, found.object, port))).collect())
}

/// The one wish of all, as far as TLS is concerned.
fn agreed<'a>(wishes: Vec<Result<Wish<'a>, Clash<'a>>>) -> Result<Wish<'a>, Clash<'a>> {
    let mut all = wishes.into_iter();
    let mut one = all.next().unwrap_or_else(|| Ok(Wish::default()))?;
    for other in all {
        let other = other?;
        if one.mode == other.mode {
            continue;
        }
        if one.mode.is_tls() || other.mode.is_tls() {
            let tls = if one.mode.is_tls() { one } else { other };
            let why =
                "asks for TLS, and another DestinationRule that may hold instead does not ask for the same"
                    .into();
            return Err(Clash { key: tls.key, field: tls.field, why });
        }
        one = if one.mode == TlsWish::Silent { other } else { one };
    }
    Ok(one)
}

fn upgraded(policy: &Value, port: u16) -> Option<Protocol> {
    let h2 = wish::settings(policy, port).1.pointer("/connectionPool/http/h2UpgradePolicy")?;
    (h2 == "UPGRADE").then_some(Protocol::Http2)
}
