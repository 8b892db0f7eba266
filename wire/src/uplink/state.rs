//! What the broker knows of a stream, and says in answer to everything.

use serde::{Deserialize, Serialize};

use crate::ids::{Partition, ProducerId, Tag, TopicId};
use crate::seq::{StreamEpoch, StreamSeq};

/// Names an uplink stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The lane of the spool.
    pub pid: ProducerId,
    /// The topic, by id, so that a topic made anew is another stream.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
}

/// Where a stream stands: which epoch, the last sequence stored in it, and the tag of the batch that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Epoch, changed only by RESET.
    pub epoch: StreamEpoch,
    /// Last sequence stored under this epoch; `None` right after a RESET.
    pub last: Option<StreamSeq>,
    /// Tag of the last batch, or of the RESET.
    pub tag: Tag,
}

impl StreamState {
    /// The state that a stream has before anything was stored: rule B1 lets (0, 0, nil) be its first batch.
    pub const UNKNOWN: Self = Self { epoch: StreamEpoch::FIRST, last: None, tag: Tag::NIL };

    /// The sequence that the next batch must begin with.
    #[must_use]
    pub fn next(&self) -> StreamSeq {
        self.last.map_or(StreamSeq::ZERO, |last| last.plus(1))
    }
}
