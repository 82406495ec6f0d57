//! Waiting with a deadline.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// Tries every 20 ms until the closure succeeds or the time is over; then its last error.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(anyhow!("{what}: not within {limit:?}: {error:#}"));
            }
            #[expect(clippy::disallowed_methods, reason = "between two attempts")]
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
