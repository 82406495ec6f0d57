//! A document as a tree whose values know where they stand.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Error, NonFiniteFloatPolicy, Spanned};
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Deref;

/// Values of a document, those that aliases repeat included.
pub const MAX_VALUES: usize = 2_000_000;
/// Values that aliases may repeat: a "billion laughs" ends here.
const MAX_REPEATED: usize = 100_000;

/// Where a value stands: line and column from 1, and its bytes in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    line: NonZeroU32,
    pub column: u32,
    start: u32,
    length: u32,
}

/// A value and its place; none: it comes from no text.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    pub place: Option<Place>,
    pub content: Content<'a>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    Null,
    Bool(bool),
    Whole(i64),
    Fraction(f64),
    Text(Text<'a>),
    List(Box<[Node<'a>]>),
    /// Keys and values in their order.
    Fields(Box<[(Node<'a>, Node<'a>)]>),
}

/// A text, of the document where it stands there as it is. Smaller than a `Cow`: a set of users is half a million of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Owned(Box<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl Place {
    /// From 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line.get() as usize
    }
}

/// A text is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

impl<'a> Node<'a> {
    /// The tree of one YAML or JSON document.
    ///
    /// # Errors
    /// It is none, or it is too large.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! { max_nodes: MAX_VALUES, max_events: 3 * MAX_VALUES },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| malformed(&error))
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Content::Fields(fields) = &self.content else { return None };
        fields.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// The value, if it is a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Null, or an empty document.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// What the value is, with its article.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Whole(_) | Content::Fraction(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Fields(_) => "a mapping of fields",
        }
    }

    /// The value at a path like `spec.rules[3].name`, or the nearest one around it; none: nothing of the path is there.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Self> {
        let mut node = None;
        for part in path.split(['.', '[']).map(|part| part.trim_end_matches(']')) {
            let around = node.unwrap_or(self);
            let below = match &around.content {
                Content::List(list) => part.parse().ok().and_then(|index: usize| list.get(index)),
                _ => around.get(part),
            };
            if below.is_none() {
                break;
            }
            node = below;
        }
        node
    }

    /// A number or boolean as `source` has it.
    #[must_use]
    pub fn written<'s>(&self, source: &'s str) -> Option<&'s str> {
        let place = self.place?;
        let start = place.start as usize;
        source.get(start..start + place.length as usize)
    }
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        let key = |key: &'a String| Node { place: None, content: Content::Text(Text::Borrowed(key)) };
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Content::Whole(number),
                None => Content::Fraction(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Content::Text(Text::Borrowed(text)),
            Value::Array(list) => Content::List(list.iter().map(Node::from).collect()),
            Value::Object(map) => {
                Content::Fields(map.iter().map(|(name, value)| (key(name), value.into())).collect())
            }
        };
        Node { place: None, content }
    }
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, defined, .. } = Spanned::<Content<'de>>::deserialize(deserializer)?;
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let span = defined.span();
        let place = Place {
            line: NonZeroU32::new(number(defined.line())).unwrap_or(NonZeroU32::MIN),
            column: number(defined.column()),
            start: span.byte_offset().map_or(u32::MAX, number),
            length: span.byte_len().map_or(0, number),
        };
        Ok(Self { place: Some(place), content: value })
    }
}

impl<'de> Deserialize<'de> for Content<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Content::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Content::Fraction(value as f64), Content::Whole))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Self::Value, E> {
        Ok(Content::Fraction(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Self::Value, E> {
        Ok(Content::Fraction(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Content::Fraction(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text::Owned(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Content::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Content::Fields(fields.into()))
    }
}

/// Characters of a parser's message that are shown: it may quote a whole line.
const MAX_MESSAGE: usize = 300;

fn malformed(error: &Error) -> Malformed {
    let at = error.location();
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Malformed {
        line: at.map_or(1, |at| number(at.line())),
        column: at.map_or(1, |at| number(at.column())),
        message: words(error).chars().take(MAX_MESSAGE).collect(),
    }
}

/// What is wrong and what to do, without a place.
fn words(error: &Error) -> String {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => words(error),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("of several values");
            // Two objects, one behind the other.
            let fix = match key {
                "apiVersion" | "kind" | "metadata" | "spec" => "is a --- missing before it?",
                _ => "remove one of them",
            };
            format!("the key {key} stands twice in one mapping; {fix}")
        }
        Error::UnknownAnchor { .. } => "the alias (*name) has no anchor (&name) before it".into(),
        Error::Eof { .. } => "the document ends too early".into(),
        Error::MultipleDocuments { .. } => "a second document follows without a line --- before it".into(),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("aliases repeat more than {MAX_REPEATED} values; write them out")
        }
        Error::Budget { .. } => {
            format!(
                "the document is larger or deeper than what is read: at most {MAX_VALUES} values, 64 levels deep"
            )
        }
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            let message = first.rsplit_once(" at line ").map_or(first, |(message, _)| message);
            format!("this is no YAML: {}", plainly(message))
        }
    }
}

/// What a parser's message means for who writes the file.
fn plainly(message: &str) -> &str {
    const MEANT: [(&str, &str); 12] = [
        ("unexpected character", "a text that begins with a sign like @, % or ` needs quotes"),
        ("<document start>", "more follows behind the end of the object; put --- between two objects"),
        ("tab", "a tab where only spaces are taken; indent by spaces"),
        (
            "expected key",
            "the line is indented like no other around it, or a quote or bracket before it is open",
        ),
        (
            "'-' indicator",
            "the line is indented like no other around it, or the - of a list's entry is missing",
        ),
        ("',' or ']'", "a comma is missing in a list in brackets, or its ]"),
        ("',' or '}'", "a comma is missing in a mapping in braces, or its }"),
        ("escape", "no such escape in a text in double quotes; write \\\\ for a \\, or use single quotes"),
        (
            "expected node content",
            "a value is missing, or a text that begins with a special sign needs quotes",
        ),
        (
            "mapping values are not allowed",
            "a second \": \" in one line; put the text in quotes, or indent it below",
        ),
        ("alphabetic or numeric character", "a text that begins with * or & needs quotes"),
        ("unexpected document indicator", "a quote is not closed before the next document"),
    ];
    MEANT.iter().find(|(part, _)| message.contains(part)).map_or(message, |(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_small() {
        assert!(size_of::<Node<'_>>() <= 40, "{}", size_of::<Node<'_>>());
    }

    #[test]
    fn values_know_where_they_stand_and_how_they_are_written() {
        let text = "a: [1, 007, 1e3, true, ~]\r\nb: &x {c: 0x10}\r\nd: *x\r\n";
        let node = Node::parse(text).unwrap_or_else(|e| panic!("{e:?}"));
        let Some(Content::List(list)) = node.get("a").map(|a| &a.content) else { panic!("{node:?}") };
        let written: Vec<_> = list.iter().filter_map(|node| node.written(text)).collect();
        assert_eq!(written, ["1", "007", "1e3", "true", "~"]);
        let c = node.get("d").and_then(|d| d.get("c")).unwrap_or_else(|| panic!("{node:?}"));
        assert_eq!((&c.content, c.written(text)), (&Content::Whole(16), Some("0x10")));
        assert_eq!(c.place.map(|place| (place.line(), place.column)), Some((2, 11)));
    }

    #[test]
    fn what_is_no_yaml_is_said_in_own_words_and_with_one_place() {
        for (text, line, words) in [
            ("a: 1\na: 2\n", 2, "the key a stands twice"),
            ("a: [1\n", 1, "unclosed bracket"),
            ("a: *b\n", 1, "no anchor"),
            ("a: 1\n\tb: 2\n", 1, "tab"),
            ("{a: 1}\n{b: 1}\n", 2, "this is no YAML"),
        ] {
            let error = Node::parse(text).err().unwrap_or_else(|| panic!("{text}"));
            assert_eq!(error.line, line, "{error:?}");
            assert!(error.message.contains(words), "{error:?}");
            for foreign in ["Options", "line ", "column"] {
                assert!(!error.message.contains(foreign), "{error:?}");
            }
        }
    }
}
