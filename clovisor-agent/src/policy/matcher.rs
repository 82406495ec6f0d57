//! Placeholder of the contract.
/// One match block.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {}
