//! Schema keys: eight bytes in every payload that say how to read it.

use serde::{Deserialize, Serialize};

/// Names the layout of a payload: FNV-1a (64 bits) over the layout's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaKey(pub [u8; 8]);

impl SchemaKey {
    /// The key of a layout with this description. The description is part of the contract: one changed byte is another
    /// layout.
    #[must_use]
    pub const fn of(description: &str) -> Self {
        let bytes = description.as_bytes();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut i = 0;
        while i < bytes.len() {
            hash ^= bytes[i] as u64;
            hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        Self(hash.to_le_bytes())
    }
}
