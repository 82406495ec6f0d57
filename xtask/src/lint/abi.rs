//! Two agents that share a pin folder must agree on every map: a change needs a new ABI_VERSION.

use anyhow::{Context, Result};
use std::fs;

const FILES: [&str; 5] = [
    "clovisor-common/src/abi.rs",
    "clovisor-common/src/abi/exchange.rs",
    "clovisor-common/src/abi/flow.rs",
    "clovisor-common/src/abi/reason.rs",
    "clovisor-common/src/abi/traffic.rs",
];
const LOCK: &str = "xtask/abi.lock";

/// Compares the interface with the recorded one.
pub(super) fn check() -> Result<Vec<String>> {
    let (version, hash) = now()?;
    let lock = fs::read_to_string(LOCK).unwrap_or_default();
    Ok(compare(&lock, &version, &hash).into_iter().collect())
}

/// Records the interface.
pub(super) fn bless() -> Result<()> {
    let (version, hash) = now()?;
    fs::write(LOCK, format!("{version} {hash}\n")).with_context(|| format!("write {LOCK}"))
}

fn compare(lock: &str, version: &str, hash: &str) -> Option<String> {
    let (locked_version, locked_hash) = lock.trim().split_once(' ').unwrap_or_default();
    match (version == locked_version, hash == locked_hash) {
        (true, true) => None,
        (true, false) => Some(format!(
            "{}: the kernel interface changed under ABI_VERSION {version}; raise it, then run \
             `cargo xtask lint --bless-abi`",
            FILES[0]
        )),
        (false, _) => Some(format!(
            "{LOCK}: records ABI_VERSION {locked_version}, the code says {version}; run `cargo xtask lint --bless-abi`"
        )),
    }
}

fn now() -> Result<(String, String)> {
    let mut code = String::new();
    for file in FILES {
        code += &stripped(&fs::read_to_string(file).with_context(|| format!("read {file}"))?);
    }
    let version = code.split_once("ABI_VERSION: u32 = ").and_then(|(_, rest)| rest.split_once(';'));
    let version = version.context("no ABI_VERSION in abi.rs")?.0.to_owned();
    Ok((version, format!("{:016x}", fnv(code.as_bytes()))))
}

/// Code without comments and layout.
fn stripped(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// FNV-1a: stable over compilers, unlike the standard hasher.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_change_is_found() {
        assert_eq!(compare("1 aa\n", "1", "aa"), None);
        assert!(compare("1 aa\n", "1", "bb").is_some());
        assert!(compare("1 aa\n", "2", "bb").is_some());
        assert_eq!(stripped("a // x\n\n  b"), "a b");
    }
}
