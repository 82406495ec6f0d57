//! The extension headers of IPv6 (RFC 8200, 4).

use super::bytes::Bytes;
use super::segment::Fragment;

const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers that are walked through; a packet with more is left alone.
const MOST: usize = 2;
/// Length in bytes of the longest one that is walked through.
const LONGEST: usize = 64;

/// What stands behind the extension headers.
pub(super) struct Extended {
    /// Number of the protocol.
    pub(super) next: u8,
    /// Offset of its header.
    pub(super) l4: usize,
    pub(super) fragment: Fragment,
    pub(super) id: u32,
}

/// Walks from the header `next` at `at`.
#[inline(always)]
pub(super) fn extended<B: Bytes + ?Sized>(bytes: &B, next: u8, at: usize) -> Option<Extended> {
    let mut found = Extended { next, l4: at, fragment: Fragment::Whole, id: 0 };
    for _ in 0..MOST {
        let length = match found.next {
            HOP_BY_HOP | DESTINATION => {
                let [next, units, ..] = bytes.words::<1>(found.l4)?[0].to_ne_bytes();
                found.next = next;
                (usize::from(units) + 1) * 8
            }
            FRAGMENT => {
                let [first, id] = bytes.words::<2>(found.l4)?;
                let [next, _, hi, lo] = first.to_ne_bytes();
                found.next = next;
                found.id = id;
                found.fragment = match ((hi | lo & 0xf8) != 0, lo & 1 != 0) {
                    (true, _) => Fragment::Later,
                    (false, true) => Fragment::First,
                    (false, false) => Fragment::Whole,
                };
                8
            }
            _ => return Some(found),
        };
        if length > LONGEST {
            return None;
        }
        found.l4 += length;
    }
    Some(found)
}
