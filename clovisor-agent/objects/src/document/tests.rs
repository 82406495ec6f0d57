//! What a file may hold, and what is said of it.

use super::*;
use proptest::prelude::*;

/// The text from line 11 on.
fn problem(text: &str) -> Option<Problem> {
    problems(&format!("{}---\n{text}", "\n".repeat(9))).into_iter().next()
}

fn problems(text: &str) -> Vec<Problem> {
    read_all("f.yaml", text).problems
}

fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for Found { line, document, .. } in read("f.yaml", text) {
        match document {
            Document::Object(identity, _) => names.push(format!("{line} {} {}", identity.kind, identity.key)),
            Document::Refused(_, problem) => panic!("{problem:?}"),
        }
    }
    names
}

#[test]
fn a_wrong_field_is_refused_with_its_place() {
    let text = "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: s9}\nspec:\n  device: s9\n  costs: 3\n";
    let problem = problem(text).unwrap_or_else(|| panic!("accepted"));
    assert_eq!((problem.subject.kind(), problem.subject.name()), ("WanLink", "s9".to_owned()));
    assert!(problem.field.as_str().starts_with("line 16"), "{}", problem.field);
    assert!(problem.message.contains("costs"), "{}", problem.message);
}

#[test]
fn unknown_conditions_are_refused_and_other_unknown_fields_are_not() {
    let vs = |inner: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r, namespace: shop}}\nspec:\n  hosts: [a]\n  exportTo: ['*']\n  http:\n  - {inner}\n"
        )
    };
    assert_eq!(problem(&vs("{name: x, corsPolicy: {}, match: [{uri: {prefix: /}}]}")), None);
    let refused = problem(&vs("{name: x, match: [{cookie: {exact: a}}]}"));
    assert!(refused.is_some_and(|p| p.subject.name() == "shop/r" && p.message.contains("cookie")));
    assert!(problem(&vs("{match: [{uri: {suffix: a}}]}")).is_some());
}

#[test]
fn other_kinds_and_empty_documents_are_ignored() {
    for text in ["", "# only a comment\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "a: b\n"]
    {
        assert_eq!(read("f", text), [], "{text}");
    }
}

#[test]
fn huge_and_deep_documents_cost_themselves_only() {
    let head = "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {name: m}\nspec:";
    let bomb = (1..20).fold(String::from("a0: &a0 [x, x]\n"), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)
    });
    let long = "x".repeat(1 << 20);
    let rows = [
        format!("{head} {}", "[".repeat(100_000)),
        format!("{head} {}{}", "{a: ".repeat(10_000), "}".repeat(10_000)),
        format!("{bomb}{head} {{}}"),
        format!("{head} {{targetRefs: [], links: [{long}]}}"),
        format!("{head} {{{long}: 1}}"),
    ];
    for row in rows {
        let start = std::time::Instant::now();
        let found = read("f.yaml", &row);
        assert_eq!(found.len(), 1, "{}", row.get(..80).unwrap_or_default());
        assert!(start.elapsed().as_secs() < 5, "{}", row.get(..80).unwrap_or_default());
        for Found { document, .. } in found {
            let Document::Refused(_, problem) = document else { continue };
            assert!(problem.message.len() < 1000, "{} bytes of message", problem.message.len());
        }
    }
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,200}|(apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\n)?[a-z:{}\\[\\]\\-\n ]{0,200}") {
        let _any = read("f", &text);
    }
}

const LINK: &str =
    "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: s9}\nspec: {device: s9}\n";

#[test]
fn lists_are_their_items_and_typed_lists_say_what_these_are() {
    let list = "\u{feff}apiVersion: v1\r\nkind: List\r\nmetadata: {resourceVersion: \"\"}\r\nitems:\r\n\
                - apiVersion: clovisor.io/v1alpha1\r\n  kind: WanLink\r\n  metadata:\r\n    name: s9\r\n  spec: {device: s9}\r\n\
                - apiVersion: v1\r\n  kind: PodList\r\n  items:\r\n  - metadata: {name: a, namespace: shop, labels: null, annotations: null}\r\n";
    assert_eq!(names(list), ["5 WanLink s9", "13 Pod shop/a"]);
    let typed = "{\"apiVersion\": \"clovisor.io/v1alpha1\", \"kind\": \"WanMappingList\", \"items\": [\n\
                 \t{\"metadata\": {\"name\": \"m\"}, \"spec\": {\"links\": [\"s9\"], \"targetRefs\": null}}\n]}";
    assert_eq!(names(typed), ["2 WanMapping default/m"]);
    assert_eq!(names("apiVersion: v1\nkind: List\nitems: null\n"), Vec::<String>::new());
}

#[test]
fn a_bad_item_of_a_list_costs_itself_and_is_said_where_it_stands() {
    let item = |device: &str| {
        format!(
            "- apiVersion: clovisor.io/v1alpha1\n  kind: WanLink\n  metadata: {{name: {device}}}\n  spec:\n    device: {device}\n"
        )
    };
    let text = format!(
        "{LINK}---\napiVersion: v1\nkind: List\nitems:\n{}    dscp: EF\n{}- a\n",
        item("s7"),
        item("s8")
    );
    let snapshot = read_all("f.yaml", &text);
    assert_eq!(snapshot.links.keys().collect::<Vec<_>>(), ["s8", "s9"]);
    let said: Vec<_> = snapshot
        .problems
        .iter()
        .map(|p| (p.subject.name(), p.field.to_string(), p.message.clone()))
        .collect();
    assert_eq!(
        said,
        [
            (
                "f.yaml".to_owned(),
                "line 20, column 3".to_owned(),
                "is a text, no object; several objects are a `kind: List` with items".to_owned()
            ),
            (
                "s7".to_owned(),
                "line 14, column 11".to_owned(),
                "spec.dscp: is \"EF\"; a whole number is needed (in f.yaml)".to_owned()
            ),
        ]
    );
}

#[test]
fn a_name_that_reads_as_something_else_is_a_name() {
    for name in ["n", "no", "007", "1.50", "true"] {
        let names = names(&LINK.replace("name: s9", &format!("name: {name}")));
        assert_eq!(names, [format!("1 WanLink {name}")]);
    }
}

#[test]
fn what_is_probably_meant_for_clovisor_is_said() {
    for (text, words) in [
        (LINK.replace("WanLink", "WanLnk"), "did you mean WanLink?"),
        (LINK.replace("v1alpha1", "v1beta1"), "no version v1beta1"),
        (LINK.replace("clovisor.io/", ""), "write clovisor.io/v1alpha1"),
        (LINK.replace("kind: WanLink\n", ""), "names no kind"),
        (LINK.replace("{name: s9}", ""), "without metadata.name"),
        (LINK.replace("{name: s9}", "{name: [s9]}"), "metadata.name: is a list; a text is needed"),
        (LINK.replace("spec: {device: s9}", "spec:"), "spec: is missing"),
        (format!("[{{}}]\n---\n{LINK}"), "is a list, no object"),
        ("apiVersion: v1\nkind: List\n".to_owned(), "has no items"),
    ] {
        let problems = problems(&text);
        assert!(problems.len() == 1 && problems[0].message.contains(words), "{text}: {problems:?}");
        assert!(problems[0].field.as_str().starts_with("line "), "{problems:?}");
    }
}

#[test]
fn a_document_of_another_kind_costs_nothing_whatever_its_fields_hold() {
    let text =
        format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{labels: [1], name: null}}\n---\n{LINK}");
    assert_eq!(names(&text), ["5 WanLink s9"]);
}

#[test]
fn the_deepest_document_takes_less_than_half_of_a_threads_stack() {
    let text = format!("{LINK}---\nspec: {}{}\n", "{a: [".repeat(31), "]}".repeat(31));
    let read = std::thread::Builder::new().stack_size(1 << 20).spawn(move || names(&text));
    let names = read.map(std::thread::JoinHandle::join);
    assert!(matches!(&names, Ok(Ok(names)) if names == &["1 WanLink s9"]), "{names:?}");
}

#[test]
fn nulls_of_a_route_are_absent_and_a_null_condition_is_refused() {
    let vs = |inner: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r}}\nspec:\n  hosts: [a]\n  gateways: null\n  exportTo:\n  tls: null\n  http:\n  - {inner}\n"
        )
    };
    let snapshot = read_all(
        "f",
        &vs("{name: x, corsPolicy: null, match: null, route: null, retries: null, fault: {abort: null}}"),
    );
    assert_eq!(snapshot.problems, []);
    let route = snapshot.virtual_services.values().flat_map(|vs| &vs.spec.http).next();
    assert_eq!(route.map(|route| route.other.keys().collect::<Vec<_>>()), Some(vec![&"fault".to_owned()]));
    assert_eq!(problems(&vs("{match: [{uri: null, headers: null}]}")), []);
    let refused = problems(&vs("{match: [{headers: {user: null}}]}"));
    assert!(
        refused.len() == 1 && refused[0].message.starts_with("spec.http[0].match[0].headers.user: is null"),
        "{refused:?}"
    );
}

#[test]
fn what_the_api_server_would_refuse_is_refused_in_a_file() {
    let link = |spec: &str| LINK.replace("{device: s9}", spec);
    let mapping = |spec: &str| {
        format!("apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{name: m}}\nspec: {spec}\n")
    };
    let many = vec!["s9"; 17].join(", ");
    for (text, words) in [
        (link("{device: s9, mtu: 100}"), "spec.mtu: is 100; 576 to 65535 is needed"),
        (link("{device: lo}"), "spec.device: lo leads nowhere"),
        (link("{device: a-name-too-long-for-linux}"), "spec.device: has 25 characters; at most 15 are taken"),
        (link("{device: \"\"}"), "spec.device: has 0 characters; at least 1 is needed"),
        (
            link("{device: s9, peers: [{alias: 10.0.0.1, port: 0, address: 10.0.0.2}]}"),
            "spec.peers[0].port: is 0",
        ),
        (mapping(&format!("{{links: [{many}]}}")), "spec.links: has 17 entries; at most 16 are taken"),
        (mapping("{links: [s9], traffic: {destinations: []}}"), "spec.traffic.destinations: has 0 entries"),
        (
            LINK.replace("name: s9", &format!("name: {}", "a".repeat(64))),
            "metadata.name: has more than 63 characters",
        ),
    ] {
        let said = problems(&text);
        assert!(said.len() == 1 && said[0].message.contains(words), "{text}: {said:?}");
    }
    let users: Vec<_> = (0..60_000).map(|n| format!("u{n}")).collect();
    let set = format!(
        "{{rules: [{{name: r, links: [s9], headers: [{{name: user, in: [{}]}}]}}]}}",
        users.join(",")
    );
    assert_eq!(problems(&mapping(&set)), []);
}
