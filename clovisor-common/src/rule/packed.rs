//! Results of the rule as numbers: a function of a BPF program cannot return anything else.
//!
//! The programs keep the numbers and read parts of them; what they must not do is turn a number back into an enum, which
//! the verifier would walk once for each variant.

use super::{Denial, Grant};
use crate::abi::{MAX_CLASSES, Slot};

/// Bits of a denial's reason.
const REASON: u32 = 0xff;
/// Bit of a denial: drop the packet.
const DROP: u32 = 0x100;
/// Bit of a denial: clear the packet's class.
const UNMARK: u32 = 0x200;
/// Bit of a grant.
const GRANTED: u64 = 1 << 63;
/// Bit of a grant: see [`Grant::by_traffic`].
const BY_TRAFFIC: u64 = 1 << 62;

/// A [`Denial`] as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenialBits(u32);

impl Denial {
    /// The denial as a number.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        let drop = if self.drop { DROP } else { 0 };
        let unmark = if self.reason.unmarks() { UNMARK } else { 0 };
        self.reason as u32 | drop | unmark
    }
}

impl DenialBits {
    /// Of [`Denial::to_bits`].
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Index of the reason in `STATS`.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> u32 {
        self.0 & REASON
    }

    /// The packet is dropped.
    #[inline(always)]
    #[must_use]
    pub const fn drops(self) -> bool {
        self.0 & DROP != 0
    }

    /// The packet's class is cleared before the node's stack gets it.
    #[inline(always)]
    #[must_use]
    pub const fn unmarks(self) -> bool {
        self.0 & UNMARK != 0
    }
}

impl Grant {
    /// The grant as a number: of the slot its flags only.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let [a, b] = self.index.to_ne_bytes();
        let by_traffic = if self.by_traffic { BY_TRAFFIC } else { 0 };
        let low = u32::from_ne_bytes([a, b, self.link, self.class]);
        GRANTED | by_traffic | low as u64 | (self.slot.flags as u64) << 32
    }

    /// Of [`Grant::to_bits`].
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [a, b, link, class] = (bits as u32).to_ne_bytes();
        let slot = Slot { flags: (bits >> 32) as u8, ..Slot::NONE };
        Self { class, by_traffic: bits & BY_TRAFFIC != 0, index: u16::from_ne_bytes([a, b]), slot, link }
    }

    /// The number is a grant, not a denial.
    #[inline(always)]
    #[must_use]
    pub const fn is_grant(bits: u64) -> bool {
        bits & GRANTED != 0
    }
}

/// What became of a pod's packet: a verdict, or work that the caller does when the stack frame of the callee is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict of TC (`TC_ACT_*`).
    Verdict(i32),
    /// Larger than its link takes: answer with an ICMP error.
    TooBig,
    /// Its link is down and there is no other: answer with an ICMP error.
    Held,
    /// The flow has its first reply, which only its own packets show: move it to the table of replied flows.
    Replied,
    /// Not parsed; it carries this class, or 0.
    Unparsed(u8),
}

/// Number of [`Outcome::Unparsed`] without a class; those with one follow.
const UNPARSED: i32 = i32::MIN + 3;

impl Outcome {
    /// The outcome as a number.
    #[inline(always)]
    #[must_use]
    pub const fn to_i32(self) -> i32 {
        match self {
            Self::Verdict(verdict) => verdict,
            Self::TooBig => i32::MIN,
            Self::Held => i32::MIN + 1,
            Self::Replied => i32::MIN + 2,
            Self::Unparsed(class) => UNPARSED + class as i32,
        }
    }

    /// Of [`Outcome::to_i32`].
    #[inline(always)]
    #[must_use]
    pub const fn from_i32(number: i32) -> Self {
        match number {
            i32::MIN => Self::TooBig,
            n if n == i32::MIN + 1 => Self::Held,
            n if n == i32::MIN + 2 => Self::Replied,
            n if n >= UNPARSED && n <= UNPARSED + MAX_CLASSES as i32 => Self::Unparsed((n - UNPARSED) as u8),
            verdict => Self::Verdict(verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Reason;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn grants_come_back(class: u8, by_traffic: bool, index: u16, link: u8, flags: u8) {
            let grant = Grant { class, by_traffic, index, slot: Slot { flags, ..Slot::NONE }, link };
            prop_assert!(Grant::is_grant(grant.to_bits()));
            prop_assert_eq!(Grant::from_bits(grant.to_bits()), grant);
        }

        #[test]
        fn denials_come_back(reason in proptest::sample::select(Reason::ALL), drop: bool) {
            let bits = Denial { reason, drop }.to_bits();
            prop_assert!(!Grant::is_grant(u64::from(bits)));
            let read = DenialBits::from_bits(bits);
            prop_assert_eq!((read.reason(), read.drops(), read.unmarks()), (reason as u32, drop, reason.unmarks()));
        }

        #[test]
        fn outcomes_come_back(verdict in -1_i32..64, class in 0..=MAX_CLASSES) {
            for outcome in [
                Outcome::Verdict(verdict), Outcome::TooBig, Outcome::Held, Outcome::Replied, Outcome::Unparsed(class),
            ] {
                prop_assert_eq!(Outcome::from_i32(outcome.to_i32()), outcome);
            }
        }
    }
}
