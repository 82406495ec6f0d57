//! The choice of a class's links, one for each address family.

use super::table::{Health, LinkEntry, LinkId, LinkTable};
use clovisor_objects::family::{IpFamily, PerFamily};
use clovisor_objects::wan_link::LinkState;

/// For each family the first one of `wanted` that is usable for it, for pods of `namespace`; none: all are down, unknown or
/// not allowed.
#[must_use]
pub fn choose(wanted: &[String], table: &LinkTable, namespace: &str) -> PerFamily<Option<LinkId>> {
    PerFamily::each(|family| {
        let known = wanted.iter().filter_map(|name| table.links.get(name));
        known.into_iter().find(|link| rejection(link, namespace, family).is_none()).map(|link| link.id)
    })
}

/// Pods of `namespace` may have connections on the link by a mapping to `wanted`, whatever state it is in.
#[must_use]
pub fn permits(wanted: &[String], link: &LinkEntry, namespace: &str) -> bool {
    wanted.contains(&link.name)
        && is_allowed(link, namespace)
        && !link.egress_policies.contains_key(namespace)
}

fn is_allowed(link: &LinkEntry, namespace: &str) -> bool {
    link.allowed_namespaces.is_empty() || link.allowed_namespaces.iter().any(|allowed| allowed == namespace)
}

/// Why `choose` passes a link over for a family; none if the link is usable.
#[must_use]
pub fn rejection(link: &LinkEntry, namespace: &str, family: IpFamily) -> Option<String> {
    if !is_allowed(link, namespace) {
        return Some(format!("namespace {namespace} is not in spec.allowedNamespaces"));
    }
    if let Some(policy) = link.egress_policies.get(namespace) {
        return Some(format!(
            "a redirect would bypass NetworkPolicy {namespace}/{policy}, which is for egress; set spec.mode: Mark, or \
             spec.policyBypass: Accepted"
        ));
    }
    match (link.wanted, *link.health.of(family)) {
        (LinkState::Active, Health::Up) => None,
        (LinkState::Active, Health::Down(reason)) => Some(link.words(reason)),
        (LinkState::Drain, _) => Some("spec.state is Drain: no new connections".into()),
        (LinkState::Disabled, _) => Some("spec.state is Disabled".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{DownReason, Mark};
    use super::*;
    use clovisor_objects::wan_link::{Mode, Nat};
    use proptest::array;
    use proptest::prelude::*;

    fn link(id: u8, name: &str, health: Health) -> (String, LinkEntry) {
        let link = LinkEntry {
            id: LinkId(id),
            name: name.into(),
            device: name.into(),
            chosen: None,
            ifindex: Some(u32::from(id) + 1),
            gateway4: None,
            gateway6: None,
            source4: None,
            source6: None,
            mtu: 1500,
            dscp: 0,
            l3: false,
            nat: Nat::Masquerade,
            mode: Mode::Redirect,
            mark: Mark::default(),
            wanted: LinkState::Active,
            peers: Vec::new(),
            allowed_namespaces: Vec::new(),
            egress_policies: std::sync::Arc::default(),
            lacking: PerFamily::default(),
            awaited: PerFamily::default(),
            shares_device_of: None,
            health: PerFamily { v4: health, v6: health },
            expected: PerFamily { v4: true, v6: true },
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        (name.into(), link)
    }

    fn table() -> LinkTable {
        let down = Health::Down(DownReason::NoCarrier);
        LinkTable {
            links: [link(0, "s8", Health::Up), link(1, "s9", Health::Up), link(2, "lte", down)].into(),
            pending: 0,
            addresses: std::sync::Arc::default(),
        }
    }

    fn pick(wanted: &[&str], table: &LinkTable) -> Option<u8> {
        let [v4, v6] = pick_each(wanted, table);
        assert_eq!(v4, v6, "what concerns the link concerns both families");
        v4
    }

    fn pick_each(wanted: &[&str], table: &LinkTable) -> [Option<u8>; 2] {
        let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        let chosen = choose(&wanted, table, "shop");
        IpFamily::BOTH.map(|family| chosen.of(family).map(|id| id.0))
    }

    #[test]
    fn each_family_takes_the_first_link_that_carries_it() {
        let (up, down) = (Health::Up, Health::Down(DownReason::GatewayUnresolved));
        for (s9, s8, chosen) in [
            ([up, up], [up, up], [Some(1), Some(1)]),
            ([down, up], [up, up], [Some(0), Some(1)]),
            ([up, down], [up, up], [Some(1), Some(0)]),
            ([down, down], [up, up], [Some(0), Some(0)]),
            ([down, up], [up, down], [Some(0), Some(1)]),
            ([down, up], [down, up], [None, Some(1)]),
            ([up, down], [down, down], [Some(1), None]),
            ([down, down], [down, down], [None, None]),
        ] {
            let mut table = table();
            for (name, [v4, v6]) in [("s9", s9), ("s8", s8)] {
                table.links.entry(name.into()).and_modify(|link| link.health = PerFamily { v4, v6 });
            }
            assert_eq!(pick_each(&["s9", "lte", "s8"], &table), chosen, "{s9:?} {s8:?}");
        }
    }

    fn any_health() -> impl Strategy<Value = [Health; 3]> {
        let down = Health::Down(DownReason::GatewayUnresolved);
        array::uniform3(any::<bool>().prop_map(move |up| if up { Health::Up } else { down }))
    }

    proptest! {
        /// As if the other family did not exist.
        #[test]
        fn a_family_is_chosen_whatever_becomes_of_the_other(
            own in any_health(),
            others in any_health(),
            wanted in Just(vec!["s8", "s9", "lte"]).prop_shuffle(),
            v6: bool,
        ) {
            let family = IpFamily::BOTH[usize::from(v6)];
            let picked = |others: [Health; 3]| {
                let mut table = table();
                for (link, (own, other)) in table.links.values_mut().zip(own.into_iter().zip(others)) {
                    let (v4, v6) = if v6 { (other, own) } else { (own, other) };
                    link.health = PerFamily { v4, v6 };
                }
                let first = wanted.iter().copied().find(|name| *table.links[*name].health.of(family) == Health::Up);
                (pick_each(&wanted, &table)[usize::from(v6)], first.map(|name| table.links[name].id.0))
            };
            let (chosen, first) = picked(others);
            prop_assert_eq!(chosen, first);
            prop_assert_eq!(chosen, picked(own).0);
        }
    }

    #[test]
    fn the_first_usable_link_is_chosen() {
        let mut table = table();
        assert_eq!(pick(&["s9", "s8"], &table), Some(1));
        assert_eq!(pick(&["lte", "s8"], &table), Some(0));
        assert_eq!(pick(&["lte", "nowhere"], &table), None);
        assert_eq!(pick(&[], &table), None);
        for (state, want) in
            [(LinkState::Drain, Some(0)), (LinkState::Disabled, Some(0)), (LinkState::Active, Some(1))]
        {
            table.links.entry("s9".into()).and_modify(|l| l.wanted = state);
            assert_eq!(pick(&["s9", "s8"], &table), want, "{state:?}");
        }
    }

    #[test]
    fn a_link_that_would_bypass_a_policy_is_passed_over_for_its_namespace() {
        let mut table = table();
        let egress_policies = |namespace: &str| [(namespace.to_owned(), "deny".to_owned())].into();
        let wanted = ["s9".to_owned(), "s8".to_owned()];
        for (namespace, chosen) in [("bank", Some(1)), ("shop", Some(0))] {
            table
                .links
                .entry("s9".into())
                .and_modify(|l| l.egress_policies = std::sync::Arc::new(egress_policies(namespace)));
            assert_eq!(pick(&["s9", "s8"], &table), chosen, "{namespace}");
            assert_eq!(permits(&wanted, &table.links["s9"], "shop"), chosen == Some(1), "{namespace}");
        }
        let said = rejection(&table.links["s9"], "shop", IpFamily::V6).unwrap_or_default();
        assert!(
            said.contains("shop/deny")
                && table.links["s9"].closed().is_some_and(|s| s.contains("shop (deny)"))
        );
    }

    #[test]
    fn a_link_of_others_is_passed_over() {
        let mut table = table();
        table.links.entry("s9".into()).and_modify(|l| l.allowed_namespaces = vec!["bank".into()]);
        assert_eq!(pick(&["s9", "s8"], &table), Some(0));
        let permitted = |table: &LinkTable| permits(&["s9".into()], &table.links["s9"], "shop");
        assert!(!permitted(&table) && !permits(&["s9".into()], &table.links["s8"], "shop"));
        table.links.entry("s9".into()).and_modify(|l| l.allowed_namespaces.push("shop".into()));
        assert_eq!(pick(&["s9", "s8"], &table), Some(1));
        table.links.entry("s9".into()).and_modify(|l| l.wanted = LinkState::Drain);
        assert!(permitted(&table), "what is there may stay while it drains");
    }
}
