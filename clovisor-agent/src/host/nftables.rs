//! Reads chains and rules of nf_tables, iptables-nft's among them, by netlink (`linux/netfilter/nf_tables.h`).
//!
//! Rules of the older ip_tables (`iptables-legacy`) are not there to be read; `legacy` says whether there may be some.

use super::firewall::{BaseChain, ChainName, Effect, Rule, policy};
use rtnetlink::packet_core::{NlaBuffer, NlasIterator};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Lengths of `nlmsghdr` and `nfgenmsg`.
const HEADER: usize = 16;
const GENERIC: usize = 4;
const HOOK_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
const NFT_CT_STATE: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
/// `NF_CT_STATE_INVALID_BIT`, the same number as xt_conntrack's.
const STATE_INVALID: u32 = 1;

/// The chain that refuses forwarded packets, if one does.
///
/// # Errors
/// The kernel has no nf_tables, or the agent may not read them (CAP_NET_ADMIN).
pub(super) fn forward_policy() -> io::Result<Option<String>> {
    let mut forward = Vec::new();
    dump(NFT_MSG_GETCHAIN, |family, body| forward.extend(base_chain(family, body)))?;
    if forward.is_empty() {
        return Ok(None);
    }
    let mut rules = Vec::new();
    dump(NFT_MSG_GETRULE, |family, body| rules.extend(rules_of(family, body)))?;
    Ok(policy(&forward, &rules))
}

/// Hands out family and attributes of every message of a dump.
fn dump(message: u16, mut each: impl FnMut(&'static str, &[u8])) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADER + GENERIC);
    request.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | message).to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8 + GENERIC]);
    socket.send(&request, 0)?;
    loop {
        let (packet, _) = socket.recv_from_full()?;
        let mut rest = &packet[..];
        while let Some((head, _)) = rest.split_first_chunk::<HEADER>() {
            let [l0, l1, l2, l3, t0, t1, ..] = *head;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let Some(whole) = rest.get(..length).filter(|_| length >= HEADER) else { break };
            let body = &whole[HEADER..];
            match u16::from_ne_bytes([t0, t1]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(io::Error::from_raw_os_error(-number(body, i32::from_ne_bytes))),
                _ => {
                    if let Some((generic, attributes)) = body.split_first_chunk::<GENERIC>() {
                        each(family(generic[0]), attributes);
                    }
                }
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        7 => "bridge",
        10 => "ip6",
        _ => "other",
    }
}

fn number<T: Default>(bytes: &[u8], read: impl FnOnce([u8; 4]) -> T) -> T {
    bytes.first_chunk().map_or_else(T::default, |four| read(*four))
}

/// The value of an attribute, none if it is not there.
fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn all(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let found = NlasIterator::new(attributes).map_while(Result::ok);
    found.map(|nla: NlaBuffer<&[u8]>| {
        let (kind, length) = (nla.kind(), nla.value_length());
        (kind, nla.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// NFTA_CHAIN_TABLE 1, NAME 3, HOOK 4 (HOOKNUM 1), POLICY 5.
fn base_chain(family: &'static str, attributes: &[u8]) -> Option<BaseChain> {
    let hook = value(value(attributes, 4)?, 1)?;
    let forwards = number(hook, u32::from_be_bytes) == HOOK_FORWARD && family != "bridge";
    let name = ChainName { family, table: text(value(attributes, 1)?), chain: text(value(attributes, 3)?) };
    let drops = value(attributes, 5).is_some_and(|policy| number(policy, u32::from_be_bytes) == NF_DROP);
    forwards.then_some(BaseChain { name, drops })
}

/// NFTA_RULE_TABLE 1, CHAIN 2, EXPRESSIONS 4, each with NFTA_EXPR_NAME 1 and DATA 2.
fn rules_of(family: &'static str, attributes: &[u8]) -> Vec<Rule> {
    let (Some(table), Some(chain)) = (value(attributes, 1), value(attributes, 2)) else { return Vec::new() };
    let chain = ChainName { family, table: text(table), chain: text(chain) };
    let (mut state, mut masked, mut invalid_only) = (false, false, false);
    let mut rules = Vec::new();
    for (_, expression) in all(value(attributes, 4).unwrap_or_default()) {
        let name = text(value(expression, 1).unwrap_or_default());
        let data = value(expression, 2).unwrap_or_default();
        let refuse = || if invalid_only { Effect::RefuseInvalid } else { Effect::Refuse };
        let effect = match name.as_str() {
            // `ct state invalid` is three expressions: NFTA_CT_KEY 2, NFTA_BITWISE_MASK 4 in a NFTA_DATA_VALUE 1,
            // NFTA_CMP_OP 2: not zero.
            "ct" => {
                state = value(data, 2).is_some_and(|key| number(key, u32::from_be_bytes) == NFT_CT_STATE);
                None
            }
            "bitwise" => {
                let mask = value(data, 4).and_then(|mask| value(mask, 1)).unwrap_or_default();
                masked = state && number(mask, u32::from_ne_bytes) == STATE_INVALID;
                state = false;
                None
            }
            "cmp" => {
                let unequal = value(data, 2).is_some_and(|op| number(op, u32::from_be_bytes) == NFT_CMP_NEQ);
                invalid_only |= masked && unequal;
                masked = false;
                None
            }
            "match" => {
                invalid_only |= matches_invalid(data);
                None
            }
            "reject" => Some(refuse()),
            "target" => {
                let target = text(value(data, 1).unwrap_or_default());
                ["DROP", "REJECT"].contains(&target.as_str()).then(refuse)
            }
            "immediate" => verdict(data, refuse()),
            _ => None,
        };
        rules.extend(effect.map(|effect| Rule { chain: chain.clone(), effect }));
    }
    rules
}

/// NFTA_IMMEDIATE_DATA 2, NFTA_DATA_VERDICT 2, NFTA_VERDICT_CODE 1 and CHAIN 2.
fn verdict(immediate: &[u8], refuse: Effect) -> Option<Effect> {
    let verdict = value(value(immediate, 2)?, 2)?;
    match value(verdict, 2) {
        Some(chain) => Some(Effect::Jump(text(chain))),
        None => (number(value(verdict, 1)?, u32::from_be_bytes) == NF_DROP).then_some(refuse),
    }
}

/// A `conntrack` match of iptables (NFTA_MATCH_NAME 1, INFO 3: `xt_conntrack_mtinfo3`) for packets of no known
/// connection, and for no others.
fn matches_invalid(data: &[u8]) -> bool {
    const FLAGS: usize = 146;
    const STATE_MASK: usize = 150;
    let (name, info) = (value(data, 1).unwrap_or_default(), value(data, 3).unwrap_or_default());
    let half =
        |at: usize| info.get(at..at + 2).and_then(|two| Some(u16::from_ne_bytes(two.try_into().ok()?)));
    let (flags, inverted) = (half(FLAGS), half(FLAGS + 2));
    text(name) == "conntrack" && half(STATE_MASK) == Some(1) && flags == Some(1) && inverted == Some(0)
}
