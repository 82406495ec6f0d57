//! Reading a whole hash map in a few system calls (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6), which the loader's library lacks.
//!
//! **In**: a map. **Out**: its entries. **Never**: changes it.

extern crate std;

use aya::Pod;
use aya::maps::{MapData, MapError, MapType};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::vec::Vec;
use std::{fmt, io};

/// `enum bpf_cmd`.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Entries that are asked for at a time; more where one bucket of the map holds more.
const CHUNK: usize = 4096;

/// The part of `union bpf_attr` for batches (`include/uapi/linux/bpf.h`).
#[repr(C)]
struct Attr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// What a read-out has of a map so far.
enum Progress {
    More,
    End,
    /// One bucket has more entries than were asked for.
    TooFew,
}

/// Reads a hash or LRU hash map.
pub struct Reader<K, V> {
    map: OwnedFd,
    entry: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for Reader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("map", &self.map).finish()
    }
}

impl<K: Pod, V: Pod> Reader<K, V> {
    /// One of a map with keys and values of these sizes.
    ///
    /// # Errors
    /// The map is of another kind or has others.
    pub fn of(map: &MapData) -> Result<Self, MapError> {
        let info = map.info()?;
        let map_type = info.map_type()?;
        if !matches!(map_type, MapType::Hash | MapType::LruHash) {
            return Err(MapError::InvalidMapType { map_type: map_type as u32 });
        }
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if key != size_of::<K>() {
            return Err(MapError::InvalidKeySize { size: size_of::<K>(), expected: key });
        }
        if value != size_of::<V>() {
            return Err(MapError::InvalidValueSize { size: size_of::<V>(), expected: value });
        }
        let map = map.fd().as_fd().try_clone_to_owned()?;
        Ok(Self { map, entry: PhantomData })
    }

    /// Every entry. One that is changed meanwhile is read as it was or is; one that comes or goes meanwhile may be missing.
    ///
    /// # Errors
    /// The kernel refuses: it is older than 5.6, or there is no right to read maps.
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        let mut chunk = Chunk::<K, V>::new(CHUNK);
        let (mut place, mut first) = (0_u32, true);
        loop {
            match chunk.read(&self.map, &mut place, first)? {
                Progress::TooFew => chunk = Chunk::new(chunk.keys.len() * 2),
                answer => {
                    first = false;
                    all.extend(chunk.filled());
                    if matches!(answer, Progress::End) {
                        return Ok(all);
                    }
                }
            }
        }
    }
}

/// Room for some entries.
struct Chunk<K, V> {
    keys: Vec<MaybeUninit<K>>,
    values: Vec<MaybeUninit<V>>,
    count: usize,
}

impl<K: Pod, V: Pod> Chunk<K, V> {
    fn new(room: usize) -> Self {
        Self {
            keys: std::vec![MaybeUninit::uninit(); room],
            values: std::vec![MaybeUninit::uninit(); room],
            count: 0,
        }
    }

    /// Reads on from `place`, which then is where the next read goes on.
    fn read(&mut self, map: &OwnedFd, place: &mut u32, first: bool) -> io::Result<Progress> {
        let mut next = *place;
        let mut attr = Attr {
            in_batch: if first { 0 } else { (&raw const *place) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.keys.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        let (attr_at, attr_len) = (&raw mut attr, size_of::<Attr>());
        // SAFETY: `attr` has the kernel's layout for this command, and every address in it is that of memory that lives
        // until the call returns: a hash map's place is one word, and `keys` and `values` have room for `count` entries of
        // the map's own sizes (`Reader::of`).
        let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, attr_at, attr_len) };
        let error = io::Error::last_os_error();
        let answer = match (done, error.raw_os_error()) {
            (0, _) => Progress::More,
            (_, Some(libc::ENOENT)) => Progress::End,
            (_, Some(libc::ENOSPC)) => return Ok(Progress::TooFew),
            _ => return Err(error),
        };
        self.count = (attr.count as usize).min(self.keys.len());
        *place = next;
        Ok(answer)
    }

    /// The entries of the last read.
    fn filled(&self) -> impl Iterator<Item = (K, V)> {
        let pairs = self.keys.iter().zip(&self.values).take(self.count);
        // SAFETY: the kernel wrote this many keys and values; every bit pattern is one (`Pod`).
        pairs.map(|(key, value)| unsafe { (key.assume_init(), value.assume_init()) })
    }
}
