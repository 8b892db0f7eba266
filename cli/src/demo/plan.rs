//! What a demonstration is asked to do, and when it does what.

use std::time::Duration;

use anyhow::{Result, ensure};

/// Most devices: each takes a slot of the timer that they share.
pub const DEVICES_MAX: u32 = 100;

/// Longest time that devices publish, in seconds: what they publish is accounted for one by one, in memory.
pub const SECONDS_MAX: u32 = 3_600;

/// What `culvert demo` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many devices publish, at 20 readings a second each.
    #[arg(long, default_value_t = 50)]
    devices: u32,
    /// How long they publish.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// For how many of these seconds the uplink is cut; 0 for no cut.
    #[arg(long, default_value_t = 10)]
    outage: u32,
    /// What the devices measure follows from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the ledger as one JSON object on standard output, and everything else on standard error.
    #[arg(long)]
    pub json: bool,
    /// Keep the folder with spool and log; it is kept in any case if the ledger does not balance.
    #[arg(long)]
    pub keep: bool,
}

/// A demonstration that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many devices there are.
    pub devices: u32,
    /// How long they publish.
    pub publishing: Duration,
    /// When the uplink is cut, counted from the first reading.
    pub cut_at: Duration,
    /// When it is restored.
    pub restored_at: Duration,
    /// Whether it is cut at all.
    pub has_outage: bool,
    /// What the devices' signals follow from.
    pub seed: u64,
}

impl Arguments {
    /// The plan.
    ///
    /// # Errors
    /// Names the flag that cannot be.
    pub fn plan(&self) -> Result<Plan> {
        let &Self { devices, seconds, outage, seed, .. } = self;
        ensure!(
            (1..=DEVICES_MAX).contains(&devices),
            "--devices: 1 to {DEVICES_MAX}, not {devices}"
        );
        ensure!(
            (1..=SECONDS_MAX).contains(&seconds),
            "--seconds: 1 to {SECONDS_MAX}, not {seconds}"
        );
        ensure!(
            outage < seconds,
            "--outage: less than --seconds, which is {seconds}, so that there is a before and an after; not {outage}"
        );
        let [publishing, outage_time] = [seconds, outage].map(|s| Duration::from_secs(s.into()));
        let cut_at = (publishing - outage_time) / 2;
        Ok(Plan {
            devices,
            publishing,
            cut_at,
            restored_at: cut_at + outage_time,
            has_outage: outage > 0,
            seed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(devices: u32, seconds: u32, outage: u32) -> Arguments {
        Arguments { devices, seconds, outage, seed: 1, json: false, keep: false }
    }

    #[test]
    fn the_outage_lies_in_the_middle() {
        let plan = arguments(50, 20, 10).plan().unwrap();
        assert_eq!(plan.cut_at, Duration::from_secs(5));
        assert_eq!(plan.restored_at, Duration::from_secs(15));
        assert!(plan.has_outage);
        let plan = arguments(1, 1, 0).plan().unwrap();
        assert_eq!(plan.cut_at, plan.restored_at);
        assert!(!plan.has_outage);
        arguments(DEVICES_MAX, SECONDS_MAX, SECONDS_MAX - 1).plan().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (arguments, flag) in [
            (arguments(0, 20, 10), "--devices"),
            (arguments(DEVICES_MAX + 1, 20, 10), "--devices"),
            (arguments(50, 0, 0), "--seconds"),
            (arguments(50, SECONDS_MAX + 1, 10), "--seconds"),
            (arguments(50, 20, 20), "--outage"),
            (arguments(50, 20, u32::MAX), "--outage"),
        ] {
            let error = arguments.plan().unwrap_err().to_string();
            assert!(error.starts_with(flag), "{error}");
        }
    }
}
