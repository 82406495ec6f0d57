//! Exit codes and errors with a remedy.

use clovisor_objects::printable::printable_lines;
use std::fmt;

/// Exit codes as `--help` lists them (sysexits.h, and istioctl's 79).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Failed = 1,
    Usage = 64,
    BadInput = 65,
    NoAgent = 69,
    NotPermitted = 77,
    ProblemsFound = 79,
}

/// What failed, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtlError {
    pub code: Code,
    pub message: String,
    pub fix: Option<String>,
}

impl CtlError {
    /// An error with a remedy.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: Some(fix.into()) }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable_lines(&self.message))?;
        self.fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n  fix: {}", printable_lines(fix)))
    }
}
