//! Bytes that are not what was written.

use super::item::Item;

/// Bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// First byte in the file.
    pub from: u64,
    /// The byte behind.
    pub to: u64,
    /// What is wrong there.
    pub what: String,
}

impl Damage {
    /// Bytes `from` to `to`.
    pub fn new(from: u64, to: u64, what: impl Into<String>) -> Self {
        Self { from, to, what: what.into() }
    }

    /// The line about it.
    pub fn item(&self) -> Item<'static> {
        Item::new("damage", 1)
            .with("from", self.from)
            .with("to", self.to)
            .with("what", self.what.clone())
    }
}
