//! Match blocks of a mesh's HTTPRoutes, in the order that the Gateway API gives to them.

use crate::matcher::{Pattern, RouteMatch, StringMatch};
use crate::objects::NamedHttpRoute;
use clovisor_objects::gateway::{self, HttpValueMatch, PathMatch};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::refusal::{FieldPath, Refusal};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A match block with its HTTPRoute and the index of its rule.
pub(crate) type Ranked<'a> = (&'a ObjectKey, usize, RouteMatch);

/// The blocks of all rules; a rule without one matches every request. A refusal names the HTTPRoute.
pub(crate) fn ranked<'a>(
    sources: &[NamedHttpRoute<'a>],
) -> Result<Vec<Ranked<'a>>, (&'a ObjectKey, Refusal)> {
    let mut ranked = Vec::new();
    for (key, source) in sources {
        for (i, rule) in source.spec.rules.iter().enumerate() {
            let every = [gateway::HttpRouteMatch::default()];
            let matches = if rule.matches.is_empty() { &every[..] } else { &rule.matches[..] };
            for (j, block) in matches.iter().enumerate() {
                let at = FieldPath::from("spec.rules").index(i).field("matches").index(j);
                let compiled = compile(block).map_err(|refusal| (*key, refusal.under(&at)))?;
                ranked.push(((rank(block), source.created, *key, i, j), compiled));
            }
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|((_, _, key, i, _), block)| (key, i, block)).collect())
}

/// The order of the Gateway API: exact before prefix before pattern, longer paths, with a method, more headers,
/// more query parameters.
type Rank = (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>);

fn rank(block: &gateway::HttpRouteMatch) -> Rank {
    let path = block.path.as_ref();
    let kind = match path.and_then(|p| p.kind.as_deref()) {
        Some("Exact") => 0,
        Some("RegularExpression") => 2,
        _ => 1,
    };
    let length = path.and_then(|p| p.value.as_deref()).map_or(1, str::len);
    let (headers, query) = (block.headers.len(), block.query_params.len());
    (kind, Reverse(length), block.method.is_none(), Reverse(headers), Reverse(query))
}

fn compile(block: &gateway::HttpRouteMatch) -> Result<RouteMatch, Refusal> {
    let named = |field: &str, values: &[HttpValueMatch], fold: bool| {
        let pair = |(i, value): (usize, &HttpValueMatch)| {
            let name = if fold { value.name.to_ascii_lowercase() } else { value.name.clone() };
            condition(value)
                .map(|c| (name, c))
                .map_err(|message| Refusal::invalid_rule(FieldPath::from(field).index(i), message))
        };
        // Of two entries with one name the first holds, as the Gateway API says.
        let mut first = BTreeMap::new();
        let entries: Vec<_> = values.iter().enumerate().map(pair).collect::<Result<_, Refusal>>()?;
        for (name, condition) in entries {
            first.entry(name).or_insert(condition);
        }
        Ok::<_, Refusal>(first.into_iter().collect())
    };
    Ok(RouteMatch {
        uri: block
            .path
            .as_ref()
            .map(path)
            .transpose()
            .map_err(|message| Refusal::invalid_rule("path", message))?,
        method: block.method.clone().map(StringMatch::Exact),
        headers: named("headers", &block.headers, true)?,
        query_params: named("queryParams", &block.query_params, false)?,
        ..RouteMatch::default()
    })
}

fn path(path: &PathMatch) -> Result<StringMatch, String> {
    let value = path.value.clone().unwrap_or_else(|| "/".into());
    match path.kind.as_deref().unwrap_or("PathPrefix") {
        "Exact" => Ok(StringMatch::Exact(value)),
        "PathPrefix" => Ok(match value.trim_end_matches('/') {
            "" => StringMatch::Present,
            segments => StringMatch::Segments(segments.to_owned()),
        }),
        "RegularExpression" => Pattern::new(&value).map(StringMatch::Regex),
        other => Err(format!("type {other} is not one of Exact, PathPrefix, RegularExpression")),
    }
}

fn condition(value: &HttpValueMatch) -> Result<StringMatch, String> {
    match value.kind.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(StringMatch::Exact(value.value.clone())),
        "RegularExpression" => Pattern::new(&value.value).map(StringMatch::Regex),
        other => Err(format!("type {other} is not one of Exact, RegularExpression")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: &str, value: &str, headers: usize, method: bool) -> gateway::HttpRouteMatch {
        let header = HttpValueMatch { kind: None, name: "a".into(), value: "b".into() };
        gateway::HttpRouteMatch {
            path: Some(PathMatch { kind: Some(kind.into()), value: Some(value.into()) }),
            headers: vec![header; headers],
            query_params: Vec::new(),
            method: method.then(|| "GET".into()),
        }
    }

    #[test]
    fn matches_are_ranked_as_the_gateway_api_says() {
        let ordered = [
            block("Exact", "/aa", 0, false),
            block("Exact", "/a", 9, true),
            block("PathPrefix", "/abc", 0, false),
            block("PathPrefix", "/ab", 0, true),
            block("PathPrefix", "/ab", 2, false),
            block("PathPrefix", "/ab", 1, false),
            gateway::HttpRouteMatch::default(),
            block("RegularExpression", "/aaaaaa.*", 0, false),
        ];
        assert!(ordered.is_sorted_by_key(rank));
    }

    #[test]
    fn paths_and_values() {
        let path_of =
            |kind: &str, value: &str| path(&PathMatch { kind: Some(kind.into()), value: Some(value.into()) });
        assert_eq!(path_of("PathPrefix", "/a/"), Ok(StringMatch::Segments("/a".into())));
        assert_eq!(path_of("PathPrefix", "/"), Ok(StringMatch::Present));
        assert!(path_of("Suffix", "/a").is_err() && path_of("RegularExpression", "(").is_err());
        let twice =
            gateway::HttpRouteMatch { headers: block("Exact", "/", 2, false).headers, ..Default::default() };
        assert_eq!(compile(&twice).map(|m| m.headers.len()), Ok(1));
    }
}
