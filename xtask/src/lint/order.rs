//! The agent's modules form one list; each uses only those above it.

use crate::modules::{Found, Tree};

/// Every use of a module from one above it, in code and in tests.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let modules = tree.declared();
    let rank = |path: &[String]| modules.iter().position(|module| Some(module) == path.first());
    let mut findings = Vec::new();
    for (at, module) in tree.modules.iter().enumerate() {
        let Some(own) = rank(&module.path) else { continue };
        for name in &module.names {
            let Some(Found::Module(to) | Found::Item(to)) = tree.resolve(at, &name.path) else { continue };
            let Some(other) = tree.modules.get(to).and_then(|to| rank(&to.path)).filter(|other| *other > own)
            else {
                continue;
            };
            let shown = |rank: usize| modules.get(rank).map_or("?", String::as_str);
            findings.push(format!(
                "{}:{}: module {} (place {own}) uses {} (place {other}), which lies below it; move the code down \
                 or the type up",
                module.file.display(),
                name.line,
                shown(own),
                shown(other),
            ));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::planted;
    use anyhow::Result;

    #[test]
    fn a_use_of_a_lower_module_is_found() -> Result<()> {
        let found = |policy: &str| -> Result<usize> {
            let lib = "pub mod config;\npub mod policy;\npub mod kernel;\npub mod app;";
            let files = [("lib.rs", lib), ("config.rs", "pub struct X;"), ("policy.rs", policy)];
            let below = [("kernel.rs", "pub fn a() {} pub fn b() {}"), ("app.rs", "pub fn y() {}")];
            Ok(check(&planted(&[files.as_slice(), &below].concat())?).len())
        };
        assert_eq!(found("use crate::config::X;")?, 0);
        assert_eq!(found("mod kernel { pub fn x() {} } use crate::policy::kernel::x;")?, 0);
        assert_eq!(found("use crate::kernel::a;")?, 1);
        assert_eq!(found("fn f() {\n    let x = crate::app::y();\n}")?, 1);
        assert_eq!(found("use crate::{\n    config,\n    kernel::{a, b},\n    app,\n};")?, 2);
        assert_eq!(found("// crate::app")?, 0);
        Ok(())
    }
}
