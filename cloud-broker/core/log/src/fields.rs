//! Little-endian fields of the log's formats. Every reader takes a fixed-size array and a constant position in it, so a
//! field outside its array is a mistake that the first test run shows, never something that input can cause.

pub(crate) fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn i64_at<const N: usize>(bytes: &[u8; N], at: usize) -> i64 {
    i64::from_le_bytes(field(bytes, at))
}

pub(crate) fn field<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}

pub(crate) fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    bytes[at..at + M].copy_from_slice(&value);
}

/// Reads fields one behind the other. What is asked for beyond the end is `None`, so a length or a count that somebody made
/// up costs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `count` pieces of `N` bytes, if there are so many.
    pub(crate) fn take_list<const N: usize>(&mut self, count: u32) -> Option<&'a [[u8; N]]> {
        let len = usize::try_from(count).ok()?.checked_mul(N)?;
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken.as_chunks().0)
    }
}
