//! Which tables of the older ip_tables (`iptables-legacy`) exist. Their rules can be read by `getsockopt` only, for which Rust
//! has no safe interface.

use std::fmt;
use std::fs;
use std::io;

/// Tables whose rules can drop forwarded packets, in either family, by the name of their kernel module. `nat` cannot.
const TABLES: [(&str, &str, &str); 8] = [
    (NAMES4, "filter", "iptable_filter"),
    (NAMES4, "mangle", "iptable_mangle"),
    (NAMES4, "raw", "iptable_raw"),
    (NAMES4, "security", "iptable_security"),
    (NAMES6, "filter", "ip6table_filter"),
    (NAMES6, "mangle", "ip6table_mangle"),
    (NAMES6, "raw", "ip6table_raw"),
    (NAMES6, "security", "ip6table_security"),
];

/// Names of the tables of this network namespace, one a line; root may read them.
const NAMES4: &str = "/proc/net/ip_tables_names";
const NAMES6: &str = "/proc/net/ip6_tables_names";

/// The tables of a network namespace, with rules or without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyTables([bool; TABLES.len()]);

impl LegacyTables {
    /// None at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Those of one family.
    #[must_use]
    pub fn of(self, v4: bool) -> Self {
        let mut tables = self.0;
        for (there, (file, ..)) in tables.iter_mut().zip(TABLES) {
            *there &= (file == NAMES4) == v4;
        }
        Self(tables)
    }

    /// Of the lines that the kernel lists for each family.
    #[must_use]
    pub fn listed(v4: &str, v6: &str) -> Self {
        let is_there = |(file, name, _): (&str, &str, &str)| {
            let names = if file == NAMES4 { v4 } else { v6 };
            names.lines().any(|line| line == name)
        };
        Self(TABLES.map(is_there))
    }
}

/// By the names of their kernel modules.
impl fmt::Display for LegacyTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = TABLES.iter().zip(self.0).filter(|(_, is_there)| *is_there);
        let modules: Vec<_> = there.map(|((.., module), _)| *module).collect();
        f.write_str(&modules.join(", "))
    }
}

/// Those of the agent's network namespace.
///
/// # Errors
/// The lists cannot be read. That a kernel without ip_tables has none is no error.
pub(super) fn legacy_tables() -> io::Result<LegacyTables> {
    let read = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result,
    };
    Ok(LegacyTables::listed(&read(NAMES4)?, &read(NAMES6)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_can_drop_are_named_by_family() {
        for (v4, v6, wanted) in [
            ("", "", ""),
            ("nat\n", "nat\n", ""),
            ("filter\n", "", "iptable_filter"),
            ("", "filter\n", "ip6table_filter"),
            (
                "nat\nsecurity\nraw\nfilter\n",
                "mangle\n",
                "iptable_filter, iptable_raw, iptable_security, ip6table_mangle",
            ),
            ("filters\n", "raw \n", ""),
        ] {
            let tables = LegacyTables::listed(v4, v6);
            assert_eq!(tables.to_string(), wanted, "{v4:?} {v6:?}");
            assert_eq!(tables.is_empty(), wanted.is_empty(), "{v4:?} {v6:?}");
        }
    }
}
