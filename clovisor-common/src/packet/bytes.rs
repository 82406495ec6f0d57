//! Read access to packets, and numbers of the protocols.

/// Length of an Ethernet header, in bytes.
pub const ETHERNET: usize = 14;

/// EtherType of IPv4, as it stands in the packet.
pub const IPV4_BE: u16 = 0x0800_u16.to_be();

/// EtherType of IPv6, as it stands in the packet.
pub const IPV6_BE: u16 = 0x86dd_u16.to_be();

/// Protocol number of TCP.
pub const TCP: u8 = 6;

/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// TCP flag bits.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header; 0 there means none (IPv4 only).
pub const UDP_CHECKSUM: usize = 6;

/// Offset of the checksum in an ICMP header; over IPv6 it covers the addresses too.
pub const ICMP_CHECKSUM: usize = 2;

/// Offset of the identifier in an ICMP echo.
pub const ECHO_ID: usize = 4;

/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;

/// Read access to the bytes of a packet; `None` outside of them.
pub trait Bytes {
    /// One byte.
    fn byte(&self, at: usize) -> Option<u8>;
    /// Two bytes as they stand in memory.
    fn half(&self, at: usize) -> Option<u16>;
    /// `4 * N` bytes as they stand in memory.
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]>;
    /// 16 bytes as they stand in memory.
    fn wide(&self, at: usize) -> Option<u128>;
}

impl Bytes for [u8] {
    fn byte(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn half(&self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.get(at..)?.first_chunk()?))
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        let (words, _) = self.get(at..at + 4 * N)?.as_chunks::<4>();
        let mut out = [0; N];
        for (word, bytes) in out.iter_mut().zip(words) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Some(out)
    }

    fn wide(&self, at: usize) -> Option<u128> {
        Some(u128::from_ne_bytes(*self.get(at..)?.first_chunk()?))
    }
}
