//! What to print when a test failed.

use crate::agent::Agent;
use crate::netns::{Netns, run};
use crate::process::last_lines;
use std::fmt::Write;
use std::path::Path;

/// Links, routes, the agent's view and the end of every log, as one text.
pub(super) fn write(root: &Path, edge: &Netns, agent: Option<&mut Agent>) -> String {
    let mut text = format!("--- site {} ---\n", root.display());
    command(&mut text, edge, "ip", &["-br", "addr"]);
    command(&mut text, edge, "ip", &["route"]);
    command(&mut text, edge, "ip", &["-6", "route"]);
    command(&mut text, edge, "ip", &["neigh"]);
    if let Some(agent) = agent {
        for path in ["/readyz", "/v1/status", "/v1/links", "/v1/sessions"] {
            section(&mut text, &format!("agent {path}"));
            text += &match agent.get(path) {
                Ok((status, body)) => format!("{status} {}\n", &body[..body.len().min(4000)]),
                Err(error) => format!("{error:#}\n"),
            };
        }
    }
    for entry in std::fs::read_dir(root.join("logs")).into_iter().flatten().flatten() {
        section(&mut text, &entry.file_name().to_string_lossy());
        text += &last_lines(&entry.path(), 25);
        text.push('\n');
    }
    text
}

fn command(text: &mut String, netns: &Netns, program: &str, words: &[&str]) {
    section(text, &format!("{program} {}", words.join(" ")));
    match run(netns.command(program).args(words), None) {
        Ok(output) => *text += &output,
        Err(error) => *text += &format!("{error:#}\n"),
    }
}

fn section(text: &mut String, title: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "--- {title}");
}
