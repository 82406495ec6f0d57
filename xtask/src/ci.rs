//! `cargo xtask ci`: what a change must pass.

use crate::count::Count;
use crate::image::{self, Architecture};
use crate::{bench, cluster, demo, gen_files, lint, setup, shell, test};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Runs every step; the last line counts tests and steps.
pub(crate) fn run() -> Result<()> {
    shell::require_root("the whole set of tests (namespaces, containers and BPF)")?;
    setup::run(false)?;
    let mut count = Count::default();
    step(&mut count, "lint", lint::run(false));
    step(&mut count, "gen --check", gen_files::run(true));
    match test::run(None, None) {
        Ok(tests) => {
            count.passed += tests.passed;
            count.failed += tests.failed;
            count.skipped += tests.skipped;
            step(&mut count, "test", tests.verdict());
        }
        Err(error) => step(&mut count, "test", Err(error)),
    }
    step(&mut count, "demo --json", shown_demo());
    step(&mut count, "bench", bench::check());
    step(&mut count, "cluster demo", cluster::run(&cluster::Action::Demo { arguments: Vec::new() }));
    let other =
        if Architecture::own() == Architecture::Amd64 { Architecture::Arm64 } else { Architecture::Amd64 };
    step(&mut count, "image of the other architecture", image::build(other).map(drop));
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if count.failed > 0 {
        bail!("{} failed, see above", count.failed);
    }
    Ok(())
}

fn step(count: &mut Count, name: &str, result: Result<()>) {
    match result {
        Ok(()) => {
            count.passed += 1;
            eprintln!("ci: {name} passed");
        }
        Err(error) => {
            count.failed += 1;
            eprintln!("ci: {name} FAILED: {error:#}");
        }
    }
}

/// The demo's own word, checked by its figures.
fn shown_demo() -> Result<()> {
    demo::build()?;
    let text = shell::output(shell::as_root("target/debug/clovisor-demo").arg("--json"))?;
    println!("{}", text.trim_end());
    let report: Value =
        serde_json::from_str(&text).context("the demo printed something that is not one JSON object")?;
    exact(&report)
}

fn exact(report: &Value) -> Result<()> {
    let number =
        |name: &str| report[name].as_u64().with_context(|| format!("no number {name} in the report"));
    ensure!(number("requests")? >= 3000, "too few requests: {}", report["requests"]);
    for name in ["wrong", "errors", "shared_connections"] {
        ensure!(number(name)? == 0, "{name} = {}", report[name]);
    }
    ensure!(number("failover_ms")? < 1000, "failover_ms = {}", report["failover_ms"]);
    let users = report["per_user"].as_object().context("no per_user in the report")?;
    for name in ["boss", "minions", "crew", "guests", "nobody"] {
        let user = users.get(name).with_context(|| format!("no user {name}"))?;
        let asked = user["asked"].as_str().unwrap_or_default();
        ensure!(user["links"][asked].as_u64() > Some(0), "{name} did not use {asked}: {user}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_with_a_wrong_request_fails() {
        let user = json!({ "asked": "s8", "links": { "s8": 600 } });
        let users: serde_json::Map<_, _> = ["boss", "minions", "crew", "guests", "nobody"]
            .into_iter()
            .map(|name| (name.to_owned(), user.clone()))
            .collect();
        let mut report = json!({
            "requests": 3000, "wrong": 0, "errors": 0, "shared_connections": 0, "failover_ms": 12, "per_user": users,
        });
        assert!(exact(&report).is_ok());
        report["wrong"] = json!(1);
        assert!(exact(&report).is_err());
        report["wrong"] = Value::Null;
        assert!(exact(&report).is_err());
    }
}
