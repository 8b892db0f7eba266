//! Storing a checkpoint.

use std::fmt::Display;

use super::{CheckpointJob, JobDone, Lane, Pace};
use crate::store::CheckpointStore;

/// Stores the checkpoint, then removes what it replaces.
pub(crate) fn run<S>(job: CheckpointJob, store: &mut S, pace: &mut dyn Pace) -> JobDone
where
    S: CheckpointStore<Error: Display>,
{
    let id = job.head.id;
    let parts = job.writer.finish_with(&job.head, || pace.breathe());
    let parts = parts.map_err(|error| error.to_string());
    let stored =
        parts.and_then(|parts| store.put_checkpoint(id, &parts).map_err(|error| error.to_string()));
    if let Err(error) = stored {
        return JobDone::Failed { lane: Lane::Housekeeping, doing: "storing a checkpoint", error };
    }
    for id in job.replaces {
        // The new one is durable and counts, whatever becomes of the old one: left over, it is one more that a start
        // would take only if both newer ones were damaged.
        let _ = store.remove_checkpoint(id);
    }
    JobDone::Checkpointed(id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::ids::{Incarnation, Partition};
    use wire::offset::{LeaderEpoch, Offset};

    use super::*;
    use crate::checkpoint::{
        Checkpoint, CheckpointHead, CheckpointWriter, PartitionState, ReplayFrom,
    };
    use crate::ids::{FileNo, PartitionKey, SlotNo, TopicNo, UnitNo};
    use crate::job::Proceed;
    use crate::store::CheckpointId;

    /// Notes what is asked of it, and fails where it is told to.
    #[derive(Default)]
    struct Notes {
        calls: Vec<(&'static str, u64)>,
        fails_at: Option<(&'static str, u64)>,
    }

    impl Notes {
        fn note(&mut self, call: &'static str, id: CheckpointId) -> Result<(), String> {
            self.calls.push((call, id.n));
            if self.fails_at == Some((call, id.n)) { Err("no space".into()) } else { Ok(()) }
        }
    }

    impl CheckpointStore for Notes {
        type Error = String;

        fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, String> {
            Ok(Vec::new())
        }

        fn get_checkpoint(&mut self, _: CheckpointId) -> Result<Bytes, String> {
            Err("a job reads no checkpoint".into())
        }

        fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), String> {
            let stored = Checkpoint::decode(&parts.concat()).unwrap();
            assert_eq!((stored.head.id, stored.partitions.len()), (id, 1));
            self.note("put", id)
        }

        fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), String> {
            self.note("remove", id)
        }
    }

    struct Unhurried;

    impl Pace for Unhurried {
        fn wrote(&mut self, _: usize) -> Proceed {
            Proceed::Go
        }
    }

    fn id(n: u64) -> CheckpointId {
        CheckpointId { incarnation: Incarnation([1; 16]), n }
    }

    fn head() -> CheckpointHead {
        CheckpointHead {
            id: id(9),
            replay: ReplayFrom {
                incarnation: id(9).incarnation,
                leader_epoch: LeaderEpoch(0),
                slot_no: SlotNo(1),
                prev_crc: 0,
                file_no: FileNo(0),
                pos: 8192,
            },
            gc_slot: SlotNo(0),
            next_unit: UnitNo(0),
            next_topic: TopicNo(2),
            units: Vec::new(),
            unsealed: Vec::new(),
        }
    }

    fn run_on(fails_at: Option<(&'static str, u64)>) -> (JobDone, Vec<(&'static str, u64)>) {
        run_with(CheckpointWriter::new(), fails_at)
    }

    fn run_with(
        mut writer: CheckpointWriter,
        fails_at: Option<(&'static str, u64)>,
    ) -> (JobDone, Vec<(&'static str, u64)>) {
        let mut store = Notes { fails_at, ..Notes::default() };
        let key = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };
        writer.partition(&PartitionState { next: Offset(1), ..PartitionState::empty(key) });
        let job = CheckpointJob { head: head(), writer, replaces: vec![id(6), id(7)] };
        (run(job, &mut store, &mut Unhurried), store.calls)
    }

    #[test]
    fn the_new_one_is_durable_before_the_old_ones_go() {
        let (done, calls) = run_on(None);
        assert!(matches!(done, JobDone::Checkpointed(done) if done == id(9)), "{done:?}");
        assert_eq!(calls, [("put", 9), ("remove", 6), ("remove", 7)]);
    }

    #[test]
    fn what_could_not_be_stored_replaces_nothing() {
        let (done, calls) = run_on(Some(("put", 9)));
        let failed = matches!(&done, JobDone::Failed { lane, error, .. }
            if *lane == Lane::Housekeeping && error == "no space");
        assert!(failed, "{done:?}");
        assert_eq!(calls, [("put", 9)]);
    }

    #[test]
    fn what_does_not_fit_a_checkpoint_fails_and_replaces_nothing() {
        for (bytes, fits) in [(72, true), (71, false)] {
            let (done, calls) = run_with(CheckpointWriter::with_section_bytes_max(bytes), None);
            let failed = matches!(&done, JobDone::Failed { error, .. } if error.contains("shard"));
            assert_eq!(failed, !fits, "{done:?}");
            assert_eq!(calls.is_empty(), !fits);
        }
    }

    #[test]
    fn an_old_one_that_stays_does_no_harm() {
        let (done, calls) = run_on(Some(("remove", 6)));
        assert!(matches!(done, JobDone::Checkpointed(done) if done == id(9)), "{done:?}");
        assert_eq!(calls, [("put", 9), ("remove", 6), ("remove", 7)]);
    }
}
