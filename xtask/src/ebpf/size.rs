//! How large the programs are: their instructions, and those of the functions that they call.

use super::code::{Function, Functions, Place};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// One line for each program, then one for each function, in the order of their names.
///
/// # Errors
/// A call of what is no function.
pub(super) fn table(functions: &Functions) -> Result<String> {
    let mut programs = BTreeMap::new();
    for (place, program) in functions.iter().filter(|(_, function)| function.is_program) {
        programs.insert(program.name.as_str(), (program, called(functions, *place)?));
    }
    let mut text = format!("{:<40} {:>12} {:>12}\n", "program", "instructions", "with calls");
    for (name, (program, called)) in &programs {
        let total: usize = called.values().map(|function| function.instructions).sum();
        writeln!(text, "{name:<40} {:>12} {:>12}", program.instructions, program.instructions + total)?;
    }
    writeln!(text, "{:<40} {:>12}  called by", "function", "instructions")?;
    let all: BTreeSet<_> = programs.values().flat_map(|(_, called)| called.keys()).collect();
    let mut functions: Vec<_> =
        all.into_iter().filter_map(|place| Some((place, functions.get(place)?))).collect();
    functions.sort_by_key(|(_, function)| &function.name);
    for (place, function) in functions {
        let callers = programs.iter().filter(|(_, (_, called))| called.contains_key(place));
        let callers: Vec<_> = callers.map(|(name, _)| *name).collect();
        writeln!(text, "{:<40} {:>12}  {}", function.name, function.instructions, callers.join(", "))?;
    }
    Ok(text)
}

/// What a function calls, directly and through others: the loader puts each of these behind the program once.
fn called(functions: &Functions, from: Place) -> Result<BTreeMap<Place, &Function>> {
    let mut found = BTreeMap::new();
    let mut open = vec![from];
    while let Some(place) = open.pop() {
        for call in &functions.get(&place).context("a call of what is no function")?.calls {
            let function = functions.get(call).context("a call of what is no function")?;
            if found.insert(*call, function).is_none() {
                open.push(*call);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_once_for_each_program() -> Result<()> {
        let function = |name: &str, instructions, calls: &[u64]| Function {
            name: name.into(),
            instructions,
            calls: calls.iter().map(|call| (2, *call)).collect(),
            is_program: name.starts_with("pod") || name.starts_with("wan"),
            ..Function::default()
        };
        let functions = [
            ((1, 0), function("pod_in", 10, &[0, 8])),
            ((1, 80), function("wan_in", 20, &[8])),
            ((2, 0), function("send", 300, &[8])),
            ((2, 8), function("read", 40, &[])),
        ];
        let table = table(&functions.into())?;
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["pod_in", "10", "350"]), "{table}");
        assert!(rows.contains(&vec!["wan_in", "20", "60"]), "{table}");
        assert!(rows.contains(&vec!["read", "40", "pod_in,", "wan_in"]), "{table}");
        assert!(rows.contains(&vec!["send", "300", "pod_in"]), "{table}");
        Ok(())
    }
}
