//! Results of tests, as cargo prints them.

use anyhow::{Result, bail};

/// How many tests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// A run that ended badly without a failed test: it did not compile, or it crashed.
    pub(crate) broken: Vec<String>,
}

impl Count {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.broken.extend(other.broken);
    }

    /// An error unless all is well.
    pub(crate) fn verdict(self) -> Result<()> {
        if let Some(broken) = self.broken.first() {
            bail!("{broken}");
        }
        match (self.failed, self.passed) {
            (0, 0) => bail!("no test ran; is the filter right?"),
            (0, _) => Ok(()),
            (failed, _) => bail!("{} failed", counted(failed, "test")),
        }
    }
}

/// A count with its noun, which takes a plural `s`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `test result: ok. 4 passed; 0 failed; 1 ignored; …`
pub(crate) fn result(line: &str) -> Option<Count> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("ignored")?,
        broken: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_are_read() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.34s";
        let expected = Count { passed: 3, failed: 1, skipped: 2, broken: Vec::new() };
        assert_eq!(result(line), Some(expected));
        assert_eq!(result("test result of another kind"), None);
        assert!(Count::default().verdict().is_err());
        let one = Count { failed: 1, ..Count::default() };
        assert_eq!(one.verdict().map_err(|error| error.to_string()), Err("1 test failed".into()));
    }
}
