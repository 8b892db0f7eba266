//! Where a slot is laid out.

use bytes::Bytes;

use super::SLOT_ALIGN;

/// A slot in the making. It begins at a multiple of [`SLOT_ALIGN`] in memory as it does in its file, so that a disk can
/// fetch it from here: nobody has to copy it once more.
#[derive(Debug)]
pub(super) struct SlotBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl SlotBuffer {
    /// Room for a slot of at most `len` bytes before it is padded, of which there are none yet.
    pub(super) fn new(len: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(len.next_multiple_of(SLOT_ALIGN) + SLOT_ALIGN);
        // A machine that cannot tell gets a slot that has to be copied.
        let start =
            Some(bytes.as_ptr().align_offset(SLOT_ALIGN)).filter(|start| *start < SLOT_ALIGN);
        let start = start.unwrap_or(0);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Bytes of the slot so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The slot so far.
    pub(super) fn slot(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Adds to it.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// Adds zeros until it has `len` bytes.
    pub(super) fn fill(&mut self, len: usize) {
        self.bytes.resize(self.start + len, 0);
    }

    /// The slot, padded to [`SLOT_ALIGN`].
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.fill(self.len().next_multiple_of(SLOT_ALIGN));
        Bytes::from(self.bytes).slice(self.start..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_in_memory_and_padded() {
        for len in [1, 64, SLOT_ALIGN - 1, SLOT_ALIGN, SLOT_ALIGN + 1, 1 << 20] {
            let mut buffer = SlotBuffer::new(len);
            buffer.fill(len - 1);
            buffer.push(&[7]);
            assert_eq!((buffer.len(), buffer.slot()[len - 1]), (len, 7));
            let slot = buffer.into_bytes();
            assert_eq!(slot.as_ptr().align_offset(SLOT_ALIGN), 0, "{len}");
            assert_eq!(slot.len(), len.next_multiple_of(SLOT_ALIGN));
            assert!(slot[len..].iter().all(|byte| *byte == 0));
        }
    }
}
