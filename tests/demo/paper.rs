use crate::stage::DECIDED_BY;
use crate::verdict::Verdict;
use harness::tally::{CallerTally, Tally};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Where the report goes: results on stdout, progress on stderr; with `--json` one object on stdout.
#[derive(Debug)]
pub(crate) struct Paper {
    json: bool,
    colour: bool,
    /// Whether a line may be written over.
    live: bool,
}

/// Colours by meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ink {
    Good,
    Bad,
    Faint,
    Strong,
}

impl Paper {
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Self { json, colour: err && (out || json) && !no_color && !refused, live: err && !refused }
    }

    /// Runs a step, says what it is while it runs, and how long it took.
    pub(crate) fn step<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        if self.live {
            eprint!("  {} {what} …", self.ink(Ink::Faint, "·"));
            // Progress that cannot be shown is not worth failing for.
            let _ = std::io::stderr().flush();
        }
        let result = work();
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let took = format!("{:6.1} s", start.elapsed().as_secs_f64());
        match result {
            Ok((value, found)) => {
                let mark = self.ink(Ink::Good, "✓");
                eprintln!("{clear}  {mark} {} {what:<16} {found}", self.ink(Ink::Faint, &took));
                Ok(value)
            }
            Err(error) => {
                eprintln!("{clear}  {} {} {what}", self.ink(Ink::Bad, "✗"), self.ink(Ink::Faint, &took));
                Err(error)
            }
        }
    }

    /// The heading of an act.
    pub(crate) fn act(&self, title: &str) {
        eprintln!("\n{}", self.ink(Ink::Strong, title));
    }

    /// A line of result.
    pub(crate) fn line(&self, good: bool, text: &str) {
        let mark = if good { self.ink(Ink::Good, "✓") } else { self.ink(Ink::Bad, "✗") };
        self.print(&format!("  {mark} {text}"));
    }

    /// A remark.
    pub(crate) fn remark(&self, text: &str) {
        self.print(&self.ink(Ink::Faint, &format!("    {text}")));
    }

    /// Who asked for what and by which link the far end saw it.
    pub(crate) fn table(&self, tally: &Tally) {
        let head = format!(
            "    {:<9} {:<23} {:<6} {:>7} {:>7} {:>7}",
            "USER", "DECIDED BY", "ASKED", "s8", "s9", "WRONG"
        );
        self.print(&self.ink(Ink::Strong, &head));
        for row in &tally.callers {
            self.print(&self.row(row));
        }
    }

    fn row(&self, row: &CallerTally) -> String {
        let by = DECIDED_BY.iter().find(|(name, _)| *name == row.name).map_or("", |(_, by)| by);
        let count = |link: &str| {
            let count = row.links.get(link).copied().unwrap_or(0);
            let text = format!("{count:>7}");
            match (count, link == row.asked) {
                (0, _) => self.ink(Ink::Faint, &format!("{:>7}", "·")),
                (_, true) => self.ink(Ink::Good, &text),
                (_, false) => text,
            }
        };
        let bad = row.wrong + row.errors;
        let wrong = self.ink(if bad == 0 { Ink::Good } else { Ink::Bad }, &format!("{bad:>7}"));
        let (s8, s9) = (count("s8"), count("s9"));
        format!("    {:<9} {by:<23} {:<6} {s8} {s9} {wrong}", row.name, row.asked)
    }

    /// The last word.
    pub(crate) fn verdict(&self, verdict: &Verdict) {
        if self.json {
            match serde_json::to_string(verdict) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("error: the verdict is not JSON: {error}"),
            }
            return;
        }
        let text = format!(
            "{} requests, {} wrong, {} errors, {} shared connections, fail-over {} ms, {} of {} flows kept",
            grouped(verdict.requests),
            verdict.wrong,
            verdict.errors,
            verdict.shared_connections,
            verdict.failover_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string()),
            verdict.flows_kept,
            verdict.flows_before,
        );
        let (ink, word) = if verdict.ok { (Ink::Good, "exact") } else { (Ink::Bad, "NOT EXACT") };
        println!("\n{} {text}", self.ink(ink, &format!("{word}:")));
    }

    /// Why there is no verdict; the most important line comes last.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!("\n{error:?}\n\n{} {}", self.ink(Ink::Bad, "error:"), error.root_cause());
    }

    fn print(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Good => 32,
            Ink::Bad => 31,
            Ink::Faint => 2,
            Ink::Strong => 1,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with its thousands apart.
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
