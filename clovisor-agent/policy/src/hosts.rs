//! Host names of the mesh, and an index of objects by the hosts that they name.

use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::DestinationRule;
use clovisor_objects::snapshot::Snapshot;
use std::collections::HashMap;

/// Domain of the hosts that stand for Kubernetes Services.
const SERVICE_DOMAIN: &str = ".svc.cluster.local";

/// Istio's root namespace: its DestinationRules hold where no nearer one does.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// Name and namespace of a Kubernetes Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
}

impl<'a> ServiceName<'a> {
    /// The Service that a fully qualified host stands for.
    #[must_use]
    pub fn of_host(host: &'a str) -> Option<Self> {
        let (name, namespace) = Self::relative(host)?.split_once('.')?;
        Some(Self { name, namespace })
    }

    /// The host without the domain of Services, e.g. `reviews.shop`.
    #[must_use]
    pub fn relative(host: &'a str) -> Option<&'a str> {
        host.strip_suffix(SERVICE_DOMAIN)
    }

    /// The fully qualified host.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}{SERVICE_DOMAIN}", self.name, self.namespace)
    }
}

/// The fully qualified host: a short name is completed with the object's namespace; a name with a dot, a wildcard and
/// an address stay as they are.
#[must_use]
pub fn qualify(host: &str, namespace: &str) -> String {
    if host.contains(['.', ':', '*']) {
        host.to_owned()
    } else {
        ServiceName { name: host, namespace }.host()
    }
}

/// The short forms that a client's resolver would complete.
pub(crate) fn aliases(host: &str, client: &str) -> Vec<String> {
    let Some(name) = ServiceName::relative(host) else {
        return Vec::new();
    };
    let mut aliases = vec![format!("{name}.svc"), name.to_owned()];
    if let Some((short, namespace)) = name.split_once('.')
        && namespace == client
    {
        aliases.push(short.to_owned());
    }
    aliases
}

/// Istio's `exportTo`: whether clients in the namespace `client` see an object of `namespace`.
#[must_use]
pub fn visible(export_to: &[String], namespace: &str, client: &str) -> bool {
    let includes = |to: &String| to == "*" || (to == "." && namespace == client) || to == client;
    export_to.is_empty() || export_to.iter().any(includes)
}

/// Istio's SNI for a port of a host without a subset.
#[must_use]
pub fn default_sni(host: &str, port: u16) -> String {
    format!("outbound_.{port}_._.{host}")
}

/// DestinationRules by host.
pub type DestinationRules<'a> = ByHost<'a, DestinationRule>;

/// Indexes the DestinationRules of a snapshot.
#[must_use]
pub fn destination_rules(snapshot: &Snapshot) -> DestinationRules<'_> {
    let rules = snapshot.destination_rules.iter().map(|(key, rule)| (key, &**rule));
    ByHost::new(rules, |rule| std::slice::from_ref(&rule.host))
}

/// Objects by exact host and by `*.suffix`: one look-up per host, among thousands of objects.
#[derive(Debug)]
pub struct ByHost<'a, T> {
    exact: HashMap<String, Vec<(&'a ObjectKey, &'a T)>>,
    wild: Vec<(String, &'a ObjectKey, &'a T)>,
}

/// An object that covers a host.
#[derive(Debug)]
pub struct HostMatch<'a, T> {
    pub key: &'a ObjectKey,
    pub object: &'a T,
    /// Length of the suffix that matched; the largest number for an exact match. The larger, the more specific.
    pub specificity: usize,
}

impl<'a, T> ByHost<'a, T> {
    /// Indexes the objects by the hosts that `hosts` returns for each.
    pub fn new(
        objects: impl Iterator<Item = (&'a ObjectKey, &'a T)>,
        hosts: impl Fn(&'a T) -> &'a [String],
    ) -> Self {
        let mut index = Self { exact: HashMap::new(), wild: Vec::new() };
        for (key, object) in objects {
            for host in hosts(object) {
                let host = qualify(host, &key.namespace).to_ascii_lowercase();
                match host.strip_prefix('*') {
                    Some(suffix) => index.wild.push((suffix.to_owned(), key, object)),
                    None => index.exact.entry(host).or_default().push((key, object)),
                }
            }
        }
        index
    }

    /// Every object that covers `host`, in no particular order.
    #[must_use]
    pub fn covering(&self, host: &str) -> Vec<HostMatch<'a, T>> {
        let host = host.to_ascii_lowercase();
        let exact = self.exact.get(&host).into_iter().flatten();
        let exact = exact.map(|&(key, object)| HostMatch { key, object, specificity: usize::MAX });
        let wild = self.wild.iter().filter(|(suffix, ..)| host.ends_with(suffix));
        let wild =
            wild.map(|&(ref suffix, key, object)| HostMatch { key, object, specificity: suffix.len() });
        exact.chain(wild).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_covered_exactly_or_by_suffix() {
        let key = |name: &str| ObjectKey { namespace: "shop".into(), name: name.into() };
        let objects = [
            (key("short"), vec!["reviews".to_owned()]),
            (key("exact"), vec!["A.b".to_owned()]),
            (key("wild"), vec!["*.b".to_owned()]),
            (key("all"), vec!["*".to_owned()]),
        ];
        let index = ByHost::new(objects.iter().map(|(key, hosts)| (key, hosts)), |hosts| hosts);
        let names = |host: &str| {
            let mut found = index.covering(host);
            found.sort_by_key(|f| std::cmp::Reverse(f.specificity));
            found.iter().map(|f| f.key.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("reviews.shop.svc.cluster.local"), "short all");
        assert_eq!(names("a.B"), "exact wild all");
        assert_eq!(names("x.a.b"), "wild all");
        assert_eq!(names("reviews"), "all");
        assert_eq!(qualify("reviews.shop", "x"), "reviews.shop");
    }
    #[test]
    fn a_service_and_its_host_name_each_other() {
        let reviews = ServiceName { name: "reviews", namespace: "shop" };
        assert_eq!(reviews.host(), "reviews.shop.svc.cluster.local");
        assert_eq!(ServiceName::of_host("reviews.shop.svc.cluster.local"), Some(reviews));
        assert_eq!(ServiceName::of_host("reviews.shop.example"), None);
    }

    #[test]
    fn export_to_limits_who_sees_an_object() {
        let to = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(visible(&[], "a", "b"));
        assert!(visible(&to(&["*"]), "a", "b"));
        assert!(!visible(&to(&["."]), "a", "b"));
        assert!(visible(&to(&["."]), "a", "a"));
        assert!(visible(&to(&["b"]), "a", "b"));
    }
}
