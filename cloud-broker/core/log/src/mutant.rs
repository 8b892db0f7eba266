//! Rules of the log that the simulator breaks, to prove that it would notice (docs/simulation.md).
//!
//! Without the feature `mutants` no rule can be broken: [`is`] is constantly false.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Any batch of the right epoch is appended, whatever stands before it (B1).
    AcceptAnyTail,
    /// The tag of the batch before is not compared (B1).
    IgnorePrevTag,
    /// A checkpoint is written down before the slot that it covers is durable.
    CheckpointNotDurable,
    /// Records that become durable while a checkpoint is written down are in it.
    CheckpointRunsAhead,
    /// What else changes while a checkpoint is written down is in it as it is afterwards.
    CheckpointTorn,
    /// Key compaction drops the last record of a key, too.
    CompactionDropsAll,
    /// DeleteRecords is answered before a checkpoint has it.
    DeletionNotDurable,
    /// Space is given back although a checkpoint that is kept names it.
    FreedAlthoughNamed,
    /// Space is given back that a reader still reads.
    FreedUnderReaders,
    /// Only the newest checkpoint decides what is given back, while the process runs.
    OlderCheckpointForgotten,
    /// Only the newest checkpoint decides what is given back, when the process starts.
    OlderCheckpointForgottenAtStart,
    /// What a crash left of jobs is not given back.
    OrphansKept,
    /// The idle marker is not written.
    MarkerNotWritten,
    /// A checkpoint has the idempotent producers as they are when it is built, not as they were at its slot.
    ProducersAhead,
    /// Records grow old by their own time.
    RetentionByRecordTime,
    /// What a job has made is taken below the log start that has moved meanwhile.
    DeletedComesBack,
    /// A wall clock that jumps ahead is believed at once.
    WallClockBelieved,
    /// Appends are taken without space for them.
    RoomNotCounted,
    /// Damaged slots before intact ones are taken for a torn tail.
    HolesAreTails,
    /// Checkpoints do not say where uplink streams stand (B5).
    StreamsNotInCheckpoint,
    /// Answers tell what is appended, not what is durable (B2).
    StateNotDurable,
    /// Recovery does not rebuild where streams stand (B5).
    StreamsNotRecovered,
    /// What reads back after a crash is served without being synced again.
    TailNotRewritten,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Every rule that can be broken here.
        pub const ALL: &[Self] = &[
            Self::AcceptAnyTail,
            Self::CheckpointNotDurable,
            Self::CheckpointRunsAhead,
            Self::CheckpointTorn,
            Self::CompactionDropsAll,
            Self::DeletedComesBack,
            Self::DeletionNotDurable,
            Self::FreedAlthoughNamed,
            Self::FreedUnderReaders,
            Self::HolesAreTails,
            Self::IgnorePrevTag,
            Self::MarkerNotWritten,
            Self::OlderCheckpointForgotten,
            Self::OlderCheckpointForgottenAtStart,
            Self::OrphansKept,
            Self::ProducersAhead,
            Self::RetentionByRecordTime,
            Self::RoomNotCounted,
            Self::StateNotDurable,
            Self::StreamsNotInCheckpoint,
            Self::StreamsNotRecovered,
            Self::TailNotRewritten,
            Self::WallClockBelieved,
        ];

        /// Those that show in what devices and gateways see of the log, without clients that delete or disks that rot.
        pub const SEEN_BY_THE_UPLINK: &[Self] = &[
            Self::AcceptAnyTail,
            Self::CheckpointNotDurable,
            Self::FreedAlthoughNamed,
            Self::IgnorePrevTag,
            Self::StateNotDurable,
            Self::StreamsNotInCheckpoint,
            Self::StreamsNotRecovered,
            Self::TailNotRewritten,
        ];
    }

    /// Breaks a rule on this thread, or mends it.
    pub fn set(broken: Option<Mutant>) {
        BROKEN.set(broken);
    }

    /// Whether this rule is broken.
    pub(crate) fn is(mutant: Mutant) -> bool {
        BROKEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use switch::is;
#[cfg(feature = "mutants")]
pub use switch::set;

/// Whether this rule is broken.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
