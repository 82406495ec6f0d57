//! Embeds the eBPF object, so that the agent is one file. Without one the agent builds and says so when it runs.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=CLOVISOR_EBPF_OBJECT");
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = own.ancestors().find(|folder| folder.join("clovisor-ebpf").is_dir());
    let built = root.unwrap_or(&own).join("target/ebpf/clovisor");
    let object = env::var_os("CLOVISOR_EBPF_OBJECT").map_or(built, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("clovisor.o");
    fs::write(embedded, fs::read(object).unwrap_or_default())
}
