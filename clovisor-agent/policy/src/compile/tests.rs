use super::*;
use crate::explain::explain;
use crate::matcher::Request;
use crate::model::RouteDecision;
use crate::trace::Trace;
use clovisor_objects::document::read_all;
use proptest::prelude::*;
use std::fmt::Write as _;

const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: 203.0.113.10, ports: {http: 15443}}]
---
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s8}
spec: {device: s8}
---
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s9}
spec: {device: s9, allowedNamespaces: [shop]}
";

fn vs(name: &str, http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  hosts: [reviews]\n  http: [{http}]\n"
    )
}

fn route(name: &str, condition: &str) -> String {
    format!("{{name: {name}, match: [{condition}], route: [{{destination: {{host: reviews}}}}]}}")
}

fn mapping(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {spec}\n"
    )
}

fn target(section: &str) -> String {
    format!(
        "targetRefs: [{{group: networking.istio.io, kind: VirtualService, name: r, sectionName: {section}}}]"
    )
}

fn compiled(parts: &[String]) -> Compiled {
    compiled_for(Proxies::Managed, parts)
}

fn compiled_for(proxies: Proxies, parts: &[String]) -> Compiled {
    let snapshot = read_all("a.yaml", &format!("{SERVICE}{}", parts.concat()));
    compile(&snapshot, &Allocation::default(), 1, Purpose { proxies, ..Purpose::default() }).0
}

fn trace(compiled: &Compiled, headers: &[(&str, &[u8])]) -> Trace {
    let request = Request { method: "GET", authority: "reviews:8000", path: "/", headers };
    let pod = ObjectKey { namespace: "shop".into(), name: "client".into() };
    explain(&compiled.policy, &pod, &BTreeMap::new(), &request)
}

fn class(compiled: &Compiled, user: &str) -> Option<String> {
    let id = trace(compiled, &[("user", user.as_bytes())]).class?;
    compiled.policy.namespaces.get("shop")?.classes.get(&id).map(|c| c.key.to_string())
}

fn reasons(compiled: &Compiled) -> Vec<String> {
    compiled.problems.iter().map(|p| format!("{} {}", p.reason, p.subject.name())).collect()
}

fn two_routes() -> String {
    let minions = route("minions", "{headers: {user: {exact: minions}}}");
    let users = route("users", "{headers: {user: {}}}");
    vs("r", &format!("{minions}, {users}, {{name: rest, route: [{{destination: {{host: reviews}}}}]}}"))
}

#[test]
fn routes_and_rules_give_classes() {
    let parts = [
        two_routes(),
        mapping("minions", &format!("{{{}, links: [s9, s8]}}", target("minions"))),
        mapping(
            "crew",
            &format!(
                "{{{}, rules: [{{name: crew, headers: [{{name: User, in: [bob, kevin]}}], links: [s9]}}]}}",
                target("users")
            ),
        ),
    ];
    let compiled = compiled(&parts);
    assert_eq!(compiled.problems, []);
    assert_eq!(class(&compiled, "minions").as_deref(), Some("minions"));
    assert_eq!(class(&compiled, "kevin").as_deref(), Some("crew/crew"));
    assert_eq!(class(&compiled, "gru"), None);
    let nobody = trace(&compiled, &[]);
    assert_eq!((nobody.class, nobody.routes.len()), (None, 3));
    let service = &compiled.policy.namespaces["shop"].services[0];
    assert_eq!(service.endpoints, ["203.0.113.10:15443".parse().unwrap_or_else(|e| panic!("{e}"))]);
    assert_eq!(service.aliases, ["reviews.shop.svc", "reviews.shop", "reviews"]);
    assert_eq!(compiled.policy.namespaces["shop"].zone, 1);
}

/// A mapping decides the same in managed proxies and in sidecars; one that is refused decides in neither.
#[test]
fn both_kinds_of_proxies_have_the_same_decisions() {
    let rule = |n: usize| format!("{{name: r{n}, methods: [PUT], links: [s8]}}");
    let many: Vec<_> = (0..17).map(rule).collect();
    for (spec, planned) in [
        ("links: [s9]".to_owned(), true),
        (format!("rules: [{}]", rule(0)), true),
        (format!("links: [s9], rules: [{}, {}], onAgentLoss: Refuse", rule(0), rule(1)), true),
        (format!("rules: [{}]", many.join(", ")), false),
    ] {
        let parts = [two_routes(), mapping("m", &format!("{{{}, {spec}}}", target("minions")))];
        let managed = compiled(&parts);
        let services = &managed.policy.namespaces["shop"].services;
        let routes = services.iter().flat_map(|service| &service.routes);
        let decided = routes.map(|route| &route.decision).filter(|d| **d != RouteDecision::Unmapped);
        let sidecars = compiled_for(Proxies::Sidecars, &parts).sidecars;
        assert_eq!(decided.collect::<Vec<_>>(), sidecars.iter().map(|s| &s.decision).collect::<Vec<_>>());
        assert_eq!(sidecars.len(), usize::from(planned), "{spec}");
    }
}

#[test]
fn what_cannot_be_exact_is_refused_with_its_reason() {
    let links = "links: [s9]";
    let rows: [(&str, String); 9] = [
        ("RuleNotEffective", mapping("m", &format!("{{{}, {links}}}", target("nope")))),
        ("InvalidRule", mapping("m", &format!("{{{}}}", target("minions")))),
        ("InvalidObject", mapping("m", &format!("{{{}, {links}, dscp: 64}}", target("minions")))),
        ("InvalidRule", mapping("m", "{targetRefs: [], links: [s9]}")),
        (
            "InvalidRule",
            mapping("m", "{targetRefs: [{group: apps, kind: Deployment, name: r}], links: [s9]}"),
        ),
        (
            "RuleNotEffective",
            mapping(
                "m",
                "{targetRefs: [{group: networking.istio.io, kind: VirtualService, name: x}], links: [s9]}",
            ),
        ),
        (
            "InvalidRule",
            mapping(
                "m",
                &format!(
                    "{{{}, rules: [{{name: a, headers: [{{name: u, regex: '('}}], links: [s9]}}]}}",
                    target("users")
                ),
            ),
        ),
        ("InvalidRule", mapping("m", &format!("{{{}, rules: [{{name: a, links: [s9]}}]}}", target("users")))),
        ("LinkNotFound", mapping("m", &format!("{{{}, links: [s7]}}", target("minions")))),
    ];
    for (reason, row) in rows {
        let other = mapping("other", &format!("{{{}, links: [s8]}}", target("rest")));
        let compiled = compiled(&[two_routes(), row.clone(), other]);
        assert_eq!(reasons(&compiled), [format!("{reason} shop/m")], "{row}");
        assert_eq!(class(&compiled, "").as_deref(), None);
        assert!(compiled.policy.namespaces["shop"].mappings.contains_key("other"), "{row}");
    }
}

#[test]
fn an_unnamed_route_is_not_guessed() {
    let http = "{route: [{destination: {host: reviews}}]}";
    let parts = [vs("r", http), mapping("m", &format!("{{{}, links: [s9]}}", target("rest")))];
    assert_eq!(reasons(&compiled(&parts)), ["RouteUnnamed shop/m"]);
    let whole = "{targetRefs: [{group: networking.istio.io, kind: VirtualService, name: r}], links: [s9]}";
    let compiled = compiled(&[vs("r", http), mapping("m", whole)]);
    assert_eq!(compiled.problems, []);
    assert_eq!(class(&compiled, "x").as_deref(), Some("m"));
}

#[test]
fn the_oldest_of_two_mappings_holds() {
    let dated = |name: &str, year: u32| {
        let text = mapping(name, &format!("{{{}, links: [s9]}}", target("minions")));
        text.replace(
            "namespace: shop}",
            &format!("namespace: shop, creationTimestamp: '{year}-01-01T00:00:00Z'}}"),
        )
    };
    let compiled = compiled(&[two_routes(), dated("a", 2026), dated("b", 2025)]);
    assert_eq!(reasons(&compiled), ["ClassNotSeparable shop/a"]);
    assert_eq!(class(&compiled, "minions").as_deref(), Some("b"));
}

#[test]
fn a_seventeenth_class_costs_its_own_mapping_only() {
    let rules = (0..16).fold(String::new(), |mut all, n| {
        let _infallible = write!(all, "{{name: r{n}, path: {{exact: /{n}}}, links: [s9]}}, ");
        all
    });
    let compiled = compiled(&[
        two_routes(),
        mapping("a", &format!("{{{}, links: [s9]}}", target("minions"))),
        mapping("b", &format!("{{{}, rules: [{rules}]}}", target("users"))),
    ]);
    assert_eq!(reasons(&compiled), ["OutOfClasses shop/b"]);
    assert_eq!(class(&compiled, "minions").as_deref(), Some("a"));
}

#[test]
fn a_virtual_service_that_managed_proxies_cannot_do_is_left_out() {
    for http in [
        "{name: x, fault: {}, route: [{destination: {host: reviews}}]}",
        "{name: x, route: [{destination: {host: reviews}, weight: 1}, {destination: {host: b}, weight: 1}]}",
        "{name: x, route: [{destination: {host: reviews, subset: v1}}]}",
        "{name: x, route: [{destination: {host: nowhere}}]}",
        "{name: x, timeout: soon, route: [{destination: {host: reviews}}]}",
        "{name: x, match: [{headers: {a: {exact: b, prefix: c}}}], route: [{destination: {host: reviews}}]}",
    ] {
        let compiled = compiled(&[vs("r", http), mapping("m", &format!("{{{}, links: [s9]}}", target("x")))]);
        assert_eq!(reasons(&compiled), ["InvalidRule shop/r"], "{http}");
        assert!(compiled.policy.namespaces["shop"].services.is_empty());
    }
}

#[test]
fn the_second_virtual_service_of_a_host_is_reported() {
    let parts = [
        vs("a", &route("x", "{uri: {prefix: /}}")),
        two_routes(),
        mapping("m", &format!("{{{}, links: [s9]}}", target("minions"))),
    ];
    let compiled = compiled(&parts);
    let expected = ["RuleNotEffective shop/r", "RuleNotEffective shop/m"];
    assert_eq!(reasons(&compiled), expected);
}

fn http_route(name: &str, namespace: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews, namespace: shop, port: 8000}}]\n  rules: [{rules}]\n"
    )
}

fn http_rule(name: &str, matches: &str) -> String {
    format!(
        "{{name: {name}, matches: [{matches}], backendRefs: [{{name: reviews, namespace: shop, port: 8000}}]}}"
    )
}

fn http_target(section: &str) -> String {
    format!(
        "targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: h, sectionName: {section}}}]"
    )
}

#[test]
fn an_http_route_of_a_service_is_a_target() {
    // The catch-all is written first and ranks last.
    let rules =
        [http_rule("rest", ""), http_rule("minions", "{headers: [{name: User, value: minions}]}")].join(", ");
    let mapped = mapping("m", &format!("{{{}, links: [s9]}}", http_target("minions")));
    let all = compiled(&[http_route("h", "shop", &rules), mapped.clone()]);
    assert_eq!(all.problems, []);
    assert_eq!(class(&all, "minions").as_deref(), Some("m"));
    assert_eq!(class(&all, "boss"), None);
    // A VirtualService of the same host comes first, and the other is told.
    let both = compiled(&[http_route("h", "shop", &rules), two_routes(), mapped.clone()]);
    assert_eq!(reasons(&both), ["RuleNotEffective shop/h", "RuleNotEffective shop/m"]);
    // Someone else's route is not for these clients.
    let foreign = http_route("x", "bank", &http_rule("all", ""));
    assert_eq!(compiled(&[foreign, http_route("h", "shop", &rules), mapped]).problems, []);
}

#[test]
fn an_http_route_that_managed_proxies_cannot_do_is_left_out() {
    for rule in [
        "{name: x, filters: [{type: RequestMirror}], backendRefs: [{name: reviews, port: 8000}]}",
        "{name: x, backendRefs: [{name: reviews, port: 8000}, {name: reviews, port: 8001}]}",
        "{name: x, backendRefs: [{name: reviews}]}",
        "{name: x, backendRefs: [{name: nowhere, port: 8000}]}",
        "{name: x, matches: [{path: {type: Suffix, value: /a}}], backendRefs: [{name: reviews, port: 8000}]}",
    ] {
        let mapped = mapping("m", &format!("{{{}, links: [s9]}}", http_target("x")));
        let compiled = compiled(&[http_route("h", "shop", rule), mapped]);
        assert_eq!(reasons(&compiled), ["InvalidRule shop/h"], "{rule}");
    }
}

fn yaml_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("reviews".to_owned()),
        Just("s9".to_owned()),
        Just("minions".to_owned()),
        Just("'('".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        "[a-z.*/]{0,12}".prop_map(|s| format!("{s:?}")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let field = prop_oneof![
            Just("name"),
            Just("match"),
            Just("headers"),
            Just("exact"),
            Just("regex"),
            Just("route"),
            Just("destination"),
            Just("host"),
            Just("http"),
            Just("links"),
            Just("rules"),
            Just("in"),
            Just("targetRefs"),
            Just("kind"),
            Just("sectionName"),
            Just("port"),
            Just("number"),
        ];
        let object = prop::collection::vec((field, inner.clone()), 0..4).prop_map(|fields| {
            let fields: BTreeMap<_, _> = fields.into_iter().collect();
            let fields: Vec<_> = fields.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
            format!("{{{}}}", fields.join(", "))
        });
        prop_oneof![object, prop::collection::vec(inner, 0..4).prop_map(|l| format!("[{}]", l.join(", ")))]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_object_is_a_panic_and_none_costs_another(http in yaml_value(), spec in yaml_value(), inner in yaml_value()) {
        let good = mapping("good", &format!("{{{}, links: [s9]}}", target("minions")));
        let parts = [
            two_routes(), good, vs("x", &http).replace("[reviews]", "[other]"), mapping("m", &spec),
            mapping("n", &format!("{{{}, links: [s9], rules: {inner}}}", target("users"))),
        ];
        let compiled = compiled(&parts);
        prop_assert_eq!(class(&compiled, "minions"), Some("good".to_owned()));
    }
}

/// A mapping governs the clients of its own namespace: one of the same name elsewhere is another one.
#[test]
fn a_namesake_in_another_namespace_governs_nothing_here() {
    let of_shop = [
        vs("r", &route("minions", "{uri: {prefix: /}}")),
        mapping("m", &format!("{{{}, links: [s9]}}", target("minions"))),
    ];
    let of_till = of_shop
        .concat()
        .replace("namespace: shop", "namespace: till")
        .replace("[reviews]", "[till.example.com]");
    let compiled = compiled(&[of_shop.concat(), of_till]);
    let decisions = |namespace: &str| {
        let own = compiled.policy.namespaces.get(namespace);
        let reviews = own.into_iter().flat_map(|own| &own.services).find(|s| s.host.starts_with("reviews"));
        reviews.map(|s| s.routes.iter().map(|r| r.decision != RouteDecision::Unmapped).collect::<Vec<_>>())
    };
    assert_eq!(decisions("shop"), Some(vec![true]));
    assert_eq!(decisions("till"), Some(vec![false]));
}

mod pods;
