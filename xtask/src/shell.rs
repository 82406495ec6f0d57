//! Running other programs.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout that the command runs in, not the one that this program was compiled in. Cargo names it; without cargo
/// it lies around the current folder.
pub(crate) fn root() -> Result<PathBuf> {
    let named = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let places = [named, std::env::current_dir().ok()];
    let root = places.iter().flatten().find_map(|place| root_above(place));
    Ok(root.context("no Clovisor here or above; run this in a full checkout")?.to_owned())
}

fn root_above(place: &Path) -> Option<&Path> {
    let is_root =
        |folder: &&Path| folder.join("xtask/Cargo.toml").is_file() && folder.join("clovisor-ebpf").is_dir();
    place.ancestors().find(is_root)
}

/// The cargo that runs this program. What it builds knows its commit.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(commit) = commit() {
        command.env("CLOVISOR_COMMIT", commit);
    }
    command
}

/// The checkout's commit, with `-dirty` where files differ from it; none without git.
fn commit() -> Option<String> {
    let words = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Runs to the end; an error says what was run. What the program prints goes to stderr: stdout is for what the command of
/// the user is to print, and may be a file.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    present(command.stdout(std::io::stderr()))
}

/// As [`run`], for the program whose output the user asked for: it has stdout.
pub(crate) fn present(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} did not start", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// The standard output of a command that must succeed; what it says on stderr is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("{} did not start", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", shown(command)))
}

/// Is there such a program?
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}

/// Are we root?
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

/// A command that runs as root, through sudo where needed.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg(program);
    command
}

/// Makes sure that root can be had, before anything is built: sudo asks for the password now.
pub(crate) fn require_root(why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if !has("sudo") {
        bail!("{why} needs root, and there is no sudo here; run the same command as root");
    }
    eprintln!("{why} needs root: using sudo");
    run(Command::new("sudo").arg("--validate")).with_context(|| {
        format!("{why} needs root; run the same command as root, or as a user that may use sudo")
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let text = words.join(" ");
    if text.chars().count() > 120 {
        format!("{}…", text.chars().take(120).collect::<String>())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_the_one_around_a_folder() -> Result<()> {
        let other = std::env::temp_dir().join(format!("xtask-root-{}", std::process::id()));
        let below = other.join("clovisor-agent/policy/src");
        std::fs::create_dir_all(&below)?;
        assert_eq!(root_above(&below), None);
        std::fs::create_dir_all(other.join("clovisor-ebpf"))?;
        std::fs::create_dir_all(other.join("xtask"))?;
        std::fs::write(other.join("xtask/Cargo.toml"), "")?;
        assert_eq!(root_above(&below), Some(other.as_path()));
        std::fs::remove_dir_all(&other)?;
        assert_eq!(root()?, std::env::current_dir()?.join("..").canonicalize()?);
        Ok(())
    }
}
