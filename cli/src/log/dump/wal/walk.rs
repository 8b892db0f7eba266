//! From slot to slot through a WAL file, over damaged ones too.

use std::io::{self, Write};

use broker_log::{
    ExpectedSlot, SLOT_ALIGN, SLOT_HEADER_BYTES, Slot, SlotError, SlotHeader, SlotNo,
    WAL_FILE_HEADER_BYTES, WalFileHeader,
};
use bytes::Bytes;
use wire::ids::Incarnation;

use crate::log::dump::damage::Damage;
use crate::log::dump::file::LogFile;
use crate::log::dump::output::Output;

/// Bytes that a search reads at once.
const SEARCH_BYTES: usize = 1 << 20;

const _: () = assert!(SEARCH_BYTES.is_multiple_of(SLOT_ALIGN));

/// Where a walk is.
#[derive(Debug)]
pub struct Walk<'a> {
    file: &'a LogFile,
    incarnation: Incarnation,
    size: u64,
    pos: u64,
    slot_no: SlotNo,
    /// `None`: whatever the slot at this place says.
    prev_crc: Option<u32>,
}

/// A slot and its bytes.
#[derive(Debug)]
pub struct FoundSlot {
    /// First byte in the file.
    pub pos: u64,
    /// The slot.
    pub slot: Slot,
    /// Its bytes, with the padding behind it.
    pub bytes: Bytes,
}

/// What is at a place.
enum At {
    /// The expected slot.
    Slot(FoundSlot),
    /// The expected slot, whose inside cannot be.
    Unusable(SlotHeader, SlotError),
    /// Something else.
    Other,
}

impl<'a> Walk<'a> {
    /// From the first slot on.
    pub fn new(file: &'a LogFile, header: &WalFileHeader) -> Self {
        Self {
            file,
            incarnation: header.incarnation,
            size: header.size.min(file.len()),
            pos: WAL_FILE_HEADER_BYTES as u64,
            slot_no: header.first_slot,
            prev_crc: None,
        }
    }

    /// The next slot; `None` behind the last. Damaged ones before it are reported.
    pub fn next(&mut self, output: &mut Output<impl Write>) -> io::Result<Option<FoundSlot>> {
        while self.pos < self.size {
            match self.look()? {
                At::Slot(found) => {
                    self.step_over(&found.slot.header);
                    return Ok(Some(found));
                }
                At::Unusable(header, error) => {
                    let to = self.pos + header.padded_len() as u64;
                    output.damage(Damage::new(self.pos, to, error.to_string()));
                    self.step_over(&header);
                }
                At::Other => {
                    let Some((pos, header)) = self.search()? else {
                        return Ok(None);
                    };
                    // A broker that is running may have written it only now.
                    if let At::Other = self.look()? {
                        self.skip_to(pos, &header, output);
                    }
                }
            }
        }
        Ok(None)
    }

    fn step_over(&mut self, header: &SlotHeader) {
        self.pos += header.padded_len() as u64;
        self.slot_no = header.head.slot_no.next();
        self.prev_crc = Some(header.crc);
    }

    fn skip_to(&mut self, pos: u64, header: &SlotHeader, output: &mut Output<impl Write>) {
        let found = header.head.slot_no;
        let (to, what) = if found == self.slot_no {
            (
                pos.max(self.pos + SLOT_ALIGN as u64),
                format!("slot {found} does not follow the one before"),
            )
        } else {
            let last = found.0 - 1;
            (pos, format!("slots {} to {last} are damaged or missing", self.slot_no))
        };
        output.damage(Damage::new(self.pos, to.max(self.pos + 1), what));
        self.pos = pos;
        self.slot_no = found;
        self.prev_crc = Some(header.head.prev_crc);
    }

    fn look(&self) -> io::Result<At> {
        let Ok(header) = SlotHeader::parse(&self.file.read(self.pos, SLOT_HEADER_BYTES)?) else {
            return Ok(At::Other);
        };
        let bytes = self.file.read(self.pos, header.padded_len())?;
        let expected = ExpectedSlot {
            incarnation: self.incarnation,
            slot_no: self.slot_no,
            prev_crc: self.prev_crc.unwrap_or(header.head.prev_crc),
        };
        Ok(match Slot::decode(&bytes, &expected) {
            Ok(slot) => At::Slot(FoundSlot { pos: self.pos, slot, bytes }),
            Err(error @ (SlotError::Layout | SlotError::Version(_))) => At::Unusable(header, error),
            Err(SlotError::Crc | SlotError::Missing | SlotError::Stale) => At::Other,
        })
    }

    /// The next place where an intact slot of this incarnation lies that is not older than the expected one: what a recycled
    /// file held before has another incarnation or lower numbers.
    fn search(&self) -> io::Result<Option<(u64, SlotHeader)>> {
        let mut pos = self.pos;
        while pos < self.size {
            let bytes = self.file.read(pos, SEARCH_BYTES)?;
            for (place, start) in (pos..).step_by(SLOT_ALIGN).zip(bytes.chunks(SLOT_ALIGN)) {
                if let Ok(header) = SlotHeader::parse(start)
                    && header.head.incarnation == self.incarnation
                    && header.head.slot_no >= self.slot_no
                    && header.check_crc(&self.file.read(place, header.total_len)?).is_ok()
                {
                    return Ok(Some((place, header)));
                }
            }
            if bytes.is_empty() {
                break;
            }
            pos += bytes.len() as u64;
        }
        Ok(None)
    }
}
