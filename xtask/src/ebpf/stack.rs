//! The stack of the programs, counted as kernels before 6.13 do: this machine's may allow more than the oldest one.
//!
//! Their verifier rounds each function's depth up to 32 bytes and adds those of a chain of calls (`check_max_stack_depth`,
//! kernel/bpf/verifier.c; from 6.13 on it rounds to 16 where the JIT keeps programs' stacks apart).

use super::code::{Functions, Place};
use anyhow::{Context as _, Result, ensure};

/// `MAX_BPF_STACK`.
const LIMIT: usize = 512;
const GRAIN: usize = 32;

/// Fails if a chain of calls needs more than the kernels allow, and names it.
///
/// # Errors
/// A call of what is no function, or such a chain.
pub(super) fn check(functions: &Functions) -> Result<()> {
    let chains = functions.keys().map(|place| chain(functions, *place, 0)).collect::<Result<Vec<_>>>()?;
    let (depth, names) = chains.into_iter().max().unwrap_or_default();
    ensure!(
        depth <= LIMIT,
        "{} need {depth} bytes of stack; kernels before 6.13 allow {LIMIT}. Pass references into maps, or split one",
        names.join(", ")
    );
    Ok(())
}

/// Bytes and functions of the deepest chain from a function on. `above`: bytes of what called it; beyond the limit the rest
/// is of no interest, which also ends a function that calls itself.
fn chain(functions: &Functions, at: Place, above: usize) -> Result<(usize, Vec<String>)> {
    let function = functions.get(&at).context("a call of what is no function")?;
    let own = function.depth.max(1).next_multiple_of(GRAIN);
    let calls = function.calls.iter().filter(|_| above <= LIMIT);
    let below = calls.map(|call| chain(functions, *call, above + own)).collect::<Result<Vec<_>>>()?;
    let (depth, names) = below.into_iter().max().unwrap_or_default();
    Ok((depth + own, [vec![function.name.clone()], names].concat()))
}

#[cfg(test)]
mod tests {
    use super::super::code::Function;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_chain_is_the_deepest_one_each_frame_rounded_up() -> Result<()> {
        let function = |name: &str, depth, calls: &[u64]| Function {
            name: name.into(),
            depth,
            calls: calls.iter().map(|call| (1, *call)).collect(),
            ..Function::default()
        };
        let machine = |depth, calls: &[u64]| -> BTreeMap<_, _> {
            let c = function("c", depth, calls);
            let all = [(0, function("a", 33, &[8, 16])), (8, function("b", 0, &[])), (16, c)];
            all.map(|(at, function)| ((1, at), function)).into()
        };
        let (depth, names) = chain(&machine(40, &[8]), (1, 0), 0)?;
        assert_eq!((depth, names), (64 + 64 + 32, ["a", "c", "b"].map(String::from).into()));
        assert!(check(&machine(LIMIT - 64 - 32, &[8])).is_ok(), "as much as there is");
        for (depth, calls, said) in [
            (LIMIT - 64 - 31, 8, "a, c, b need 544 bytes"),
            (40, 0, "bytes of stack"),
            (40, 9, "no function"),
        ] {
            let refused = check(&machine(depth, &[calls])).err().map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|text| text.contains(said)), "{refused:?}");
        }
        Ok(())
    }
}
