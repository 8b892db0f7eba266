//! What happened, as text: decoded frames and virtual time, nothing that differs between two runs of one seed (no
//! pointers, no order of hash maps, no counters that outlive a run). Always hashed, kept only if somebody wants to read it.

use std::fmt::{self, Write};

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    kept: Option<String>,
    line: String,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, kept: keep.then(String::new), line: String::new() }
    }

    /// Adds a line about something that happened at `ms`.
    pub(crate) fn line(&mut self, ms: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string does not fail.
        let _ = writeln!(self.line, "{ms:>7} {what}");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(kept) = &mut self.kept {
            kept.push_str(&self.line);
        }
    }

    /// The hash of all lines, and the lines if they were kept.
    pub(crate) fn finish(self) -> (u64, Option<String>) {
        (self.hash, self.kept)
    }
}
