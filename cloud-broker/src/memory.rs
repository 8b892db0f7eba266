//! Memory that many connections share.

use std::sync::Arc;

use broker_core::FetchAnswer;
use broker_kafka::ApiKey;
use broker_kafka::frame::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, decode_budget};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units of this many.
const UNIT_BYTES: usize = 1 << 10;

/// Kafka frames up to this size have a budget of their own, so that those who announce large frames and do not send them
/// hold up only each other.
const SMALL_FRAME_BYTES: usize = 64 << 10;

/// Memory that something holds; given back when dropped.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

/// A budget of bytes. Who asks for more than all of it gets all of it.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    units: u32,
    free: Arc<Semaphore>,
}

impl MemoryBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units, free: Arc::new(Semaphore::new(units as usize)) }
    }

    /// The whole budget, in bytes.
    fn bytes(&self) -> usize {
        self.units as usize * UNIT_BYTES
    }

    /// Waits for `bytes`. Nothing is held for 0 bytes.
    pub(crate) async fn acquire(&self, bytes: usize) -> Permit {
        if bytes == 0 {
            return None;
        }
        // The semaphore is never closed.
        Arc::clone(&self.free).acquire_many_owned(self.units_of(bytes)).await.ok()
    }

    /// `bytes`, if they are free now.
    fn try_acquire(&self, bytes: usize) -> Permit {
        Arc::clone(&self.free).try_acquire_many_owned(self.units_of(bytes)).ok()
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units)
    }
}

/// Memory for records that are gathered for responses, which is held until the client has taken them. Clients that take their
/// time may hold all there is for answers of the size that they asked for; then there are only short ones, so that those who
/// do not wait for a network go on.
#[derive(Debug, Clone)]
pub(crate) struct ResponseMemory {
    /// Three quarters.
    whole: MemoryBudget,
    /// A quarter.
    short: MemoryBudget,
}

/// An answer is cut to this, or to its first piece, when there is no memory for all of it.
const SHORT_ANSWER_BYTES: usize = 256 << 10;

impl ResponseMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { whole: MemoryBudget::new(bytes / 4 * 3), short: MemoryBudget::new(bytes / 4) }
    }

    /// Room for what the answer gathers, which is cut short if there is none for all of it.
    pub(crate) async fn gather(&self, answer: &mut FetchAnswer) -> Permit {
        let bytes = answer.gathered_bytes();
        if bytes == 0 {
            return None;
        }
        let whole = self.whole.try_acquire(bytes);
        if whole.is_some() {
            return whole;
        }
        answer.shorten(SHORT_ANSWER_BYTES);
        self.short.acquire(answer.gathered_bytes()).await
    }
}

/// How the memory for requests is shared out. What appends waits for the disk and keeps its memory meanwhile, so nothing
/// else may need that memory: consumers are served while producers wait.
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    /// Ten sixteenths: Kafka's Produce.
    appends: KafkaMemory,
    /// Two sixteenths: all other Kafka requests.
    reads: KafkaMemory,
    /// A quarter: uplink frames, which Kafka clients cannot hold up.
    pub(crate) uplink: MemoryBudget,
}

/// The memory of one kind of Kafka requests.
#[derive(Debug, Clone)]
pub(crate) struct KafkaMemory {
    /// Frames that are large.
    large: MemoryBudget,
    /// Frames that are small.
    small: MemoryBudget,
    /// What decoding takes. Apart from the frames', because a frame that waits for it holds its bytes: from one budget,
    /// frames could take everything and wait for each other.
    decoding: MemoryBudget,
}

/// What a request holds until the engine has taken it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    _frame: Permit,
    _decoding: Permit,
}

impl Held {
    /// Only a frame's bytes.
    pub(crate) fn frame(frame: Permit) -> Self {
        Self { _frame: frame, _decoding: None }
    }
}

impl KafkaMemory {
    /// Waits for room for a frame's bytes, before they are read.
    pub(crate) async fn frame(&self, bytes: usize) -> Permit {
        if bytes <= SMALL_FRAME_BYTES {
            self.small.acquire(bytes).await
        } else {
            self.large.acquire(bytes).await
        }
    }

    /// Waits for room to decode a frame that has arrived.
    pub(crate) async fn decoding(&self, frame: Permit, bytes: usize) -> Held {
        Held { _frame: frame, _decoding: self.decoding.acquire(decode_budget(bytes)).await }
    }
}

impl RequestMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            appends: KafkaMemory {
                large: MemoryBudget::new(bytes / 2),
                small: MemoryBudget::new(bytes / 16),
                decoding: MemoryBudget::new(bytes / 16),
            },
            // Their frames have 1 MiB at most, and are gone as soon as the engine looks.
            reads: KafkaMemory {
                large: MemoryBudget::new(bytes / 32),
                small: MemoryBudget::new(bytes / 32),
                decoding: MemoryBudget::new(bytes / 16),
            },
            uplink: MemoryBudget::new(bytes / 4),
        }
    }

    /// Longest Kafka frame that is taken: two of them always have room.
    pub(crate) fn kafka_frame_bytes_max(&self) -> usize {
        (self.appends.large.bytes() / 2).min(FRAME_BYTES_MAX)
    }

    /// The memory of the request that begins with `head`.
    pub(crate) fn kafka(&self, head: [u8; FRAME_HEAD_BYTES]) -> &KafkaMemory {
        let [_, _, _, _, key @ ..] = head;
        if i16::from_be_bytes(key) == ApiKey::Produce as i16 { &self.appends } else { &self.reads }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn the_budget_is_held_and_given_back() {
        let budget = MemoryBudget::new(10 << 10);
        assert!(budget.acquire(0).await.is_none());
        let most = budget.acquire(usize::MAX).await;
        assert!(most.is_some());
        let mut waiting = std::pin::pin!(budget.acquire(1));
        let held = timeout(SHORT, waiting.as_mut()).await;
        assert!(held.is_err(), "all is taken");
        drop(most);
        assert!(waiting.await.is_some());
    }

    #[tokio::test]
    async fn large_frames_hold_up_neither_small_ones_nor_gateways() {
        let memory = RequestMemory::new(64 << 20);
        let produce = memory.kafka([0; FRAME_HEAD_BYTES]);
        let most = memory.kafka_frame_bytes_max();
        let _first = produce.frame(most).await;
        let _second = produce.frame(most).await;
        assert!(timeout(SHORT, produce.frame(most)).await.is_err());
        let small = produce.frame(SMALL_FRAME_BYTES).await;
        produce.decoding(small, SMALL_FRAME_BYTES).await;
        assert!(memory.uplink.acquire(1 << 20).await.is_some());
    }

    #[tokio::test]
    async fn appends_that_wait_hold_up_nothing_that_reads() {
        let memory = RequestMemory::new(64 << 20);
        let produce = memory.kafka([0; FRAME_HEAD_BYTES]);
        let mut taken = Vec::new();
        for budget in [&produce.large, &produce.small, &produce.decoding] {
            taken.push(budget.acquire(usize::MAX).await);
        }
        assert!(timeout(SHORT, produce.frame(1)).await.is_err());
        assert!(timeout(SHORT, produce.decoding(None, 1)).await.is_err());
        for key in [ApiKey::Fetch, ApiKey::Metadata, ApiKey::ListOffsets] {
            let [high, low] = (key as i16).to_be_bytes();
            let reads = memory.kafka([0, 0, 0, 0, high, low]);
            for bytes in [SMALL_FRAME_BYTES, 1 << 20] {
                let frame = timeout(SHORT, reads.frame(bytes)).await.unwrap();
                timeout(SHORT, reads.decoding(frame, bytes)).await.unwrap();
            }
        }
    }
}
