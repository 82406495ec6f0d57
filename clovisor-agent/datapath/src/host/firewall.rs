//! Detects a policy for forwarded packets that a redirect would bypass; pure.
//!
//! A policy is a chain at the forward hook with policy drop, or a rule reached from such a chain, also by a verdict map, that
//! drops, rejects or queues (NFQUEUE). Not a policy: rules for `ct state invalid`, and kube-proxy's rules for Service addresses,
//! which steered packets do not carry.

use std::collections::BTreeSet;

/// A chain, by table and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainName {
    pub(super) family: &'static str,
    pub(super) table: String,
    pub(super) chain: String,
}

/// A chain that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseChain {
    pub(super) name: ChainName,
    pub(super) drops: bool,
}

/// What a rule does with packets that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Drops, rejects, or queues to a program that may.
    Refuse,
    /// The same for `ct state invalid` only.
    RefuseInvalid,
    /// Goes on in another chain of the table.
    Jump(String),
}

/// A rule that has an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainRule {
    pub(super) chain: ChainName,
    pub(super) effect: Effect,
}

/// Chains of kube-proxy (iptables mode) that refuse what is sent to Services.
const KUBE_PROXY: [&str; 5] =
    ["KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"];
/// Its table in nftables mode.
pub(super) const KUBE_PROXY_TABLE: &str = "kube-proxy";

/// The chain that refuses forwarded packets, if one does; `forward`: the chains at the forward hook.
pub(super) fn policy(forward: &[BaseChain], rules: &[ChainRule]) -> Option<String> {
    if let Some(chain) = forward.iter().find(|chain| chain.drops) {
        return Some(format!("{} has the policy drop", shown(&chain.name)));
    }
    let mut seen = BTreeSet::new();
    let mut todo: Vec<ChainName> = forward.iter().map(|chain| chain.name.clone()).collect();
    while let Some(name) = todo.pop() {
        let kube_proxy = KUBE_PROXY.contains(&name.chain.as_str()) || name.table == KUBE_PROXY_TABLE;
        if kube_proxy || !seen.insert(name.clone()) {
            continue;
        }
        for rule in rules.iter().filter(|rule| rule.chain == name) {
            match &rule.effect {
                Effect::Refuse => return Some(format!("{} drops, rejects or queues packets", shown(&name))),
                Effect::RefuseInvalid => {}
                Effect::Jump(chain) => todo.push(ChainName { chain: chain.clone(), ..name.clone() }),
            }
        }
    }
    None
}

fn shown(name: &ChainName) -> String {
    format!("chain {} of table {} {}", name.chain, name.family, name.table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(table: &str, chain: &str) -> ChainName {
        ChainName { family: "ip", table: table.into(), chain: chain.into() }
    }

    fn forward(drops: bool) -> [BaseChain; 1] {
        [BaseChain { name: name("filter", "FORWARD"), drops }]
    }

    fn rule(chain: &str, effect: Effect) -> ChainRule {
        ChainRule { chain: name("filter", chain), effect }
    }

    #[test]
    fn a_policy_is_what_refuses_forwarded_packets() {
        let jump = |to: &str| Effect::Jump(to.into());
        let found = |rules: &[ChainRule]| policy(&forward(false), rules).is_some();
        assert!(policy(&forward(true), &[]).is_some_and(|said| said.contains("FORWARD of table ip filter")));
        assert!(!found(&[]));
        assert!(!found(&[rule("FORWARD", Effect::RefuseInvalid)]));
        assert!(found(&[rule("FORWARD", Effect::Refuse)]));
        assert!(!found(&[rule("INPUT", Effect::Refuse)]));
        let calico =
            [rule("FORWARD", jump("cali-FORWARD")), rule("cali-FORWARD", jump("cali-from-wl-dispatch"))];
        assert!(!found(&calico));
        assert!(found(&[&calico[..], &[rule("cali-from-wl-dispatch", Effect::Refuse)]].concat()));
        for chain in KUBE_PROXY {
            assert!(!found(&[rule("FORWARD", jump(chain)), rule(chain, Effect::Refuse)]), "{chain}");
        }
        // Chains that call each other end too.
        assert!(!found(&[rule("FORWARD", jump("a")), rule("a", jump("b")), rule("b", jump("a"))]));
    }

    #[test]
    fn kube_proxys_own_table_is_about_services() {
        let forward = [BaseChain { name: name("kube-proxy", "filter-forward"), drops: false }];
        let refuse = ChainRule { chain: name("kube-proxy", "filter-forward"), effect: Effect::Refuse };
        assert_eq!(policy(&forward, &[refuse]), None);
    }
}
