//! The files of `tests/corpus` as configuration of managed proxies: the real Envoy takes all of it.

use anyhow::{Result, ensure};
use clovisor_policy::compiled::Proxies;
use clovisor_render::proxy::RenderConfig;
use harness::corpus::{cases, envoy_files, judge, validation};
use harness::{envoy, repository};

#[test]
fn envoy_takes_what_is_rendered_of_the_corpus() -> Result<()> {
    let binary = envoy::binary()?;
    let mut rendered = 0;
    let mut objections = Vec::new();
    for case in cases(&repository::path("tests/corpus"))? {
        let managed = judge(&case.read()?, Proxies::Managed);
        let folder = tempfile::tempdir()?;
        let config = RenderConfig {
            mount: folder.path().to_owned(),
            certificates: folder.path().to_owned(),
            ..RenderConfig::default()
        };
        for (namespace, files) in envoy_files(&managed, &config) {
            rendered += 1;
            let objection = validation::objection(&binary, &files.files, folder.path())?;
            objections.extend(objection.map(|said| format!("{} {namespace}: {said}", case.name)));
        }
    }
    ensure!(rendered > 20, "only {rendered} configurations");
    ensure!(objections.is_empty(), "{} of {rendered}:\n{}", objections.len(), objections.join("\n"));
    Ok(())
}

/// The control: Envoy is asked, and answers.
#[test]
fn envoy_objects_to_a_broken_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let case =
        cases(&repository::path("tests/corpus"))?.into_iter().find(|case| case.name.ends_with("plain.yaml"));
    let managed = judge(&case.ok_or_else(|| anyhow::anyhow!("no plain.yaml"))?.read()?, Proxies::Managed);
    let config = RenderConfig { mount: folder.path().to_owned(), ..RenderConfig::default() };
    for (_, mut rendered) in envoy_files(&managed, &config) {
        for text in rendered.files.values_mut() {
            *text = text.replace("\"cluster\":\"outbound", "\"clusters\":\"outbound");
        }
        let objection = validation::objection(&envoy::binary()?, &rendered.files, folder.path())?;
        ensure!(objection.is_some(), "Envoy takes an unknown field");
    }
    Ok(())
}
