//! What is said of each file of `tests/corpus`, and what the requests of its objects do; no root.

use anyhow::{Result, ensure};
use harness::corpus::{cases, expectation};
use harness::repository;

#[test]
fn every_file_is_judged_as_expected() -> Result<()> {
    let cases = cases(&repository::path("tests/corpus"))?;
    ensure!(cases.len() > 40, "only {} cases: where is the corpus?", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let differences = expectation::compare(case)?;
        wrong.extend(differences.into_iter().map(|line| format!("{}: {line}", case.name)));
    }
    ensure!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

/// The control: a case without an expectation, and one with another expectation, are found.
#[test]
fn a_missing_and_a_wrong_expectation_are_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let area = folder.path().join("area");
    std::fs::create_dir(&area)?;
    std::fs::write(
        area.join("a.yaml"),
        "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: a}\nspec: {devise: a}\n",
    )?;
    let [case] = &cases(folder.path())?[..] else { anyhow::bail!("not one case") };
    ensure!(expectation::compare(case)?.len() == 1, "a missing expectation is none");
    std::fs::write(&case.expectation, "managed: InvalidObject WanLink/a\nexplain: managed reviews => m\n")?;
    let wrong = expectation::compare(case)?;
    ensure!(wrong.len() == 2 && wrong[0].starts_with("sidecars: InvalidObject WanLink/a"), "{wrong:#?}");
    for right in ["", " ~ did you mean device?"] {
        std::fs::write(&case.expectation, format!("both: InvalidObject WanLink/a{right}\n"))?;
        ensure!(expectation::compare(case)?.is_empty(), "a right expectation");
    }
    std::fs::write(&case.expectation, "both: InvalidObject WanLink/a ~ did you mean mtu?\n")?;
    ensure!(expectation::compare(case)?.len() == 4, "words that are not said");
    Ok(())
}
