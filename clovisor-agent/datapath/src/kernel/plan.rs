//! Which programs to attach and detach: a pure comparison of what is and what should be.

use std::collections::BTreeSet;
use std::fmt;

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX links where the kernel has them, else clsact filters.
    #[default]
    Auto,
    Tcx,
    Clsact,
}

/// One of the four programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    PodIn,
    PodOut,
    WanIn,
    WanOut,
}

impl Hook {
    /// Every hook, in the order in which they are attached: the way back before the way out.
    pub const ALL: [Self; 4] = [Self::WanIn, Self::WanOut, Self::PodOut, Self::PodIn];

    /// Name of the program in the object and in pins.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::PodIn => "pod_in",
            Self::PodOut => "pod_out",
            Self::WanIn => "wan_in",
            Self::WanOut => "wan_out",
        }
    }
}

/// A program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachPoint {
    pub hook: Hook,
    pub ifindex: u32,
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hook.program(), self.ifindex)
    }
}

impl AttachPoint {
    /// From the name of a pin, `PROGRAM-IFINDEX`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (program, ifindex) = name.rsplit_once('-')?;
        let hook = Hook::ALL.into_iter().find(|h| h.program() == program)?;
        Some(Self { hook, ifindex: ifindex.parse().ok()? })
    }
}

/// How an attachment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachOrigin {
    /// There was none.
    Fresh,
    /// The program of an agent before was replaced in place.
    Replaced,
}

/// An attachment as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub mode: AttachMode,
    pub origin: AttachOrigin,
}

/// One change of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachStep {
    /// Attach, or replace the program of a pinned link in place.
    Attach(AttachPoint),
    Detach(AttachPoint),
}

impl AttachStep {
    /// What undoes a completed step, where that is safe: only a fresh attachment is taken back. A replaced
    /// program stays, since the one before it is gone.
    #[must_use]
    pub const fn undo(self, was_fresh: bool) -> Option<Self> {
        match self {
            Self::Attach(place) if was_fresh => Some(Self::Detach(place)),
            Self::Attach(_) | Self::Detach(_) => None,
        }
    }
}

/// The steps to `wanted`: attach where this process has not attached, detach where nothing is wanted. `attached` are the
/// attachments of this process, `inherited` the pins of an earlier one, whose programs an attachment replaces in place.
#[must_use]
pub fn plan(
    attached: &BTreeSet<AttachPoint>,
    inherited: &BTreeSet<AttachPoint>,
    wanted: &BTreeSet<AttachPoint>,
) -> Vec<AttachStep> {
    let order = |point: &AttachPoint| Hook::ALL.iter().position(|hook| *hook == point.hook);
    let mut attach: Vec<_> = wanted.difference(attached).copied().collect();
    attach.sort_by_key(order);
    let found = attached | inherited;
    let mut detach: Vec<_> = found.difference(wanted).copied().collect();
    detach.sort_by_key(|point| std::cmp::Reverse(order(point)));
    attach.into_iter().map(AttachStep::Attach).chain(detach.into_iter().map(AttachStep::Detach)).collect()
}

#[cfg(test)]
mod tests;
