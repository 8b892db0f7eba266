//! What was promised, and whether it was kept.
//!
//! 1. A reading that was acknowledged is in the log, or in the spool of a gateway whose uplink has stopped with an alarm,
//!    or was lost with a disk that somebody took away.
//! 2. A reading is in the log at most once without `culvert.maybe_dup`.
//! 3. Per spool and device queue, readings are in the log in their order.
//! 4. Offsets are dense, and what a reader has seen stays (`read_log` and [`Oracle::look`]).
//! 5. A ledger balances, and says of a spool that nobody tampered with what the log says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gateway_core::gateway::Status;
use wire::ids::{GatewayId, Lane, ProducerId, SpoolId};

use crate::event::Publish;
use crate::read_log::Entry;

/// Names a reading for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reading {
    pub(crate) device: Bytes,
    pub(crate) queue: u64,
    pub(crate) seq: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    acknowledged: BTreeSet<Reading>,
    /// What disks held that were taken away.
    lost: BTreeSet<Reading>,
    spooled: BTreeSet<Reading>,
    /// Spools that were cloned or put back.
    suspects: BTreeSet<SpoolId>,
    log: Vec<Entry>,
}

impl Oracle {
    pub(crate) fn acknowledged(&mut self, device: &Bytes, publish: &Publish) {
        let queue = publish.queue;
        let numbers = publish.first..publish.first + publish.count;
        let readings = numbers.map(|seq| Reading { device: device.clone(), queue, seq });
        self.acknowledged.extend(readings);
    }

    pub(crate) fn lost_with_a_disk(&mut self, readings: Vec<Reading>) {
        self.lost.extend(readings);
    }

    pub(crate) fn spooled(&mut self, readings: Vec<Reading>) {
        self.spooled.extend(readings);
    }

    pub(crate) fn suspect(&mut self, spool: SpoolId) {
        self.suspects.insert(spool);
    }

    pub(crate) fn is_suspect(&self, spool: SpoolId) -> bool {
        self.suspects.contains(&spool)
    }

    /// Looks at the whole log: readers may have seen it before, so it only grows, but for what retention has dropped from
    /// the front of a partition, which counts as in the log for ever once it was seen.
    pub(crate) fn look(&mut self, found: Vec<Entry>, starts: &[u64]) -> Result<(), String> {
        let now: BTreeMap<(u32, u64), &Entry> =
            found.iter().map(|entry| ((entry.partition, entry.offset), entry)).collect();
        let is_dropped = |seen: &Entry| {
            let start = starts.get(seen.partition as usize);
            start.is_some_and(|start| seen.offset < *start)
        };
        for seen in self.log.iter().filter(|seen| !is_dropped(seen)) {
            let found = now.get(&(seen.partition, seen.offset)).copied();
            if found != Some(seen) {
                return Err(format!("the log had {seen:?} and now has {found:?}"));
            }
        }
        self.log.retain(is_dropped);
        self.log.extend(found);
        self.log.sort_by_key(|entry| (entry.partition, entry.offset));
        check_copies(&self.log)?;
        check_order(&self.log)
    }

    /// Holds a ledger against the log.
    pub(crate) fn ledger(
        &self,
        gateway: &GatewayId,
        spool: SpoolId,
        status: &Status,
    ) -> Result<(), String> {
        let (ledger, spooled) = (status.ledger, status.spooled);
        if !ledger.balances(spooled) {
            return Err(format!("{gateway}: {ledger:?} does not balance with {spooled} spooled"));
        }
        let pid = ProducerId::of_lane(gateway, spool, Lane::Live);
        let in_log = self.log.iter().filter(|entry| entry.pid == pid).count() as u64;
        if !self.is_suspect(spool) && ledger.delivered != in_log {
            return Err(format!("{gateway}: {ledger:?}, but {in_log} readings are in the log"));
        }
        Ok(())
    }

    /// Nothing acknowledged is missing.
    pub(crate) fn last_look(&self) -> Result<(), String> {
        let in_log: BTreeSet<&Reading> = self.log.iter().map(|entry| &entry.reading).collect();
        let kept = |reading: &Reading| {
            in_log.contains(reading)
                || self.spooled.contains(reading)
                || self.lost.contains(reading)
        };
        match self.acknowledged.iter().find(|reading| !kept(reading)) {
            Some(missing) => Err(format!("acknowledged and nowhere: {missing:?}")),
            None => Ok(()),
        }
    }
}

fn check_copies(log: &[Entry]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let double = log.iter().filter(|entry| !entry.maybe_dup).find(|e| !seen.insert(&e.reading));
    match double {
        Some(entry) => Err(format!("twice in the log: {entry:?}")),
        None => Ok(()),
    }
}

fn check_order(log: &[Entry]) -> Result<(), String> {
    let mut last: BTreeMap<(ProducerId, &Bytes, u64), u64> = BTreeMap::new();
    for entry in log {
        let Reading { device, queue, seq } = &entry.reading;
        if let Some(before) = last.insert((entry.pid, device, *queue), *seq)
            && before >= *seq
        {
            return Err(format!("{entry:?} stands behind sequence {before}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
