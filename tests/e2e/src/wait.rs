//! Waiting for what must come.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Far beyond what anything takes on a busy machine, so that what hangs fails a test instead of holding it.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it has an answer.
///
/// # Errors
/// The probe's own, or that `what` did not come within `patience`.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
