//! The writes from one image to another, in an order in which no packet is misdirected.

use super::image::Image;
use clovisor_common::abi;
use clovisor_common::abi::{Addr, AddrKey, ClassKey, DestKey, Peer, PeerKey, Pod, Slot, Traffic, TrafficKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One write of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Entry),
    Delete(Key),
}

/// An entry of one of the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Link(u8, abi::Link),
    LinkOf(u32, u32),
    Slot(u32, Slot),
    Peer(PeerKey, Peer),
    Class(ClassKey, u32),
    Dest(DestKey, u32),
    /// Bits of the prefix, key, rules.
    Traffic((u32, TrafficKey), Traffic),
    /// Bits of the prefix and address.
    Local((u32, AddrKey), u32),
    Addr(AddrKey, Addr),
    Pod(u32, Pod),
}

/// The key of an entry of one of the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Link(u8),
    LinkOf(u32),
    Slot(u32),
    Peer(PeerKey),
    Class(ClassKey),
    Dest(DestKey),
    Traffic((u32, TrafficKey)),
    Local((u32, AddrKey)),
    Addr(AddrKey),
    Pod(u32),
}

/// The writes that turn `old` into `new`: puts of referenced entries before the entries that refer to them, then deletes in
/// reverse. Equal entries cost nothing.
#[must_use]
pub fn diff(old: &Image, new: &Image) -> Vec<Op> {
    let mut ops = Vec::new();
    puts(&mut ops, &old.links, &new.links, Entry::Link);
    puts(&mut ops, &old.slots, &first_words(old, new), Entry::Slot);
    puts(&mut ops, &old.slots, &new.slots, Entry::Slot);
    puts(&mut ops, &old.link_of, &new.link_of, Entry::LinkOf);
    puts(&mut ops, &old.peers, &new.peers, Entry::Peer);
    puts(&mut ops, &old.classes, &new.classes, Entry::Class);
    puts(&mut ops, &old.dests, &new.dests, Entry::Dest);
    local_puts(&mut ops, old, new);
    puts(&mut ops, &old.traffic, &new.traffic, Entry::Traffic);
    puts(&mut ops, &old.addrs, &new.addrs, Entry::Addr);
    puts(&mut ops, &old.pods, &new.pods, Entry::Pod);
    deletes(&mut ops, &old.pods, &new.pods, Key::Pod);
    deletes(&mut ops, &old.addrs, &new.addrs, Key::Addr);
    deletes(&mut ops, &old.traffic, &new.traffic, Key::Traffic);
    local_deletes(&mut ops, old, new);
    deletes(&mut ops, &old.dests, &new.dests, Key::Dest);
    deletes(&mut ops, &old.classes, &new.classes, Key::Class);
    deletes(&mut ops, &old.peers, &new.peers, Key::Peer);
    deletes(&mut ops, &old.link_of, &new.link_of, Key::LinkOf);
    deletes(&mut ops, &old.slots, &new.slots, Key::Slot);
    deletes(&mut ops, &old.links, &new.links, Key::Link);
    ops
}

/// The longest prefix first, so that an exception is there before what it is an exception of.
fn local_puts(ops: &mut Vec<Op>, old: &Image, new: &Image) {
    if !Arc::ptr_eq(&old.local, &new.local) {
        let before = ops.len();
        puts(ops, &old.local, &new.local, Entry::Local);
        ops.get_mut(before..).unwrap_or_default().reverse();
    }
}

/// The shortest prefix first.
fn local_deletes(ops: &mut Vec<Op>, old: &Image, new: &Image) {
    if !Arc::ptr_eq(&old.local, &new.local) {
        deletes(ops, &old.local, &new.local, Key::Local);
    }
}

/// Slots that change their link and their forbidden links are written twice, first with the links that both forbid: a slot is two
/// words, and a reader may see the new word of one and the old word of the other.
fn first_words(old: &Image, new: &Image) -> BTreeMap<u32, Slot> {
    let changed = new.slots.iter().filter_map(|(index, slot)| {
        let before = old.slots.get(index)?;
        let first = Slot { forbidden: before.forbidden & slot.forbidden, ..*slot };
        let both =
            Slot { forbidden: slot.forbidden, ..*before } != *slot && before.forbidden != slot.forbidden;
        both.then_some((*index, first))
    });
    changed.collect()
}

fn puts<K: Ord + Clone, V: PartialEq + Clone>(
    ops: &mut Vec<Op>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    entry: fn(K, V) -> Entry,
) {
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    ops.extend(changed.map(|(key, value)| Op::Put(entry(key.clone(), value.clone()))));
}

fn deletes<K: Ord + Clone, V>(
    ops: &mut Vec<Op>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    key: fn(K) -> Key,
) {
    let gone = old.keys().filter(|k| !new.contains_key(k));
    ops.extend(gone.map(|k| Op::Delete(key(k.clone()))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_common::abi::NO_LINK;

    fn slot(link: u8) -> Slot {
        Slot::of(link)
    }

    fn class(number: u8) -> ClassKey {
        ClassKey { zone: 1, class: number, pad: 0 }
    }

    #[test]
    fn nothing_changed_is_nothing_written() {
        let mut image = Image::default();
        image.slots.insert(3, slot(1));
        image.classes.insert(class(2), 3);
        assert_eq!(diff(&image, &image.clone()), []);
    }

    #[test]
    fn a_fail_over_is_one_write() {
        let mut old = Image::default();
        old.slots.insert(3, slot(1));
        let mut new = old.clone();
        new.slots.insert(3, slot(NO_LINK));
        assert_eq!(diff(&old, &new), [Op::Put(Entry::Slot(3, slot(NO_LINK)))]);
        let other = Slot { link4: 2, ..slot(1) };
        new.slots.insert(3, other);
        assert_eq!(diff(&old, &new), [Op::Put(Entry::Slot(3, other))], "of one family");
    }

    #[test]
    fn a_link_is_barred_when_the_next_one_is_there() {
        let image = |slot| Image { slots: BTreeMap::from([(3, slot)]), ..Image::default() };
        let barring = |link, forbidden| image(Slot { forbidden, ..slot(link) });
        let put = |link, forbidden| Op::Put(Entry::Slot(3, Slot { forbidden, ..slot(link) }));
        assert_eq!(diff(&barring(1, 0b100), &barring(2, 0b010)), [put(2, 0), put(2, 0b010)]);
        assert_eq!(diff(&barring(1, 0), &barring(1, 0b100)), [put(1, 0b100)]);
        assert_eq!(diff(&barring(1, 0b100), &barring(2, 0b100)), [put(2, 0b100)]);
    }

    #[test]
    fn an_exception_is_there_as_long_as_what_it_is_of() {
        let (wide, narrow) = ((8, [1; 16]), (16, [1; 16]));
        let image = |entries: &[((u32, AddrKey), u32)]| Image {
            local: Arc::new(entries.iter().copied().collect()),
            ..Image::default()
        };
        let both = image(&[(wide, 1), (narrow, 0)]);
        let puts = [Op::Put(Entry::Local(narrow, 0)), Op::Put(Entry::Local(wide, 1))];
        assert_eq!(diff(&Image::default(), &both), puts);
        assert_eq!(
            diff(&both, &Image::default()),
            [Op::Delete(Key::Local(wide)), Op::Delete(Key::Local(narrow))]
        );
    }

    #[test]
    fn targets_come_before_pointers_and_go_after_them() {
        let mut one = Image::default();
        one.slots.insert(0, slot(1));
        one.classes.insert(class(1), 0);
        let mut two = Image::default();
        two.slots.insert(1, slot(1));
        two.classes.insert(class(2), 1);
        assert_eq!(
            diff(&one, &two),
            [
                Op::Put(Entry::Slot(1, slot(1))),
                Op::Put(Entry::Class(class(2), 1)),
                Op::Delete(Key::Class(class(1))),
                Op::Delete(Key::Slot(0)),
            ]
        );
    }
}
