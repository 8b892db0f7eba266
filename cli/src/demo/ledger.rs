//! The account of every reading, by identity: device, queue and sequence. Nothing is concluded from sums.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kafka::LogRecord;

/// What a device says that it did. It numbered its readings from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its id.
    pub device: String,
    /// The queue that its numbers count in.
    pub queue: u64,
    /// Readings that it numbered, those its own queue had no room for included.
    pub published: u64,
    /// Readings that the gateway has acknowledged.
    pub acknowledged: u64,
}

/// The result, and all that `--json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Readings that the devices numbered.
    pub published: u64,
    /// Readings that the gateway acknowledged to them.
    pub acknowledged: u64,
    /// The most readings that waited on the gateway's disk at once.
    pub spooled: u64,
    /// Records in the log.
    pub in_log: u64,
    /// Records of a reading that an earlier record holds already.
    pub duplicates: u64,
    /// Readings that were published and of which the log has no record.
    pub missing: u64,
}

/// Holds what is in the log against what was published.
#[derive(Debug)]
pub struct Audit {
    devices: BTreeMap<(String, u64), Device>,
    acknowledged: u64,
    records: u64,
    duplicates: u64,
    unknown: u64,
    disordered: u64,
}

#[derive(Debug)]
struct Device {
    /// By sequence, from 1 on: whether the log has it.
    found: Vec<bool>,
    last: u64,
}

/// What the audit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The account.
    pub ledger: Ledger,
    /// Records of readings that nobody published.
    pub unknown: u64,
    /// Records that stand behind a later reading of their device.
    pub disordered: u64,
}

impl Audit {
    /// Begins with what the devices say.
    pub fn new(reports: &[DeviceReport]) -> Self {
        let devices = reports.iter().map(|report| {
            let count = usize::try_from(report.published).expect("each was counted in memory");
            let device = Device { found: vec![false; count], last: 0 };
            ((report.device.clone(), report.queue), device)
        });
        Self {
            devices: devices.collect(),
            acknowledged: reports.iter().map(|report| report.acknowledged).sum(),
            records: 0,
            duplicates: 0,
            unknown: 0,
            disordered: 0,
        }
    }

    /// Takes a record of the log; those of one partition in their order.
    pub fn take(&mut self, record: &LogRecord) {
        self.records += 1;
        let Some((device, seq)) = self.identify(record) else {
            self.unknown += 1;
            return;
        };
        let is_late = seq < device.last;
        device.last = device.last.max(seq);
        let place = usize::try_from(seq - 1).unwrap_or(usize::MAX);
        match device.found.get_mut(place) {
            None => self.unknown += 1,
            Some(found) if *found => self.duplicates += 1,
            Some(found) => {
                *found = true;
                self.disordered += u64::from(is_late);
            }
        }
    }

    /// The device that a record names, and the reading's number, which is at least 1.
    fn identify(&mut self, record: &LogRecord) -> Option<(&mut Device, u64)> {
        let device = String::from_utf8(record.key.clone()?).ok()?;
        let queue = record.header("culvert.queue")?.parse().ok()?;
        let seq = record.header("culvert.seq")?.parse().ok()?;
        let device = self.devices.get_mut(&(device, queue))?;
        (seq >= 1).then_some((device, seq))
    }

    /// The account, once the log was read to its end.
    pub fn finish(&self, spooled: u64) -> Finding {
        let found = self.devices.values().flat_map(|device| &device.found);
        let published = found.clone().count() as u64;
        let missing = found.filter(|found| !**found).count() as u64;
        let ledger = Ledger {
            published,
            acknowledged: self.acknowledged,
            spooled,
            in_log: self.records,
            duplicates: self.duplicates,
            missing,
        };
        Finding { ledger, unknown: self.unknown, disordered: self.disordered }
    }
}

impl Finding {
    /// What speaks against a success, for people; nothing if every reading is in the log once and in order.
    pub fn complaints(&self) -> Vec<String> {
        let ledger = &self.ledger;
        let unacknowledged = ledger.published.saturating_sub(ledger.acknowledged);
        let mut complaints: Vec<String> = [
            (ledger.missing, "published readings are missing in the log"),
            (ledger.duplicates, "records hold a reading a second time"),
            (unacknowledged, "readings were not acknowledged by the gateway"),
            (self.unknown, "records hold what nobody published"),
            (self.disordered, "records stand behind a later reading of their device"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if ledger.published == 0 {
            complaints.push("nothing was published".to_owned());
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(device: &str, queue: u64, seq: u64) -> LogRecord {
        LogRecord {
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(device.into()),
            value: None,
            headers: vec![
                ("culvert.queue".to_owned(), Some(queue.to_string().into())),
                ("culvert.seq".to_owned(), Some(seq.to_string().into())),
            ],
        }
    }

    /// Devices "a" (queue 7, 3 readings) and "b" (queue 8, 2 readings).
    fn audit(acknowledged: u64, log: &[LogRecord]) -> Finding {
        let report = |device: &str, queue, published, acknowledged| DeviceReport {
            device: device.to_owned(),
            queue,
            published,
            acknowledged,
        };
        let mut audit = Audit::new(&[report("a", 7, 3, acknowledged - 2), report("b", 8, 2, 2)]);
        log.iter().for_each(|record| audit.take(record));
        audit.finish(4)
    }

    fn whole_log() -> Vec<LogRecord> {
        [("a", 7, 1), ("b", 8, 1), ("a", 7, 2), ("b", 8, 2), ("a", 7, 3)]
            .map(|(device, queue, seq)| record(device, queue, seq))
            .to_vec()
    }

    #[test]
    fn every_reading_once_is_a_success() {
        let finding = audit(5, &whole_log());
        let expected = Ledger {
            published: 5,
            acknowledged: 5,
            spooled: 4,
            in_log: 5,
            duplicates: 0,
            missing: 0,
        };
        assert_eq!(finding, Finding { ledger: expected, unknown: 0, disordered: 0 });
        assert_eq!(finding.complaints(), [""; 0]);
    }

    #[test]
    fn sums_that_agree_deceive_nobody() {
        let mut log = whole_log();
        // As many records as readings, and yet one is missing and one is there twice.
        log[4] = record("a", 7, 2);
        let finding = audit(5, &log);
        let Ledger { in_log, duplicates, missing, .. } = finding.ledger;
        assert_eq!((in_log, duplicates, missing), (5, 1, 1));
        assert_eq!(finding.complaints().len(), 2, "{:?}", finding.complaints());
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        let with = |record| [whole_log(), vec![record]].concat();
        let mut swapped = whole_log();
        swapped.swap(0, 2);
        for (acknowledged, log, complaint) in [
            (5, whole_log()[..4].to_vec(), "1 published readings are missing"),
            (5, with(record("b", 8, 1)), "1 records hold a reading a second time"),
            (4, whole_log(), "1 readings were not acknowledged"),
            (5, with(record("a", 7, 4)), "1 records hold what nobody published"),
            (5, with(record("a", 7, 0)), "1 records hold what nobody published"),
            (5, with(record("a", 8, 1)), "1 records hold what nobody published"),
            (5, with(record("c", 7, 1)), "1 records hold what nobody published"),
            (5, with(record("a", 7, u64::MAX)), "1 records hold what nobody published"),
            (5, swapped, "1 records stand behind a later reading"),
        ] {
            let finding = audit(acknowledged, &log);
            let complaints = finding.complaints();
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].starts_with(complaint), "{complaints:?}");
            let Ledger { published, in_log, duplicates, missing, .. } = finding.ledger;
            assert_eq!(in_log, published - missing + duplicates + finding.unknown);
        }
        let mut unnumbered = record("a", 7, 1);
        unnumbered.headers.clear();
        assert_eq!(audit(5, &with(unnumbered)).unknown, 1);
        assert_eq!(Audit::new(&[]).finish(0).complaints(), ["nothing was published"]);
    }

    #[test]
    fn the_fields_for_machines_are_these() {
        let text = serde_json::to_string(&audit(5, &whole_log()).ledger).unwrap();
        let expected =
            r#"{"published":5,"acknowledged":5,"spooled":4,"in_log":5,"duplicates":0,"missing":0}"#;
        assert_eq!(text, expected);
    }
}
