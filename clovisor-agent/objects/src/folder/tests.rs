//! What a folder yields while its files change.

use super::*;
use crate::file::CONFIRMED_AFTER;
use proptest::prelude::*;
use std::fs;
use std::time::Duration;

const LINK: &str =
    "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: NAME}\nspec: {device: DEVICE}\n";

fn link(name: &str, device: &str) -> String {
    LINK.replace("NAME", name).replace("DEVICE", device)
}

fn devices(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    snapshot.links.iter().map(|(name, l)| (name.as_str(), l.device.as_deref().unwrap_or_default())).collect()
}

/// A folder with one file, read at times of the test's own.
struct Watched {
    dir: tempfile::TempDir,
    folder: Folder,
    now: Instant,
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        Self { dir, folder: Folder::default(), now: Instant::now() }
    }

    fn reads(&mut self) -> Snapshot {
        self.folder.read(self.dir.path(), self.now).unwrap_or_else(|e| panic!("{e}"))
    }

    fn writes(&mut self, name: &str, text: &str) -> Snapshot {
        fs::write(self.dir.path().join(name), text).unwrap_or_else(|e| panic!("{e}"));
        self.reads()
    }

    fn removes(&mut self, name: &str) -> Snapshot {
        fs::remove_file(self.dir.path().join(name)).unwrap_or_else(|e| panic!("{e}"));
        self.reads()
    }

    fn later(&mut self, time: Duration) -> Snapshot {
        self.now += time;
        self.reads()
    }
}

fn said(snapshot: &Snapshot) -> Vec<String> {
    let one = |p: &Problem| format!("{} {} {}: {}", p.reason, p.subject.kind(), p.subject.name(), p.message);
    snapshot.problems.iter().map(one).collect()
}

#[test]
fn a_bad_file_keeps_its_last_good_objects() {
    let mut at = Watched::new();
    let both = format!("{}---\n{}", link("s8", "s8"), link("s9", "s9"));
    assert_eq!(devices(&at.writes("a.yaml", &both)), [("s8", "s8"), ("s9", "s9")]);
    let bad_one = format!(
        "{}---\n{}  oops: 1\n",
        link("s8", "eth8"),
        link("s9", "s9").replace("spec: {device: s9}\n", "spec:\n  device: s9\n")
    );
    let snapshot = at.writes("a.yaml", &bad_one);
    assert_eq!(devices(&snapshot), [("s8", "eth8"), ("s9", "s9")]);
    assert_eq!(said(&snapshot).len(), 1);
    assert!(
        said(&snapshot)[0].ends_with("the object's last good state stays in force"),
        "{:?}",
        said(&snapshot)
    );
    let snapshot = at.writes("a.yaml", "{ this is : [not yaml");
    assert_eq!(devices(&snapshot), [("s8", "eth8"), ("s9", "s9")]);
    assert!(
        said(&snapshot)[0].starts_with("InvalidObject File a.yaml: this is no YAML"),
        "{:?}",
        said(&snapshot)
    );
    assert!(said(&snapshot)[0].ends_with("stay in force"), "{:?}", said(&snapshot));
    at.writes("a.yaml", &link("s9", "s9"));
    assert_eq!(devices(&at.later(CONFIRMED_AFTER)), [("s9", "s9")]);
}

#[test]
fn a_kind_that_is_misspelt_costs_no_object_that_is_in_force() {
    let mut at = Watched::new();
    at.writes("a.yaml", &link("s9", "s9"));
    let snapshot = at.writes("a.yaml", &link("s9", "eth9").replace("WanLink", "WanLnk"));
    assert_eq!(devices(&snapshot), [("s9", "s9")]);
    assert!(
        said(&snapshot)[0].contains("did you mean WanLink?; objects that the file had before stay in force"),
        "{:?}",
        said(&snapshot)
    );
    assert_eq!(devices(&at.later(CONFIRMED_AFTER * 10)), [("s9", "s9")]);
}

#[test]
fn a_file_without_a_good_state_claims_none() {
    let mut at = Watched::new();
    for text in
        ["{ this is : [not yaml", "apiVersion: clovisor.io/v1alpha1\nkind: WanLnk\n", &link("s9", "{}")]
    {
        let snapshot = at.writes("a.yaml", text);
        assert!(
            said(&snapshot).len() == 1 && !said(&snapshot)[0].contains("in force"),
            "{:?}",
            said(&snapshot)
        );
    }
    fs::create_dir(at.dir.path().join("b.yaml")).unwrap_or_else(|e| panic!("{e}"));
    assert!(said(&at.reads()).iter().all(|said| !said.contains("in force")));
}

#[test]
fn what_disappears_is_confirmed_by_a_second_reading() {
    let both = format!("{}---\n{}", link("s8", "s8"), link("s9", "s9"));
    let all = vec![("s8", "s8"), ("s9", "s9")];
    for (text, words, rest) in [
        ("", "is empty; its objects stay in force until a reading 2 s later", vec![]),
        ("# nothing\n", "names WanLink s8, WanLink s9 no longer", vec![]),
        (&link("s9", "s9"), "names WanLink s8 no longer", vec![("s9", "s9")]),
    ] {
        let mut at = Watched::new();
        at.writes("a.yaml", &both);
        let snapshot = at.writes("a.yaml", text);
        assert_eq!(devices(&snapshot), all, "{text}");
        assert!(said(&snapshot)[0].contains(words), "{:?}", said(&snapshot));
        assert_eq!(at.folder.due(), Some(at.now + CONFIRMED_AFTER));
        assert_eq!(devices(&at.later(CONFIRMED_AFTER / 2)), all, "{text}");
        // Another text waits anew.
        assert_eq!(devices(&at.writes("a.yaml", &format!("{text}# more\n"))), all, "{text}");
        assert_eq!(devices(&at.later(CONFIRMED_AFTER / 2)), all, "{text}");
        assert_eq!(devices(&at.later(CONFIRMED_AFTER / 2)), rest, "{text}");
        assert_eq!(at.folder.due(), None);
        // What comes back is there at once, and a text that came back waits for nothing.
        assert_eq!(devices(&at.writes("a.yaml", &both)), all, "{text}");
        at.writes("a.yaml", text);
        let snapshot = at.writes("a.yaml", &both);
        assert_eq!((devices(&snapshot), said(&snapshot)), (all.clone(), vec![]), "{text}");
        assert_eq!(devices(&at.later(CONFIRMED_AFTER)), all, "{text}");
    }
}

#[test]
fn a_file_that_is_deleted_or_renamed_is_acted_on() {
    let mut at = Watched::new();
    at.writes("a.yaml", &link("s9", "s9"));
    at.writes("b.yaml", &link("s8", "s8"));
    let snapshot = at.removes("a.yaml");
    assert_eq!(devices(&snapshot), [("s8", "s8"), ("s9", "s9")]);
    assert_eq!(
        said(&snapshot),
        [
            "Unconfirmed File a.yaml: is gone; its objects stay in force until a reading 2 s later finds the same"
        ]
    );
    let snapshot = at.later(CONFIRMED_AFTER);
    assert_eq!((devices(&snapshot), said(&snapshot)), (vec![("s8", "s8")], vec![]));
    // The new file has the object at once, and no other file claims it.
    fs::rename(at.dir.path().join("b.yaml"), at.dir.path().join("c.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let snapshot = at.writes("c.yaml", &link("s8", "eth8"));
    assert_eq!((devices(&snapshot), said(&snapshot).len()), (vec![("s8", "eth8")], 1));
    let snapshot = at.later(CONFIRMED_AFTER);
    assert_eq!((devices(&snapshot), said(&snapshot)), (vec![("s8", "eth8")], vec![]));
    let empty = at.removes("c.yaml");
    assert!(said(&empty)[0].contains("holds no file .yaml, .yml or .json"), "{:?}", said(&empty));
}

#[test]
fn a_duplicate_inside_a_file_is_said_and_the_first_holds() {
    let mut at = Watched::new();
    let snapshot = at.writes("a.yaml", &format!("{}---\n{}", link("s9", "first"), link("s9", "second")));
    assert_eq!(devices(&snapshot), [("s9", "first")]);
    assert_eq!(
        said(&snapshot),
        ["InvalidObject WanLink s9: is in line 1 of a.yaml already, which holds; remove one of the two"]
    );
}

const MAPPING: &str = "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata:\n  name: NAME\n  namespace: shop\n\
                       spec:\n  traffic:\n    destinations:\n    - cidr: 198.51.100.0/24\n  dscp: 46\n  links:\n  - s9\n  - s8\n";

fn three() -> String {
    ["one", "two", "three"].map(|name| MAPPING.replace("NAME", name)).join("---\n")
}

#[test]
fn no_truncation_of_a_file_silently_means_fewer_or_other_objects() {
    let whole = three();
    for cut in 0..whole.len() {
        let mut at = Watched::new();
        let before = at.writes("a.yaml", &whole);
        assert_eq!((before.mappings.len(), before.problems.len()), (3, 0));
        let after = at.writes("a.yaml", &whole[..cut]);
        assert_eq!(after.mappings, before.mappings, "cut at {cut}");
        assert_ne!(said(&after), Vec::<String>::new(), "cut at {cut}");
        let back = at.writes("a.yaml", &whole);
        assert_eq!((&back.mappings, said(&back)), (&before.mappings, vec![]), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_file_that_is_written_in_pieces_never_has_fewer_objects(cuts in proptest::collection::vec(0_usize..500, 1..6)) {
        let (old, new) = (three(), three().replace("dscp: 46", "dscp: 10"));
        let mut at = Watched::new();
        at.writes("a.yaml", &old);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(new.len())).collect();
        cuts.sort_unstable();
        for cut in cuts {
            prop_assert_eq!(at.writes("a.yaml", &new[..cut]).mappings.len(), 3);
        }
        let snapshot = at.writes("a.yaml", &new);
        prop_assert_eq!(snapshot.mappings.len(), 3);
        prop_assert!(snapshot.mappings.values().all(|mapping| mapping.spec.dscp == Some(10)));
    }
}

#[test]
fn the_first_file_holds_an_object_that_two_define() -> std::io::Result<()> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("b.yaml"), link("s9", "second"))?;
    fs::write(dir.path().join("a.yaml"), link("s9", "first"))?;
    fs::write(dir.path().join(".hidden.yaml"), link("s7", "hidden"))?;
    let snapshot = read_once(dir.path()).map_err(std::io::Error::other)?;
    assert_eq!(devices(&snapshot), [("s9", "first")]);
    assert!(snapshot.problems[0].message.contains("a.yaml"));
    Ok(())
}

#[test]
fn a_missing_folder_is_named() {
    let error = read_once(Path::new("/nonexistent/clovisor")).err().map(|e| e.to_string());
    assert!(error.is_some_and(|e| e.contains("/nonexistent/clovisor") && !e.contains("--config")));
}
