//! Match conditions, requests, and whether they hold: Istio's semantics as Envoy carries them out.

/// One row. `HOST` stands for the row's own host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The blocks of `match`, without the brackets around the list.
    pub(super) blocks: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) headers: &'static [(&'static str, &'static [u8])],
    pub(super) holds: bool,
}

type Headers = &'static [(&'static str, &'static [u8])];

const fn get(blocks: &'static str, path: &'static str, holds: bool) -> Row {
    Row { blocks, method: "GET", path, headers: &[], holds }
}

const fn with(blocks: &'static str, headers: Headers, holds: bool) -> Row {
    Row { blocks, method: "GET", path: "/", headers, holds }
}

const fn method(blocks: &'static str, method: &'static str, holds: bool) -> Row {
    Row { blocks, method, path: "/", headers: &[], holds }
}

pub(super) const ROWS: &[Row] = &[
    // Paths: without the query; a prefix is no path segment; a pattern covers all of it.
    get("{uri: {exact: /a}}", "/a", true),
    get("{uri: {exact: /a}}", "/a?b=c", true),
    get("{uri: {exact: /a}}", "/a/", false),
    get("{uri: {exact: /a}}", "/A", false),
    get("{uri: {prefix: /a}}", "/ab", true),
    get("{uri: {prefix: /a/}}", "/a", false),
    get("{uri: {prefix: /}}", "/anything", true),
    get("{uri: {regex: \"/a.*\"}}", "/abc", true),
    get("{uri: {regex: \"/a\"}}", "/ab", false),
    get("{uri: {regex: \"/a|/b\"}}", "/b", true),
    get("{uri: {regex: \"/a|/b\"}}", "/bc", false),
    get("{uri: {regex: \"/a\"}}", "/a?b=c", true),
    get("{uri: {regex: \"(?i)/a\"}}", "/A", true),
    get("{uri: {exact: /Ab}, ignoreUriCase: true}", "/aB", true),
    get("{uri: {prefix: /Ab}, ignoreUriCase: true}", "/aBc", true),
    get("{uri: {regex: /Ab}, ignoreUriCase: true}", "/ab", false),
    get("{uri: {}}", "/x", true),
    // Headers: names in any case, values exactly, spaces around them aside.
    with("{headers: {user: {exact: boss}}}", &[("user", b"boss")], true),
    with("{headers: {User: {exact: boss}}}", &[("uSER", b"boss")], true),
    with("{headers: {user: {exact: boss}}}", &[("user", b"Boss")], false),
    with("{headers: {user: {exact: boss}}}", &[("user", b"  boss  ")], true),
    with("{headers: {user: {exact: boss}}}", &[], false),
    with("{headers: {user: {exact: \"\"}}}", &[("user", b"")], true),
    with("{headers: {user: {exact: \"\"}}}", &[], false),
    with("{headers: {user: {prefix: bo}}}", &[("user", b"boss")], true),
    with("{headers: {user: {prefix: bo}}}", &[("user", b"obo")], false),
    with("{headers: {user: {prefix: \"\"}}}", &[("user", b"x")], true),
    with("{headers: {user: {prefix: \"\"}}}", &[], false),
    with("{headers: {user: {regex: \"b.*s\"}}}", &[("user", b"boss")], true),
    with("{headers: {user: {regex: \"b.*s\"}}}", &[("user", b"bosses are")], false),
    with("{headers: {user: {regex: \"*\"}}}", &[("user", b"x")], true),
    with("{headers: {user: {regex: \"*\"}}}", &[], false),
    with("{headers: {user: {}}}", &[("user", b"x")], true),
    with("{headers: {user: {}}}", &[("user", b"")], true),
    with("{headers: {user: {}}}", &[], false),
    with("{headers: {a: {exact: b}, c: {exact: d}}}", &[("a", b"b"), ("c", b"d")], true),
    with("{headers: {a: {exact: b}, c: {exact: d}}}", &[("a", b"b")], false),
    // Repeated lines: one is enough, and they are not joined.
    with("{headers: {user: {exact: b}}}", &[("user", b"a"), ("user", b"b")], true),
    with("{headers: {user: {exact: \"a,b\"}}}", &[("user", b"a"), ("user", b"b")], false),
    with("{headers: {user: {exact: \"a,b\"}}}", &[("user", b"a,b")], true),
    with("{withoutHeaders: {user: {exact: b}}}", &[("user", b"a"), ("user", b"b")], false),
    // Bytes that are no text; in a pattern a character is a byte.
    with("{headers: {user: {}}}", &[("user", b"\xff")], true),
    with("{headers: {user: {prefix: a}}}", &[("user", b"a\xff")], true),
    with("{headers: {user: {exact: a}}}", &[("user", b"a\xff")], false),
    with("{headers: {user: {regex: \"a.*\"}}}", &[("user", b"a\xff")], true),
    with("{headers: {user: {regex: \"a.\"}}}", &[("user", b"a\xff")], true),
    with("{headers: {user: {regex: \"a.+\"}}}", &[("user", b"a\xff")], true),
    with("{headers: {user: {regex: \"a[^b]*\"}}}", &[("user", b"a\xff")], true),
    with("{headers: {user: {regex: \".*a\"}}}", &[("user", b"\xffa")], true),
    with("{headers: {user: {regex: \"a.\"}}}", &[("user", "a\u{e9}".as_bytes())], false),
    with("{headers: {user: {regex: \"a..\"}}}", &[("user", "a\u{e9}".as_bytes())], true),
    with("{headers: {user: {exact: \"\u{e9}\"}}}", &[("user", "\u{e9}".as_bytes())], true),
    // Headers that must not be so: an absent one counts as empty.
    with("{withoutHeaders: {user: {exact: a}}}", &[("user", b"a")], false),
    with("{withoutHeaders: {user: {exact: a}}}", &[("user", b"b")], true),
    with("{withoutHeaders: {user: {exact: a}}}", &[], true),
    with("{withoutHeaders: {user: {exact: \"\"}}}", &[], false),
    with("{withoutHeaders: {user: {exact: \"\"}}}", &[("user", b"")], false),
    with("{withoutHeaders: {user: {exact: \"\"}}}", &[("user", b"x")], true),
    with("{withoutHeaders: {user: {}}}", &[], true),
    with("{withoutHeaders: {user: {}}}", &[("user", b"x")], false),
    with("{withoutHeaders: {user: {prefix: a}}}", &[("user", b"ab")], false),
    with("{withoutHeaders: {user: {prefix: a}}}", &[], true),
    with("{withoutHeaders: {user: {regex: \".*\"}}}", &[], false),
    with("{withoutHeaders: {user: {regex: \".+\"}}}", &[], true),
    with("{headers: {a: {}}, withoutHeaders: {b: {}}}", &[("a", b"1")], true),
    with("{headers: {a: {}}, withoutHeaders: {b: {}}}", &[("a", b"1"), ("b", b"2")], false),
    // Method, authority, scheme.
    method("{method: {exact: POST}}", "POST", true),
    method("{method: {exact: POST}}", "GET", false),
    method("{method: {exact: post}}", "POST", false),
    method("{method: {regex: \"PUT|POST\"}}", "PUT", true),
    method("{method: {prefix: P}}", "PATCH", true),
    get("{authority: {exact: \"HOST:8000\"}}", "/", true),
    get("{authority: {exact: HOST}}", "/", false),
    get("{authority: {prefix: HOST}}", "/", true),
    get("{authority: {regex: \"HOST.*\"}}", "/", true),
    get("{authority: {exact: \"other:8000\"}}", "/", false),
    get("{scheme: {exact: http}}", "/", true),
    get("{scheme: {exact: https}}", "/", false),
    // Query: the first of its name, as written.
    get("{queryParams: {k: {exact: v}}}", "/?k=v", true),
    get("{queryParams: {k: {exact: v}}}", "/?k=w", false),
    get("{queryParams: {k: {exact: v}}}", "/", false),
    get("{queryParams: {k: {exact: \"1\"}}}", "/?k=%31", false),
    get("{queryParams: {k: {exact: \"2\"}}}", "/?k=1&k=2", false),
    get("{queryParams: {k: {exact: \"1\"}}}", "/?k=1&k=2", true),
    get("{queryParams: {k: {exact: \"\"}}}", "/?k", true),
    get("{queryParams: {k: {exact: \"\"}}}", "/?k=", true),
    get("{queryParams: {k: {}}}", "/?a=b&k", true),
    get("{queryParams: {k: {}}}", "/?kk=1", false),
    get("{queryParams: {k: {prefix: v}}}", "/?k=vw", true),
    get("{queryParams: {k: {regex: \"v+\"}}}", "/?k=vv", true),
    get("{queryParams: {k: {regex: \"v+\"}}}", "/?k=vvw", false),
    get("{queryParams: {K: {exact: v}}}", "/?k=v", false),
    // Known before the request: port, gateway, source.
    get("{port: 8000}", "/", true),
    get("{port: 8001}", "/", false),
    get("{gateways: [mesh]}", "/", true),
    get("{gateways: [edge]}", "/", false),
    get("{sourceLabels: {app: client}}", "/", true),
    get("{sourceLabels: {app: other}}", "/", false),
    get("{sourceLabels: {app: client, tier: web}}", "/", false),
    get("{sourceNamespace: shop}", "/", true),
    get("{sourceNamespace: bank}", "/", false),
    // With `gateways` Istio does not look at the source.
    get("{gateways: [mesh], sourceLabels: {app: other}, sourceNamespace: bank}", "/", true),
    // All of a block, any of the blocks.
    get("{uri: {prefix: /a}, queryParams: {k: {}}}", "/a?k", true),
    get("{uri: {prefix: /a}, queryParams: {k: {}}}", "/a", false),
    get("{uri: {exact: /a}}, {uri: {exact: /b}}", "/b", true),
    get("{uri: {exact: /a}}, {uri: {exact: /b}}", "/c", false),
    get("{port: 8001}, {uri: {exact: /b}}", "/b", true),
    get("{port: 8001}, {uri: {exact: /b}}", "/c", false),
    get("{name: first, uri: {exact: /a}, statPrefix: x}", "/a", true),
];

/// The same in the words of the Gateway API; the other rule of each route matches everything and ranks last.
pub(super) const HTTP_ROWS: &[Row] = &[
    get("{path: {type: Exact, value: /a}}", "/a?b", true),
    get("{path: {type: Exact, value: /a}}", "/a/", false),
    get("{path: {type: PathPrefix, value: /a}}", "/a", true),
    get("{path: {type: PathPrefix, value: /a}}", "/a/b", true),
    get("{path: {type: PathPrefix, value: /a}}", "/ab", false),
    get("{path: {type: PathPrefix, value: /a}}", "/a?x=/b", true),
    get("{path: {value: /a/}}", "/a", true),
    get("{path: {value: /a/}}", "/a/b/c", true),
    get("{path: {type: RegularExpression, value: \"/a.*\"}, method: GET}", "/b", false),
    method("{method: POST}", "POST", true),
    method("{method: POST}", "GET", false),
    with("{headers: [{name: User, value: boss}]}", &[("user", b"boss")], true),
    with("{headers: [{name: User, value: boss}]}", &[("user", b"bos")], false),
    with("{headers: [{type: RegularExpression, name: user, value: \"b.*\"}]}", &[("user", b"boss")], true),
    with("{headers: [{type: RegularExpression, name: user, value: \"b.*\"}]}", &[], false),
    with("{headers: [{name: user, value: a}, {name: User, value: b}]}", &[("user", b"a")], true),
    get("{queryParams: [{name: k, value: v}]}", "/?k=v", true),
    get("{queryParams: [{name: k, value: v}]}", "/?k=w", false),
    get("{queryParams: [{type: RegularExpression, name: k, value: \"v+\"}]}", "/?k=vv", true),
    get("{path: {value: /a}}, {headers: [{name: x, value: y}]}", "/a", true),
    get("{path: {value: /a}}, {headers: [{name: x, value: y}]}", "/b", false),
];
