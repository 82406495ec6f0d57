//! Reads chains and rules of nf_tables, iptables-nft's among them, by netlink (`linux/netfilter/nf_tables.h`).
//!
//! Rules of the older ip_tables (`iptables-legacy`) are not part of nf_tables; see `legacy`.

mod attributes;

use super::firewall::{BaseChain, ChainName, ChainRule, Effect, KUBE_PROXY_TABLE, policy};
use attributes::*;
use nix::libc::ENOENT;
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

/// A request for a dump, of all tables or of the elements of a map.
fn request(message: u16, map: Option<Map<'_>>) -> Vec<u8> {
    let mut attributes = Vec::new();
    let names =
        map.map(|(of, map)| [(NFTA_SET_ELEM_LIST_TABLE, of.table.as_str()), (NFTA_SET_ELEM_LIST_SET, map)]);
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

/// A chain at the forward hook.
fn base_chain(family: &'static str, attributes: &[u8]) -> Option<BaseChain> {
    let hook = value(value(attributes, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM)?;
    let forwards = number(hook, u32::from_be_bytes) == HOOK_FORWARD && family != "bridge";
    let name = ChainName {
        family,
        table: text(value(attributes, NFTA_CHAIN_TABLE)?),
        chain: text(value(attributes, NFTA_CHAIN_NAME)?),
    };
    let drops = value(attributes, NFTA_CHAIN_POLICY)
        .is_some_and(|policy| number(policy, u32::from_be_bytes) == NF_DROP);
    forwards.then_some(BaseChain { name, drops })
}

/// The effects of a rule.
fn rules_of(family: &'static str, attributes: &[u8]) -> Vec<RuleEffect> {
    let (Some(table), Some(chain)) = (value(attributes, NFTA_RULE_TABLE), value(attributes, NFTA_RULE_CHAIN))
    else {
        return Vec::new();
    };
    let chain = ChainName { family, table: text(table), chain: text(chain) };
    let mut reader = Expressions::default();
    let mut found = Vec::new();
    for (_, expression) in all(value(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default()) {
        let name = text(value(expression, NFTA_EXPR_NAME).unwrap_or_default());
        let what = reader.follow(&name, value(expression, NFTA_EXPR_DATA).unwrap_or_default());
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
    /// The effects are the elements of a verdict map.
    Map {
        name: String,
        by_state: bool,
        invalid_only: bool,
    },
}

/// Follows the expressions of a rule. `ct state invalid` is three of them, `ct state vmap` two.
#[derive(Default)]
struct Expressions {
    /// The expression before loaded the connection's state.
    state: bool,
    /// The expression before masked the state with `invalid`.
    masked: bool,
    /// The rest of the rule is for `ct state invalid`.
    invalid_only: bool,
}

impl Expressions {
    fn follow(&mut self, name: &str, data: &[u8]) -> Option<What> {
        let (state, masked) = (mem::take(&mut self.state), mem::take(&mut self.masked));
        let refuse = refusal(self.invalid_only);
        let effect = match name {
            "ct" => {
                self.state = value(data, NFTA_CT_KEY)
                    .is_some_and(|key| number(key, u32::from_be_bytes) == NFT_CT_STATE);
                None
            }
            "bitwise" => {
                let mask = value(data, NFTA_BITWISE_MASK)
                    .and_then(|mask| value(mask, NFTA_DATA_VALUE))
                    .unwrap_or_default();
                self.masked = state && number(mask, u32::from_ne_bytes) == STATE_INVALID;
                None
            }
            "cmp" => {
                let unequal =
                    value(data, NFTA_CMP_OP).is_some_and(|op| number(op, u32::from_be_bytes) == NFT_CMP_NEQ);
                self.invalid_only |= masked && unequal;
                None
            }
            "match" => {
                self.invalid_only |= matches_invalid(data);
                None
            }
            // A verdict map.
            "lookup"
                if value(data, NFTA_LOOKUP_DREG)
                    .is_some_and(|to| number(to, u32::from_be_bytes) == NFT_REG_VERDICT) =>
            {
                let name = text(value(data, NFTA_LOOKUP_SET)?);
                return Some(What::Map { name, by_state: state, invalid_only: self.invalid_only });
            }
            // A program in user space decides and may refuse.
            "reject" | "queue" => Some(refuse),
            "target" => {
                let target = text(value(data, NFTA_TARGET_NAME).unwrap_or_default());
                ["DROP", "REJECT", "NFQUEUE"].contains(&target.as_str()).then_some(refuse)
            }
            "immediate" => value(data, NFTA_IMMEDIATE_DATA).and_then(|data| verdict(data, refuse)),
            _ => None,
        };
        effect.map(What::Effect)
    }
}

const fn refusal(invalid_only: bool) -> Effect {
    if invalid_only { Effect::RefuseInvalid } else { Effect::Refuse }
}

/// The effect of a verdict.
fn verdict(data: &[u8], refuse: Effect) -> Option<Effect> {
    let verdict = value(data, NFTA_DATA_VERDICT)?;
    match value(verdict, NFTA_VERDICT_CHAIN) {
        Some(chain) => Some(Effect::Jump(text(chain))),
        None => (number(value(verdict, NFTA_VERDICT_CODE)?, u32::from_be_bytes) == NF_DROP).then_some(refuse),
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

/// The effects of the elements of a verdict map.
fn verdicts(attributes: &[u8], by_state: bool, invalid_only: bool) -> Vec<Effect> {
    let effect = |element: &[u8]| {
        let key =
            value(element, NFTA_SET_ELEM_KEY).and_then(|key| value(key, NFTA_DATA_VALUE)).unwrap_or_default();
        let is_invalid = by_state && number(key, u32::from_ne_bytes) == STATE_INVALID;
        verdict(value(element, NFTA_SET_ELEM_DATA)?, refusal(invalid_only || is_invalid))
    };
    all(value(attributes, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default())
        .filter_map(|(_, element)| effect(element))
        .collect()
}

/// A `conntrack` match of iptables (`xt_conntrack_mtinfo3`) for `INVALID` only.
fn matches_invalid(data: &[u8]) -> bool {
    const FLAGS: usize = 146;
    const STATE_MASK: usize = 150;
    let (name, info) =
        (value(data, NFTA_MATCH_NAME).unwrap_or_default(), value(data, NFTA_MATCH_INFO).unwrap_or_default());
    let half =
        |at: usize| info.get(at..at + 2).and_then(|two| Some(u16::from_ne_bytes(two.try_into().ok()?)));
    let (flags, inverted) = (half(FLAGS), half(FLAGS + 2));
    text(name) == "conntrack" && half(STATE_MASK) == Some(1) && flags == Some(1) && inverted == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels without `queue` cannot show it.
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
