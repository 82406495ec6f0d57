//! What a site leaves on disk, and how it is removed with nothing but that: the same code serves a normal
//! end, Ctrl-C, and the next start after a crash.

use crate::netns::run;
use crate::process::start_time;
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest folder name below which unix sockets still fit into their 108 bytes.
const MAX_ROOT: usize = 70;

/// Makes the folder of a new site after removing what dead processes left.
pub fn open(name: &str) -> Result<PathBuf> {
    let home = home()?;
    remove_stale(&home);
    let root = home.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir(&root)
        .with_context(|| format!("cannot make {}; has this process a site of that name?", root.display()))?;
    let start = start_time(std::process::id()).unwrap_or_default();
    std::fs::write(root.join("owner"), format!("{} {start}", std::process::id()))
        .context("cannot note the owner of the site")?;
    Ok(root)
}

/// Beginning of the names of the site's namespaces.
pub fn prefix(root: &Path) -> Result<String> {
    let name = root.file_name().and_then(|name| name.to_str()).context("the folder has a name")?;
    Ok(format!("clv-{name}-"))
}

/// Mounts a BPF file system of the site's own: the node's stays as it is.
pub fn mount_bpffs(root: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(Some("bpf"), &root.join("bpffs"), Some("bpf"), MsFlags::empty(), none)
        .context("cannot mount a BPF file system; run as root")
}

/// The program, or a copy of it in the site where the proxy's uid cannot reach the original.
pub fn reachable(program: &Path, root: &Path) -> Result<PathBuf> {
    let program = program
        .canonicalize()
        .with_context(|| format!("no {}; run `cargo xtask setup`", program.display()))?;
    if open_to_all(&program) {
        return Ok(program);
    }
    let copy = root.join("envoy-binary");
    if !copy.exists() {
        std::fs::copy(&program, &copy).context("cannot copy envoy into the site")?;
    }
    Ok(copy)
}

/// Ends the site's processes, removes its namespaces, mounts and folder. Never fails: it does what is left.
pub fn remove(root: &Path) {
    for line in std::fs::read_to_string(root.join("pids")).unwrap_or_default().lines() {
        end(line);
    }
    remove_cgroups(root);
    if let Ok(prefix) = prefix(root) {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
                let _ = run(Command::new("ip").args(["netns", "del"]).arg(name), None);
            }
        }
    }
    let _ = umount2(&root.join("bpffs"), MntFlags::MNT_DETACH);
    let _ = std::fs::remove_dir_all(root);
}

/// Removes the cgroups that nodes of the site have made; their last processes may linger for a moment.
pub fn remove_cgroups(root: &Path) {
    let noted = std::fs::read_to_string(root.join("cgroups")).unwrap_or_default();
    let start = Instant::now();
    for group in noted.lines().rev().map(Path::new).filter(|group| group.starts_with("/sys/fs/cgroup")) {
        while group.exists() && !empty(group) && start.elapsed() < Duration::from_secs(10) {
            #[expect(clippy::disallowed_methods, reason = "between two looks at the cgroup")]
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup and those below it; whether it is gone.
fn empty(group: &Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            empty(&entry.path());
        }
    }
    std::fs::remove_dir(group).is_ok()
}

/// Kills the process of a line `PID START` unless the pid has another owner by now.
fn end(line: &str) {
    let mut words = line.split(' ').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (words.next(), words.next()) else {
        return;
    };
    let (Ok(number), Ok(raw)) = (u32::try_from(pid), i32::try_from(pid)) else {
        return;
    };
    if start_time(number) == Some(start) {
        let _ = kill(Pid::from_raw(raw), Signal::SIGKILL);
    }
}

/// Removes what sites of dead processes left.
pub fn remove_dead() -> Result<()> {
    remove_stale(&home()?);
    Ok(())
}

fn remove_stale(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let owner = std::fs::read_to_string(entry.path().join("owner")).unwrap_or_default();
        let Some((pid, start)) = owner.split_once(' ') else {
            continue;
        };
        let alive = pid.parse().ok().and_then(start_time);
        if alive.is_none() || alive != start.parse().ok() {
            remove(&entry.path());
        }
    }
}

/// `target/site`, or a folder under the system's temporary one if the proxy's uid cannot reach that or its
/// name is too long.
fn home() -> Result<PathBuf> {
    let target = crate::repository::path("target");
    if std::fs::create_dir_all(target.join("site")).is_ok() {
        let home = target.join("site").canonicalize().context("the folder was just made")?;
        if open_to_all(&home) && home.as_os_str().len() <= MAX_ROOT {
            return Ok(home);
        }
    }
    let home = std::env::temp_dir().join("clovisor-site");
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    if !open_to_all(&home) {
        bail!("uid 1337 cannot reach {}; set TMPDIR to a folder that all may enter", home.display());
    }
    Ok(home)
}

/// May everyone enter every folder of the path and read or run its end?
fn open_to_all(path: &Path) -> bool {
    path.ancestors()
        .all(|part| std::fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 == 0o001))
}

/// Removes the site of this name that this process has made, if any.
pub fn remove_own(name: &str) {
    if let Ok(home) = home() {
        let root = home.join(format!("{name}-{}", std::process::id()));
        if root.exists() {
            remove(&root);
        }
    }
}
