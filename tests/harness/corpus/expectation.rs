//! The expectation beside a file: a line for each problem, note and explanation. An empty one: no problem at all.
//!
//! ```text
//! # why
//! managed: RuleNotEffective WanMapping/shop/m      (or `sidecars:`, or `both:`)
//! both: InvalidObject File/a.yaml ~ did you mean   (words of field and message)
//! note: RuleNotEffective ServiceEntry/shop/other   (of managed proxies)
//! explain: managed reviews:80/path user=boss => m  (the mapping; `none`; `503`: refused by the proxy itself)
//! ```

use super::{Case, judge};
use anyhow::{Context, Result, bail};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::problem::Problem;
use clovisor_policy::compiled::{Compiled, Proxies};
use clovisor_policy::explain::explain;
use clovisor_policy::matcher::Request;
use std::fs;

/// The namespace and the pod that sends the requests of explanations.
const CLIENT: (&str, &str) = ("shop", "client");

/// What an expectation says.
#[derive(Debug, Default)]
struct Expectation {
    managed: Vec<String>,
    sidecars: Vec<String>,
    notes: Vec<String>,
    explanations: Vec<Explained>,
}

/// `explain: PROXIES HOST/PATH HEADER=VALUE... => MAPPING`.
#[derive(Debug)]
struct Explained {
    line: String,
    proxies: Proxies,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    answer: String,
}

impl Expectation {
    fn parse(text: &str) -> Result<Self> {
        let mut expectation = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(':').with_context(|| format!("no colon in {line:?}"))?;
            let rest = rest.trim().to_owned();
            match word {
                "managed" => expectation.managed.push(rest),
                "sidecars" => expectation.sidecars.push(rest),
                "both" => {
                    expectation.managed.push(rest.clone());
                    expectation.sidecars.push(rest);
                }
                "note" => expectation.notes.push(rest),
                "explain" => expectation.explanations.push(explained(&rest)?),
                _ => bail!("{word:?} is not one of managed, sidecars, both, note, explain"),
            }
        }
        Ok(expectation)
    }
}

fn explained(line: &str) -> Result<Explained> {
    let (asked, answer) = line.split_once(" => ").with_context(|| format!("no ` => ` in {line:?}"))?;
    let mut words = asked.split_whitespace();
    let proxies = match words.next() {
        Some("managed") => Proxies::Managed,
        Some("sidecars") => Proxies::Sidecars,
        other => bail!("{other:?} is not one of managed, sidecars"),
    };
    let url = words.next().with_context(|| format!("no host in {line:?}"))?;
    let (host, path) = url.split_once('/').unwrap_or((url, ""));
    let header = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = words.map(|word| header(word).with_context(|| format!("{word:?} is no header")));
    let headers = headers.collect::<Result<_>>()?;
    let (host, path) = (host.to_owned(), format!("/{path}"));
    Ok(Explained { line: line.to_owned(), proxies, host, path, headers, answer: answer.trim().to_owned() })
}

/// What is otherwise than expected, one line each.
pub fn compare(case: &Case) -> Result<Vec<String>> {
    let Ok(text) = fs::read_to_string(&case.expectation) else {
        return Ok(vec![format!("no {}: write what is expected", case.expectation.display())]);
    };
    let expectation = Expectation::parse(&text).with_context(|| case.expectation.display().to_string())?;
    let snapshot = case.read()?;
    let managed = judge(&snapshot, Proxies::Managed);
    let sidecars = judge(&snapshot, Proxies::Sidecars);
    let mut wrong = Vec::new();
    for (what, expected, found) in [
        ("managed", &expectation.managed, &managed.problems),
        ("sidecars", &expectation.sidecars, &sidecars.problems),
        ("note", &expectation.notes, &managed.notes),
    ] {
        wrong.extend(differences(what, expected, found));
    }
    for asked in &expectation.explanations {
        let compiled = if asked.proxies == Proxies::Managed { &managed } else { &sidecars };
        let answer = answer(compiled, asked);
        if answer != asked.answer {
            wrong.push(format!("explain: {}, but it is {answer}", asked.line));
        }
    }
    Ok(wrong)
}

fn differences(what: &str, expected: &[String], found: &[Problem]) -> Vec<String> {
    let line = |p: &Problem| format!("{} {}/{}", p.reason, p.subject.kind(), p.subject.name());
    let is_meant = |expected: &str, problem: &Problem| {
        let (named, words) = expected.split_once(" ~ ").unwrap_or((expected, ""));
        named.trim_end() == line(problem)
            && format!("{}: {}", problem.field, problem.message).contains(words.trim())
    };
    let mut left: Vec<_> = expected.to_vec();
    let mut wrong = Vec::new();
    for problem in found {
        match left.iter().position(|expected| is_meant(expected, problem)) {
            Some(place) => drop(left.remove(place)),
            None => wrong.push(format!(
                "{what}: {}, not expected: {}: {}",
                line(problem),
                problem.field,
                problem.message
            )),
        }
    }
    wrong.extend(left.iter().map(|missing| format!("{what}: {missing}, expected and not found")));
    wrong
}

fn answer(compiled: &Compiled, asked: &Explained) -> String {
    let headers: Vec<_> =
        asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = Request { method: "GET", authority: &asked.host, path: &asked.path, headers: &headers };
    let pod = ObjectKey { namespace: CLIENT.0.into(), name: CLIENT.1.into() };
    let labels = compiled.policy.pods.get(&pod).map(|pod| pod.labels.clone()).unwrap_or_default();
    let trace = explain(&compiled.policy, &pod, &labels, &request);
    match trace.mapping {
        Some(mapping) => mapping,
        None if trace.reason.contains("answers 503") => "503".into(),
        None => "none".into(),
    }
}
