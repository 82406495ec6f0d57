//! The documents of a file to typed objects, or to problems with place and cause.

use super::frame;
use super::identity::{Identity, ObjectKey, ObjectKind};
use super::kinds::{Meaning, meaning};
use super::limits;
use super::node::{Content, Node};
use super::object::{Metadata, Object, decode, insert};
use super::pieces::{Piece, split};
use super::problem::{Problem, Subject};
use super::refusal::{FieldPath, Refusal};
use super::snapshot::Snapshot;
use super::tree::Tree;

/// Lists inside lists that are opened.
const MAX_NESTED: usize = 4;

/// An object as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    Object(Identity, Object),
    /// Refused; the identity where at least that much could be read.
    Refused(Option<Identity>, Problem),
}

/// A document, or an object of a list, and the line at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub line: usize,
    pub document: Document,
    /// Parts of it that do not count.
    pub remarks: Vec<Problem>,
}

/// Every object of a file's text that Clovisor reads, in their order.
#[must_use]
pub fn read(file: &str, text: &str) -> Vec<Found> {
    let mut reader = Reader { file, found: Vec::new() };
    split(text).iter().for_each(|piece| reader.piece(piece));
    reader.found
}

/// The objects of a text; refused ones are among the snapshot's problems.
#[must_use]
pub fn read_all(file: &str, text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for Found { document, remarks, .. } in read(file, text) {
        snapshot.problems.extend(remarks);
        match document {
            Document::Object(identity, object) => insert(&mut snapshot, &identity, &object),
            Document::Refused(_, problem) => snapshot.problems.push(problem),
        }
    }
    snapshot.problems.sort();
    snapshot
}

/// What a list says about those of its objects that do not say it themselves.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    api_version: Option<&'a str>,
    kind: Option<&'a str>,
    depth: usize,
}

/// The line with the mark of a merge that was left to its user.
fn unmerged(text: &str) -> Option<usize> {
    text.lines().position(|line| line.starts_with("<<<<<<< "))
}

struct Reader<'f> {
    file: &'f str,
    found: Vec<Found>,
}

impl Reader<'_> {
    fn piece(&mut self, piece: &Piece<'_>) {
        match Node::parse(piece.text) {
            Ok(node) if node.is_null() => {}
            Ok(node) => {
                let tree = Tree { node: &node, source: Some(piece.text), offset: piece.offset };
                self.value(&tree, Around::default());
            }
            Err(_) if let Some(mark) = unmerged(piece.text) => {
                let line = mark + 1 + piece.offset;
                let message = "a merge is not finished: write what is meant instead of <<<<<<< to >>>>>>>";
                self.nameless(line, Refusal::invalid_object(format!("line {line}"), message));
            }
            Err(malformed) => {
                let line = malformed.line as usize + piece.offset;
                let place = format!("line {line}, column {}", malformed.column);
                self.nameless(line, Refusal::invalid_object(place, malformed.message));
            }
        }
    }

    fn value(&mut self, tree: &Tree<'_>, around: Around<'_>) {
        if !matches!(tree.node.content, Content::Fields(_)) {
            let message =
                format!("is {}, no object; several objects are a `kind: List` with items", tree.node.what());
            return self.refused(tree, &message);
        }
        for name in ["apiVersion", "kind"] {
            let node = tree.node.get(name).filter(|node| !node.is_null() && tree.text(node).is_none());
            if let Some(node) = node {
                return self.refused(tree, &format!("{name} is {}; a text is needed", node.what()));
            }
        }
        let named =
            |name| tree.node.get(name).and_then(|node| tree.text(node)).filter(|text| !text.is_empty());
        let (api_version, kind) = (named("apiVersion").or(around.api_version), named("kind").or(around.kind));
        let Some(kind) = kind else {
            // A file of values or settings names neither.
            if around.depth > 0 || ["apiVersion", "kind"].iter().any(|name| tree.node.get(name).is_some()) {
                self.refused(tree, "the document names no kind; is it cut off?");
            }
            return;
        };
        match meaning(api_version.unwrap_or_default(), kind) {
            Meaning::Other => {}
            Meaning::Mistaken(message) => self.refused(tree, &message),
            Meaning::List(of) => {
                let api_version = of.as_ref().and(api_version);
                let inner = Around { api_version, kind: of.as_deref(), depth: around.depth + 1 };
                self.list(tree, inner);
            }
            Meaning::Object(kind) => self.object(tree, kind),
        }
    }

    fn list(&mut self, tree: &Tree<'_>, inner: Around<'_>) {
        match tree.node.get("items").map(|items| &items.content) {
            Some(Content::List(_)) if inner.depth > MAX_NESTED => {
                self.refused(tree, "is a list inside too many other lists; write its items at the top");
            }
            Some(Content::List(items)) => items.iter().for_each(|item| self.value(&tree.of(item), inner)),
            Some(Content::Null) => {}
            Some(_) => self.refused(tree, "items is no list"),
            None => self.refused(tree, "the list has no items; is it cut off?"),
        }
    }

    fn object(&mut self, tree: &Tree<'_>, kind: ObjectKind) {
        let metadata: Result<Metadata, Refusal> =
            tree.part("metadata").unwrap_or_else(|| Ok(Metadata::default()));
        let named =
            |name| tree.node.get("metadata").and_then(|node| node.get(name)).and_then(|node| tree.text(node));
        let Some(name) = named("name").filter(|name| !name.is_empty()) else {
            let message = match metadata {
                Ok(_) => format!("a {kind} without metadata.name; give it a name"),
                Err(refusal) => refusal.message,
            };
            let place = FieldPath::from(format!("line {}", tree.line()));
            let subject = Subject::Unnamed(kind, self.file.to_owned());
            let problem = Problem::new(subject, Refusal::invalid_object(place, message));
            return self.push(tree.line(), Document::Refused(None, problem));
        };
        let namespace = match kind.is_namespaced() {
            true => named("namespace").filter(|name| !name.is_empty()).unwrap_or("default"),
            false => "",
        };
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        let identity = Identity { kind, key };
        let framed = frame::check(&identity);
        let object = framed.and(metadata).and_then(|metadata| decode(kind, tree, &metadata));
        let object = object.and_then(|object| limits::check(kind, tree.node).map(|()| object));
        let remarks = frame::unknown(kind, tree.node).into_iter();
        let remarks = remarks.map(|refusal| self.about(tree, &identity, refusal)).collect();
        let document = match object {
            Ok(object) => Document::Object(identity, object),
            Err(refusal) => {
                let problem = self.about(tree, &identity, refusal);
                Document::Refused(Some(identity), problem)
            }
        };
        self.found.push(Found { line: tree.line(), document, remarks });
    }

    /// A problem of an object, with its place in the file.
    fn about(&self, tree: &Tree<'_>, identity: &Identity, refusal: Refusal) -> Problem {
        let Refusal { reason, field, message } = tree.located(refusal);
        let message = format!("{message} (in {})", self.file);
        Problem::new(Subject::Object(identity.clone()), Refusal { reason, field, message })
    }

    /// A document that cannot be told to be an object of Clovisor's.
    fn refused(&mut self, tree: &Tree<'_>, message: &str) {
        let refusal = tree.placed(tree.node.place, Refusal::invalid_object("", message));
        self.nameless(tree.line(), refusal);
    }

    fn nameless(&mut self, line: usize, refusal: Refusal) {
        let problem = Problem::new(Subject::File(self.file.to_owned()), refusal);
        self.push(line, Document::Refused(None, problem));
    }

    fn push(&mut self, line: usize, document: Document) {
        self.found.push(Found { line, document, remarks: Vec::new() });
    }
}

#[cfg(test)]
mod tests;
