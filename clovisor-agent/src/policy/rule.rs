//! Placeholder of the contract.
/// One compiled rule of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub class: super::model::ClassId,
}
