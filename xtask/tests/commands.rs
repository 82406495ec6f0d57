//! `cargo xtask` in a checkout and on a machine that are both made up: every program that it starts is a script here.
#![cfg(test)]

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a checkout, a folder of programs, and nothing else; removed by drop.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The least that is an ELF object: a header without sections.
const OBJECT: &[u8] = &{
    let mut bytes = [0; 64];
    let head = [0x7f, b'E', b'L', b'F', 2, 1, 1];
    let mut i = 0;
    while i < head.len() {
        bytes[i] = head[i];
        i += 1;
    }
    bytes[16] = 1; // relocatable
    bytes[18] = 247; // BPF
    bytes[20] = 1;
    bytes[52] = 64; // size of this header
    bytes[58] = 64; // size of a section's header
    bytes
};

impl Home {
    /// A machine where packages are missing and every program is noisy.
    fn new(name: &str) -> Result<Self> {
        let home = Self(std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id())));
        for folder in [
            "src/xtask",
            "src/clovisor-ebpf",
            "src/target/debug",
            "bin",
            "sys/lib/rustlib/src/rust/library/core",
        ] {
            std::fs::create_dir_all(home.0.join(folder))?;
        }
        std::fs::write(home.0.join("src/xtask/Cargo.toml"), "")?;
        std::fs::write(home.0.join("object"), OBJECT)?;
        // Another user may not reach the folder of the build.
        std::fs::copy(env!("CARGO_BIN_EXE_xtask"), home.0.join("xtask"))?;
        home.program("bin/apt-get", "echo \"Reading package lists of $1...\"")?;
        home.program("bin/cargo", "echo compiling $1")?;
        home.program("bin/bpf-linker", "echo bpf-linker 0.13.0")?;
        home.program(
            "bin/sudo",
            "echo sudo was asked; [ \"$1\" = --validate ] && exit 0; shift; exec \"$@\"",
        )?;
        home.program(
            "bin/rustup",
            &format!(
                "case \"$*\" in *sysroot) echo {root}/sys ;; *) echo building the kernel half; \
                 out={root}/src/target/ebpf-build/bpfel-unknown-none/release; /bin/mkdir -p $out; \
                 /bin/cp {root}/object $out/clovisor; /bin/cp {root}/object $out/baseline ;; esac",
                root = home.0.display()
            ),
        )?;
        home.program("src/target/debug/clovisor-demo", "echo '{\"ok\": true}'")?;
        Ok(home)
    }

    fn program(&self, path: &str, script: &str) -> Result<()> {
        let path = self.0.join(path);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).context("cannot chmod")
    }

    fn xtask(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.0.join("xtask"));
        command.args(words).current_dir(self.0.join("src")).env_clear();
        command
            .env("PATH", self.0.join("bin"))
            .env("CARGO", self.0.join("bin/cargo"))
            .env("ENVOY", "/bin/true");
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> String {
    format!("{}\n--- stdout\n{}\n--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

#[test]
fn json_is_alone_on_stdout_on_a_cold_machine() -> Result<()> {
    let home = Home::new("json")?;
    let output = home.xtask(&["demo", "--", "--json"]).output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
    ensure!(report["ok"] == true, "{report}");
    let messages = text(&output.stderr);
    for message in
        ["missing: ", "Reading package lists of update", "building the kernel half", "compiling build"]
    {
        ensure!(messages.contains(message), "no {message:?} in {}", said(&output));
    }
    Ok(())
}

#[test]
fn a_cluster_that_crashed_is_taken_down_and_another_process_of_its_number_lives() -> Result<()> {
    let home = Home::new("stale")?;
    let target = home.0.join("src/target");
    let calls = home.0.join("calls");
    home.program("src/target/debug/clovisor-cluster", &format!("echo $1 >> {}", calls.display()))?;
    home.program("bin/kill", &format!("echo kill $2 >> {}", calls.display()))?;
    let up = target.join("cluster.txt");
    std::fs::write(&up, "the cluster is up")?;
    // The number of a process that lives: this one. It started at another time.
    std::fs::write(target.join("cluster.pid"), format!("{} 1 another-boot\n", std::process::id()))?;
    let output = home.xtask(&["cluster", "down"]).output()?;
    ensure!(output.status.success() && text(&output.stdout).contains("without `down`"), "{}", said(&output));
    ensure!(std::fs::read_to_string(&calls)? == "remove-stale\n", "{}", std::fs::read_to_string(&calls)?);
    ensure!(!up.exists() && !target.join("cluster.pid").exists(), "notes remain");
    let output = home.xtask(&["cluster", "down"]).output()?;
    ensure!(text(&output.stderr).contains("no cluster is up"), "{}", said(&output));
    Ok(())
}

#[test]
fn root_is_asked_for_before_anything_is_built() -> Result<()> {
    let home = Home::new("root")?;
    std::fs::remove_file(home.0.join("bin/sudo"))?;
    readable_to_all(&home.0)?;
    for words in [
        &["demo"][..],
        &["bench"],
        &["cluster", "up"],
        &["cluster", "demo"],
        &["test", "site"],
        &["test"],
        &["ci"],
    ] {
        let mut command = home.xtask(words);
        as_nobody(&mut command);
        let output = command.output()?;
        let messages = text(&output.stderr);
        ensure!(!output.status.success() && messages.contains("needs root"), "{words:?}: {}", said(&output));
        for work in ["missing", "compiling", "building"] {
            ensure!(!messages.contains(work), "{words:?}: {}", said(&output));
        }
    }
    Ok(())
}

fn readable_to_all(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).context("cannot chmod")
}

/// Where this test runs as root: another user.
fn as_nobody(command: &mut Command) {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(65_534).gid(65_534);
    }
}
