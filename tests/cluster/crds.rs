//! The kinds as users meet them: apply, explain, get, and every refusal's own words.

use crate::kubernetes::{file, start};
use anyhow::{Result, ensure};
use harness::agent::binary;
use harness::apiserver::User;
use harness::eventually::eventually;
use harness::netns::run;
use harness::site::Site;
use std::time::Duration;

fn link(name: &str, spec: &str) -> String {
    format!("apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn mapping(spec: &str) -> String {
    format!(
        "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{name: m, namespace: shop}}\nspec: {spec}\n"
    )
}

const NET: &str = "traffic: {destinations: [{cidr: 198.51.100.0/24";
const TARGET: &str = "targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews}]";

#[test]
fn the_kinds_are_served_explained_and_listed() -> Result<()> {
    Site::builder("crds").run(|site| {
        let api = start(site)?;
        for path in
            ["wanlink.spec", "wanlink.status", "wannode.status", "wanmapping.spec", "wanmapping.spec.rules"]
        {
            // The server publishes the schemas a moment after the kinds are established.
            let text = eventually("the schema", Duration::from_secs(20), || {
                api.kubectl(User::Admin, &["explain", path], None)
            })?;
            ensure!(!text.contains("<empty>") && text.contains("FIELDS:"), "{path}:\n{text}");
        }
        for name in ["1-links", "2-service", "3-routes", "4-mappings", "5-crew"] {
            let said = api.apply(&file(&format!("deploy/example/{name}.yaml"))?)?;
            ensure!(!said.contains("Warning"), "{name}: {said}");
        }
        let links = api.kubectl(User::Admin, &["get", "wl", "-o", "wide"], None)?;
        ensure!(
            links.starts_with(
                "NAME   DEVICE   WANTED   READY   REASON   NODES   NAT          MODE       MTU   AGE\n"
            ),
            "{links}"
        );
        let mappings = api.kubectl(User::Admin, &["get", "wm", "-n", "shop"], None)?;
        ensure!(mappings.starts_with("NAME      TARGET    LINKS"), "{mappings}");
        let all = api.kubectl(User::Admin, &["get", "clovisor", "-A"], None)?;
        ensure!(
            all.contains("wanlink.clovisor.io/s8") && all.contains("wanmapping.clovisor.io/crew"),
            "{all}"
        );
        Ok(())
    })
}

#[test]
fn every_refusal_has_its_own_words() -> Result<()> {
    Site::builder("crds-refuse").run(|site| {
        let api = start(site)?;
        let peer = "{device: s9, peers: [{alias: 192.0.2.1, port: 443, address: \"2001:db8::1\"}]}";
        let header = |value: &str| {
            format!("{{{TARGET}, rules: [{{name: a, links: [s9], headers: [{{name: u{value}}}]}}]}}")
        };
        let rows: [(String, &str); 24] = [
            (
                link(
                    "a",
                    "{device: s9, mode: Mark, peers: [{alias: 192.0.2.1, port: 443, address: 192.0.2.2}]}",
                ),
                "peers need mode Redirect",
            ),
            (link("a", "{devise: s9}"), ".spec.devise: field not declared in schema"),
            (link("a", "{}"), "give either device or deviceSelector"),
            (
                link("a", "{device: s9, deviceSelector: {driver: igb}}"),
                "give either device or deviceSelector",
            ),
            (link("a", "{deviceSelector: {}}"), "give at least one of mac, driver, defaultRoute"),
            (link("a", "{deviceSelector: {mac: \"02:42\"}}"), "spec.deviceSelector.mac"),
            (link("a", "{device: an-interface-name-that-is-long}"), "may not be more than 15"),
            (link(&"a".repeat(64), "{device: s9}"), "the name must have at most 63 characters"),
            (link("a", "{device: s9, mtu: 100}"), "greater than or equal to 576"),
            (link("a", "{device: s9, dscp: 64}"), "less than or equal to 63"),
            (link("a", "{device: s9, nat: Maybe}"), "supported values: \"Masquerade\", \"None\""),
            (link("a", "{device: s9, gateway: {ipv4: 300.0.0.1}}"), "ipv4"),
            (link("a", peer), "both IPv4 or both IPv6"),
            (mapping("{targetRefs: [], links: [s9]}"), "give either targetRefs or traffic"),
            (mapping(&format!("{{{TARGET}, links: [s9], {NET}}}]}}}}")), "give either targetRefs or traffic"),
            (mapping(&format!("{{{NET}}}]}}}}")), "name links, or rules with links"),
            (mapping("{links: [s9], traffic: {destinations: []}}"), "should have at least 1 items"),
            (mapping(&format!("{{links: [s9], {NET}, protocol: SCTP}}]}}}}")), "supported values: \"TCP\""),
            (mapping(&format!("{{links: [s9], {NET}, endPort: 9}}]}}}}")), "endPort needs a port"),
            (mapping(&format!("{{links: [s9], {NET}, protocol: ICMP, port: 9}}]}}}}")), "ICMP has no ports"),
            (mapping(&format!("{{{TARGET}}}")), "name links, or rules with links"),
            (
                mapping("{targetRefs: [{group: apps, kind: Deployment, name: a}], links: [s9]}"),
                "only networking.istio.io/VirtualService and",
            ),
            (mapping(&header("")), "set exactly one of exact, prefix, regex, in"),
            (mapping(&header(", exact: a, in: [b]")), "set exactly one of exact, prefix, regex, in"),
        ];
        let mut other = Vec::new();
        for (object, words) in rows {
            let refused = api.apply(&object).err().map(|error| format!("{error:#}"));
            if !refused.as_ref().is_some_and(|text| text.contains(words)) {
                other.push((object, words, refused));
            }
        }
        ensure!(other.is_empty(), "other words than these: {other:#?}");
        let no_condition = mapping(&format!("{{{TARGET}, rules: [{{name: a, links: [s9]}}]}}"));
        let refused = api.apply(&no_condition).err().map(|error| format!("{error:#}"));
        ensure!(refused.is_some_and(|text| text.contains("at least one condition")), "a rule for everything");
        api.apply(&mapping(&header(", in: [b]")))?;
        Ok(())
    })
}

/// What `render istio` prints for the example passes Istio's own schemas, strictly.
#[test]
fn rendered_objects_fit_istios_schemas() -> Result<()> {
    Site::builder("render").run(|site| {
        let api = start(site)?;
        let example = harness::repository::path("deploy/example");
        let mut command = std::process::Command::new(binary("clovisorctl")?);
        let text = run(command.args(["render", "istio", "-f"]).arg(example), None)?;
        let said = api.apply(&text)?;
        ensure!(!said.contains("Warning"), "{said}");
        for object in [
            "envoyfilter.networking.istio.io/clovisor-callout",
            "envoyfilter.networking.istio.io/clovisor-minions-routes",
            "destinationrule.networking.istio.io/clovisor-boss-",
        ] {
            ensure!(said.contains(object), "no {object}: {said}");
        }
        Ok(())
    })
}
