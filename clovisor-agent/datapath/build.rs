//! Embeds the eBPF object, so that the agent is one file. Without one the agent builds and says so when it runs.

use std::path::PathBuf;
use std::{env, fs, io};

/// By its place in the repository. Cargo keeps what a build script printed: with an absolute path a copy of a checkout
/// that brings its `target` along would go on watching the object of the checkout that it was copied from.
const OBJECT: &str = "../../target/ebpf/clovisor";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=CLOVISOR_EBPF_OBJECT");
    let named = env::var_os("CLOVISOR_EBPF_OBJECT").map(PathBuf::from);
    let object = named.unwrap_or_else(|| PathBuf::from(OBJECT));
    println!("cargo::rerun-if-changed={}", object.display());
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let embedded = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(embedded.join("clovisor.o"), fs::read(own.join(&object)).unwrap_or_default())
}
