//! The promises, held against what is in the log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::device::{DevicePlan, DeviceReport};
use crate::kcat::Record;

/// Checks that offsets are dense from 0 in every partition.
///
/// # Errors
/// Names the first offset that is not.
pub fn check_dense(records: &[Record]) -> Result<()> {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for record in records {
        let expected = next.entry(record.partition).or_default();
        ensure!(
            record.offset == *expected,
            "partition {}: offset {} where {expected} is due",
            record.partition,
            record.offset
        );
        *expected += 1;
    }
    Ok(())
}

/// Checks that a device's readings are in the log exactly once and in order: all that were acknowledged, then perhaps some
/// that were sent.
///
/// # Errors
/// Names the first reading that is missing, doubled, misplaced or spoiled.
pub fn check_device(records: &[Record], report: &DeviceReport) -> Result<()> {
    let id = &report.client_id;
    let mut last = 0;
    let mut partition = None;
    let own = records.iter().filter(|record| record.key.as_deref() == Some(id.as_bytes()));
    for record in own {
        let seq = record.header("culvert.seq").and_then(|seq| seq.parse().ok());
        let seq: u64 = seq.with_context(|| format!("{id}: no sequence in {record:?}"))?;
        ensure!(
            seq == last + 1,
            "{id}: reading {seq} stands behind reading {last}, at offset {} of partition {}",
            record.offset,
            record.partition
        );
        last = seq;
        let whole = record.value_text() == DevicePlan::reading(id, seq)
            && record.header("culvert.queue") == Some(&report.queue.to_string())
            && record.header("culvert.maybe_dup").is_none();
        ensure!(whole, "{id}: reading {seq} is {record:?}");
        ensure!(
            *partition.get_or_insert(record.partition) == record.partition,
            "{id}: reading {seq} is in another partition than those before it"
        );
    }
    ensure!(
        last >= report.acked,
        "{id}: readings up to {} were acknowledged, the log has {last}",
        report.acked
    );
    ensure!(last <= report.sent, "{id}: the log has {last} readings, {} were sent", report.sent);
    Ok(())
}

/// Checks that each of `values` is in the log at least once, under `key`.
///
/// # Errors
/// Names the first that is missing.
pub fn check_present<'v>(
    records: &[Record],
    key: &str,
    values: impl IntoIterator<Item = &'v String>,
) -> Result<()> {
    let own = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    let found: BTreeSet<&[u8]> = own.filter_map(|record| record.value.as_deref()).collect();
    for value in values {
        ensure!(
            found.contains(value.as_bytes()),
            "{key}: {value:?} was acknowledged and is not in the log"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log(readings: &[(u64, u64)]) -> Vec<Record> {
        let record = |&(offset, seq): &(u64, u64)| Record {
            partition: 1,
            offset,
            timestamp: 0,
            key: Some(b"d".to_vec()),
            value: Some(DevicePlan::reading("d", seq).into_bytes()),
            headers: vec![
                ("culvert.queue".to_owned(), "5".to_owned()),
                ("culvert.seq".to_owned(), seq.to_string()),
            ],
        };
        readings.iter().map(record).collect()
    }

    #[test]
    fn loss_copies_and_disorder_are_found() {
        let report = DeviceReport {
            client_id: "d".to_owned(),
            queue: 5,
            acked: 2,
            sent: 3,
            connections: 1,
            ack_time_max: Duration::ZERO,
        };
        for (readings, fits) in [
            (&[(0, 1), (1, 2)][..], true),
            (&[(0, 1), (1, 2), (2, 3)], true),
            (&[(0, 1)], false),
            (&[(0, 2)], false),
            (&[(0, 1), (1, 1), (2, 2)], false),
            (&[(0, 2), (1, 1)], false),
            (&[(0, 1), (1, 2), (2, 3), (3, 4)], false),
        ] {
            let outcome = check_device(&log(readings), &report);
            assert_eq!(outcome.is_ok(), fits, "{readings:?}: {outcome:?}");
        }
        let mut spoiled = log(&[(0, 1), (1, 2)]);
        spoiled[1].value = Some(b"d 7".to_vec());
        assert!(check_device(&spoiled, &report).is_err());
        let mut moved = log(&[(0, 1), (1, 2)]);
        moved[1].partition = 2;
        assert!(check_device(&moved, &report).is_err());
    }

    #[test]
    fn holes_in_the_offsets_are_found() {
        assert!(check_dense(&log(&[(0, 1), (1, 2)])).is_ok());
        assert!(check_dense(&log(&[(1, 1)])).is_err());
        assert!(check_dense(&log(&[(0, 1), (2, 2)])).is_err());
        assert!(check_dense(&log(&[(0, 1), (0, 2)])).is_err());
    }

    #[test]
    fn missing_values_are_found() {
        let log = log(&[(0, 1)]);
        assert!(check_present(&log, "d", [&"d 1".to_owned()]).is_ok());
        assert!(check_present(&log, "d", [&"d 2".to_owned()]).is_err());
        assert!(check_present(&log, "e", [&"d 1".to_owned()]).is_err());
    }
}
