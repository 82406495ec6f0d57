//! One's complement sums (RFC 1071, RFC 1624) over 16 bit words as they stand in memory.

#[inline(always)]
pub(super) fn sum_of(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Folds a one's complement sum into 16 bits.
#[inline(always)]
#[must_use]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The change of a one's complement sum when words that sum to `old` are replaced by words that sum to `new`.
#[inline(always)]
#[must_use]
pub fn delta(old: u32, new: u32) -> u16 {
    let (old, new) = (fold(old), fold(new));
    if old == new { 0 } else { fold(u32::from(!old) + u32::from(new)) }
}

/// The checksum field after its packet's sum grew by `change`, the sum of some 16 bit words.
#[inline(always)]
#[must_use]
pub fn checksum_after(field: u16, change: u32) -> u16 {
    !fold(u32::from(!field) + change)
}
