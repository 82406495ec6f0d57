//! Istio's match conditions, as Envoy evaluates them.

use regex::bytes::{Regex, RegexBuilder};
use std::collections::BTreeMap;
use std::fmt;

/// Longest pattern, bytes.
const MAX_PATTERN: usize = 1024;
/// Compiled size, bytes: what a pattern may cost in memory and compile time.
const MAX_COMPILED: usize = 256 * 1024;
/// Longest input a pattern is tried on, bytes.
const MAX_INPUT: usize = 8192;

/// A request as the conditions see it. Header names are lower case, values raw; repeated headers repeat.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Host as the client wrote it, with its port if it wrote one.
    pub authority: &'a str,
    /// With the query.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Request<'_> {
    /// The values of a header, `:method`, `:authority` or `:path`.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let pseudo = match name {
            ":method" => Some(self.method.as_bytes()),
            ":authority" | "host" => Some(self.authority.as_bytes()),
            ":path" => Some(self.path.as_bytes()),
            _ => None,
        };
        pseudo
            .into_iter()
            .chain(self.headers.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value))
    }

    /// The path without the query.
    #[must_use]
    pub fn route_path(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }
}

/// A regular expression that matches whole values (RE2 syntax, linear time). As in Envoy, a character is a byte:
/// `.` matches half of an `é`.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

/// The last line of a parser's drawing, in plain words.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large; split it, or repeat less".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Pattern {
    /// Compiles `source`.
    ///
    /// # Errors
    /// A sentence: not RE2 syntax, or too large.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.len() > MAX_PATTERN {
            return Err(format!("the pattern is longer than {MAX_PATTERN} bytes; split it"));
        }
        let build = |pattern: &str| {
            let built =
                RegexBuilder::new(pattern).unicode(false).size_limit(MAX_COMPILED).nest_limit(50).build();
            built.map_err(|error| format!("not a pattern that Envoy takes (RE2): {}", reason(&error)))
        };
        // By itself too: `a)|(?:b` would fit into the group around it, and mean something else.
        build(source)?;
        let regex = build(&format!("^(?:{source})$"))?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// As the user wrote it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Does the whole value match? Longer than 8 KiB: no.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        value.len() <= MAX_INPUT && self.regex.is_match(value)
    }
}

/// A condition on one value.
#[derive(Clone, Debug, PartialEq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// Of a path: this one or one below it. Without a slash at its end.
    Segments(String),
    Regex(Pattern),
    /// Any value.
    Present,
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "= {text:?}"),
            Self::Prefix(text) => write!(f, "starts with {text:?}"),
            Self::Segments(text) => write!(f, "is {text:?} or below"),
            Self::Regex(pattern) => write!(f, "matches /{}/", pattern.source()),
            Self::Present => f.write_str("is present"),
        }
    }
}

impl StringMatch {
    /// Compares bytes, as Envoy does.
    #[must_use]
    pub fn matches(&self, value: &[u8], ignore_case: bool) -> bool {
        match self {
            Self::Exact(want) if ignore_case => value.eq_ignore_ascii_case(want.as_bytes()),
            Self::Exact(want) => value == want.as_bytes(),
            Self::Prefix(want) if ignore_case => {
                value.get(..want.len()).is_some_and(|start| start.eq_ignore_ascii_case(want.as_bytes()))
            }
            Self::Prefix(want) => value.starts_with(want.as_bytes()),
            Self::Segments(want) => {
                let rest = value.strip_prefix(want.as_bytes());
                rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
            }
            Self::Regex(pattern) => pattern.matches(value),
            Self::Present => true,
        }
    }
}

/// One `match` block: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub scheme: Option<StringMatch>,
    /// Name in lower case.
    pub headers: Vec<(String, StringMatch)>,
    pub without_headers: Vec<(String, StringMatch)>,
    pub query_params: Vec<(String, StringMatch)>,
    pub source_labels: BTreeMap<String, String>,
}

impl RouteMatch {
    /// Does the block hold for every request of every pod?
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        let path = match &self.uri {
            None | Some(StringMatch::Present) => true,
            Some(StringMatch::Prefix(prefix)) => prefix == "/",
            Some(_) => false,
        };
        path && Self { uri: None, ignore_uri_case: false, ..self.clone() } == Self::default()
    }

    /// Does the block apply to requests of a pod with these labels at all?
    #[must_use]
    pub fn applies_to(&self, labels: &BTreeMap<String, String>) -> bool {
        self.source_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    /// The first condition that fails, as a sentence for `explain`; none: the block matches.
    #[must_use]
    pub fn failure(&self, request: &Request<'_>, labels: &BTreeMap<String, String>) -> Option<String> {
        if !self.applies_to(labels) {
            return Some("the pod does not have the labels in sourceLabels".into());
        }
        let parts = [
            ("uri", &self.uri, request.route_path(), self.ignore_uri_case),
            ("method", &self.method, request.method, false),
            ("authority", &self.authority, request.authority, false),
            // Managed proxies take plain text HTTP from the application.
            ("scheme", &self.scheme, "http", false),
        ];
        for (what, condition, value, ignore_case) in parts {
            if let Some(condition) = condition.as_ref().filter(|c| !c.matches(value.as_bytes(), ignore_case))
            {
                return Some(format!("{what} {condition} does not match"));
            }
        }
        self.failed_header(request).or_else(|| self.failed_query(request))
    }

    fn failed_header(&self, request: &Request<'_>) -> Option<String> {
        for (name, condition) in &self.headers {
            if !request.values(name).any(|value| condition.matches(trim(value), false)) {
                return Some(format!("header {name} {condition} does not match"));
            }
        }
        for (name, condition) in &self.without_headers {
            // Envoy treats an absent header as an empty one here, but not for presence.
            let absent = request.values(name).next().is_none();
            let empty = absent && *condition != StringMatch::Present && condition.matches(b"", false);
            if empty || request.values(name).any(|value| condition.matches(trim(value), false)) {
                return Some(format!("withoutHeaders {name} {condition} excludes it"));
            }
        }
        None
    }

    fn failed_query(&self, request: &Request<'_>) -> Option<String> {
        for (name, condition) in &self.query_params {
            if !query(request.path, name).is_some_and(|value| condition.matches(value.as_bytes(), false)) {
                return Some(format!("query parameter {name} {condition} does not match"));
            }
        }
        None
    }
}

/// The first value of a query parameter, not percent-decoded, as Envoy compares it.
fn query<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

#[cfg(test)]
mod tests;
