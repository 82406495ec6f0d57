//! The functions of an object of the kernel half: their size, their stack, and what they call.

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind, SymbolKind};
use std::collections::BTreeMap;

/// 64 bit operations: add a number, copy a register; and the call of a helper or, with a 1 as source, of a function.
const ADD: u8 = 0x07;
const MOVE: u8 = 0xbf;
const CALL: u8 = 0x85;
/// The register that points at the end of the frame.
const FRAME: u8 = 10;

/// Where a function stands: number of its section, offset in bytes.
pub(super) type Place = (usize, u64);

/// All of an object.
pub(super) type Functions = BTreeMap<Place, Function>;

/// A function of the object.
#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) name: String,
    /// As kernels count them: a load of 64 bits is two.
    pub(super) instructions: usize,
    /// Bytes of stack.
    pub(super) depth: usize,
    pub(super) calls: Vec<Place>,
    /// The kernel enters here.
    pub(super) is_program: bool,
}

/// Reads an object.
///
/// # Errors
/// No object, or a call of what is no function.
pub(super) fn functions(bytes: &[u8]) -> Result<Functions> {
    let object = object::File::parse(bytes).context("no object of the kernel half")?;
    let mut functions = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let Some(index) = symbol.section_index() else { continue };
        let section = object.section_by_index(index)?;
        let (from, size) = (usize::try_from(symbol.address())?, usize::try_from(symbol.size())?);
        let code = section.data()?.get(from..from + size).context("a function beyond its section")?;
        let mut function = Function {
            name: readable(symbol.name()?),
            instructions: code.len() / 8,
            is_program: section.kind() == SectionKind::Text && section.name()? != ".text",
            ..Function::default()
        };
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

/// A function's path without its crate.
fn readable(symbol: &str) -> String {
    let path = format!("{:#}", rustc_demangle::demangle(symbol));
    path.strip_prefix("clovisor::").unwrap_or(&path).to_owned()
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
}
