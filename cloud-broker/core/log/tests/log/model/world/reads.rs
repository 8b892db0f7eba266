//! What readers see, against the book.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::{Candidate, FirstBatch, PartitionKey, Piece, PieceRead, ReadPlan};

use super::{Held, World};
use crate::batches::split;
use crate::model::book::Part;

/// How much is read, and what becomes of a first batch that is larger.
pub(super) type Limit = (usize, FirstBatch);

/// What is read at once of a partition that is checked.
pub(super) const CHECKED: Limit = (10_000, FirstBatch::Always);

impl World {
    fn piece(&mut self, key: PartitionKey, piece: &Piece) -> (Vec<(Offset, Bytes)>, PieceRead) {
        match piece.read(&mut self.disk) {
            Ok(read) => (read.batches.iter().cloned().flat_map(split).collect(), read),
            Err(error) => panic!("{key:?}: {piece:?}: {error:?}"),
        }
    }

    pub(super) fn plan(&self, key: PartitionKey, from: i64, limit: Limit) -> ReadPlan {
        self.log().read(key, Offset(from), limit.0, limit.1).unwrap()
    }

    pub(super) fn hold(&mut self, key: PartitionKey, from: i64, limit: Limit) {
        let plan = self.plan(key, from, limit);
        self.held.push_back(Held { key, from, limit, plan });
    }

    pub(super) fn read_held(&mut self) {
        if let Some(held) = self.held.pop_front()
            && self.book.parts.contains_key(&held.key)
        {
            self.carry_out(held.key, held.from, held.limit, &held.plan);
        }
    }

    /// Carries a plan out; says where to go on.
    pub(super) fn carry_out(
        &mut self,
        key: PartitionKey,
        from: i64,
        limit: Limit,
        plan: &ReadPlan,
    ) -> i64 {
        if self.book.is_compacted(key) {
            return self.carry_out_compacted(key, from, plan, limit.1, &mut BTreeMap::new());
        }
        let mut found = Vec::new();
        for piece in &plan.pieces {
            let (batches, read) = self.piece(key, piece);
            found.extend(batches);
            if !read.is_whole {
                break;
            }
        }
        let mut next = from;
        let mut bytes = 0;
        let mut expected = self.book.parts[&key].readable_from(from);
        for (base, produced) in &found {
            let sent = expected.next().unwrap();
            assert_eq!(base.0, sent.base, "{key:?} from {from}: offsets are dense");
            assert_eq!(produced, &sent.produced, "{key:?} at {}: as it was sent", sent.base);
            next = sent.last + 1;
            bytes += sent.batch.len();
        }
        assert!(next <= plan.offsets.high_watermark.0, "{key:?}: beyond the high watermark");
        let is_exempt = found.len() == 1 && limit.1 == FirstBatch::Always;
        assert!(is_exempt || bytes <= limit.0, "{bytes} of {limit:?}");
        let may_be_empty = from == plan.offsets.high_watermark.0 || limit.1 == FirstBatch::IfItFits;
        assert!(may_be_empty || next > from, "{key:?} at {from}: something is read");
        next
    }

    pub(super) fn check_partition(&mut self, key: PartitionKey) {
        let offsets = self.log().offsets(key).unwrap();
        let part = &self.book.parts[&key];
        assert_eq!(offsets.high_watermark.0, part.acked_end(), "{key:?}: the high watermark");
        assert_eq!(offsets.log_start.0, part.start, "{key:?}: the log start");
        // An epoch may be known of which nothing is left.
        let mut epochs = self.log().epochs(key).to_vec();
        epochs.reverse();
        epochs.dedup_by_key(|(_, start)| *start);
        epochs.reverse();
        assert_eq!(epochs, part.epochs(), "{key:?}: where leader epochs begin");
        if self.book.is_compacted(key) {
            self.check_compacted(key);
            return;
        }
        let mut next = offsets.log_start.0;
        while next < offsets.high_watermark.0 {
            let plan = self.plan(key, next, CHECKED);
            next = self.carry_out(key, next, CHECKED, &plan);
        }
        let bytes = self.log().partition_bytes(key).unwrap();
        let least = self.book.parts[&key].bytes_from(offsets.log_start.0);
        assert!(bytes >= least, "{key:?}: {bytes} bytes of {least}");
        let is_empty = offsets.log_start == offsets.high_watermark;
        assert!(!is_empty || bytes == 0, "{key:?}: {bytes} bytes are left of nothing");
    }

    pub fn check_everything(&mut self) {
        for key in self.book.keys() {
            self.check_partition(key);
        }
        self.check_streams();
        let bytes: u64 =
            self.book.keys().iter().filter_map(|key| self.log().partition_bytes(*key)).sum();
        self.note(format_args!("{bytes} bytes are there"));
    }

    /// The first batch that is at least so late.
    pub(super) fn lookup(&mut self, key: PartitionKey, timestamp: i64) {
        let start = self.log().offsets(key).unwrap().log_start;
        let mut from = start;
        let mut found = None;
        while let Some(candidate) = self.log().candidate_at_time(key, UnixMs(timestamp), from) {
            let (batches, read) = self.piece(key, &candidate.piece);
            let part = &self.book.parts[&key];
            let late = |base: &Offset| {
                part.readable_from(base.0).next().is_some_and(|sent| sent.timestamp >= timestamp)
            };
            let mut bases = batches.into_iter().map(|(base, _)| base);
            found = bases.find(late);
            if found.is_some() {
                break;
            }
            let next = read.next.unwrap_or(candidate.next);
            assert!(next > from, "a lookup goes on");
            from = next;
        }
        let part = &self.book.parts[&key];
        let expected = part.readable_from(start.0).find(|sent| sent.timestamp >= timestamp);
        let expected = expected.map(|sent| sent.base);
        assert_eq!(found.map(|base| base.0), expected, "{key:?}: the first at {timestamp}");
    }

    /// The first batch that is as late as any.
    pub(super) fn look_up_latest(&mut self, key: PartitionKey) {
        let start = self.log().offsets(key).unwrap().log_start.0;
        let latest = |part: &Part| part.readable_from(start).map(|sent| sent.timestamp).max();
        let latest = latest(&self.book.parts[&key]);
        let mut found: Option<(i64, Offset)> = None;
        let mut candidate = self.log().candidate_of_max_timestamp(key);
        while let Some(Candidate { piece, next }) = candidate {
            let (batches, read) = self.piece(key, &piece);
            let is_first = found.is_none();
            for (base, _) in batches {
                let part = &self.book.parts[&key];
                let timestamp = part.readable_from(base.0).next().unwrap().timestamp;
                if found.is_none_or(|(known, _)| timestamp > known) {
                    found = Some((timestamp, base));
                }
            }
            let from = if is_first { Offset(start) } else { read.next.unwrap_or(next) };
            let later = UnixMs(found.map_or(i64::MIN, |(timestamp, _)| timestamp + 1));
            candidate = self.log().candidate_at_time(key, later, from);
        }
        let found = found.map(|(_, base)| base);
        let part = &self.book.parts[&key];
        let expected = part.readable_from(start).find(|sent| Some(sent.timestamp) == latest);
        let expected = expected.map(|sent| sent.base);
        assert_eq!(found.map(|base| base.0), expected, "{key:?}: the latest");
    }
}
