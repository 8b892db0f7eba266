//! Reads against a model: a list of batches.

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::{FirstBatch, Log, LogSettings, PartitionOffsets, Piece, ReadError};

use crate::batches::{Rng, batch_of, key, plain_producer, produced, split};
use crate::disk::{Disk, flush, read_piece, small, start};

const PARTITIONS: u64 = 3;

/// A batch as the model knows it.
struct Known {
    base: Offset,
    last: Offset,
    timestamp: i64,
    produced: Bytes,
    len: usize,
}

fn filled(settings: &LogSettings, seed: u64) -> (Log, Disk, Vec<Vec<Known>>) {
    let mut rng = Rng(seed);
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, settings).unwrap();
    let mut model: Vec<Vec<Known>> = Vec::new();
    for partition in 0..PARTITIONS {
        log.register_partition(key(0, partition as u32)).unwrap();
        model.push(Vec::new());
    }
    for name in 0..120 {
        let partition = rng.below(PARTITIONS);
        let records = 1 + rng.below(4) as u32;
        let bytes = [30, 500, 6_000, 40_000][rng.below(4) as usize];
        let timestamp = rng.below(1_000) as i64;
        let batch = batch_of(plain_producer(), name, records, bytes, timestamp);
        let at = key(0, partition as u32);
        let appended = log.append(UnixMs(7), at, batch.clone()).unwrap();
        model[partition as usize].push(Known {
            base: appended.base_offset,
            last: Offset(appended.base_offset.0 + i64::from(records) - 1),
            timestamp,
            produced: produced(&batch),
            len: batch.len(),
        });
        if rng.below(4) == 0 {
            flush(&mut log, &mut disk);
        }
    }
    flush(&mut log, &mut disk);
    (log, disk, model)
}

fn in_memory() -> LogSettings {
    LogSettings { tail_bytes: 16 << 20, pending_bytes_max: 16 << 20, ..small() }
}

fn on_file() -> LogSettings {
    LogSettings { tail_bytes: 0, ..in_memory() }
}

fn both() -> LogSettings {
    LogSettings { tail_bytes: 400 << 10, ..in_memory() }
}

#[test]
fn reads_agree_with_a_list_of_batches() {
    for (settings, exact) in [(in_memory(), true), (on_file(), false), (both(), false)] {
        for seed in 0..6 {
            let (log, mut disk, model) = filled(&settings, seed);
            let mut rng = Rng(seed + 1_000);
            for _ in 0..400 {
                let partition = rng.below(PARTITIONS) as usize;
                let end = model[partition].last().map_or(0, |k| k.last.0 + 1);
                let offset = Offset(rng.below(end as u64 + 1) as i64);
                let max_bytes = [0, 100, 3_000, 50_000, usize::MAX][rng.below(5) as usize];
                let first = [FirstBatch::Always, FirstBatch::IfItFits][rng.below(2) as usize];
                let plan = log.read(key(0, partition as u32), offset, max_bytes, first).unwrap();
                let may_be_empty = max_bytes == 0 && first == FirstBatch::IfItFits;
                assert!(!may_be_empty || plan.pieces.is_empty(), "nothing is read for nothing");
                let pieces = plan.pieces.iter().map(|p| read_piece(&mut disk, p));
                let read: Vec<_> = pieces.flat_map(split).collect();

                let wanted = expected(&model[partition], offset, max_bytes, first);
                assert!(read.len() <= wanted.len());
                for ((base, bytes), known) in read.iter().zip(&wanted) {
                    assert_eq!((*base, bytes), (known.base, &known.produced));
                }
                // From a file a plan takes whole runs, so it may stop earlier, but never at nothing.
                let enough = if exact { wanted.len() } else { wanted.len().min(1) };
                assert!(read.len() >= enough, "{offset} {max_bytes} {first:?}");
            }
        }
    }
}

fn expected(model: &[Known], offset: Offset, max_bytes: usize, first: FirstBatch) -> Vec<&Known> {
    let mut left = max_bytes;
    let mut batches = Vec::new();
    for known in model.iter().filter(|k| k.last >= offset) {
        let oversize_is_fine = batches.is_empty() && first == FirstBatch::Always;
        if known.len > left && !oversize_is_fine {
            break;
        }
        left = left.saturating_sub(known.len);
        batches.push(known);
    }
    batches
}

#[test]
fn offsets_outside_the_log_are_told_its_range() {
    let (log, _, model) = filled(&in_memory(), 1);
    let high_watermark = Offset(model[0].last().unwrap().last.0 + 1);
    let range = PartitionOffsets { log_start: Offset(0), high_watermark };
    for offset in [-1, i64::MIN, high_watermark.0 + 1, i64::MAX] {
        let read = log.read(key(0, 0), Offset(offset), 100, FirstBatch::Always);
        assert_eq!(read.unwrap_err(), ReadError::OutOfRange(range));
    }
    let at_end = log.read(key(0, 0), high_watermark, 100, FirstBatch::Always);
    assert!(at_end.unwrap().pieces.is_empty());
    let unknown = log.read(key(9, 9), Offset(0), 100, FirstBatch::Always);
    assert_eq!(unknown.unwrap_err(), ReadError::UnknownPartition);
    assert_eq!(log.offsets(key(9, 9)), None);
}

#[test]
fn lookups_by_time_find_the_first_batch_that_is_late_enough() {
    for settings in [in_memory(), on_file()] {
        let (log, mut disk, model) = filled(&settings, 3);
        let model = &model[1];
        let at = key(0, 1);
        for timestamp in 0..1_002 {
            let wanted = model.iter().find(|k| k.timestamp >= timestamp);
            let mut found = None;
            let mut from = Offset(0);
            while let Some(candidate) = log.candidate_at_time(at, UnixMs(timestamp), from) {
                assert!(candidate.next > from);
                from = candidate.next;
                found = first_at(&candidate.piece, &mut disk, model, timestamp);
                if found.is_some() {
                    break;
                }
            }
            assert_eq!(found, wanted.map(|k| k.base), "timestamp {timestamp}");
        }
        let greatest = model.iter().map(|k| k.timestamp).max().unwrap();
        let wanted = model.iter().find(|k| k.timestamp == greatest).unwrap();
        let candidate = log.candidate_of_max_timestamp(at).unwrap();
        let found = first_at(&candidate.piece, &mut disk, model, greatest);
        assert_eq!(found, Some(wanted.base));
        assert!(log.candidate_of_max_timestamp(key(5, 5)).is_none());
    }
}

fn first_at(piece: &Piece, disk: &mut Disk, model: &[Known], timestamp: i64) -> Option<Offset> {
    let batches = split(read_piece(disk, piece));
    let known = |base| model.iter().find(|k| k.base == base).unwrap();
    let mut bases = batches.into_iter().map(|(base, _)| base);
    bases.find(|base| known(*base).timestamp >= timestamp)
}

#[test]
fn the_tail_serves_from_memory_and_older_slots_from_their_file() {
    let (log, _, model) = filled(&both(), 2);
    let kind = |offset| {
        let plan = log.read(key(0, 0), offset, 1, FirstBatch::Always).unwrap();
        matches!(plan.pieces[..], [Piece::Memory(_)])
    };
    assert!(!kind(Offset(0)));
    assert!(kind(model[0].last().unwrap().base));
}
