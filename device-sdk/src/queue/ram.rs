//! A queue in RAM: gone with the power, so its queue id must be new at every boot.
//!
//! Batches lie packed at the beginning of one array and move up when one before them is forgotten. Moving a few KiB
//! costs less than what a ring would waste at its end, and any batch can be forgotten, not only the oldest.

use wire::seq::DeviceSeq;

use super::{QUEUED_BYTES_MAX, Queue, QueueError, Queued};

/// Bytes kept with each batch: first sequence, count, length.
const HEAD: usize = 8 + 2 + 2;

/// A queue of `BYTES` bytes, each batch taking 12 more than its own length.
#[derive(Debug, Clone)]
pub struct RamQueue<const BYTES: usize> {
    bytes: [u8; BYTES],
    used: usize,
}

impl<const BYTES: usize> RamQueue<BYTES> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; BYTES], used: 0 }
    }

    /// Where the batch at `index` begins, and how long it is with its head.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let mut at = 0;
        for _ in 0..index {
            at += self.len_at(at)?;
        }
        Some((at, self.len_at(at)?))
    }

    /// Length with head of the batch that begins at `at`.
    fn len_at(&self, at: usize) -> Option<usize> {
        let head = self.bytes[..self.used].get(at..at + HEAD)?;
        Some(HEAD + usize::from(u16::from_le_bytes([head[10], head[11]])))
    }
}

impl<const BYTES: usize> Default for RamQueue<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Queue for RamQueue<BYTES> {
    fn push(&mut self, batch: &Queued<'_>) -> Result<(), QueueError> {
        let len = match u16::try_from(batch.bytes.len()) {
            Ok(len) if usize::from(len) <= self.capacity() => len,
            _ => return Err(QueueError::TooLarge),
        };
        let end = self.used + HEAD + usize::from(len);
        let Some(place) = self.bytes.get_mut(self.used..end) else {
            return Err(QueueError::Full);
        };
        let (head, body) = place.split_at_mut(HEAD);
        head[..8].copy_from_slice(&batch.first.0.to_le_bytes());
        head[8..10].copy_from_slice(&batch.count.to_le_bytes());
        head[10..].copy_from_slice(&len.to_le_bytes());
        body.copy_from_slice(batch.bytes);
        self.used = end;
        Ok(())
    }

    fn peek(&mut self, index: usize) -> Option<Queued<'_>> {
        let (at, len) = self.place(index)?;
        let (head, bytes) = self.bytes.get(at..at + len)?.split_at(HEAD);
        let (first, rest) = head.split_first_chunk::<8>()?;
        let (count, _) = rest.split_first_chunk::<2>()?;
        let first = DeviceSeq(u64::from_le_bytes(*first));
        Some(Queued { first, count: u16::from_le_bytes(*count), bytes })
    }

    fn remove(&mut self, index: usize) {
        if let Some((at, len)) = self.place(index) {
            self.bytes.copy_within(at + len..self.used, at);
            self.used -= len;
        }
    }

    fn room(&self) -> usize {
        (BYTES - self.used).saturating_sub(HEAD).min(QUEUED_BYTES_MAX)
    }

    fn capacity(&self) -> usize {
        BYTES.saturating_sub(HEAD).min(QUEUED_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn batch(first: u64, bytes: &[u8]) -> Queued<'_> {
        Queued { first: DeviceSeq(first), count: 3, bytes }
    }

    #[test]
    fn it_is_full_to_the_byte() {
        let mut queue = RamQueue::<40>::new();
        assert_eq!((queue.capacity(), queue.room()), (28, 28));
        assert_eq!(queue.push(&batch(1, &[7; 29])), Err(QueueError::TooLarge));
        assert_eq!(queue.push(&batch(1, &[7; 8])), Ok(()));
        assert_eq!(queue.room(), 8);
        assert_eq!(queue.push(&batch(4, &[8; 9])), Err(QueueError::Full));
        assert_eq!(queue.push(&batch(4, &[8; 8])), Ok(()));
        assert_eq!(queue.room(), 0);
        assert_eq!(queue.peek(1), Some(batch(4, &[8; 8])));
        assert_eq!(queue.peek(2), None);
        assert_eq!(batch(4, &[]).last(), DeviceSeq(6));
    }

    #[test]
    fn a_queue_too_small_for_a_head_takes_nothing() {
        let mut queue = RamQueue::<5>::new();
        assert_eq!((queue.capacity(), queue.room()), (0, 0));
        assert_eq!(queue.push(&batch(1, &[])), Err(QueueError::Full));
        assert_eq!(queue.peek(0), None);
        queue.remove(0);
    }

    #[test]
    fn a_batch_is_at_most_65535_bytes_long() {
        let mut queue = RamQueue::<{ 1 << 17 }>::new();
        let bytes = std::vec![1; QUEUED_BYTES_MAX + 1];
        assert_eq!(queue.capacity(), QUEUED_BYTES_MAX);
        assert_eq!(queue.push(&batch(1, &bytes)), Err(QueueError::TooLarge));
        assert_eq!(queue.push(&batch(1, &bytes[1..])), Ok(()));
        assert_eq!(queue.peek(0).map(|batch| batch.bytes.len()), Some(QUEUED_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_list_would_hold(
            steps in prop::collection::vec((any::<bool>(), 0..6_usize, 0..20_usize), 0..200),
        ) {
            let mut queue = RamQueue::<100>::new();
            let mut list: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            for (number, (push, index, len)) in (0_u64..).zip(steps) {
                if push {
                    let bytes = std::vec![number as u8; len];
                    let used: usize = list.iter().map(|(_, bytes)| 12 + bytes.len()).sum();
                    let pushed = queue.push(&batch(number, &bytes)).is_ok();
                    prop_assert_eq!(pushed, used + 12 + len <= 100);
                    if pushed {
                        list.push_back((number, bytes));
                    }
                } else {
                    list.remove(index);
                    queue.remove(index);
                }
                for (index, (first, bytes)) in list.iter().enumerate() {
                    prop_assert_eq!(queue.peek(index), Some(batch(*first, bytes)));
                }
                prop_assert_eq!(queue.peek(list.len()), None);
            }
        }
    }
}
