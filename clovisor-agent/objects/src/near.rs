//! "Did you mean": the known name that a misspelt one is near to.

use strsim::damerau_levenshtein;

/// Names that a remedy lists.
const LISTED: usize = 12;

/// The known name that `word` is a misspelling of: one edit, or one for every three characters; case does not count.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let distances = known.into_iter().map(|name| (damerau_levenshtein(&word, &name.to_lowercase()), name));
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

/// What to write instead of the unknown `word`: the near name, else those that there are.
#[must_use]
pub fn remedy<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    if let Some(near) = nearest(word, known.iter().copied()) {
        return format!("did you mean {near}?");
    }
    let more = match known.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    known.truncate(LISTED);
    if known.is_empty() { "there is none".to_owned() } else { format!("there is {}{more}", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_near_and_another_word_is_not() {
        let kinds = ["WanLink", "WanMapping", "WanNode"];
        for (word, near) in [
            ("WanMaping", Some("WanMapping")),
            ("wanmapping", Some("WanMapping")),
            ("WanLinks", Some("WanLink")),
            ("WanMappnig", Some("WanMapping")),
            ("Gateway", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, kinds), near, "{word}");
        }
        assert_eq!(remedy("s7", ["s9", "s8"]), "did you mean s8?");
        assert_eq!(remedy("fibre", ["s9", "s8", "s9"]), "there is s8, s9");
        assert_eq!(remedy("x", []), "there is none");
    }
}
