//! Writes messages. Large byte fields are not copied: they become chunks of their own for a vectored write.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Form, TEXT_BYTES_MAX, Text, Uuid, WireError};

/// Byte fields up to this long are copied: below it a copy is cheaper than one more chunk.
pub const BLOB_BYTES_COPIED_MAX: usize = 2048;

/// A message under construction.
#[derive(Debug, Default)]
pub struct Writer {
    own: BytesMut,
    /// Blobs that are not copied, each with how many bytes of `own` come before it.
    blobs: Vec<(usize, Bytes)>,
    blob_bytes: usize,
}

impl Writer {
    /// A writer that starts with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { own: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.blob_bytes
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, in order: own bytes and large blobs by turns.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Bytes> {
        let mut own = self.own.freeze();
        let mut chunks = Vec::with_capacity(2 * self.blobs.len() + 1);
        let mut written = 0;
        for (before, blob) in self.blobs {
            if before > written {
                chunks.push(own.split_to(before - written));
                written = before;
            }
            chunks.push(blob);
        }
        if !own.is_empty() {
            chunks.push(own);
        }
        chunks
    }

    /// What was written behind its length as an `i32`: a frame.
    ///
    /// # Errors
    /// [`WireError::Length`] for more than 2³¹ − 1 bytes.
    pub(crate) fn into_frame(mut self) -> Result<Vec<Bytes>, WireError> {
        let length = i32::try_from(self.len() - LENGTH_BYTES).map_err(|_| WireError::Length)?;
        self.own[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(self.into_chunks())
    }

    /// A writer that leaves room for the length which [`Self::into_frame`] fills in.
    pub(crate) fn frame() -> Self {
        let mut writer = Self::with_capacity(FRAME_BYTES_FIRST);
        writer.own.put_bytes(0, LENGTH_BYTES);
        writer
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.own.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.own.put_u8(value as u8);
    }

    /// A length or count of 32 bits; `None` is null.
    fn length_32(&mut self, form: Form, length: Option<usize>) -> Result<(), WireError> {
        let length = length.map(i32::try_from).transpose();
        let length = length.map_err(|_| WireError::Length)?;
        match form {
            Form::Classic => self.i32(length.unwrap_or(-1)),
            Form::Flexible => self.varint(length.map_or(0, |length| length.cast_unsigned() + 1)),
        }
        Ok(())
    }

    /// A byte field that may be null.
    ///
    /// # Errors
    /// [`WireError::Length`] for more than 2³¹ − 1 bytes.
    pub fn optional_blob(&mut self, form: Form, blob: Option<&Bytes>) -> Result<(), WireError> {
        self.length_32(form, blob.map(Bytes::len))?;
        let Some(blob) = blob else { return Ok(()) };
        if blob.len() <= BLOB_BYTES_COPIED_MAX {
            self.own.put_slice(blob);
        } else {
            self.blob_bytes += blob.len();
            self.blobs.push((self.own.len(), blob.clone()));
        }
        Ok(())
    }

    /// A byte field; errors as [`Self::optional_blob`].
    pub fn blob(&mut self, form: Form, blob: &Bytes) -> Result<(), WireError> {
        self.optional_blob(form, Some(blob))
    }

    /// A text field that may be null.
    ///
    /// # Errors
    /// [`WireError::Length`] for more than [`TEXT_BYTES_MAX`] bytes.
    pub fn optional_text(&mut self, form: Form, text: Option<&Text>) -> Result<(), WireError> {
        let length = text.map_or(0, |text| text.len());
        if length > TEXT_BYTES_MAX {
            return Err(WireError::Length);
        }
        match (form, text) {
            (Form::Flexible, _) => self.length_32(form, text.map(|_| length))?,
            (Form::Classic, None) => self.i16(-1),
            (Form::Classic, Some(_)) => self.u16(length as u16),
        }
        if let Some(text) = text {
            self.own.put_slice(text.as_bytes());
        }
        Ok(())
    }

    /// A text field; errors as [`Self::optional_text`].
    pub fn text(&mut self, form: Form, text: &Text) -> Result<(), WireError> {
        self.optional_text(form, Some(text))
    }

    /// An array that may be null, each element by `write_one`.
    ///
    /// # Errors
    /// [`WireError::Length`] for more than 2³¹ − 1 elements, and those of `write_one`.
    pub fn optional_array<T>(
        &mut self,
        form: Form,
        array: Option<&[T]>,
        mut write_one: impl FnMut(&mut Self, &T) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.length_32(form, array.map(<[T]>::len))?;
        for element in array.unwrap_or_default() {
            write_one(self, element)?;
        }
        Ok(())
    }

    /// An array; errors as [`Self::optional_array`].
    pub fn array<T>(
        &mut self,
        form: Form,
        array: &[T],
        write_one: impl FnMut(&mut Self, &T) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.optional_array(form, Some(array), write_one)
    }

    /// A struct that may be null: −1 says so, 1 that it follows.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn optional<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let Some(value) = value else {
            self.i8(-1);
            return Ok(());
        };
        self.i8(1);
        write(self, value)
    }

    /// The tagged fields after a struct that has some.
    ///
    /// # Errors
    /// [`WireError::Length`] if one is longer than its size field can say; `Version` if there are some in a form
    /// without them.
    pub fn tags(&mut self, form: Form, tags: Tags) -> Result<(), WireError> {
        if form == Form::Classic {
            return match tags.fields.is_empty() {
                true => Ok(()),
                false => Err(WireError::Version),
            };
        }
        let count = u32::try_from(tags.fields.len()).map_err(|_| WireError::Length)?;
        self.varint(count);
        for (tag, field) in tags.fields {
            self.varint(tag);
            self.varint(u32::try_from(field.len()).map_err(|_| WireError::Length)?);
            for chunk in field.into_chunks() {
                self.own.put_slice(&chunk);
            }
        }
        Ok(())
    }

    /// The tagged fields after a struct that has none.
    pub fn no_tags(&mut self, form: Form) {
        if form == Form::Flexible {
            self.varint(0);
        }
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.own.put_u8(u8::from(value));
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.own.put_slice(&value.0);
    }
}

/// The tagged fields of one struct, which must be known before their count can be written.
#[derive(Debug, Default)]
pub struct Tags {
    fields: Vec<(u32, Writer)>,
}

impl Tags {
    /// Adds a field; tags must rise.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn add(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut field = Writer::default();
        write(&mut field)?;
        self.fields.push((tag, field));
        Ok(())
    }
}

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Room that a frame starts with: most answers without records fit.
const FRAME_BYTES_FIRST: usize = 512;

macro_rules! numbers {
    ($($name:ident)*) => {
        impl Writer {
            $(
                /// A big-endian number.
                pub fn $name(&mut self, value: $name) {
                    self.own.put_slice(&value.to_be_bytes());
                }
            )*
        }
    };
}

numbers! { i8 i16 u16 i32 u32 i64 f64 }
