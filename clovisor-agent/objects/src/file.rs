//! One file of a folder: what is in force of it, and since when its newest text waits for a second reading.

use super::document::{Document, Found, read};
use super::identity::Identity;
use super::last_good::LastGood;
use super::object::Object;
use super::problem::{Problem, Subject};
use super::reason::ProblemReason;
use super::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// A text that takes objects away counts when a second reading finds it again after so long: writers empty a file first
/// and fill it then, and a full disk leaves it empty.
pub(super) const CONFIRMED_AFTER: Duration = Duration::from_secs(2);
/// Bytes of a text that is remembered as a whole.
const REMEMBERED: usize = 256 << 10;

/// A text to compare others with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Memory {
    Whole(String),
    /// Its length and a hash.
    Hash(usize, u64),
}

impl Memory {
    fn of(text: &str) -> Self {
        if text.len() <= REMEMBERED {
            return Self::Whole(text.to_owned());
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self::Hash(text.len(), hasher.finish())
    }

    /// `text` may be the beginning of this one.
    fn is_cut_to(&self, text: &str) -> bool {
        match self {
            Self::Whole(whole) => whole.len() > text.len() && whole.starts_with(text),
            Self::Hash(length, _) => *length > text.len(),
        }
    }
}

/// What a reading found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Text(String),
    /// There is a file that cannot be read.
    Failed(String),
    /// There is no file.
    Gone,
}

/// A newer text that takes objects away, and waits.
#[derive(Debug)]
struct Pending {
    /// None: the file is gone.
    text: Option<Memory>,
    since: Instant,
    lost: BTreeSet<Identity>,
    problem: Problem,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    text: Option<Memory>,
    objects: LastGood<Identity, Object>,
    /// Of the file itself, and of documents that name no object.
    problems: Vec<Problem>,
    pending: Option<Pending>,
}

impl File {
    /// Takes in a reading; none: the file is gone for good.
    pub(super) fn read(mut self, name: &str, reading: Reading, now: Instant) -> Option<Self> {
        let text = match reading {
            Reading::Failed(reason) => return Some(self.unread(name, &reason)),
            Reading::Text(text) => Some(text),
            Reading::Gone => None,
        };
        let memory = text.as_deref().map(Memory::of);
        if text.is_some() && memory == self.text {
            self.pending = None;
            return Some(self);
        }
        let waiting =
            self.pending.as_ref().filter(|pending| pending.text == memory).map(|pending| pending.since);
        let is_confirmed = waiting.is_some_and(|since| now.duration_since(since) >= CONFIRMED_AFTER);
        if waiting.is_some() && !is_confirmed {
            return Some(self);
        }
        let new = parsed(name, text.as_deref().unwrap_or_default(), &self.objects);
        let lost = self.lost(&new);
        let is_cut =
            self.text.as_ref().is_some_and(|old| text.as_deref().is_none_or(|text| old.is_cut_to(text)));
        if !is_confirmed && (!lost.is_empty() || is_cut && self.objects.values().next().is_some()) {
            let problem = unconfirmed(name, text.as_deref(), &lost);
            self.pending = Some(Pending { text: memory, since: now, lost, problem });
            return Some(self);
        }
        memory.map(|memory| Self { text: Some(memory), ..new })
    }

    /// What is in force of a file that cannot be read stays so.
    fn unread(mut self, name: &str, reason: &str) -> Self {
        let kept = match self.objects.values().next() {
            Some(_) => "; its last good objects stay in force",
            None => "",
        };
        let subject = Subject::File(name.to_owned());
        self.problems =
            vec![Problem::whole(ProblemReason::InvalidObject, subject, format!("{reason}{kept}"))];
        (self.text, self.pending) = (None, None);
        self
    }

    fn lost(&self, new: &Self) -> BTreeSet<Identity> {
        let names: BTreeSet<_> = new.objects.keys().collect();
        self.objects
            .values()
            .map(|(identity, _)| identity)
            .filter(|old| !names.contains(old))
            .cloned()
            .collect()
    }

    /// The objects in force, each with whether it waits to be forgotten.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Identity, &Object, bool)> {
        let is_lost = |identity| self.pending.as_ref().is_some_and(|pending| pending.lost.contains(identity));
        self.objects.values().map(move |(identity, object)| (identity, object, is_lost(identity)))
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let pending = self.pending.iter().map(|pending| &pending.problem);
        self.problems.iter().chain(self.objects.problems()).chain(pending)
    }

    /// When a reading decides about a text that waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.since + CONFIRMED_AFTER)
    }
}

fn unconfirmed(name: &str, text: Option<&str>, lost: &BTreeSet<Identity>) -> Problem {
    let what = match text {
        None => "is gone".to_owned(),
        Some(text) if text.trim().is_empty() => "is empty".to_owned(),
        Some(_) if lost.is_empty() => "is only the beginning of what it was".to_owned(),
        Some(_) => {
            let names: Vec<_> =
                lost.iter().take(3).map(|lost| format!("{} {}", lost.kind, lost.key)).collect();
            let more = match lost.len().saturating_sub(3) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("names {}{more} no longer", names.join(", "))
        }
    };
    let seconds = CONFIRMED_AFTER.as_secs();
    let message =
        format!("{what}; its objects stay in force until a reading {seconds} s later finds the same");
    Problem::whole(ProblemReason::Unconfirmed, Subject::File(name.to_owned()), message)
}

fn parsed(name: &str, text: &str, before: &LastGood<Identity, Object>) -> File {
    let mut file = File::default();
    let mut lines = BTreeMap::<Identity, usize>::new();
    // Documents of which it is not known which object they were.
    let mut unknown = Vec::new();
    let mut lost = false;
    for Found { line, document, remarks } in read(name, text) {
        file.problems.extend(remarks);
        match document {
            Document::Object(identity, object) => match lines.get(&identity) {
                Some(first) => {
                    let message =
                        format!("is in line {first} of {name} already, which holds; remove one of the two");
                    let refusal = Refusal::invalid_object(format!("line {line}"), message);
                    file.problems.push(Problem::new(Subject::Object(identity), refusal));
                }
                None => {
                    lines.insert(identity.clone(), line);
                    file.objects.list(before, identity, Ok(object));
                }
            },
            Document::Refused(Some(identity), problem) => {
                lost |= !file.objects.list(before, identity, Err(problem))
            }
            Document::Refused(None, problem) => unknown.push(problem),
        }
    }
    if lost || !unknown.is_empty() {
        // Nothing of the file is lost.
        let is_kept = file.objects.keep_absent(before);
        let kept = if is_kept { "; objects that the file had before stay in force" } else { "" };
        let said = unknown.into_iter().map(|p| Problem { message: format!("{}{kept}", p.message), ..p });
        file.problems.extend(said);
    }
    if text.trim().is_empty() {
        let message = "is empty; write objects into it or delete it";
        let subject = Subject::File(name.to_owned());
        file.problems.push(Problem::whole(ProblemReason::InvalidObject, subject, message));
    }
    file
}
