//! Rules of the uplink that the simulator breaks, to prove that it would notice (docs/simulation.md).
//!
//! Without the feature `mutants` no rule can be broken: [`is`] is constantly false.

use crate::gateway::{ClientBatch, Verdict};

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// What a full disk undid is acknowledged (D1).
    AcknowledgeRolledBack,
    /// Verdicts come out of a transaction that was never closed.
    AcknowledgeUncommitted,
    /// Batches are sent without being stored first (S1).
    AssignmentNotStored,
    /// Data does not wait until the session record is acknowledged.
    DataBeforeProof,
    /// A device that was formatted is taken for the one before (D2).
    DedupeIgnoresQueue,
    /// A rollback does not undo what deduplication has learned (D1).
    DedupeOutlivesRollback,
    /// Rows are deleted below what is assigned, not below what is acknowledged.
    DeleteUnacknowledged,
    /// Where a stream is acknowledged is not stored.
    ForgetAcknowledged,
    /// WELCOME trims by sequence, without the tag.
    HintBySequence,
    /// Rows read for a transaction that was undone are sent for those that got their numbers (S2).
    KeepRunsOfRollback,
    /// Any answer to a frame of this session counts as proof of a regression, also one that was overtaken.
    OvertakenProves,
    /// A batch that is sent again has other readings (S2).
    RecutOthers,
    /// A stream that is sent again begins with its second batch.
    RewindSkipsFirst,
    /// A copy is stored once more (D2).
    TakeCopies,
    /// STATE trims by sequence, without the tag.
    TrimBySequence,
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
            Self::AcknowledgeRolledBack,
            Self::AcknowledgeUncommitted,
            Self::AssignmentNotStored,
            Self::DataBeforeProof,
            Self::DedupeIgnoresQueue,
            Self::DedupeOutlivesRollback,
            Self::DeleteUnacknowledged,
            Self::ForgetAcknowledged,
            Self::HintBySequence,
            Self::KeepRunsOfRollback,
            Self::OvertakenProves,
            Self::RecutOthers,
            Self::RewindSkipsFirst,
            Self::TakeCopies,
            Self::TrimBySequence,
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

/// The verdict of [`Mutant::AcknowledgeRolledBack`].
pub(crate) fn acknowledge_all(batch: &ClientBatch) -> Verdict {
    Verdict { token: batch.token, stored: batch.arrivals.len(), rejected: None }
}

/// Whether this rule is broken.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
