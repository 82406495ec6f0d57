//! Attributes of nf_tables messages, by the names of `linux/netfilter/nf_tables.h`.

use rtnetlink::packet_core::{NlaBuffer, NlasIterator};

pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_CT_KEY: u16 = 2;
pub(super) const NFTA_BITWISE_MASK: u16 = 4;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_DREG: u16 = 3;
pub(super) const NFTA_TARGET_NAME: u16 = 1;
pub(super) const NFTA_MATCH_NAME: u16 = 1;
pub(super) const NFTA_MATCH_INFO: u16 = 3;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;

pub(super) fn number<T: Default>(bytes: &[u8], read: impl FnOnce([u8; 4]) -> T) -> T {
    bytes.first_chunk().map_or_else(T::default, |four| read(*four))
}

/// The value of an attribute, none if it is not there.
pub(super) fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub(super) fn all(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let found = NlasIterator::new(attributes).map_while(Result::ok);
    found.map(|nla: NlaBuffer<&[u8]>| {
        let (kind, length) = (nla.kind(), nla.value_length());
        (kind, nla.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
