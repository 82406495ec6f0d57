//! The parts of an object in a document's tree; refusals name field and place.

use super::decode::{Misfit, decode};
use super::node::{Content, Node, Place};
use super::object::Body;
use super::refusal::{FieldPath, Refusal};
use serde::de::DeserializeOwned;

/// An object in a document.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    pub node: &'a Node<'a>,
    /// The document; none: the tree comes from no text.
    pub source: Option<&'a str>,
    /// Lines of the file before the document.
    pub offset: usize,
}

impl<'a> Tree<'a> {
    /// Another object of the same document.
    #[must_use]
    pub const fn of(&self, node: &'a Node<'a>) -> Self {
        Self { node, ..*self }
    }

    /// A text; of a number or boolean (`n` is one) what its author wrote.
    #[must_use]
    pub fn text(&self, node: &'a Node<'a>) -> Option<&'a str> {
        let written = || node.written(self.source?);
        match node.content {
            Content::Bool(_) | Content::Whole(_) | Content::Fraction(_) => written(),
            _ => node.text(),
        }
    }

    /// `line 3, column 5` of a place in the file.
    #[must_use]
    pub fn position(&self, place: Place) -> FieldPath {
        FieldPath::from(format!("line {}, column {}", place.line() + self.offset, place.column))
    }

    /// The line in the file at which the object begins.
    #[must_use]
    pub fn line(&self) -> usize {
        self.node.place.map_or(1, |place| place.line()) + self.offset
    }

    /// A refusal of a field, at its place where it has one.
    #[must_use]
    pub fn located(&self, refusal: Refusal) -> Refusal {
        let found = self.node.find(refusal.field.as_str());
        self.placed(found.and_then(|node| node.place), refusal)
    }

    /// A refusal of what stands at a place.
    #[must_use]
    pub fn placed(&self, place: Option<Place>, refusal: Refusal) -> Refusal {
        let (Some(place), Refusal { reason, field, message }) = (place, refusal.clone()) else {
            return refusal;
        };
        let colon = if field.as_str().is_empty() { "" } else { ": " };
        Refusal::new(reason, self.position(place), format!("{field}{colon}{message}"))
    }

    /// A part of the object; none: it has no such part.
    ///
    /// # Errors
    /// A value of it does not fit.
    #[must_use]
    pub fn part<S: DeserializeOwned>(&self, name: &str) -> Option<Result<S, Refusal>> {
        let part = self.node.get(name).filter(|part| !part.is_null())?;
        Some(decode(part, self.source).map_err(|misfit| self.refused(name, misfit)))
    }

    fn refused(&self, name: &str, misfit: Misfit) -> Refusal {
        let Misfit { field, place, message } = misfit;
        self.placed(place, Refusal::invalid_object(field.under(&FieldPath::from(name)), message))
    }
}

impl Body for Tree<'_> {
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Refusal> {
        let missing = || Err(self.placed(self.node.place, Refusal::invalid_object("spec", "is missing")));
        self.part("spec").unwrap_or_else(missing)
    }

    fn spec_or_default<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        self.part("spec").unwrap_or_else(|| Ok(S::default()))
    }

    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        self.part("status").unwrap_or_else(|| Ok(S::default()))
    }
}
