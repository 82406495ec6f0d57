//! Printing of progress and results.

use crate::report::Report;
use crate::setup::DECIDED_BY;
use harness::summary::{CallerSummary, Summary};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// The printer: everything on stdout, so that headings stay with their tables; with `--json` one object on stdout, all
/// else on stderr. Errors always go to stderr.
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
        let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Self { json, colour: terminal && !no_color && !refused, live: terminal && !refused }
    }

    /// Runs a step, and prints its name while it runs and its duration afterwards.
    pub(crate) fn step<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        if self.live {
            self.write(&format!("  {} {what} …", self.style(Style::Faint, "·")));
        }
        let result = work();
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let took = self.style(Style::Faint, &format!("{:6.1} s", start.elapsed().as_secs_f64()));
        let (mark, text) = match &result {
            Ok((_, found)) => (self.style(Style::Good, "✓"), format!("{what:<16} {found}")),
            Err(_) => (self.style(Style::Bad, "✗"), what.to_owned()),
        };
        self.print(&format!("{clear}  {mark} {took} {text}"));
        result.map(|(value, _)| value)
    }

    /// Prints the heading of a phase.
    pub(crate) fn heading(&self, title: &str) {
        self.print(&format!("\n{}", self.style(Style::Strong, title)));
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
        self.print(&format!("\n{} {text}", self.style(style, &format!("{word}:"))));
    }

    /// Prints an error; its root cause comes last, where a reader looks first.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!("\n{}\n{} {}", causes(error), self.style(Style::Bad, "error:"), error.root_cause());
    }

    /// Prints a line.
    pub(crate) fn print(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// Writes where results go. A reader that has gone away (a closed pipe) does not fail the demo.
    fn write(&self, text: &str) {
        let _ = if self.json {
            std::io::stderr().write_all(text.as_bytes())
        } else {
            let mut stdout = std::io::stdout();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        };
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

/// The error with what led to it, outermost first.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(|cause| format!("{cause}\n")).collect()
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
