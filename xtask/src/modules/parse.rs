//! One file: its items, its `use` lines and every path in its code.

use anyhow::Result;
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{Attribute, UseTree, Visibility};

/// What a module consists of.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) items: Vec<Item>,
    pub(super) names: Vec<Name>,
    pub(super) aliases: BTreeMap<String, Vec<String>>,
    pub(super) globs: Vec<Vec<String>>,
    /// Modules that it declares; those in braces with what they consist of.
    pub(super) modules: Vec<(String, Option<Parsed>)>,
}

/// Something that a module defines.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// A struct, an enum, a union, a trait or an alias, which others may name.
    pub(crate) shared_type: bool,
    /// Its documentation.
    pub(crate) text: String,
}

/// A path in code.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Parses a file, with or without what only tests see.
pub(super) fn file(text: &str, tests: bool) -> Result<Parsed> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader { parsed: Parsed::default(), tests };
    reader.module(&file.items);
    Ok(reader.parsed)
}

struct Reader {
    parsed: Parsed,
    tests: bool,
}

impl Reader {
    fn module(&mut self, items: &[syn::Item]) {
        let tests = self.tests;
        for item in items.iter().filter(|item| seen(attributes(item), tests)) {
            if let Some(defined) = defined(item) {
                self.parsed.items.push(defined);
            }
            match item {
                syn::Item::Mod(module) => {
                    let inline = module.content.as_ref().map(|(_, items)| {
                        let mut inner = Self { parsed: Parsed::default(), tests: self.tests };
                        inner.module(items);
                        inner.parsed
                    });
                    self.parsed.modules.push((module.ident.to_string(), inline));
                }
                item => self.visit_item(item),
            }
        }
    }

    fn name(&mut self, path: Vec<String>, span: Span) {
        self.parsed.names.push(Name { path, line: span.start().line });
    }

    /// The names that a `use` brings. What it passes on is no use of it.
    fn uses(&mut self, tree: &UseTree, above: &[String], passed_on: bool) {
        let below = |ident: &syn::Ident| [above, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.uses(&path.tree, &below(&path.ident), passed_on),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.uses(tree, above, passed_on)),
            UseTree::Glob(_) => self.parsed.globs.push(above.to_vec()),
            UseTree::Name(name) => self.alias(&name.ident, &name.ident, above, passed_on),
            UseTree::Rename(renamed) => self.alias(&renamed.ident, &renamed.rename, above, passed_on),
        }
    }

    fn alias(&mut self, ident: &syn::Ident, alias: &syn::Ident, above: &[String], passed_on: bool) {
        let itself = *ident == "self";
        let path = if itself { above.to_vec() } else { [above, &[ident.to_string()]].concat() };
        let named = if itself && ident == alias { above.last().cloned() } else { Some(alias.to_string()) };
        if let Some(named) = named {
            self.parsed.aliases.insert(named, path.clone());
        }
        if !passed_on {
            self.name(path, ident.span());
        }
    }

    /// Paths of two and more names in what a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut at, mut colons) = (Vec::new(), Span::call_site(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path, at);
                        at = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.end(&mut path, at);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.end(&mut path, at),
            }
        }
        self.end(&mut path, at);
    }

    fn end(&mut self, path: &mut Vec<String>, at: Span) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.name(path, at);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if seen(attributes(item), self.tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if seen(&function.attrs, self.tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.uses(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first().filter(|_| path.leading_colon.is_none()) {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.name(names, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Is it code that counts? With `tests`, also what only tests see.
fn seen(attributes: &[Attribute], tests: bool) -> bool {
    tests || !attributes.iter().any(is_for_tests)
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

fn attributes(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &syn::Item) -> Option<Item> {
    let (ident, visibility) = match item {
        syn::Item::Enum(item) => (&item.ident, Some(&item.vis)),
        syn::Item::Struct(item) => (&item.ident, Some(&item.vis)),
        syn::Item::Trait(item) => (&item.ident, Some(&item.vis)),
        syn::Item::Type(item) => (&item.ident, Some(&item.vis)),
        syn::Item::Union(item) => (&item.ident, Some(&item.vis)),
        syn::Item::Const(item) => (&item.ident, None),
        syn::Item::Fn(item) => (&item.sig.ident, None),
        syn::Item::Macro(item) => (item.ident.as_ref()?, None),
        syn::Item::Static(item) => (&item.ident, None),
        _ => return None,
    };
    Some(Item {
        name: ident.to_string(),
        line: ident.span().start().line,
        shared_type: visibility.is_some_and(|visibility| !matches!(visibility, Visibility::Inherited)),
        text: documentation(attributes(item)),
    })
}

fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_wherever_they_stand() -> Result<()> {
        let parsed = file(
            "use crate::{a::{One, Two as Other}, b};\npub use c::Passed;\n\
             fn f(x: super::Place) -> bool {\n use d::Local;\n println!(\"{}\", b::shown(x.y, e::z)); g::h()\n}\n\
             #[cfg(test)]\nmod tests { use never::Seen; }\n#[cfg(test)]\nuse never::Seen;",
            false,
        )?;
        let names: Vec<_> = parsed.names.iter().map(|name| name.path.join("::")).collect();
        let seen = [
            "crate::a::One",
            "crate::a::Two",
            "crate::b",
            "super::Place",
            "d::Local",
            "b::shown",
            "e::z",
            "g::h",
        ];
        assert!(seen.iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("never") || name.contains("Passed")), "{names:?}");
        assert_eq!(parsed.aliases.get("Other"), Some(&vec!["crate".into(), "a".into(), "Two".into()]));
        assert_eq!(parsed.names.first().map(|name| name.line), Some(1));
        assert!(parsed.modules.is_empty());
        Ok(())
    }
}
