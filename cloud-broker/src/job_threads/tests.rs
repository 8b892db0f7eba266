use std::sync::mpsc::{Receiver, channel};

use broker_log::store::{CheckpointId, CheckpointStore};
use broker_log::{
    Checkpoint, CheckpointHead, CheckpointJob, CheckpointWriter, FileNo, FreeJob, ReplayFrom,
    SlotNo, TopicNo, UnitId, UnitNo,
};
use process::Shutdown;
use tempfile::TempDir;
use wire::ids::Incarnation;
use wire::offset::LeaderEpoch;

use super::*;

fn threads(root: &TempDir) -> (JobThreads, LogFolder, Receiver<JobReport>) {
    let folder = LogFolder::for_tests(root.path());
    let (trigger, _) = Shutdown::new();
    // Nobody minds that the threads end.
    trigger.stop();
    let (sender, reports) = channel();
    let on_report = move |report| sender.send(report).unwrap();
    let threads = JobThreads::spawn(&folder, 1 << 20, Arc::default(), &trigger, on_report);
    (threads.unwrap(), folder, reports)
}

/// A checkpoint of an empty log.
fn checkpoint(id: CheckpointId) -> Job {
    let replay = ReplayFrom {
        incarnation: id.incarnation,
        leader_epoch: LeaderEpoch(0),
        slot_no: SlotNo(1),
        prev_crc: 0,
        file_no: FileNo(0),
        pos: 8192,
    };
    let head = CheckpointHead {
        id,
        replay,
        gc_slot: SlotNo(0),
        next_unit: UnitNo(0),
        next_topic: TopicNo(0),
        units: Vec::new(),
        unsealed: Vec::new(),
    };
    let (writer, replaces) = (CheckpointWriter::new(), Vec::new());
    Job::Checkpoint(CheckpointJob { head, writer, replaces })
}

#[test]
fn jobs_are_done_and_reported_with_what_they_cost() {
    let root = TempDir::new().unwrap();
    let (threads, mut folder, reports) = threads(&root);
    let id = CheckpointId { incarnation: Incarnation([1; 16]), n: 3 };
    threads.start(checkpoint(id));
    let report = reports.recv().unwrap();
    assert!(matches!(report.done, JobDone::Checkpointed(done) if done == id), "{report:?}");
    assert_eq!(report.kind, "checkpoint");
    let stored = folder.get_checkpoint(id).unwrap();
    assert_eq!(Checkpoint::decode(&stored).unwrap().head.id, id);
    assert_eq!(report.traffic, Traffic { read: 0, written: stored.len() as u64 });

    let units = vec![UnitId::Unit(UnitNo(1))];
    threads.start(Job::Free(FreeJob { units: units.clone() }));
    let report = reports.recv().unwrap();
    assert!(matches!(report.done, JobDone::Freed(freed) if freed == units));
    drop(threads);
    assert!(reports.recv().is_err(), "the threads have ended");
}

#[test]
fn a_job_that_fails_says_why() {
    let root = TempDir::new().unwrap();
    let (threads, _folder, reports) = threads(&root);
    std::fs::remove_dir_all(root.path().join("ckpt")).unwrap();
    let id = CheckpointId { incarnation: Incarnation([1; 16]), n: 3 };
    threads.start(checkpoint(id));
    let JobDone::Failed { lane, error, .. } = reports.recv().unwrap().done else {
        panic!("there is no folder to store it in");
    };
    assert_eq!(lane, Lane::Housekeeping);
    assert!(error.starts_with("cannot make "), "{error}");
}
