//! Which kernels: the newest of each series that matters.

use std::collections::{BTreeMap, BTreeSet};

/// Always wanted: the oldest that is supported, and the two of Debian's stable releases.
const SERIES: [(u32, u32); 3] = [(5, 10), (6, 1), (6, 12)];
/// Wanted beside them: this many of the newest series.
const NEWEST: usize = 2;

/// Version and suite of the newest kernel of each wanted series.
pub(crate) fn choose(found: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut newest: BTreeMap<(u32, u32), &String> = BTreeMap::new();
    for version in found.keys() {
        let best = newest.entry(series(version)).or_insert(version);
        if order(version) > order(best) {
            *best = version;
        }
    }
    let others: Vec<_> = newest.keys().filter(|series| !SERIES.contains(series)).copied().collect();
    let wanted: BTreeSet<_> = others.into_iter().rev().take(NEWEST).chain(SERIES).collect();
    let chosen = newest.into_iter().filter(|(series, _)| wanted.contains(series));
    chosen.filter_map(|(_, version)| Some((version.clone(), found.get(version)?.clone()))).collect()
}

/// The numbers of a version, for comparing.
pub(crate) fn order(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn series(version: &str) -> (u32, u32) {
    let numbers = order(version);
    (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_wanted_series_is_chosen() {
        let versions = [
            "5.10.0-30-cloud-amd64",
            "5.10.0-32-cloud-amd64",
            "6.1.0-47-cloud-amd64",
            "6.12.9+deb13-cloud-amd64",
            "6.12.117+deb13-cloud-amd64",
            "6.18.2+deb13-cloud-amd64",
            "7.2.13+deb14-cloud-amd64",
            "7.3.4+deb13-cloud-amd64",
        ];
        let found = versions.map(|version| (version.to_owned(), "suite".to_owned())).into_iter().collect();
        let chosen: Vec<_> = choose(&found).into_iter().map(|(version, _)| version).collect();
        let wanted = [versions[1], versions[2], versions[4], versions[6], versions[7]];
        assert_eq!(chosen, wanted);
    }
}
