//! Storing a checkpoint.

use std::fmt::Display;

use super::{CheckpointJob, JobDone, Lane};
use crate::store::CheckpointStore;

/// Stores the checkpoint, then removes what it replaces.
pub(crate) fn run<S>(job: CheckpointJob, store: &mut S) -> JobDone
where
    S: CheckpointStore<Error: Display>,
{
    if let Err(error) = store.put_checkpoint(job.id, &job.parts) {
        return JobDone::Failed {
            lane: Lane::Housekeeping,
            doing: "store a checkpoint",
            error: error.to_string(),
        };
    }
    for id in job.replaces {
        // The new one is durable and counts, whatever becomes of the old one: left over, it is one more that a start
        // would take only if both newer ones were damaged.
        let _ = store.remove_checkpoint(id);
    }
    JobDone::Checkpointed(job.id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::ids::Incarnation;

    use super::*;
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
            assert_eq!(parts.concat(), b"whole");
            self.note("put", id)
        }

        fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), String> {
            self.note("remove", id)
        }
    }

    fn id(n: u64) -> CheckpointId {
        CheckpointId { incarnation: Incarnation([1; 16]), n }
    }

    fn run_on(fails_at: Option<(&'static str, u64)>) -> (JobDone, Vec<(&'static str, u64)>) {
        let mut store = Notes { fails_at, ..Notes::default() };
        let parts = vec![Bytes::from_static(b"wh"), Bytes::from_static(b"ole")];
        let job = CheckpointJob { id: id(9), parts, replaces: vec![id(6), id(7)] };
        (run(job, &mut store), store.calls)
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
    fn an_old_one_that_stays_does_no_harm() {
        let (done, calls) = run_on(Some(("remove", 6)));
        assert!(matches!(done, JobDone::Checkpointed(done) if done == id(9)), "{done:?}");
        assert_eq!(calls, [("put", 9), ("remove", 6), ("remove", 7)]);
    }
}
