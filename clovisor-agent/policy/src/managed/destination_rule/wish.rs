//! What one traffic policy says about TLS on one port.

use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::DestinationRule;
use serde_json::Value;

/// What a place of a DestinationRule says; none: no rule says anything.
#[derive(Debug, Default)]
pub(super) struct Wish<'a> {
    pub(super) key: Option<&'a ObjectKey>,
    pub(super) field: String,
    pub(super) mode: TlsWish,
}

/// TLS as far as managed proxies know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TlsWish {
    #[default]
    Silent,
    Plain,
    /// With the mesh's certificates; the server name, where one is set.
    Mutual(Option<String>),
    /// Anything else, in words.
    Other(String),
}

impl TlsWish {
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Mutual(_) | Self::Other(_))
    }

    fn of(tls: Option<&Value>) -> Self {
        let Some(tls) = tls.filter(|tls| !tls.is_null()) else { return Self::Silent };
        let Some(fields) = tls.as_object() else { return Self::Other(format!("tls {tls}")) };
        match fields.get("mode").filter(|mode| !mode.is_null()) {
            None if fields.values().all(Value::is_null) => Self::Plain,
            None => Self::Other("tls without a mode".into()),
            Some(mode) if mode == "DISABLE" => Self::Plain,
            Some(mode) if mode == "ISTIO_MUTUAL" => {
                Self::Mutual(fields.get("sni").and_then(Value::as_str).map(str::to_owned))
            }
            Some(mode) => Self::Other(format!("tls.mode {}", mode.as_str().unwrap_or("that is no word"))),
        }
    }
}

/// The settings of a policy for a port, and their place below it: what names a port inherits nothing. An entry without
/// a port that is understood counts for every port.
pub(super) fn settings(policy: &Value, port: u16) -> (String, &Value) {
    let ports = policy.get("portLevelSettings").and_then(Value::as_array).into_iter().flatten();
    let number = |own: &Value| {
        let number = own.pointer("/port/number")?;
        number.as_u64().or_else(|| number.as_str()?.parse().ok())
    };
    let own = ports.enumerate().find(|(_, own)| number(own).is_none_or(|number| number == u64::from(port)));
    own.map_or_else(|| (String::new(), policy), |(i, own)| (format!("portLevelSettings[{i}]."), own))
}

/// What the rule itself says, without its subsets.
pub(super) fn of_rule<'a>(key: &'a ObjectKey, rule: &DestinationRule, port: u16) -> Wish<'a> {
    let Some(policy) = &rule.traffic_policy else { return Wish { key: Some(key), ..Wish::default() } };
    let (place, settings) = settings(policy, port);
    let field = format!("spec.trafficPolicy.{place}tls");
    Wish { key: Some(key), field, mode: TlsWish::of(settings.get("tls")) }
}

/// What a rule says of the port, for the host and for each subset; of settings for the port that are silent, what the
/// whole policy says.
pub(super) fn all<'a>(key: &'a ObjectKey, rule: &DestinationRule, port: u16) -> Vec<Wish<'a>> {
    let own = rule.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = rule.subsets.iter().enumerate().filter_map(|(i, subset)| {
        Some((format!("spec.subsets[{i}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    });
    let wish = |(at, policy): (String, &Value)| {
        let (place, of_port) = settings(policy, port);
        match TlsWish::of(of_port.get("tls")) {
            TlsWish::Silent => {
                Wish { key: Some(key), field: format!("{at}.tls"), mode: TlsWish::of(policy.get("tls")) }
            }
            mode => Wish { key: Some(key), field: format!("{at}.{place}tls"), mode },
        }
    };
    own.chain(subsets).map(wish).collect()
}
