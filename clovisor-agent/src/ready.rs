//! Readiness: what a start still waits for.
//!
//! **In**: holds, one for each open point. **Out**: the open points. **Owns**: nothing. **Never**: knows what a point is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The open points of the start; ready when none is left.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    open: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// One open point; done when dropped.
#[derive(Debug)]
pub struct Hold {
    name: &'static str,
    open: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Ready {
    /// Opens a point.
    #[must_use]
    pub fn hold(&self, name: &'static str) -> Hold {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        Hold { name, open: self.open.clone() }
    }

    /// The open points; empty: ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_point_is_done() {
        let ready = Ready::default();
        let (a, b) = (ready.hold("policy"), ready.hold("programs"));
        assert_eq!(ready.waiting_for(), ["policy", "programs"]);
        drop(a);
        assert_eq!(ready.waiting_for(), ["programs"]);
        drop(b);
        assert!(ready.waiting_for().is_empty());
    }
}
