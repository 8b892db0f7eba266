//! Reads one frame, within a budget of memory.

use std::mem;

use bytes::Bytes;

use super::{Form, TEXT_BYTES_MAX, Text, Uuid, WireError};

/// What an array costs of the budget besides its elements: the allocator's own overhead, rounded up.
pub const ARRAY_BYTES: usize = 32;

/// Most bytes of a varint that holds 32 bits.
const VARINT_BYTES_MAX: u32 = 5;

/// What a message did with a tagged field that it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagUse {
    /// It read the field, to its last byte.
    Read,
    /// It does not know the tag and read nothing: the field is skipped.
    Unknown,
}

/// A position in one frame, and the memory that what is read may still take.
///
/// Every method that reads fails with [`WireError`] where the frame does not hold what is asked for: `End` behind its
/// last byte, `Length`, `Null`, `Utf8`, `Tags` or `Budget` for the field itself. The reader is of no use after that.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
    budget: usize,
}

impl<'a> Reader<'a> {
    /// Reads `frame` from its start; the decoded message may take `budget` bytes of memory beside it.
    #[must_use]
    pub fn new(frame: &'a Bytes, budget: usize) -> Self {
        Self { frame, rest: frame, budget }
    }

    /// Bytes of the budget that are not spent.
    #[must_use]
    pub fn budget_left(&self) -> usize {
        self.budget
    }

    /// Bytes of the frame that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Checks that the whole frame was read.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A varint of 32 bits. More bytes or bits than that are refused.
    fn varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0_u32;
        for at in 0..VARINT_BYTES_MAX {
            let [byte] = self.take_array()?;
            let bits = u32::from(byte & 0x7f);
            let shifted = bits << (7 * at);
            if shifted >> (7 * at) != bits {
                break;
            }
            value |= shifted;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Length)
    }

    /// Length or count behind a varint; `None` is null.
    fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        let length = self.varint()?.checked_sub(1);
        Ok(length.map(|length| length as usize))
    }

    fn length_32(&mut self, form: Form) -> Result<Option<usize>, WireError> {
        match form {
            Form::Classic => classic_length(self.i32()?),
            Form::Flexible => self.compact_length(),
        }
    }

    /// Bytes of the frame as they are, or null.
    pub fn optional_blob(&mut self, form: Form) -> Result<Option<Bytes>, WireError> {
        let Some(length) = self.length_32(form)? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        Ok(Some(self.frame.slice_ref(bytes)))
    }

    /// Bytes of the frame as they are.
    pub fn blob(&mut self, form: Form) -> Result<Bytes, WireError> {
        self.optional_blob(form)?.ok_or(WireError::Null)
    }

    /// Text of the frame, or null.
    pub fn optional_text(&mut self, form: Form) -> Result<Option<Text>, WireError> {
        let length = match form {
            Form::Classic => classic_length(i32::from(self.i16()?))?,
            Form::Flexible => self.compact_length()?,
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > TEXT_BYTES_MAX {
            return Err(WireError::Length);
        }
        let bytes = self.take(length)?;
        Text::from_utf8(self.frame.slice_ref(bytes)).map(Some)
    }

    /// Text of the frame.
    pub fn text(&mut self, form: Form) -> Result<Text, WireError> {
        self.optional_text(form)?.ok_or(WireError::Null)
    }

    /// An array or null, each element by `read_one`, of at least `element_bytes_min` bytes in the frame (never 0; the
    /// generator sees to it). Nothing else in this crate allocates by what a peer says, and this only after the count
    /// was found possible for the bytes that are left and its memory was taken from the budget.
    pub fn optional_array<T>(
        &mut self,
        form: Form,
        element_bytes_min: usize,
        mut read_one: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<Vec<T>>, WireError> {
        let Some(count) = self.length_32(form)? else {
            return Ok(None);
        };
        if count > self.rest.len() / element_bytes_min.max(1) {
            return Err(WireError::Length);
        }
        let cost = count
            .checked_mul(mem::size_of::<T>())
            .and_then(|bytes| bytes.checked_add(ARRAY_BYTES))
            .ok_or(WireError::Budget)?;
        self.budget = self.budget.checked_sub(cost).ok_or(WireError::Budget)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(read_one(self)?);
        }
        Ok(Some(elements))
    }

    /// An array; see [`Self::optional_array`].
    pub fn array<T>(
        &mut self,
        form: Form,
        element_bytes_min: usize,
        read_one: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        self.optional_array(form, element_bytes_min, read_one)?.ok_or(WireError::Null)
    }

    /// A struct that may be null: one byte says so, in every form.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.i8()? < 0 {
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// The tagged fields after a struct. `read` is shown each tag with a reader over that field alone. Unknown ones
    /// are skipped and not kept.
    pub fn tags(
        &mut self,
        form: Form,
        mut read: impl FnMut(u32, &mut Self) -> Result<TagUse, WireError>,
    ) -> Result<(), WireError> {
        if form == Form::Classic {
            return Ok(());
        }
        let count = self.varint()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()?;
            if last.is_some_and(|last| tag <= last) {
                return Err(WireError::Tags);
            }
            last = Some(tag);
            let field = self.take(size as usize)?;
            let after = mem::replace(&mut self.rest, field);
            if read(tag, self)? == TagUse::Read && !self.rest.is_empty() {
                return Err(WireError::Tags);
            }
            self.rest = after;
        }
        Ok(())
    }

    /// The tagged fields after a struct that knows none.
    pub fn skip_tags(&mut self, form: Form) -> Result<(), WireError> {
        self.tags(form, |_, _| Ok(TagUse::Unknown))
    }

    /// One byte; anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.i8()? != 0)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.take_array().map(Uuid)
    }
}

macro_rules! numbers {
    ($($name:ident)*) => {
        impl Reader<'_> {
            $(
                /// A big-endian number.
                pub fn $name(&mut self) -> Result<$name, WireError> {
                    self.take_array().map($name::from_be_bytes)
                }
            )*
        }
    };
}

numbers! { i8 i16 u16 i32 u32 i64 f64 }

/// Refuses null unless this version allows it.
///
/// # Errors
/// [`WireError::Null`].
pub fn nullable_if<T>(allowed: bool, value: Option<T>) -> Result<Option<T>, WireError> {
    if value.is_none() && !allowed {
        return Err(WireError::Null);
    }
    Ok(value)
}

/// −1 is null; what else is negative is nothing.
fn classic_length(length: i32) -> Result<Option<usize>, WireError> {
    if length == -1 {
        return Ok(None);
    }
    usize::try_from(length).map(Some).map_err(|_| WireError::Length)
}
