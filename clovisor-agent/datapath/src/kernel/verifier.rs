//! Programs that the kernel's verifier refuses: the reason in one line, the whole log in a file.

use crate::files;
use aya::programs::ProgramError;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel refused to load a program.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel refused program {program}{}{}; the kernel must be 5.10 or newer and allow CAP_BPF and CAP_PERFMON",
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default(),
    log.as_ref().map(|log| format!(" (whole log: {})", log.display())).unwrap_or_default()
)]
pub struct RefusedProgram {
    program: &'static str,
    /// What the verifier says of it, if the program came to the verifier.
    reason: Option<String>,
    log: Option<PathBuf>,
    source: io::Error,
}

impl RefusedProgram {
    /// Writes the verifier's log, if there is one, to `verifier-PROGRAM.log` in `log_dir`.
    pub(super) fn new(program: &'static str, error: ProgramError, log_dir: &Path) -> Self {
        let ProgramError::LoadError { io_error, verifier_log } = error else {
            return Self { program, reason: None, log: None, source: io::Error::other(error) };
        };
        let text = verifier_log.to_string();
        let reason = summary(&text);
        let path = log_dir.join(log_name(program));
        let written = reason.is_some() && files::replace(&path, text.as_bytes()).is_ok();
        Self { program, reason, log: written.then_some(path), source: io_error }
    }
}

/// Name of the file with the verifier's log of a program.
#[must_use]
pub fn log_name(program: &str) -> String {
    format!("verifier-{program}.log")
}

/// The line by which the verifier gives up, and the length of the log; none for an empty log. Statistics follow that
/// line (`processed 8 insns …`), the instructions that were walked stand before it.
fn summary(log: &str) -> Option<String> {
    let statistics = ["processed ", "verification time ", "stack depth "];
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines.clone().rfind(|line| !statistics.iter().any(|start| line.starts_with(start)))?;
    Some(format!("{reason} (last of {} lines)", lines.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
func#0 @0
0: R1=ctx() R10=fp0
0: (61) r2 = *(u32 *)(r1 +76)         ; R1=ctx() R2_w=pkt(r=0)
1: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
";

    #[test]
    fn the_reason_is_one_line_and_the_log_a_file() {
        let reason = summary(LOG).unwrap_or_default();
        assert_eq!(reason, "R2 offset is outside of the packet (last of 7 lines)");
        assert_eq!(summary("\n"), None);
    }
}
