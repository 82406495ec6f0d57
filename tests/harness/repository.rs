//! Where the repository is, found when the program runs: the folder that it was compiled in may be another checkout.

use std::path::{Path, PathBuf};

/// A file or folder of the repository, by its path from the top. Without a repository the path stays as it is.
#[must_use]
pub fn path(inside: &str) -> PathBuf {
    // Cargo names the crate's folder; a program that is started by hand has a current folder, and lies in `target`.
    let named = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let places = [named, std::env::current_dir().ok(), std::env::current_exe().ok()];
    let root = places.iter().flatten().find_map(|place| above(place));
    root.map_or_else(|| PathBuf::from(inside), |root| root.join(inside))
}

/// The checkout that a place lies in.
fn above(place: &Path) -> Option<&Path> {
    place.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file())
}
