//! Attachments of agents of other layout versions: their programs are replaced in place, as those of the same version are.
//!
//! A link or filter does not depend on the maps of its program. A pin that is moved to this version's folder makes the next
//! attachment a replacement: no packet passes both programs or none. The old maps are unpinned; their programs keep them
//! until they are replaced.

use super::pins::{FILTERS, LINKS, PinError, children, is_held};
use std::fs;
use std::path::Path;

/// Moves the attachments of every other version beside `own` into it, and removes the rest. Returns how many there were.
///
/// # Errors
/// An agent of another version runs, or a pin cannot be moved. What was moved stays so.
pub(super) fn take_over(own: &Path) -> Result<usize, PinError> {
    let versions = children(own.parent().unwrap_or(own));
    let others: Vec<_> = versions.into_iter().filter(|dir| dir.is_dir() && dir != own).collect();
    if let Some(held) = others.iter().find(|dir| is_held(dir)) {
        return Err(PinError::Locked(held.clone()));
    }
    let mut moved = 0;
    for other in &others {
        for kind in [LINKS, FILTERS] {
            for pin in children(&other.join(kind)) {
                let place = own.join(kind).join(pin.file_name().unwrap_or_default());
                // Where both have one, this version's program runs already; a link goes with its pin.
                let done = if place.exists() { fs::remove_file(&pin) } else { fs::rename(&pin, &place) };
                done.map_err(|source| PinError::Io { path: pin, source })?;
                moved += 1;
            }
        }
        remove(other);
        tracing::warn!(
            version = %other.display(), "connections of an agent of another version are not known to this one and may end"
        );
    }
    Ok(moved)
}

fn remove(version: &Path) {
    let maps = children(version).into_iter().filter(|pin| pin.is_file());
    let removed = maps
        .map(fs::remove_file)
        .chain(
            [LINKS, FILTERS]
                .map(|kind| version.join(kind))
                .into_iter()
                .filter(|dir| dir.exists())
                .map(fs::remove_dir),
        )
        .chain(std::iter::once_with(|| fs::remove_dir(version)));
    for error in removed.filter_map(Result::err) {
        tracing::warn!(version = %version.display(), %error, "not all of another version's pins were removed");
    }
}
