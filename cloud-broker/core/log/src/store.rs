//! What the engine needs of the place where the log is kept, as small traits: a folder of files, a simulated disk, later a
//! bucket. One conformance suite holds all of them (`store::conformance`, feature `sim`).
//!
//! All calls block and return when what they promise is so; the shell decides on which thread that is.

#[cfg(feature = "sim")]
pub mod conformance;

use std::ops::Range;

use bytes::Bytes;
use wire::ids::Incarnation;

use crate::ids::{FileNo, SlotNo, UnitId, UnitNo};
use crate::log::SlotToWrite;

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotPlace {
    /// Whose chain.
    pub incarnation: Incarnation,
    /// Which slot of it. A bucket finds a slot by these two.
    pub slot_no: SlotNo,
    /// The WAL file. A folder finds a slot by this and the position.
    pub file_no: FileNo,
    /// First byte in the file.
    pub pos: u32,
}

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put<E> {
    /// It is durable.
    Created,
    /// Its place is taken: nothing was written. In a bucket this may be the same slot, landed by an earlier attempt; ask
    /// with [`SlotStore::get`] and compare.
    Exists,
    /// Nobody knows whether it is durable, or will be. On a local disk the incarnation has to end.
    Unknown(E),
}

/// Takes slots to where they are durable, in their order, one at a time.
pub trait SlotStore {
    /// Why a call fails.
    type Error;

    /// Writes a slot if its place is free, and returns when it is durable.
    fn put_new(&mut self, slot: &SlotToWrite) -> Put<Self::Error>;

    /// The slot at `place`, whole, if an intact one of this incarnation and number is there.
    ///
    /// # Errors
    /// The store's own: nothing is known then.
    fn get(&mut self, place: &SlotPlace) -> Result<Option<Bytes>, Self::Error>;
}

/// Reads what units hold.
pub trait UnitSource {
    /// Why a read fails.
    type Error;

    /// The `len` bytes of a unit from `pos` on, fewer only at its end.
    ///
    /// # Errors
    /// The store's own.
    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, Self::Error>;

    /// The bytes of `unit` in `range` will be read soon, in small pieces: a hint.
    fn will_need(&mut self, unit: UnitId, range: Range<u64>) {
        let _ = (unit, range);
    }
}

/// Keeps units: sealed WAL files and what was made of them.
pub trait UnitStore: UnitSource {
    /// A unit that is being written.
    type Writer: UnitWrite<Error = Self::Error>;

    /// Every unit that exists under its name, with its length, in any order; WAL files are not among them.
    ///
    /// # Errors
    /// The store's own.
    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, Self::Error>;

    /// Begins a unit. It has no name until it is finished; what a crash leaves of it is removed at the next start.
    ///
    /// # Errors
    /// The store's own.
    fn create(&mut self, unit: UnitNo) -> Result<Self::Writer, Self::Error>;

    /// Writes the footer of a WAL file that gets no more slots, at `pos`, and makes the file end behind it. Durable on return.
    /// Also if it is there already, from before a crash.
    ///
    /// # Errors
    /// The store's own; the file is as good as before for replaying it.
    fn seal(&mut self, file_no: FileNo, pos: u64, footer: &[u8]) -> Result<(), Self::Error>;

    /// Gives the space of a unit or a WAL file back, or keeps a WAL file for recycling. Nothing happens if it does not exist.
    ///
    /// # Errors
    /// The store's own; it can be tried again.
    fn free(&mut self, unit: UnitId) -> Result<(), Self::Error>;
}

/// A unit that is being written. Dropped without [`UnitWrite::finish`], it is given up.
pub trait UnitWrite {
    /// Why a call fails.
    type Error;

    /// Adds bytes at its end.
    ///
    /// # Errors
    /// The store's own; the unit has to be given up.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes the unit durable under its name.
    ///
    /// # Errors
    /// The store's own; the unit has to be given up.
    fn finish(self) -> Result<(), Self::Error>;
}

/// Which checkpoint: the `n`th of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointId {
    /// Whose.
    pub incarnation: Incarnation,
    /// Counts through all incarnations of a local log, so that a greater one is the later one.
    pub n: u64,
}

/// Keeps checkpoints.
pub trait CheckpointStore {
    /// Why a call fails.
    type Error;

    /// Every checkpoint that exists, in any order.
    ///
    /// # Errors
    /// The store's own.
    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, Self::Error>;

    /// A checkpoint's bytes.
    ///
    /// # Errors
    /// The store's own.
    fn get_checkpoint(&mut self, id: CheckpointId) -> Result<Bytes, Self::Error>;

    /// Stores a checkpoint, the parts one behind the other; durable under its name on return, and whole or not there after a
    /// crash.
    ///
    /// # Errors
    /// The store's own; the checkpoints before it are as they were.
    fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), Self::Error>;

    /// Removes a checkpoint. Nothing happens if it does not exist.
    ///
    /// # Errors
    /// The store's own; it can be tried again.
    fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), Self::Error>;
}
