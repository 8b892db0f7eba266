//! What can be wrong with a checkpoint.

use super::header::CHECKPOINT_VERSION;
use crate::ids::Shard;

/// Which bytes of a checkpoint are wrong. Take the checkpoint before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes {from} to {to}: {kind}")]
pub struct CheckpointError {
    /// First byte of the range.
    pub from: u64,
    /// The byte behind the range.
    pub to: u64,
    /// What is wrong there.
    pub kind: CheckpointErrorKind,
}

/// What is wrong with a range of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointErrorKind {
    /// The CRC does not match: damaged.
    #[error("the CRC does not match")]
    Crc,
    /// The CRC fits, but the content contradicts itself: the program that wrote it was wrong.
    #[error("it contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// Too short for what it says of itself, or too long.
    #[error("the file's length does not match")]
    Length,
    /// It does not begin as a checkpoint does.
    #[error("not the header of a checkpoint")]
    NotACheckpoint,
    /// A section of a kind that this version does not have. Use the version that wrote it.
    #[error("a section of kind {0}, which this program does not read")]
    SectionKind(u16),
    /// Another version wrote it: use that version.
    #[error("a checkpoint of version {0}; this program reads version {CHECKPOINT_VERSION}")]
    Version(u16),
}

impl CheckpointErrorKind {
    /// Whether nothing is damaged: another version of this program wrote it.
    pub(crate) fn is_of_another_version(self) -> bool {
        match self {
            Self::SectionKind(_) | Self::Version(_) => true,
            Self::Crc | Self::Inconsistent(_) | Self::Length | Self::NotACheckpoint => false,
        }
    }
}

/// A section would be larger than 2 GiB: the log has outgrown its checkpoints. The ones before stay good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectionTooLarge {
    /// What is known of a shard.
    #[error("what is known of shard {} takes more than 2 GiB of a checkpoint", .0.0)]
    Shard(Shard),
    /// The list of units.
    #[error("the list of units takes more than 2 GiB of a checkpoint")]
    Units,
}
