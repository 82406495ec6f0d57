//! Fragments, IP options and extension headers.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{LINK_NAT, LINK_UP, Link, Reason};

use crate::datagrams::{self, Datagram, ECHO, Kind, UDP, datagram};
use crate::frames::{self, Shape, syn};
use crate::machine::{DROP, LINK, Machine, PASS, REDIRECT, SOURCE4, SOURCE6, link};
use crate::traffic::everything;

const ETHERNET: usize = 14;
/// Bytes of the IP payload in the first fragment; a multiple of eight.
const FIRST: usize = 48;
const ID: u8 = 77;

/// The frame in two pieces.
fn cut(frame: &[u8], v6: bool) -> Result<[Vec<u8>; 2]> {
    let header = ETHERNET + if v6 { 40 } else { 20 };
    let (head, payload) = frame.split_at_checked(header).context("a short frame")?;
    let (first, later) = payload.split_at_checked(FIRST).context("a short payload")?;
    let piece = |payload: &[u8], offset: usize, more: bool| -> Result<Vec<u8>> {
        let mut piece = head.to_vec();
        let words =
            if v6 { offset as u16 | u16::from(more) } else { (offset / 8) as u16 | u16::from(more) << 13 };
        let [hi, lo] = words.to_be_bytes();
        if v6 {
            let next = std::mem::replace(piece.get_mut(ETHERNET + 6).context("no header")?, 44);
            piece.extend([next, 0, hi, lo, 0, 0, 0, ID]);
        } else {
            piece.splice(ETHERNET + 4..ETHERNET + 8, [0, ID, hi, lo]);
        }
        piece.extend(payload);
        finish(&mut piece, v6)?;
        Ok(piece)
    };
    Ok([piece(first, 0, true)?, piece(later, FIRST, false)?])
}

/// What [`cut`] cut; fails if the pieces do not belong together.
fn joined(pieces: &[Vec<u8>; 2], v6: bool) -> Result<Vec<u8>> {
    let header = ETHERNET + if v6 { 48 } else { 20 };
    let [first, later] = pieces;
    let (mut whole, rest) = (first.clone(), later.get(header..).context("a short piece")?);
    let addresses = if v6 { ETHERNET + 8..ETHERNET + 40 } else { ETHERNET + 12..ETHERNET + 20 };
    ensure!(first.get(addresses.clone()) == later.get(addresses), "the pieces have other addresses");
    whole.extend(rest);
    if v6 {
        let extension: Vec<u8> = whole.drain(ETHERNET + 40..ETHERNET + 48).collect();
        *whole.get_mut(ETHERNET + 6).context("no header")? = *extension.first().context("no extension")?;
    } else {
        checked(first)?;
        checked(later)?;
        whole.splice(ETHERNET + 6..ETHERNET + 8, [0x40, 0]);
    }
    finish(&mut whole, v6)?;
    Ok(whole)
}

/// Fails unless the IPv4 header's checksum is right.
fn checked(frame: &[u8]) -> Result<()> {
    let slice = etherparse::Ipv4HeaderSlice::from_slice(frame.get(ETHERNET..).context("a short frame")?)?;
    let header = slice.to_header();
    ensure!(header.header_checksum == header.calc_header_checksum(), "wrong IP checksum of a fragment");
    Ok(())
}

/// Sets length and checksum of the IP header.
fn finish(frame: &mut Vec<u8>, v6: bool) -> Result<()> {
    let length = frame.len() - ETHERNET - if v6 { 40 } else { 0 };
    let at = ETHERNET + if v6 { 4 } else { 2 };
    frame.splice(at..at + 2, (length as u16).to_be_bytes());
    if !v6 {
        let slice = etherparse::Ipv4HeaderSlice::from_slice(frame.get(ETHERNET..).context("a short frame")?)?;
        let checksum = slice.to_header().calc_header_checksum().to_be_bytes();
        frame.splice(ETHERNET + 10..ETHERNET + 12, checksum);
    }
    Ok(())
}

/// Both pieces through a program, each with this verdict.
fn run(machine: &Machine, program: &str, pieces: &[Vec<u8>; 2], verdict: i32) -> Result<[Vec<u8>; 2]> {
    let one = |piece: &Vec<u8>| -> Result<Vec<u8>> {
        let ran = machine.run(program, piece)?;
        ensure!(ran.verdict == verdict, "{program}: verdict {}", ran.verdict);
        Ok(ran.frame)
    };
    Ok([one(&pieces[0])?, one(&pieces[1])?])
}

fn long(kind: Kind, v6: bool) -> Datagram {
    Datagram { payload: 120, ..datagram(kind, v6) }
}

#[test]
fn the_pieces_of_a_packet_go_one_way_both_ways() -> Result<()> {
    for (v6, kind, nat) in [false, true]
        .into_iter()
        .flat_map(|v6| [(UDP, true), (UDP, false), (ECHO, true)].map(|(kind, nat)| (v6, kind, nat)))
    {
        let mut machine = everything()?;
        let flags = if nat { LINK_UP | LINK_NAT } else { LINK_UP };
        machine.link(LINK, Link { flags, ..link() })?;
        let sent = long(kind, v6);
        let out = joined(&run(&machine, "pod_in", &cut(&sent.frame()?, v6)?, REDIRECT)?, v6)?;
        let out = datagrams::seen(&out).with_context(|| format!("v6 {v6}, {kind:?}, NAT {nat}"))?;
        let source = if v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
        let from = if nat { source } else { sent.from.clone() };
        ensure!(out == Datagram { from: from.clone(), ttl: sent.ttl - 1, ..sent.clone() }, "{out:?}");
        let kind = match sent.kind {
            Kind::Udp { sport, dport } => Kind::Udp { sport: dport, dport: sport },
            Kind::Request { id } | Kind::Reply { id } => Kind::Reply { id },
        };
        let reply = Datagram { kind, from: sent.to.clone(), to: from, ..sent.clone() };
        let back = joined(&run(&machine, "wan_in", &cut(&reply.frame()?, v6)?, REDIRECT)?, v6)?;
        let back = datagrams::seen(&back).with_context(|| format!("v6 {v6}, {kind:?}, NAT {nat}, back"))?;
        ensure!(back == Datagram { to: sent.from.clone(), ..reply }, "{back:?}");
        machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::Returned, Reason::Returned])?;
    }
    Ok(())
}

#[test]
fn pieces_do_not_leave_by_another_link_or_untranslated() -> Result<()> {
    for v6 in [false, true] {
        let machine = everything()?;
        let pieces = cut(&long(UDP, v6).frame()?, v6)?;
        run(&machine, "pod_in", &pieces, REDIRECT)?;
        run(&machine, "wan_out", &pieces, DROP)?;
        machine.expect_counted(&[
            Reason::FlowOpened,
            Reason::Steered,
            Reason::LeakStopped,
            Reason::LeakStopped,
        ])?;
    }
    Ok(())
}

#[test]
fn a_piece_without_its_first_is_left_alone() -> Result<()> {
    for v6 in [false, true] {
        let machine = everything()?;
        let [_, later] = cut(&long(UDP, v6).frame()?, v6)?;
        for program in ["pod_in", "pod_out", "wan_in", "wan_out"] {
            let ran = machine.run(program, &later)?;
            ensure!(ran.verdict == PASS && ran.frame == later, "{program}, v6 {v6}: {}", ran.verdict);
        }
        machine.expect_counted(&[])?;
    }
    Ok(())
}

#[test]
fn options_and_extension_headers_stay_and_the_rest_is_steered() -> Result<()> {
    for v6 in [false, true] {
        let machine = Machine::ready()?;
        let plain = Shape { payload: 30, flags: "S", ..syn(v6) };
        let mut frame = plain.frame()?;
        // NOPs and an end; a hop-by-hop header of padding.
        if v6 {
            let at = ETHERNET + 40;
            let next = std::mem::replace(frame.get_mut(ETHERNET + 6).context("no header")?, 0);
            frame.splice(at..at, [next, 0, 1, 4, 0, 0, 0, 0]);
        } else {
            frame.splice(ETHERNET + 20..ETHERNET + 20, [1, 1, 1, 0]);
            *frame.get_mut(ETHERNET).context("no header")? = 0x46;
        }
        finish(&mut frame, v6)?;
        let ran = machine.run("pod_in", &frame)?;
        ensure!(
            ran.verdict == REDIRECT && ran.frame.len() == frame.len(),
            "v6 {v6}: verdict {}",
            ran.verdict
        );
        let seen = frames::seen(&ran.frame).with_context(|| format!("v6 {v6}"))?;
        let source = if v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
        ensure!((&seen.from, seen.dscp, seen.ttl) == (&source, 0, 63), "{seen:?}");
        ensure!(
            seen.payload == frames::seen(&frame)?.payload && seen.mss() == Some(if v6 { 1440 } else { 1460 })
        );
        machine.expect_counted(&[Reason::FlowOpened])?;
    }
    Ok(())
}
