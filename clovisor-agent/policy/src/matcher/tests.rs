use super::*;

fn request<'a>(path: &'a str, headers: &'a [(&'a str, &'a [u8])]) -> Request<'a> {
    Request { method: "GET", authority: "reviews:8000", path, headers }
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn regex(text: &str) -> StringMatch {
    Pattern::new(text).map_or(StringMatch::Present, StringMatch::Regex)
}

fn holds(block: &RouteMatch, request: &Request<'_>) -> bool {
    block.failure(request, &BTreeMap::new()).is_none()
}

/// A condition on the header `user`, the request's headers, and whether it holds.
type Row<'a> = (StringMatch, &'a [(&'a str, &'a [u8])], bool);

#[test]
fn uris_are_matched_without_the_query() {
    // condition, ignore case, path, matches
    let rows = [
        (exact("/a"), false, "/a?x=1", true),
        (exact("/a"), false, "/a/", false),
        (exact("/A"), false, "/a", false),
        (exact("/A"), true, "/a", true),
        (prefix("/a"), false, "/ab", true),
        (prefix("/a"), false, "/b", false),
        (prefix("/A"), true, "/ab", true),
        (regex("/a.*"), false, "/abc", true),
        (regex("/a"), false, "/abc", false),
        (regex("/a|/b"), false, "/bc", false),
        (regex("/A"), true, "/a", false),
        (prefix("/é"), true, "/e", false),
    ];
    for (uri, ignore_uri_case, path, want) in rows {
        let block = RouteMatch { uri: Some(uri), ignore_uri_case, ..RouteMatch::default() };
        assert_eq!(holds(&block, &request(path, &[])), want, "{block:?} {path}");
    }
}

#[test]
fn headers_match_by_any_of_their_lines() {
    let rows: [Row<'_>; 12] = [
        (exact("minions"), &[("user", b"minions")], true),
        (exact("minions"), &[("user", b" minions ")], true),
        (exact("minions"), &[("user", b"Minions")], false),
        (exact("minions"), &[("user", b"boss"), ("user", b"minions")], true),
        (exact("boss,minions"), &[("user", b"boss"), ("user", b"minions")], false),
        (exact(""), &[("user", b"")], true),
        (exact(""), &[], false),
        (StringMatch::Present, &[], false),
        (StringMatch::Present, &[("user", b"\xff")], true),
        (prefix("mi"), &[("user", b"minions")], true),
        (regex("m.*s"), &[("user", b"minions")], true),
        (exact("\u{ff}"), &[("user", b"\xff")], false),
    ];
    for (condition, headers, want) in rows {
        let block = RouteMatch { headers: vec![("user".into(), condition)], ..RouteMatch::default() };
        assert_eq!(holds(&block, &request("/", headers)), want, "{block:?} {headers:?}");
    }
}

#[test]
fn without_headers_counts_an_absent_one_as_empty() {
    let rows: [Row<'_>; 7] = [
        (exact("minions"), &[], true),
        (exact("minions"), &[("user", b"minions")], false),
        (exact("minions"), &[("user", b"boss"), ("user", b"minions")], false),
        (exact(""), &[], false),
        (StringMatch::Present, &[], true),
        (StringMatch::Present, &[("user", b"x")], false),
        (regex(".*"), &[], false),
    ];
    for (condition, headers, want) in rows {
        let block = RouteMatch { without_headers: vec![("user".into(), condition)], ..RouteMatch::default() };
        assert_eq!(holds(&block, &request("/", headers)), want, "{block:?} {headers:?}");
    }
}

#[test]
fn query_parameters_are_the_first_and_raw() {
    let rows = [
        (exact("1"), "/?k=1", true),
        (exact("1"), "/?k=%31", false),
        (exact("1"), "/?k=2&k=1", false),
        (exact(""), "/?k", true),
        (exact(""), "/?k=", true),
        (StringMatch::Present, "/?kk=1", false),
        (StringMatch::Present, "/?k", true),
        (StringMatch::Present, "/", false),
        (regex("[0-9]+"), "/?a=b&k=17", true),
    ];
    for (condition, path, want) in rows {
        let block = RouteMatch { query_params: vec![("k".into(), condition)], ..RouteMatch::default() };
        assert_eq!(holds(&block, &request(path, &[])), want, "{block:?} {path}");
    }
}

#[test]
fn the_authority_is_compared_with_its_port() {
    for (text, want) in [("reviews:8000", true), ("reviews", false), ("Reviews:8000", false)] {
        let block = RouteMatch { authority: Some(exact(text)), ..RouteMatch::default() };
        assert_eq!(holds(&block, &request("/", &[])), want, "{text}");
    }
}

#[test]
fn every_condition_must_hold() {
    let block = RouteMatch {
        uri: Some(prefix("/api")),
        method: Some(exact("POST")),
        headers: vec![("user".into(), exact("boss"))],
        ..RouteMatch::default()
    };
    let headers: &[(&str, &[u8])] = &[("user", b"boss")];
    let mut asked = request("/api", headers);
    assert_eq!(block.failure(&asked, &BTreeMap::new()), Some("method = \"POST\" does not match".into()));
    asked.method = "POST";
    assert_eq!(block.failure(&asked, &BTreeMap::new()), None);
}

#[test]
fn source_labels_are_a_subset_of_the_pods() {
    let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
    let block = RouteMatch { source_labels: label("till"), ..RouteMatch::default() };
    assert!(block.failure(&request("/", &[]), &label("till")).is_none());
    assert!(block.failure(&request("/", &[]), &label("tv")).is_some());
}

#[test]
fn dangerous_patterns_are_refused_or_harmless() {
    assert!(Pattern::new(&"a".repeat(1025)).is_err());
    assert!(Pattern::new("(?:a{1000}){1000}").is_err());
    assert!(Pattern::new("a(?=b)").is_err());
    assert!(Pattern::new("(a").is_err());
    assert!(Pattern::new("a)|(?:b").is_err(), "it closes the group around it");
    for (source, words) in [("(a", "(RE2): unclosed group"), ("(?:a{1000}){1000}", "it is too large")] {
        let said = Pattern::new(source).err().unwrap_or_default();
        assert!(said.contains(words) && !said.contains("error:"), "{said}");
    }
    let bomb = Pattern::new("(a+)+b").map(|p| p.matches("a".repeat(8000).as_bytes()));
    assert_eq!(bomb, Ok(false));
    let long = Pattern::new("a*").map(|p| p.matches("a".repeat(8193).as_bytes()));
    assert_eq!(long, Ok(false));
}
