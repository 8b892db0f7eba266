//! Who still reads a unit.

use std::sync::Arc;

use crate::mutant::{self, Mutant};

/// Held by everybody who may still read a unit or a WAL file. The engine gives its space back only when nobody else holds
/// it: a file that is recycled under a reader would serve foreign bytes.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<()>);

impl Lease {
    /// Whether this is the only one.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1 || mutant::is(Mutant::FreedUnderReaders)
    }
}
