//! The initramfs of a guest: programs with their libraries, the tests, modules, and `/init`.

use crate::programs::text;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that becomes the guest's root.
#[derive(Debug)]
pub(crate) struct Root {
    folder: PathBuf,
}

impl Root {
    /// An empty one.
    pub(crate) fn create(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).context("remove an old root")?;
        }
        for place in ["bin", "dev", "proc", "sys", "tmp", "run", "root"] {
            std::fs::create_dir_all(folder.join(place)).context("create a root")?;
        }
        // Where the programs expect them: as on this machine.
        for (link, target) in [("sbin", "bin"), ("lib64", "lib"), ("usr", ".")] {
            symlink(target, folder.join(link)).context("create a link")?;
        }
        Ok(Self { folder })
    }

    /// Copies a program and the libraries that it loads.
    pub(crate) fn program(&self, program: &Path, name: &str) -> Result<()> {
        self.file(program, &format!("bin/{name}"), 0o755)?;
        let listed = Command::new("ldd").arg(program).output().context("ldd did not start")?;
        for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
            let inside = library.strip_prefix("/usr").unwrap_or(&library).trim_start_matches('/').to_owned();
            let inside = inside.replacen("lib64/", "lib/", 1);
            self.file(Path::new(&library), &inside, 0o755)?;
        }
        Ok(())
    }

    /// Copies a file.
    pub(crate) fn file(&self, from: &Path, inside: &str, mode: u32) -> Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.write(inside, &bytes, mode)
    }

    /// Writes a file.
    pub(crate) fn write(&self, inside: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let place = self.folder.join(inside);
        let parent = place.parent().context("a file without a folder")?;
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        std::fs::write(&place, bytes).with_context(|| format!("write {}", place.display()))?;
        std::fs::set_permissions(&place, PermissionsExt::from_mode(mode)).context("set a file's mode")
    }

    /// Packs everything as the kernel wants it and removes the folder.
    pub(crate) fn pack(self, archive: &Path) -> Result<()> {
        let names = text("find", &[&self.folder.to_string_lossy(), "-printf", "%P\\n"])?;
        let out = std::fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
        let mut cpio = Command::new("cpio");
        cpio.args(["--create", "--format=newc", "--quiet"]).current_dir(&self.folder);
        let mut child = cpio.stdin(Stdio::piped()).stdout(out).spawn().context("cpio did not start")?;
        let mut input = child.stdin.take().context("cpio takes no names")?;
        input.write_all(names.trim_start().as_bytes()).context("cpio did not read the names")?;
        drop(input);
        ensure!(child.wait().context("cpio was lost")?.success(), "cpio failed");
        std::fs::remove_dir_all(&self.folder).context("remove a root")
    }
}

/// Paths in what `ldd` prints; a static program has none.
fn libraries(listed: &str) -> BTreeSet<String> {
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| path.trim_end_matches(':').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007efe)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x01)\n";
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(listed), wanted.map(str::to_owned).into());
        assert!(libraries("\tstatically linked\n").is_empty());
    }
}
