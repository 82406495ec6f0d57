//! Reads chains and rules of nf_tables, iptables-nft's among them, by netlink (`linux/netfilter/nf_tables.h`).
//!
//! Rules of the older ip_tables (`iptables-legacy`) are not part of nf_tables; see `legacy`.

use super::firewall::{BaseChain, ChainName, ChainRule, Effect, KUBE_PROXY_TABLE, policy};
use nix::libc::ENOENT;
use rtnetlink::packet_core::{NlaBuffer, NlasIterator};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;
use std::mem;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSETELEM: u16 = 13;
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
const NFT_REG_VERDICT: u32 = 0;
/// `NF_CT_STATE_INVALID_BIT`, the same number as xt_conntrack's.
const STATE_INVALID: u32 = 1;

/// The chain that refuses forwarded packets, if one does.
///
/// # Errors
/// The kernel has no nf_tables, or the agent may not read them (CAP_NET_ADMIN).
pub(super) fn forward_policy() -> io::Result<Option<String>> {
    let mut forward = Vec::new();
    dump(NFT_MSG_GETCHAIN, None, |family, body| forward.extend(base_chain(family, body)))?;
    if forward.is_empty() {
        return Ok(None);
    }
    let mut found = Vec::new();
    dump(NFT_MSG_GETRULE, None, |family, body| found.extend(rules_of(family, body)))?;
    // A chain jumps within its table only.
    found.retain(|rule| {
        forward
            .iter()
            .any(|base| (base.name.family, &base.name.table) == (rule.chain.family, &rule.chain.table))
    });
    Ok(policy(&forward, &resolved(found)?))
}

/// A map of the table of a chain.
type Map<'a> = (&'a ChainName, &'a str);

/// Calls back with family and attributes of every message of a dump, of all tables or of a map.
fn dump(message: u16, map: Option<Map<'_>>, mut each: impl FnMut(&'static str, &[u8])) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(message, map), 0)?;
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

/// NFTA_SET_ELEM_LIST_TABLE 1, SET 2.
fn request(message: u16, map: Option<Map<'_>>) -> Vec<u8> {
    let mut attributes = Vec::new();
    let names = map.map(|(of, map)| [(1_u16, of.table.as_str()), (2, map)]);
    for (kind, name) in names.into_iter().flatten() {
        let length = 4 + name.len() + 1;
        attributes.extend((length as u16).to_ne_bytes());
        attributes.extend(kind.to_ne_bytes());
        attributes.extend(name.as_bytes());
        attributes.resize(attributes.len() + 1 + length.next_multiple_of(4) - length, 0);
    }
    let of_map = |(_, name): &&(u8, &str)| map.is_some_and(|(of, _)| of.family == *name);
    let family = FAMILIES.iter().find(of_map).map_or(0, |(number, _)| *number);
    let mut request = Vec::with_capacity(HEADER + GENERIC + attributes.len());
    request.extend(((HEADER + GENERIC + attributes.len()) as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | message).to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0]);
    request.extend(attributes);
    request
}

/// `NFPROTO_` numbers.
const FAMILIES: [(u8, &str); 4] = [(1, "inet"), (2, "ip"), (7, "bridge"), (10, "ip6")];

fn family(number: u8) -> &'static str {
    FAMILIES.iter().find(|(known, _)| *known == number).map_or("other", |(_, name)| name)
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
fn rules_of(family: &'static str, attributes: &[u8]) -> Vec<RuleEffect> {
    let (Some(table), Some(chain)) = (value(attributes, 1), value(attributes, 2)) else { return Vec::new() };
    let chain = ChainName { family, table: text(table), chain: text(chain) };
    let mut reader = Expressions::default();
    let mut found = Vec::new();
    for (_, expression) in all(value(attributes, 4).unwrap_or_default()) {
        let name = text(value(expression, 1).unwrap_or_default());
        let what = reader.follow(&name, value(expression, 2).unwrap_or_default());
        found.extend(what.map(|what| RuleEffect { chain: chain.clone(), what }));
    }
    found
}

/// An effect of a rule.
struct RuleEffect {
    chain: ChainName,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Effect(Effect),
    /// The effects are elements of a map, by what it is asked with.
    Map {
        name: String,
        by_state: bool,
        invalid_only: bool,
    },
}

/// Follows the expressions of a rule. `ct state invalid` is three of them, `ct state vmap` two.
#[derive(Default)]
struct Expressions {
    /// The one before loaded the state of the connection.
    state: bool,
    /// The one before masked it with that of no connection.
    masked: bool,
    /// What follows is for packets of no known connection.
    invalid_only: bool,
}

impl Expressions {
    fn follow(&mut self, name: &str, data: &[u8]) -> Option<What> {
        let (state, masked) = (mem::take(&mut self.state), mem::take(&mut self.masked));
        let refuse = refusal(self.invalid_only);
        let effect = match name {
            // NFTA_CT_KEY 2.
            "ct" => {
                self.state =
                    value(data, 2).is_some_and(|key| number(key, u32::from_be_bytes) == NFT_CT_STATE);
                None
            }
            // NFTA_BITWISE_MASK 4 in a NFTA_DATA_VALUE 1.
            "bitwise" => {
                let mask = value(data, 4).and_then(|mask| value(mask, 1)).unwrap_or_default();
                self.masked = state && number(mask, u32::from_ne_bytes) == STATE_INVALID;
                None
            }
            // NFTA_CMP_OP 2: not zero.
            "cmp" => {
                let unequal = value(data, 2).is_some_and(|op| number(op, u32::from_be_bytes) == NFT_CMP_NEQ);
                self.invalid_only |= masked && unequal;
                None
            }
            "match" => {
                self.invalid_only |= matches_invalid(data);
                None
            }
            // NFTA_LOOKUP_SET 1, DREG 3: a map of verdicts.
            "lookup"
                if value(data, 3).is_some_and(|to| number(to, u32::from_be_bytes) == NFT_REG_VERDICT) =>
            {
                let name = text(value(data, 1)?);
                return Some(What::Map { name, by_state: state, invalid_only: self.invalid_only });
            }
            // A program in user space decides and may refuse.
            "reject" | "queue" => Some(refuse),
            "target" => {
                let target = text(value(data, 1).unwrap_or_default());
                ["DROP", "REJECT", "NFQUEUE"].contains(&target.as_str()).then_some(refuse)
            }
            // NFTA_IMMEDIATE_DATA 2.
            "immediate" => value(data, 2).and_then(|data| verdict(data, refuse)),
            _ => None,
        };
        effect.map(What::Effect)
    }
}

const fn refusal(invalid_only: bool) -> Effect {
    if invalid_only { Effect::RefuseInvalid } else { Effect::Refuse }
}

/// NFTA_DATA_VERDICT 2, NFTA_VERDICT_CODE 1 and CHAIN 2.
fn verdict(data: &[u8], refuse: Effect) -> Option<Effect> {
    let verdict = value(data, 2)?;
    match value(verdict, 2) {
        Some(chain) => Some(Effect::Jump(text(chain))),
        None => (number(value(verdict, 1)?, u32::from_be_bytes) == NF_DROP).then_some(refuse),
    }
}

/// The rules as they are carried out, with those of maps.
fn resolved(found: Vec<RuleEffect>) -> io::Result<Vec<ChainRule>> {
    let mut rules = Vec::new();
    for RuleEffect { chain, what } in found {
        match what {
            What::Effect(effect) => rules.push(ChainRule { chain, effect }),
            // Large, and never a policy.
            What::Map { .. } if chain.table == KUBE_PROXY_TABLE => {}
            What::Map { name, by_state, invalid_only } => {
                let mut effects = Vec::new();
                let elements = |_, body: &[u8]| effects.extend(verdicts(body, by_state, invalid_only));
                match dump(NFT_MSG_GETSETELEM, Some((&chain, &name)), elements) {
                    // Gone, and its rule with it.
                    Err(error) if error.raw_os_error() == Some(ENOENT) => {}
                    result => result?,
                }
                rules.extend(effects.into_iter().map(|effect| ChainRule { chain: chain.clone(), effect }));
            }
        }
    }
    Ok(rules)
}

/// NFTA_SET_ELEM_LIST_ELEMENTS 3, each with NFTA_SET_ELEM_KEY 1 (NFTA_DATA_VALUE 1) and DATA 2.
fn verdicts(attributes: &[u8], by_state: bool, invalid_only: bool) -> Vec<Effect> {
    let effect = |element: &[u8]| {
        let key = value(element, 1).and_then(|key| value(key, 1)).unwrap_or_default();
        let is_invalid = by_state && number(key, u32::from_ne_bytes) == STATE_INVALID;
        verdict(value(element, 2)?, refusal(invalid_only || is_invalid))
    };
    all(value(attributes, 3).unwrap_or_default()).filter_map(|(_, element)| effect(element)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// This kernel's own `queue` is rare, and was not there to be tried.
    #[test]
    fn a_program_that_decides_may_refuse() {
        assert_eq!(Expressions::default().follow("queue", &[]), Some(What::Effect(Effect::Refuse)));
        assert_eq!(Expressions::default().follow("counter", &[]), None);
        let mut invalid = Expressions { invalid_only: true, ..Expressions::default() };
        assert_eq!(invalid.follow("queue", &[]), Some(What::Effect(Effect::RefuseInvalid)));
    }

    #[test]
    fn a_request_for_a_map_names_it() {
        let of = ChainName { family: "ip6", table: "fw".into(), chain: "f".into() };
        let request = request(NFT_MSG_GETSETELEM, Some((&of, "__map0")));
        assert_eq!(request.len() % 4, 0);
        assert_eq!(request.first_chunk().map(|four| u32::from_ne_bytes(*four)), Some(request.len() as u32));
        assert_eq!(request[HEADER], 10);
        let attributes = &request[HEADER + GENERIC..];
        assert_eq!(value(attributes, 1).map(text).as_deref(), Some("fw"));
        assert_eq!(value(attributes, 2).map(text).as_deref(), Some("__map0"));
    }
}
