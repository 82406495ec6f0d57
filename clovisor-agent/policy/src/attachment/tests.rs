//! Which mapping comes first, and what is said of names and of what changes nothing.

use crate::allocation::Allocation;
use crate::compile::{Purpose, compile};
use clovisor_objects::document::read_all;

const OBJECTS: &str = "
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s8}
spec: {device: s8}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec: {hosts: [reviews], http: [{name: users, route: [{destination: {host: reviews}}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: till-0, namespace: shop, labels: {app: till}}
";

/// `REASON FIELD: MESSAGE` of the mappings' problems; their hosts are not served.
fn said(mappings: &str) -> Vec<String> {
    let snapshot = read_all("f", &format!("{OBJECTS}{mappings}"));
    let (compiled, _) = compile(&snapshot, &Allocation::default(), 1, Purpose::default());
    let all = compiled.problems.iter().map(|p| format!("{} {}: {}", p.reason, p.field, p.message));
    all.filter(|said| !said.contains("no ServiceEntry that the namespace sees")).collect()
}

fn mapping(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{namespace: shop, {metadata}}}\nspec: {spec}\n"
    )
}

fn target(name: &str, section: &str) -> String {
    format!(
        "{{links: [s8], targetRefs: [{{group: networking.istio.io, kind: VirtualService, name: {name}, sectionName: {section}}}]}}"
    )
}

#[test]
fn the_mapping_that_comes_first_is_called_older_only_where_it_is() {
    let at = |name: &str, second: Option<u32>| {
        let time =
            second.map_or_else(String::new, |s| format!(", creationTimestamp: 2026-01-01T00:00:0{s}Z"));
        mapping(&format!("name: {name}{time}"), &target("reviews", "users"))
    };
    for (a, b, words) in [
        (Some(2), Some(1), "belongs to WanMapping b, which is older;"),
        (Some(1), Some(1), "belongs to WanMapping a, which comes first by name;"),
        (None, None, "belongs to WanMapping a, which comes first by name;"),
        (Some(1), None, "belongs to WanMapping b, which has no creation time and so comes first;"),
    ] {
        let said = said(&(at("a", a) + &at("b", b)));
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
}

#[test]
fn misspelt_names_are_answered_with_those_that_there_are() {
    for (spec, words) in [
        (target("revews", "users"), "there is no VirtualService shop/revews (did you mean reviews?)"),
        (target("reviews", "usrs"), "is named \"usrs\"; did you mean users?"),
        (target("reviews", "users").replace("s8", "s7"), "there is no WanLink s7 (did you mean s8?)"),
        (target("reviews", "users").replace("s8", "fibre"), "there is no WanLink fibre (there is s8)"),
    ] {
        let said = said(&mapping("name: a", &spec));
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
}

#[test]
fn what_changes_nothing_is_said_and_the_rest_is_in_force() {
    let spec = "{links: [s8, s8], traffic: {pods: {app: tills}, destinations: [{cidr: 10.1.2.3/16}, {cidr: 10.0.0.0/8}]}}";
    let said = said(&mapping("name: a", spec));
    assert_eq!(
        said,
        [
            "NoEffect spec.links[1]: s8 stands before already; remove it here",
            "NoEffect spec.traffic.destinations[0].cidr: 10.1.2.3/16 has bits behind its prefix and means 10.1.0.0/16; write that, \
         or 10.1.2.3/32 for the one host",
            "NoEffect spec.traffic.pods: no pod of the namespace has these labels; compare them with those of the pods",
        ]
    );
}
