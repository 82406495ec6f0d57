//! Objects by the hosts that they name: thousands of objects, one look per host.

use crate::cluster::snapshot::ObjectKey;
use std::collections::HashMap;

const SUFFIX: &str = ".svc.cluster.local";

/// A short name becomes the full one of its object's namespace; names with a dot, `*` and addresses stay.
pub(crate) fn qualify(host: &str, namespace: &str) -> String {
    if host.contains(['.', ':', '*']) { host.to_owned() } else { format!("{host}.{namespace}{SUFFIX}") }
}

/// Objects by exact host and by `*.suffix`.
#[derive(Debug)]
pub(crate) struct ByHost<'a, T> {
    exact: HashMap<String, Vec<(&'a ObjectKey, &'a T)>>,
    wild: Vec<(String, &'a ObjectKey, &'a T)>,
}

/// An object that covers a host; the larger `fit`, the better. Exact is best.
#[derive(Debug)]
pub(crate) struct Found<'a, T> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) object: &'a T,
    pub(crate) fit: usize,
}

impl<'a, T> ByHost<'a, T> {
    /// Sorts the objects in by the hosts that `hosts` says they name.
    pub(crate) fn new(
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
    pub(crate) fn covering(&self, host: &str) -> Vec<Found<'a, T>> {
        let host = host.to_ascii_lowercase();
        let exact = self.exact.get(&host).into_iter().flatten();
        let exact = exact.map(|&(key, object)| Found { key, object, fit: usize::MAX });
        let wild = self.wild.iter().filter(|(suffix, ..)| host.ends_with(suffix));
        let wild = wild.map(|&(ref suffix, key, object)| Found { key, object, fit: suffix.len() });
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
            found.sort_by_key(|f| std::cmp::Reverse(f.fit));
            found.iter().map(|f| f.key.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("reviews.shop.svc.cluster.local"), "short all");
        assert_eq!(names("a.B"), "exact wild all");
        assert_eq!(names("x.a.b"), "wild all");
        assert_eq!(names("reviews"), "all");
        assert_eq!(qualify("reviews.shop", "x"), "reviews.shop");
    }
}
