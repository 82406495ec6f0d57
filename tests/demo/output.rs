//! Printing of progress and results.

use crate::report::Report;
use crate::setup::DECIDED_BY;
use harness::summary::{CallerSummary, Summary};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// The printer: results on stdout, progress on stderr; with `--json` one object on stdout, all else on stderr.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
    /// The terminal can overwrite a line.
    live: bool,
}

/// Text styles, by meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Good,
    Bad,
    Faint,
    Strong,
}

impl Output {
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Self { json, colour: err && (out || json) && !no_color && !refused, live: err && !refused }
    }

    /// Runs a step, and prints its name while it runs and its duration afterwards.
    pub(crate) fn step<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        if self.live {
            eprint!("  {} {what} …", self.style(Style::Faint, "·"));
            // A failure to print progress does not fail the demo.
            let _ = std::io::stderr().flush();
        }
        let result = work();
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let took = format!("{:6.1} s", start.elapsed().as_secs_f64());
        match result {
            Ok((value, found)) => {
                let mark = self.style(Style::Good, "✓");
                eprintln!("{clear}  {mark} {} {what:<16} {found}", self.style(Style::Faint, &took));
                Ok(value)
            }
            Err(error) => {
                eprintln!(
                    "{clear}  {} {} {what}",
                    self.style(Style::Bad, "✗"),
                    self.style(Style::Faint, &took)
                );
                Err(error)
            }
        }
    }

    /// Prints the heading of a phase.
    pub(crate) fn heading(&self, title: &str) {
        eprintln!("\n{}", self.style(Style::Strong, title));
    }

    /// Prints one result.
    pub(crate) fn line(&self, good: bool, text: &str) {
        let mark = if good { self.style(Style::Good, "✓") } else { self.style(Style::Bad, "✗") };
        self.print(&format!("  {mark} {text}"));
    }

    /// Prints a remark.
    pub(crate) fn remark(&self, text: &str) {
        self.print(&self.style(Style::Faint, &format!("    {text}")));
    }

    /// Prints how many requests of each user arrived by each link.
    pub(crate) fn table(&self, summary: &Summary) {
        let head = format!(
            "    {:<9} {:<23} {:<6} {:>7} {:>7} {:>7}",
            "USER", "DECIDED BY", "ASKED", "s8", "s9", "WRONG"
        );
        self.print(&self.style(Style::Strong, &head));
        for row in &summary.callers {
            self.print(&self.row(row));
        }
    }

    fn row(&self, row: &CallerSummary) -> String {
        let by = DECIDED_BY.iter().find(|(name, _)| *name == row.name).map_or("", |(_, by)| by);
        let count = |link: &str| {
            let count = row.links.get(link).copied().unwrap_or(0);
            let text = format!("{count:>7}");
            match (count, link == row.asked) {
                (0, _) => self.style(Style::Faint, &format!("{:>7}", "·")),
                (_, true) => self.style(Style::Good, &text),
                (_, false) => text,
            }
        };
        let bad = row.wrong + row.errors;
        let wrong = self.style(if bad == 0 { Style::Good } else { Style::Bad }, &format!("{bad:>7}"));
        let (s8, s9) = (count("s8"), count("s9"));
        format!("    {:<9} {by:<23} {:<6} {s8} {s9} {wrong}", row.name, row.asked)
    }

    /// Prints the final result.
    pub(crate) fn report(&self, report: &Report) {
        if self.json {
            match serde_json::to_string(report) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("error: cannot write the report as JSON: {error}"),
            }
            return;
        }
        let text = format!(
            "{} requests, {} wrong, {} errors, {} shared connections, fail-over {} ms, {} of {} flows kept",
            grouped(report.requests),
            report.wrong,
            report.errors,
            report.shared_connections,
            report.failover_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string()),
            report.flows_kept,
            report.flows_before,
        );
        let (style, word) = if report.ok { (Style::Good, "exact") } else { (Style::Bad, "NOT EXACT") };
        println!("\n{} {text}", self.style(style, &format!("{word}:")));
    }

    /// Prints an error; its root cause comes last, where a reader looks first.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!("\n{error:?}\n\n{} {}", self.style(Style::Bad, "error:"), error.root_cause());
    }

    fn print(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    fn style(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => 32,
            Style::Bad => 31,
            Style::Faint => 2,
            Style::Strong => 1,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
