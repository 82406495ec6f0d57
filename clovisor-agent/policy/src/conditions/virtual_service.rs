//! Match blocks of VirtualServices, as Istio reads them for a sidecar.

use crate::matcher::{Pattern, RouteMatch, StringMatch};
use clovisor_objects::istio::{self, HttpMatch, IstioHttpRoute};
use clovisor_objects::refusal::{FieldPath, Refusal};
use std::collections::BTreeMap;

/// The blocks that can hold here, and whether the route is one of this port and namespace at all.
pub(crate) fn matches(
    http: &IstioHttpRoute,
    port: u16,
    namespace: &str,
) -> Result<(Vec<RouteMatch>, bool), Refusal> {
    let mut blocks = Vec::new();
    for (i, block) in http.matches.iter().enumerate() {
        let at = FieldPath::from("match").index(i);
        let compiled = compile(block).map_err(|refusal| refusal.under(&at))?;
        if applies(block, port, namespace) {
            blocks.push(compiled);
        }
    }
    let applies = http.matches.is_empty() || !blocks.is_empty();
    Ok((blocks, applies))
}

/// The conditions that are known before any request comes.
fn applies(block: &HttpMatch, port: u16, namespace: &str) -> bool {
    let here = block.is_for_mesh();
    // As Istio: with `gateways`, the source conditions are not looked at.
    let source = !block.gateways.is_empty() || block.source_namespace.as_ref().is_none_or(|n| n == namespace);
    here && source && block.port.is_none_or(|p| p == port)
}

fn compile(block: &HttpMatch) -> Result<RouteMatch, Refusal> {
    let one = |field: &str, source: &Option<istio::IstioStringMatch>| {
        source
            .as_ref()
            .map(|s| string(s).map_err(|message| Refusal::invalid_rule(field, message)))
            .transpose()
    };
    let named = |field: &str, source: &BTreeMap<String, istio::IstioStringMatch>, fold: bool| {
        let pairs = source.iter().map(|(name, condition)| {
            let at = FieldPath::from(field).key(name);
            if name.starts_with('@') {
                let message = "is not a header; conditions on token claims are not supported";
                return Err(Refusal::invalid_rule(at, message));
            }
            let name = if fold { name.to_ascii_lowercase() } else { name.clone() };
            string(condition).map(|c| (name, c)).map_err(|message| Refusal::invalid_rule(at, message))
        });
        pairs.collect::<Result<Vec<_>, Refusal>>()
    };
    Ok(RouteMatch {
        uri: one("uri", &block.uri)?,
        ignore_uri_case: block.ignore_uri_case,
        method: one("method", &block.method)?,
        authority: one("authority", &block.authority)?,
        scheme: one("scheme", &block.scheme)?,
        headers: named("headers", &block.headers, true)?,
        without_headers: named("withoutHeaders", &block.without_headers, true)?,
        query_params: named("queryParams", &block.query_params, false)?,
        source_labels: if block.gateways.is_empty() { block.source_labels.clone() } else { BTreeMap::new() },
    })
}

fn string(source: &istio::IstioStringMatch) -> Result<StringMatch, String> {
    match source {
        istio::IstioStringMatch { exact: None, prefix: None, regex: None } => Ok(StringMatch::Present),
        istio::IstioStringMatch { exact: Some(text), prefix: None, regex: None } => {
            Ok(StringMatch::Exact(text.clone()))
        }
        // An empty prefix matches every value.
        istio::IstioStringMatch { exact: None, prefix: Some(text), regex: None } if text.is_empty() => {
            Ok(StringMatch::Present)
        }
        istio::IstioStringMatch { exact: None, prefix: Some(text), regex: None } => {
            Ok(StringMatch::Prefix(text.clone()))
        }
        istio::IstioStringMatch { exact: None, prefix: None, regex: Some(text) } if text == "*" => {
            Ok(StringMatch::Present)
        }
        istio::IstioStringMatch { exact: None, prefix: None, regex: Some(text) } => {
            Pattern::new(text).map(StringMatch::Regex)
        }
        _ => Err("set one of exact, prefix, regex".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_known_before_a_request() {
        let block =
            HttpMatch { port: Some(80), source_namespace: Some("shop".into()), ..HttpMatch::default() };
        assert!(applies(&block, 80, "shop"));
        assert!(!applies(&block, 81, "shop"));
        assert!(!applies(&block, 80, "bank"));
        let mesh = HttpMatch { gateways: vec!["mesh".into()], ..block.clone() };
        assert!(applies(&mesh, 80, "bank"));
        let gateway = HttpMatch { gateways: vec!["edge".into()], ..block };
        assert!(!applies(&gateway, 80, "shop"));
    }
}
