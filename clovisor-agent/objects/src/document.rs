//! One YAML document to one typed object, or to a problem with place and cause.

use super::identity::{Identity, ObjectKey, ObjectKind};
use super::object::{Body, Metadata, Object, decode, insert};
use super::problem::{Problem, Subject};
use super::refusal::Refusal;
use super::snapshot::Snapshot;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Characters of a parser's message that are shown: it may quote a whole line.
const MAX_MESSAGE: usize = 300;

/// A document as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    Object(Identity, Object),
    /// Refused; the identity where at least that much could be read.
    Refused(Option<Identity>, Problem),
    /// Empty, or of a kind that Clovisor does not read.
    Ignored,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<Metadata>,
}

/// The documents of a file with the number of the line before each, so that positions are the file's.
#[must_use]
pub fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

/// Reads one document of `file`, which begins after line `offset`.
#[must_use]
pub fn read(file: &str, offset: usize, text: &str) -> Document {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Document::Ignored;
    }
    let head: Head = match parse(text, offset) {
        Ok(head) => head,
        Err(refusal) => {
            let subject = Subject::File(file.to_owned());
            return Document::Refused(
                None,
                kept(subject, refusal, "the file's last good objects stay in force"),
            );
        }
    };
    let named = head.api_version.as_deref().zip(head.kind.as_deref());
    let Some(kind) = named.and_then(|(version, kind)| ObjectKind::of(version, kind)) else {
        return Document::Ignored;
    };
    let metadata = head.metadata.unwrap_or_default();
    let Some(name) = metadata.name.clone().filter(|n| !n.is_empty()) else {
        let message = format!("a {kind} without metadata.name; give it a name");
        let refusal = Refusal::invalid_object(format!("line {}", offset + 1), message);
        return Document::Refused(None, Problem::new(Subject::Unnamed(kind, file.to_owned()), refusal));
    };
    let namespace = if kind.is_namespaced() {
        metadata.namespace.clone().unwrap_or_else(|| "default".into())
    } else {
        String::new()
    };
    let identity = Identity { kind, key: ObjectKey { namespace, name } };
    match decode(kind, &Text { text, offset }, &metadata) {
        Ok(object) => Document::Object(identity, object),
        Err(refusal) => {
            let subject = Subject::Object(identity.clone());
            let kept =
                kept(subject, refusal, &format!("in {file}, the object's last good state stays in force"));
            Document::Refused(Some(identity), kept)
        }
    }
}

/// The objects of a text with any number of documents; refused ones are among the snapshot's problems.
#[must_use]
pub fn read_all(file: &str, text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (offset, document) in split(text) {
        match read(file, offset, &document) {
            Document::Object(identity, object) => insert(&mut snapshot, &identity, &object),
            Document::Refused(_, problem) => snapshot.problems.push(problem),
            Document::Ignored => {}
        }
    }
    snapshot.problems.sort();
    snapshot
}

/// The problem of a refused version, whose predecessor stays in force.
fn kept(subject: Subject, refusal: Refusal, in_force: &str) -> Problem {
    let message = format!("{}; {in_force}", refusal.message);
    Problem::new(subject, Refusal { message, ..refusal })
}

/// One YAML document; errors name line and column.
struct Text<'a> {
    text: &'a str,
    offset: usize,
}

#[derive(Deserialize)]
struct WithSpec<S> {
    spec: S,
}

#[derive(Deserialize)]
struct MaybeWithSpec<S> {
    spec: Option<S>,
}

#[derive(Deserialize)]
struct WithStatus<S> {
    status: Option<S>,
}

impl Body for Text<'_> {
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Refusal> {
        parse::<WithSpec<S>>(self.text, self.offset).map(|d| d.spec)
    }

    fn spec_or_default<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        parse::<MaybeWithSpec<S>>(self.text, self.offset).map(|d| d.spec.unwrap_or_default())
    }

    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        parse::<WithStatus<S>>(self.text, self.offset).map(|d| d.status.unwrap_or_default())
    }
}

fn parse<T: DeserializeOwned>(text: &str, offset: usize) -> Result<T, Refusal> {
    serde_saphyr::from_str(text).map_err(|error| {
        let field = error.location().map_or_else(
            || format!("line {}", offset + 1),
            |at| format!("line {}, column {}", at.line() as usize + offset, at.column()),
        );
        let text = error.without_snippet().to_string();
        let first = text.lines().next().unwrap_or_default().trim();
        Refusal::invalid_object(field, first.chars().take(MAX_MESSAGE).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> Option<Problem> {
        match read("f.yaml", 10, text) {
            Document::Refused(_, problem) => Some(problem),
            Document::Object(..) | Document::Ignored => None,
        }
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
        for text in
            ["", "# only a comment\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "a: b\n"]
        {
            assert_eq!(read("f", 0, text), Document::Ignored, "{text}");
        }
    }

    #[test]
    fn documents_know_where_they_begin() {
        let parts = split("a: 1\n---\nb: 2\n--- # three\nc: 3\n");
        assert_eq!(parts, [(0, "a: 1\n".into()), (2, "b: 2\n".into()), (4, "c: 3\n".into())]);
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
            let read = read("f.yaml", 0, &row);
            assert!(!matches!(read, Document::Ignored), "{}", row.get(..80).unwrap_or_default());
            assert!(start.elapsed().as_secs() < 5, "{}", row.get(..80).unwrap_or_default());
            if let Document::Refused(_, problem) = read {
                assert!(problem.message.len() < 1000, "{} bytes of message", problem.message.len());
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}|(apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\n)?[a-z:{}\\[\\]\\-\n ]{0,200}") {
            for (offset, document) in split(&text) {
                let _any = read("f", offset, &document);
            }
        }
    }
}
