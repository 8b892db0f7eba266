//! What a process has used, from `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`, in which `/proc/<pid>/stat` counts; Linux shows the same to every program.
const TICKS_A_SECOND: u64 = 100;

/// Processor time of all its threads, also of those that have ended, in user and kernel mode.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in parentheses, may hold anything; proc(5) counts utime and stime as fields 14 and 15.
    let (_, fields) = text.rsplit_once(')').with_context(|| path.clone())?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()
        .context(path)?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

/// Memory that is in use now, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context(path)?;
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
