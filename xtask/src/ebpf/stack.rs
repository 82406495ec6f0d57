//! The stack of the programs, counted as kernels before 6.13 do: this machine's may allow more than the oldest one.
//!
//! Their verifier rounds each function's depth up to 32 bytes and adds those of a chain of calls (`check_max_stack_depth`,
//! kernel/bpf/verifier.c; from 6.13 on it rounds to 16 where the JIT keeps programs' stacks apart).

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use std::collections::BTreeMap;

/// `MAX_BPF_STACK`.
const LIMIT: usize = 512;
const GRAIN: usize = 32;
/// 64 bit operations: add a number, copy a register; and the call of a helper or, with a 1 as source, of a function.
const ADD: u8 = 0x07;
const MOVE: u8 = 0xbf;
const CALL: u8 = 0x85;
/// The register that points at the end of the frame.
const FRAME: u8 = 10;

/// Where a function stands: number of its section, offset in bytes.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    depth: usize,
    calls: Vec<Place>,
}

/// Fails if a chain of calls needs more than the kernels allow, and names it.
///
/// # Errors
/// No object, a call of what is no function, or such a chain.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    fits(&functions(bytes)?)
}

fn fits(functions: &BTreeMap<Place, Function>) -> Result<()> {
    let chains = functions.keys().map(|place| chain(functions, *place, 0)).collect::<Result<Vec<_>>>()?;
    let (depth, names) = chains.into_iter().max().unwrap_or_default();
    ensure!(
        depth <= LIMIT,
        "{} need {depth} bytes of stack; kernels before 6.13 allow {LIMIT}. Pass references into maps, or split one",
        names.join(", ")
    );
    Ok(())
}

fn functions(bytes: &[u8]) -> Result<BTreeMap<Place, Function>> {
    let object = object::File::parse(bytes).context("no object of the kernel half")?;
    let mut functions = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let Some(index) = symbol.section_index() else { continue };
        let section = object.section_by_index(index)?;
        let (from, size) = (usize::try_from(symbol.address())?, usize::try_from(symbol.size())?);
        let code = section.data()?.get(from..from + size).context("a function beyond its section")?;
        let mut function = Function { name: symbol.name()?.to_owned(), ..Function::default() };
        let mut calls = Vec::new();
        read(code, &mut function.depth, &mut calls)?;
        for (offset, imm) in calls {
            let at = symbol.address() + offset;
            // Counted from the symbol that it names, else from itself.
            let named = section.relocations().find(|(place, _)| *place == at);
            let (section, from) = match named.map(|(_, relocation)| relocation.target()) {
                Some(RelocationTarget::Symbol(target)) => {
                    let target = object.symbol_by_index(target)?;
                    (target.section_index().context("a call of nothing")?, target.address())
                }
                _ => (index, at),
            };
            let to = from.checked_add_signed((i64::from(imm) + 1) * 8).context("a call of nowhere")?;
            function.calls.push((section.0, to));
        }
        functions.insert((index.0, symbol.address()), function);
    }
    Ok(functions)
}

/// How deep a function reaches, and its calls of others: offset in bytes and operand.
fn read(code: &[u8], depth: &mut usize, calls: &mut Vec<(u64, i32)>) -> Result<()> {
    let (instructions, rest) = code.as_chunks::<8>();
    ensure!(rest.is_empty(), "a cut instruction");
    let mut copies = [false; 16];
    for ([code, registers, o0, o1, i0, i1, i2, i3], at) in instructions.iter().zip((0..).step_by(8)) {
        let (to, from) = (registers & 15, registers >> 4);
        let (offset, imm) = (i16::from_le_bytes([*o0, *o1]), i32::from_le_bytes([*i0, *i1, *i2, *i3]));
        let reached = match (*code & 7, *code) {
            (1, _) if from == FRAME => offset.into(),
            (2 | 3, _) if to == FRAME => offset.into(),
            // An address in the frame: a copy of the register, and what is added to it.
            (_, ADD) if copies[usize::from(to)] => imm,
            _ => 0,
        };
        *depth = reached.min(0).unsigned_abs().max(*depth as u32) as usize;
        copies[usize::from(to)] = *code == MOVE && from == FRAME;
        if *code == CALL && from == 1 {
            calls.push((at, imm));
        }
    }
    Ok(())
}

/// Bytes and functions of the deepest chain from a function on. `above`: bytes of what called it; beyond the limit the rest
/// is of no interest, which also ends a function that calls itself.
fn chain(functions: &BTreeMap<Place, Function>, at: Place, above: usize) -> Result<(usize, Vec<String>)> {
    let function = functions.get(&at).context("a call of what is no function")?;
    let own = function.depth.max(1).next_multiple_of(GRAIN);
    let calls = function.calls.iter().filter(|_| above <= LIMIT);
    let below = calls.map(|call| chain(functions, *call, above + own)).collect::<Result<Vec<_>>>()?;
    let (depth, names) = below.into_iter().max().unwrap_or_default();
    Ok((depth + own, [vec![function.name.clone()], names].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_reaches_and_calls() -> Result<()> {
        let code = [
            [MOVE, FRAME << 4 | 2, 0, 0, 0, 0, 0, 0],
            [ADD, 2, 0, 0, 0xd8, 0xff, 0xff, 0xff], // r2 = r10 - 40
            [ADD, 2, 0, 0, 0x00, 0xff, 0xff, 0xff], // of a register that is no place in the frame any more
            [0x7b, 1 << 4 | FRAME, 0xf0, 0xff, 0, 0, 0, 0], // *(r10 - 16) = r1
            [CALL, 1 << 4, 0, 0, 3, 0, 0, 0],
            [CALL, 0, 0, 0, 3, 0, 0, 0], // of a helper
        ];
        let (mut depth, mut calls) = (0, Vec::new());
        read(&code.concat(), &mut depth, &mut calls)?;
        assert_eq!((depth, calls), (40, vec![(32, 3)]));
        Ok(())
    }

    #[test]
    fn a_chain_is_the_deepest_one_each_frame_rounded_up() -> Result<()> {
        let function = |name: &str, depth, calls: &[u64]| Function {
            name: name.into(),
            depth,
            calls: calls.iter().map(|call| (1, *call)).collect(),
        };
        let machine = |depth, calls: &[u64]| -> BTreeMap<_, _> {
            let c = function("c", depth, calls);
            let all = [(0, function("a", 33, &[8, 16])), (8, function("b", 0, &[])), (16, c)];
            all.map(|(at, function)| ((1, at), function)).into()
        };
        let (depth, names) = chain(&machine(40, &[8]), (1, 0), 0)?;
        assert_eq!((depth, names), (64 + 64 + 32, ["a", "c", "b"].map(String::from).into()));
        assert!(fits(&machine(LIMIT - 64 - 32, &[8])).is_ok(), "as much as there is");
        for (depth, calls, said) in [
            (LIMIT - 64 - 31, 8, "a, c, b need 544 bytes"),
            (40, 0, "bytes of stack"),
            (40, 9, "no function"),
        ] {
            let refused = fits(&machine(depth, &[calls])).err().map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|text| text.contains(said)), "{refused:?}");
        }
        Ok(())
    }
}
