//! Kafka's primitive types, as far as these records need them.

use super::RecordError;

/// Writes the classic form: fixed-size lengths, −1 for null.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// How many elements follow.
    pub(super) fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("a group's members are far below 2^31"));
    }

    pub(super) fn text(&mut self, text: &str) {
        let length = i16::try_from(text.len());
        self.i16(length.expect("the coordinator's limits on texts are below 32 KiB"));
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn optional_text(&mut self, text: Option<&str>) {
        match text {
            None => self.i16(-1),
            Some(text) => self.text(text),
        }
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

/// Reads either form. Every method fails with `Malformed` where the bytes do not hold what is asked for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, flexible: false }
    }

    /// From here on, lengths are varints and structs end with tagged fields (KIP-482).
    pub(super) fn make_flexible(&mut self) {
        self.flexible = true;
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let taken = self.rest.split_at_checked(count);
        let (taken, rest) = taken.ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| RecordError::Malformed);
            }
        }
        Err(RecordError::Malformed)
    }

    /// A length; `None` is null. `classic` reads the fixed-size form.
    fn length(
        &mut self,
        classic: impl FnOnce(&mut Self) -> Result<i32, RecordError>,
    ) -> Result<Option<usize>, RecordError> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1).map(|length| length as usize));
        }
        match classic(self)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| RecordError::Malformed),
        }
    }

    pub(super) fn optional_text(&mut self) -> Result<Option<&'a str>, RecordError> {
        let Some(length) = self.length(|r| r.i16().map(i32::from))? else {
            return Ok(None);
        };
        // Kafka's own limit on any text; what is read here may have to be written again.
        if length > i16::MAX as usize {
            return Err(RecordError::Malformed);
        }
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Some).map_err(|_| RecordError::Malformed)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, RecordError> {
        self.optional_text()?.ok_or(RecordError::Malformed)
    }

    pub(super) fn blob(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.length(Self::i32)?.ok_or(RecordError::Malformed)?;
        self.take(length)
    }

    /// How many elements follow. Each takes at least one byte, so an impossible count ends with the bytes.
    pub(super) fn count(&mut self) -> Result<usize, RecordError> {
        self.length(Self::i32)?.ok_or(RecordError::Malformed)
    }

    /// The tagged fields after a struct: none of them is kept.
    pub(super) fn skip_tags(&mut self) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length as usize)?;
        }
        Ok(())
    }
}
