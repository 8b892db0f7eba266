//! Partitions that are compacted by key: gaps between offsets are fine, and the last record of each key is there.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::record_batch::RecordBatchHeader;

use broker_log::plain_records::PlainRecords;
use broker_log::{CompactPolicy, FirstBatch, PartitionKey, ReadPlan, RecordRewriter, TopicPolicy};

use super::World;
use super::reads::CHECKED;
use crate::model::book::KeyOf;

/// A record, at its offset.
type Found = BTreeMap<i64, KeyOf>;

/// Policies under which everything is compacted soon; tombstones stay for a while.
pub(super) fn policy(which: u64) -> TopicPolicy {
    let compact = CompactPolicy {
        min_dirty_per_mille: [1, 500][(which % 2) as usize],
        min_lag_ms: [0, 2_000][(which / 2 % 2) as usize],
        max_lag_ms: 10_000_000,
        delete_retention_ms: [0, 40_000][(which / 4 % 2) as usize],
    };
    TopicPolicy { compact: Some(compact), ..TopicPolicy::default() }
}

impl World {
    /// Carries a plan out; adds what it finds, and says where to go on.
    pub(super) fn carry_out_compacted(
        &mut self,
        key: PartitionKey,
        from: i64,
        plan: &ReadPlan,
        first: FirstBatch,
        found: &mut Found,
    ) -> i64 {
        let mut next = from;
        for piece in &plan.pieces {
            let read = piece.read(&mut self.disk);
            let read = read.unwrap_or_else(|error| panic!("{key:?}: {piece:?}: {error:?}"));
            for batches in read.batches {
                next = self.take_compacted(key, next, batches, found);
            }
            if !read.is_whole {
                break;
            }
        }
        let may_be_empty = from == plan.offsets.high_watermark.0 || first == FirstBatch::IfItFits;
        assert!(may_be_empty || next > from, "{key:?} at {from}: something is read");
        next
    }

    fn take_compacted(
        &self,
        key: PartitionKey,
        mut next: i64,
        mut batches: Bytes,
        found: &mut Found,
    ) -> i64 {
        while !batches.is_empty() {
            let header = RecordBatchHeader::parse(&batches).unwrap();
            header.check_crc(&batches).unwrap();
            let batch = batches.split_to(header.total_len);
            let last = header.base_offset.0 + i64::from(header.last_offset_delta);
            assert!(last >= next, "{key:?}: {last} comes behind {next}");
            next = last + 1;
            let mut show = |record: broker_log::KeyedRecord<'_>| {
                let offset = record.offset.0;
                assert!((header.base_offset.0..=last).contains(&offset), "{key:?} at {offset}");
                let of = record.key.and_then(|key| key.first().copied());
                let known = KeyOf { key: of.unwrap(), is_tombstone: record.is_tombstone };
                assert_eq!(self.book.record_at(key, offset), Some(known), "{key:?} at {offset}");
                found.insert(offset, known);
            };
            PlainRecords.walk(&batch, &mut show).unwrap();
        }
        next
    }

    /// Reads all of a partition: the last record of each key is there, but for tombstones.
    pub(super) fn check_compacted(&mut self, key: PartitionKey) {
        let offsets = self.log().offsets(key).unwrap();
        let mut found = Found::new();
        let mut next = offsets.log_start.0;
        while next < offsets.high_watermark.0 {
            let plan = self.plan(key, next, CHECKED);
            next = self.carry_out_compacted(key, next, &plan, CHECKED.1, &mut found);
        }
        assert!(next <= offsets.high_watermark.0, "{key:?}: beyond the high watermark");
        let mut last: BTreeMap<u8, (i64, bool)> = BTreeMap::new();
        for (offset, of) in self.book.records_from(key, offsets.log_start.0) {
            last.insert(of.key, (offset, of.is_tombstone));
        }
        for (of, (offset, is_tombstone)) in last {
            let is_there = found.contains_key(&offset);
            assert!(
                is_there || is_tombstone,
                "{key:?}: the last record of {of}, {offset}, is gone"
            );
        }
    }
}
