//! Checked strings that share the buffer they were read from.

use std::fmt;

use bytes::Bytes;

/// An MQTT "UTF-8 encoded string" (v5 1.5.4): valid UTF-8 without U+0000. Cloning it copies no bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// Checks and takes a string; `None` if it is not UTF-8 or holds U+0000.
    #[must_use]
    pub fn new(bytes: Bytes) -> Option<Self> {
        (!bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok()).then_some(Self(bytes))
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("`new` checked it, and bytes do not change")
    }

    /// The string's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The string's bytes, sharing its buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The same string in a buffer of its own, for one that is kept long.
    #[must_use]
    pub(super) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Whether this can name a topic: not empty and no wildcard (v5 4.7.1, 4.7.3).
    #[must_use]
    pub(super) fn names_a_topic(&self) -> bool {
        !self.0.is_empty() && !self.0.iter().any(|byte| matches!(byte, b'+' | b'#'))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A topic name that a publish may have: at least one byte, no wildcard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Text);

impl Topic {
    /// Checks and takes a topic name; `None` if it is empty or holds a wildcard.
    #[must_use]
    pub fn new(text: Text) -> Option<Self> {
        text.names_a_topic().then_some(Self(text))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name's bytes, sharing their buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// Whether the name is reserved for the server's own use (v5 4.7.2).
    #[must_use]
    pub(super) fn is_reserved(&self) -> bool {
        self.0.as_bytes().first() == Some(&b'$')
    }

    /// Length of the name in bytes.
    #[must_use]
    pub(super) fn byte_len(&self) -> usize {
        self.0.as_bytes().len()
    }

    /// The same name in a buffer of its own, for one that is kept long.
    #[must_use]
    pub(super) fn detached(&self) -> Self {
        Self(self.0.detached())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
