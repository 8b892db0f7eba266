//! The `culvert` command as its user meets it: processes, their output and how they end.

#![expect(clippy::unwrap_used, reason = "what surprises a test fails it")]

mod demo;
mod log;
mod up;

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, so that a stuck process fails a test instead of holding it.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        pause();
    }
}

/// Leaves the processor to the process that is looked at; nothing depends on how long.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

#[test]
fn the_version_is_printed() {
    let output = Command::new(env!("CARGO_BIN_EXE_culvert")).arg("version").output().unwrap();
    let expected = concat!("culvert ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success());
}
