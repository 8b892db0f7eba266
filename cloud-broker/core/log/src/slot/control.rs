//! The bodies of slots that carry no batches: events of the chain (DESIGN §8).

use wire::ids::Incarnation;

use super::{KIND_OPEN, KIND_RELEASE, KIND_SEAL};
use crate::fields::{field, u32_at, u64_at};
use crate::ids::SlotNo;

/// In place of a shard's number: every shard. A broker on a local store owns all of them, always.
pub const ALL_SHARDS: u32 = u32::MAX;

const PREDECESSOR_BYTES: usize = 24;
const SHARD_BYTES: usize = 8;

/// A chain that another one goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Whose chain.
    pub incarnation: Incarnation,
    /// The slot behind its last one: what lies there or further is not part of the log.
    pub end: SlotNo,
}

/// A shard and the epoch its new owner stores batches under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardEpoch {
    /// The shard, or [`ALL_SHARDS`].
    pub shard: u32,
    /// Its epoch.
    pub epoch: u32,
}

/// The first slot of an incarnation: what it goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// The chains before this one; none for a new log.
    pub predecessors: Vec<Predecessor>,
    /// The shards taken over from them.
    pub shards: Vec<ShardEpoch>,
}

/// What a slot without batches says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlBody {
    /// A life begins.
    Open(Open),
    /// The incarnation gives this shard away and never touches it again.
    Release {
        /// The shard.
        shard: u32,
    },
    /// Another incarnation has ended this chain.
    Seal {
        /// By whom.
        by: Incarnation,
    },
}

impl ControlBody {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => KIND_OPEN,
            Self::Release { .. } => KIND_RELEASE,
            Self::Seal { .. } => KIND_SEAL,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Open(open) => open.encode(),
            Self::Release { shard } => shard.to_le_bytes().to_vec(),
            Self::Seal { by } => by.0.to_vec(),
        }
    }

    /// `None` if `body` is not exactly one of this kind.
    pub(super) fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        match kind {
            KIND_OPEN => Open::decode(body).map(Self::Open),
            KIND_RELEASE => {
                body.try_into().ok().map(|shard| Self::Release { shard: u32::from_le_bytes(shard) })
            }
            KIND_SEAL => body.try_into().ok().map(|by| Self::Seal { by: Incarnation(by) }),
            _ => None,
        }
    }
}

impl Open {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for count in [self.predecessors.len(), self.shards.len()] {
            let count = u32::try_from(count).expect("an incarnation owns fewer than 2^32 shards");
            out.extend_from_slice(&count.to_le_bytes());
        }
        for predecessor in &self.predecessors {
            out.extend_from_slice(&predecessor.incarnation.0);
            out.extend_from_slice(&predecessor.end.0.to_le_bytes());
        }
        for shard in &self.shards {
            out.extend_from_slice(&shard.shard.to_le_bytes());
            out.extend_from_slice(&shard.epoch.to_le_bytes());
        }
        out
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (counts, rest) = body.split_first_chunk::<8>()?;
        let predecessor_bytes = (u32_at(counts, 0) as usize).checked_mul(PREDECESSOR_BYTES)?;
        let shard_bytes = (u32_at(counts, 4) as usize).checked_mul(SHARD_BYTES)?;
        let (predecessors, shards) = rest.split_at_checked(predecessor_bytes)?;
        if shards.len() != shard_bytes {
            return None;
        }
        let (predecessors, _) = predecessors.as_chunks::<PREDECESSOR_BYTES>();
        let (shards, _) = shards.as_chunks::<SHARD_BYTES>();
        Some(Self {
            predecessors: predecessors
                .iter()
                .map(|bytes| Predecessor {
                    incarnation: Incarnation(field(bytes, 0)),
                    end: SlotNo(u64_at(bytes, 16)),
                })
                .collect(),
            shards: shards
                .iter()
                .map(|bytes| ShardEpoch { shard: u32_at(bytes, 0), epoch: u32_at(bytes, 4) })
                .collect(),
        })
    }
}
