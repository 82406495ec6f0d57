//! The numbers of namespaces, classes and links on disk: what pinned flows and running proxies still use after
//! a restart of the agent.

use crate::link::table::Kept;
use clovisor_datapath::files::replace;
use clovisor_policy::allocation::Allocation;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Everything that is kept.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Allocations {
    pub(super) classes: Allocation,
    pub(super) links: Kept,
    /// For the choice of source ports: a pod's tuple has the same one after a restart, which the far end may remember.
    pub(super) port_secret: Option<u32>,
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct AllocationFile(PathBuf);

impl AllocationFile {
    /// The file in the state folder.
    #[must_use]
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self(dir.join("numbers.json"))
    }

    /// The numbers of an earlier agent; none at the first start. A damaged file is put aside and counts as none:
    /// steering by new numbers is right for every new connection.
    #[must_use]
    pub(super) fn load(&self) -> Allocations {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Allocations::default(),
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "numbers not read, giving new ones");
                return Allocations::default();
            }
        };
        match serde_json::from_slice::<Allocations>(&text) {
            Ok(numbers) if numbers.classes.is_sound() => numbers,
            result => {
                let reason = result.err().map_or("a number has two owners".into(), |e| e.to_string());
                let aside = self.0.with_extension("damaged");
                let moved = fs::rename(&self.0, &aside).is_ok();
                tracing::warn!(path = %self.0.display(), reason, moved, "numbers damaged, giving new ones");
                Allocations::default()
            }
        }
    }

    /// The secret for source ports, a random one at the first start.
    ///
    /// # Errors
    /// The kernel has no random numbers yet.
    pub(super) fn port_secret(&self, numbers: &mut Allocations) -> io::Result<u32> {
        if let Some(secret) = numbers.port_secret {
            return Ok(secret);
        }
        let secret = getrandom::u32().map_err(io::Error::from)?;
        numbers.port_secret = Some(secret);
        if let Err(error) = self.save(numbers) {
            let path = self.0.display();
            tracing::warn!(%path, %error, "numbers not written; source ports change at the next restart");
        }
        Ok(secret)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn save(&self, numbers: &Allocations) -> io::Result<()> {
        Ok(replace(&self.0, &serde_json::to_vec_pretty(numbers)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::table::{Chosen, LinkId};
    use clovisor_objects::family::PerFamily;
    use clovisor_policy::class::ClassName;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_secret_outlives_the_agent() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = AllocationFile::in_dir(dir.path());
        let secret = file.port_secret(&mut file.load())?;
        assert_eq!(file.port_secret(&mut file.load())?, secret);
        Ok(())
    }

    #[test]
    fn numbers_come_back_and_damage_is_put_aside() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = AllocationFile::in_dir(dir.path());
        assert_eq!(file.load(), Allocations::default());
        let wanted = BTreeSet::from([ClassName { mapping: "m".into(), rule: None }]);
        let numbers = Allocations {
            classes: Allocation::default().assign(&BTreeMap::from([("shop".to_owned(), wanted)])),
            links: Kept {
                numbers: BTreeMap::from([("s9".to_owned(), LinkId(3))]),
                devices: BTreeMap::from([(
                    "s9".to_owned(),
                    Chosen { default_route: 2, device: "s9".into() },
                )]),
                families: BTreeMap::from([("s9".to_owned(), PerFamily { v4: true, v6: false })]),
            },
            port_secret: None,
        };
        file.save(&numbers)?;
        assert_eq!(file.load(), numbers);
        fs::write(dir.path().join("numbers.json"), "{")?;
        assert_eq!(file.load(), Allocations::default());
        assert!(dir.path().join("numbers.damaged").exists());
        Ok(())
    }
}
