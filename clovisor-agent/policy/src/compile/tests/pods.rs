//! Pods that are not steered.

use super::{compiled, mapping};
use clovisor_objects::reason::ProblemReason;

#[test]
fn a_selected_pod_of_the_nodes_network_is_named() {
    let pod = |name: &str, app: &str, spec: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n\
             spec: {spec}\nstatus: {{podIP: 10.1.0.5}}\n"
        )
    };
    let traffic = |pods: &str| {
        let destinations = "destinations: [{cidr: 203.0.113.0/24}]";
        mapping("m", &format!("{{traffic: {{{pods}{destinations}}}, links: [s8]}}"))
    };
    let pods = [
        pod("a", "till", "{hostNetwork: true}"),
        pod("b", "till", "{}"),
        pod("c", "db", "{hostNetwork: true}"),
    ];
    for (selector, named) in [
        ("pods: {app: till}, ", vec!["shop/a"]),
        ("", vec!["shop/a", "shop/c"]),
        ("pods: {app: x}, ", vec![]),
    ] {
        let compiled = compiled(&[traffic(selector), pods.concat()]);
        let found: Vec<_> =
            compiled.problems.iter().filter(|p| p.reason == ProblemReason::PodNotSteered).collect();
        assert_eq!(found.iter().map(|p| p.subject.name()).collect::<Vec<_>>(), named, "{selector}");
        assert!(
            found.iter().all(|p| p.message.contains("WanMapping m") && p.message.contains("hostNetwork"))
        );
    }
}

#[test]
fn a_pod_that_has_ended_has_no_address() {
    let pod = |phase: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: shop}}\nstatus: {{podIP: 10.1.0.5, phase: {phase}}}\n"
        )
    };
    for (phase, addresses) in [("Running", 1), ("Succeeded", 0), ("Failed", 0)] {
        let compiled = compiled(&[pod(phase)]);
        assert_eq!(
            compiled.policy.pods.values().map(|pod| pod.addresses.len()).sum::<usize>(),
            addresses,
            "{phase}"
        );
    }
}
