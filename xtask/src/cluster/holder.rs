//! The process that holds a cluster, as it is noted on disk; pure but for the reading of `/proc`.

/// A note of a process: its number alone may belong to another one after a crash, or after the machine was started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// Clock ticks from the start of the machine to that of the process.
    started: u64,
    /// Which start of the machine.
    boot: String,
}

/// What is there of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClusterState {
    Absent,
    /// Its holder runs and has not said yet that it is up.
    Starting(Holder),
    Up(Holder),
    /// Its holder is gone without having taken it away.
    Stale,
}

impl Holder {
    /// A process that runs now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            started: started(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
            boot: boot(),
        })
    }

    /// As it is noted.
    pub(super) fn note(&self) -> String {
        format!("{} {} {}\n", self.pid, self.started, self.boot)
    }

    fn parse(note: &str) -> Option<Self> {
        let mut words = note.split_whitespace();
        let (pid, started) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, started, boot: words.next()?.to_owned() })
    }

    /// Does this very process still run?
    pub(super) fn runs(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// What the notes say: `holder` of the process, `is_up` from the process itself.
pub(super) fn state(note: Option<&str>, is_up: bool, runs: impl Fn(&Holder) -> bool) -> ClusterState {
    match note.map(Holder::parse) {
        None if !is_up => ClusterState::Absent,
        Some(Some(holder)) if runs(&holder) => {
            if is_up {
                ClusterState::Up(holder)
            } else {
                ClusterState::Starting(holder)
            }
        }
        _ => ClusterState::Stale,
    }
}

/// The start of a process by its `/proc/PID/stat`; none for one that has ended and waits to be reaped.
fn started(stat: &str) -> Option<u64> {
    // The name may hold spaces and brackets; what follows the last bracket does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(start)
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, Result};

    #[test]
    fn only_the_process_that_was_noted_counts() -> Result<()> {
        let own = Holder::of(std::process::id()).context("this process runs")?;
        assert!(own.runs());
        assert_eq!(Holder::parse(&own.note()).as_ref(), Some(&own));
        let earlier = Holder { started: own.started - 1, ..own.clone() };
        let boot = Holder { boot: "another".into(), ..own.clone() };
        assert!(!earlier.runs() && !boot.runs(), "another process has the number by now");
        Ok(())
    }

    #[test]
    fn notes_tell_a_cluster_that_crashed_from_one_that_is_up() -> Result<()> {
        let own = Holder::of(std::process::id()).context("this process runs")?;
        let note = own.note();
        let (alive, dead) = (|_: &Holder| true, |_: &Holder| false);
        assert_eq!(state(None, false, alive), ClusterState::Absent);
        assert_eq!(state(Some(&note), false, alive), ClusterState::Starting(own.clone()));
        assert_eq!(state(Some(&note), true, alive), ClusterState::Up(own));
        assert_eq!(state(Some(&note), true, dead), ClusterState::Stale);
        assert_eq!(state(Some(&note), false, dead), ClusterState::Stale);
        assert_eq!(state(None, true, alive), ClusterState::Stale, "the note of the process is lost");
        assert_eq!(
            state(Some("4711"), true, alive),
            ClusterState::Stale,
            "a number without its start is nobody's"
        );
        Ok(())
    }

    #[test]
    fn a_process_that_has_ended_has_no_start() {
        let stat =
            |state: &str| format!("7 (a (b) c) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0");
        assert_eq!(started(&stat("S")), Some(4242));
        assert_eq!(started(&stat("Z")), None);
        assert_eq!(started(""), None);
    }
}
