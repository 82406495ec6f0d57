//! A tree to a typed value, as the API server would take it: a field that is null is absent. Errors name field and
//! place, in the project's words.

use super::near::remedy;
use super::node::{Content, Node, Place};
use super::refusal::FieldPath;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer as _, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use std::fmt;
use std::net::IpAddr;

/// A value is not what its field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Below the decoded value.
    pub field: FieldPath,
    pub place: Option<Place>,
    pub message: String,
}

/// Decodes a value of the text `source`; none: of no text.
///
/// # Errors
/// The first value that does not fit.
pub fn decode<T: DeserializeOwned>(node: &Node<'_>, source: Option<&str>) -> Result<T, Misfit> {
    let value = Typed { node, source };
    T::deserialize(value).map_err(|misfit| misfit.at(node))
}

impl Misfit {
    fn new(message: impl Into<String>) -> Self {
        Self { field: FieldPath::default(), place: None, message: message.into() }
    }

    /// The place of the innermost value that has one.
    fn at(self, node: &Node<'_>) -> Self {
        Self { place: self.place.or(node.place), ..self }
    }

    fn below(self, parent: FieldPath) -> Self {
        Self { field: self.field.under(&parent), ..self }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("is {unexpected}; {expected} is needed"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => Self::new("is out of range for its field"),
            other => Self::new(format!("is {other}; {expected} is needed")),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("{variant:?} is not one of {}; {}", expected.join(", "), choice(variant, expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("there is no field {field:?}; {}", choice(field, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the field {field:?} is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the field {field:?} stands twice; remove one of them"))
    }
}

fn choice(word: &str, known: &[&'static str]) -> String {
    remedy(word, known.iter().copied())
}

/// A value that is decoded.
#[derive(Clone, Copy)]
struct Typed<'n> {
    node: &'n Node<'n>,
    source: Option<&'n str>,
}

impl<'n> Typed<'n> {
    /// The text of a scalar; numbers and booleans of a text count as they are written.
    fn scalar(&self) -> Option<&'n str> {
        match &self.node.content {
            Content::Text(text) => Some(text),
            Content::Bool(_) | Content::Whole(_) | Content::Fraction(_) => self.node.written(self.source?),
            _ => None,
        }
    }

    fn misfit(&self, needed: &str) -> Misfit {
        let what = match (&self.node.content, self.scalar()) {
            (Content::Text(_), Some(text)) => format!("{:?}", short(text)),
            (_, Some(text)) => short(text),
            _ => self.node.what().to_owned(),
        };
        Misfit::new(format!("is {what}; {needed} is needed")).at(self.node)
    }

    fn whole(&self) -> Result<i64, Misfit> {
        match self.node.content {
            Content::Whole(number) => Ok(number),
            _ => Err(self.misfit("a whole number")),
        }
    }
}

/// What is quoted of a value.
fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(SHOWN).collect::<String>())
}

/// A parser's complaint about a text, in words that say what to write.
fn improved(value: &str, complaint: &str) -> String {
    let needed = match complaint {
        text if text.contains("IP address") && (value.contains('/') || value.parse::<IpAddr>().is_ok()) => {
            "a network like 192.0.2.0/24 or 2001:db8::/32"
        }
        text if text.contains("IPv4") => "an IPv4 address like 192.0.2.1",
        text if text.contains("IPv6") => "an IPv6 address like 2001:db8::1",
        text if text.contains("IP address") => "an IP address like 192.0.2.1 or 2001:db8::1",
        other if other.contains(value) => return other.to_owned(),
        other => return format!("{:?}: {other}", short(value)),
    };
    format!("is {:?}; {needed} is needed", short(value))
}

/// Methods that do what another one does.
macro_rules! delegated {
    ($($to:ident: $($from:ident)*;)*) => {
        $($(fn $from<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.$to(visitor)
        })*)*
    };
}

impl<'n> de::Deserializer<'n> for Typed<'n> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Whole(number) => visitor.visit_i64(*number),
            Content::Fraction(number) => visitor.visit_f64(*number),
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::List(_) => self.deserialize_seq(visitor),
            Content::Fields(fields) => visitor.visit_map(Fields::new(fields, self.source, true)),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.scalar().ok_or_else(|| self.misfit("a text"))?;
        let read = visitor.visit_borrowed_str(text);
        read.map_err(|e: Misfit| Misfit::new(improved(text, &e.message)).at(self.node))
    }

    fn deserialize_identifier<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.scalar().ok_or_else(|| self.misfit("a text"))?)
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.content {
            Content::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.misfit("true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let number = self.whole()?;
        visitor.visit_i64(number).map_err(|misfit: Misfit| misfit.at(self.node))
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.content {
            Content::Fraction(number) => visitor.visit_f64(number),
            Content::Whole(number) => visitor.visit_f64(number as f64),
            _ => Err(self.misfit("a number")),
        }
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.content {
            Content::List(list) => visitor.visit_seq(Items { list: list.iter(), at: 0, source: self.source }),
            _ => Err(self.misfit("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.content {
            Content::Fields(fields) => visitor.visit_map(Fields::new(fields, self.source, false)),
            _ => Err(self.misfit("a mapping of fields")),
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.content {
            Content::Fields(fields) => visitor.visit_map(Fields::new(fields, self.source, true)),
            _ => Err(self.misfit("a mapping of fields")),
        }
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let text = self.scalar().ok_or_else(|| self.misfit("a text"))?;
        visitor.visit_enum(Word(text)).map_err(|misfit: Misfit| misfit.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        true
    }

    delegated! {
        deserialize_i64: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_u8 deserialize_u16 deserialize_u32
            deserialize_u64;
        deserialize_f64: deserialize_f32;
        deserialize_str: deserialize_string deserialize_char deserialize_bytes deserialize_byte_buf;
    }

    serde::forward_to_deserialize_any! { <V: Visitor<'n>> unit unit_struct tuple tuple_struct }
}

/// A word of an enumeration.
struct Word<'n>(&'n str);

impl<'n> EnumAccess<'n> for Word<'n> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let word: StrDeserializer<'n, Misfit> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'n> VariantAccess<'n> for Word<'n> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, _seed: T) -> Result<T::Value, Misfit> {
        Err(Misfit::new("is a text; more than one word is needed"))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _len: usize, _visitor: V) -> Result<V::Value, Misfit> {
        Err(Misfit::new("is a text; a list is needed"))
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Misfit> {
        Err(Misfit::new("is a text; a mapping of fields is needed"))
    }
}

/// The elements of a list.
struct Items<'n> {
    list: std::slice::Iter<'n, Node<'n>>,
    at: usize,
    source: Option<&'n str>,
}

impl<'n> SeqAccess<'n> for Items<'n> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(node) = self.list.next() else { return Ok(None) };
        let value = seed.deserialize(Typed { node, source: self.source });
        self.at += 1;
        let place = || FieldPath::default().index(self.at - 1);
        value.map(Some).map_err(|misfit| misfit.at(node).below(place()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len())
    }
}

/// The fields of a mapping.
struct Fields<'n> {
    fields: std::slice::Iter<'n, (Node<'n>, Node<'n>)>,
    value: Option<&'n (Node<'n>, Node<'n>)>,
    source: Option<&'n str>,
    /// Null means absent: so with the fields of an object, not with the entries of a map.
    skip_nulls: bool,
}

impl<'n> Fields<'n> {
    fn new(fields: &'n [(Node<'n>, Node<'n>)], source: Option<&'n str>, skip_nulls: bool) -> Self {
        Self { fields: fields.iter(), value: None, source, skip_nulls }
    }
}

impl<'n> MapAccess<'n> for Fields<'n> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let skip_nulls = self.skip_nulls;
        let next = self.fields.find(|(_, value)| !(skip_nulls && value.content == Content::Null));
        self.value = next;
        let Some((key, _)) = next else { return Ok(None) };
        let read = seed.deserialize(Typed { node: key, source: self.source });
        read.map(Some).map_err(|misfit| misfit.at(key))
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, node)) = self.value.take() else { return Err(Misfit::new("a key has no value")) };
        let value = Typed { node, source: self.source };
        let name = Typed { node: key, source: self.source }.scalar().unwrap_or_default();
        seed.deserialize(value).map_err(|misfit| misfit.at(node).below(FieldPath::from(name)))
    }
}

#[cfg(test)]
mod tests;
