//! One boot: the kernel, its initramfs, and what the guest's console says.

use crate::debian::Kernel;
use crate::packed::Root;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Begin of the lines by which the guest reports.
const MARK: &str = "guest: ";
const LIMIT: Duration = Duration::from_secs(400);
/// Without what slows an emulated kernel down and is nothing to the tests.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off rcupdate.rcu_expedited=1 \
                            init_on_alloc=0 lsm=capability audit=0";
/// Lines of the console that an error shows.
const SHOWN: usize = 15;

/// What a guest reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Feature to `yes` or `no`.
    pub(crate) features: BTreeMap<String, String>,
}

/// Boots the kernel, runs the tests, waits for the end.
pub(crate) fn boot(kernel: &Kernel, tests: &Path, filter: Option<&str>) -> Result<Outcome> {
    let archive = kernel.image.with_file_name("initramfs");
    pack(kernel, tests, filter, &archive)?;
    let log = kernel.image.with_file_name("console.log");
    let console = std::fs::File::create(&log).context("create a log")?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "qemu64",
        "-smp",
        "1",
        "-m",
        "768",
        "-no-reboot",
        "-display",
        "none",
    ])
    .args(["-monitor", "none", "-serial", "stdio", "-append", COMMAND_LINE])
    .arg("-kernel")
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(&archive)
    .stdin(Stdio::null())
    .stdout(console);
    let mut child = qemu.spawn().context("QEMU did not start")?;
    let start = Instant::now();
    while child.try_wait().context("QEMU was lost")?.is_none() {
        if start.elapsed() > LIMIT {
            child.kill().context("QEMU does not end")?;
            child.wait().context("QEMU was lost")?;
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "between two looks at QEMU")]
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = std::fs::read(&log).context("read the console")?;
    outcome(&String::from_utf8_lossy(&said)).with_context(|| format!("the console is in {}", log.display()))
}

fn pack(kernel: &Kernel, tests: &Path, filter: Option<&str>, archive: &Path) -> Result<()> {
    let root = Root::create(kernel.image.with_file_name("root"))?;
    root.program(&find("busybox")?, "busybox")?;
    // Not busybox's: that one starts its own `ip`.
    for program in ["ip", "nsenter", "wg"] {
        root.program(&find(program)?, program)?;
    }
    root.program(tests, "tests")?;
    root.file(Path::new("target/ebpf/clovisor"), "clovisor.o", 0o644)?;
    let mut modules = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        root.file(module, &format!("modules/{name}"), 0o644)?;
        writeln!(modules, "insmod /modules/{name}")?;
    }
    root.write("init", init(&modules, filter.unwrap_or_default()).as_bytes(), 0o755)?;
    root.pack(archive)
}

/// `insmod` in the order of `modules`, then the tests, also those that need more than every kernel has, then off.
fn init(modules: &str, filter: &str) -> String {
    format!(
        "#!/bin/busybox sh\n\
         for applet in sh mount insmod poweroff sed; do /bin/busybox ln -s busybox /bin/$applet; done\n\
         export PATH=/bin RUST_BACKTRACE=0 CLOVISOR_LOAD_PPS=2000 CLOVISOR_PREFERRED_ATTACH_MODE_ONLY=1\n\
         export CLOVISOR_EBPF_OBJECT=/clovisor.o CLOVISOR_FEATURES=/tmp/features\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t tmpfs tmpfs /run\n\
         {modules}\
         ip link set lo up\n\
         tests --test-threads 1 --include-ignored {filter}\n\
         echo \"{MARK}exit $?\"\n\
         sed 's/^/{MARK}feature /' /tmp/features\n\
         poweroff -f\n"
    )
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/bin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).with_context(|| format!("no {program} on this machine"))
}

/// Reads the console.
fn outcome(console: &str) -> Result<Outcome> {
    let lines: Vec<_> = console.lines().map(|line| line.trim_end_matches('\r')).collect();
    let last = || lines.iter().rev().take(SHOWN).rev().copied().collect::<Vec<_>>().join("\n");
    let result = lines.iter().find_map(|line| result(line));
    let (passed, failed) =
        result.with_context(|| format!("no result of tests; the last lines:\n{}", last()))?;
    let feature = |line: &&str| {
        let (name, has) = line.strip_prefix(MARK)?.strip_prefix("feature ")?.rsplit_once(' ')?;
        Some((name.to_owned(), has.to_owned()))
    };
    let ended = lines.iter().any(|line| line.starts_with(&format!("{MARK}exit")));
    ensure!(ended, "the guest did not end; the last lines:\n{}", last());
    if failed > 0 {
        let failures = lines.iter().filter(|line| line.starts_with("Error: ") || line.contains("FAILED"));
        failures.for_each(|line| println!("{line}"));
    }
    let features = lines.iter().filter_map(feature).collect();
    Ok(Outcome { passed, failed, features })
}

/// `test result: ok. 4 passed; 0 failed; …`
fn result(line: &str) -> Option<(usize, usize)> {
    let mut counts = line.strip_prefix("test result: ")?.split_once(". ")?.1.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    Some((passed, counts.next()?.strip_suffix(" failed")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read() -> Result<()> {
        let console = "noise\r\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\r\n\
                       guest: exit 101\r\nguest: feature TCX no\r\nguest: feature bpf_loop yes\r\n";
        let features = [("TCX", "no"), ("bpf_loop", "yes")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(outcome(console)?, Outcome { passed: 3, failed: 1, features: features.into() });
        assert!(outcome("Kernel panic").is_err());
        Ok(())
    }
}
