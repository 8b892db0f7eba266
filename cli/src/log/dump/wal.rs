//! A WAL file: its header, its slots, and the footer if it is sealed.

mod slot;
mod walk;

use std::io::{self, Write};

use broker_log::{
    FileNo, Predecessor, Slot, SlotBody, SlotNo, UnitId, UnitKind, UnitMeta, UnitTable,
    WAL_FILE_HEADER_BYTES, WalFileHeader,
};
use wire::ids::Incarnation;
use wire::offset::LeaderEpoch;

use super::Wanted;
use super::batches::Counted;
use super::damage::Damage;
use super::file::LogFile;
use super::item::{Item, hex32};
use super::output::Output;
use super::unit;
use walk::Walk;

/// Bytes of a WAL file's header that carry fields; zeros follow.
const HEADER_USED_BYTES: usize = 64;

/// What a WAL file turned out to hold.
#[derive(Debug, Clone, Copy)]
pub struct WalFacts {
    /// Its number.
    pub file_no: FileNo,
    /// Whose chain.
    pub incarnation: Incarnation,
    /// Its first slot.
    pub first_slot: SlotNo,
    /// CRC of the slot before, if the first slot is intact.
    pub first_prev_crc: Option<u32>,
    /// Of an incarnation's first file: the one before, and where it ended.
    pub predecessor: Option<Predecessor>,
    /// The epoch of its batches, which is another one in every incarnation; `None` without batches.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The slot behind its last one.
    pub next_slot: SlotNo,
    /// CRC of its last slot; `None` without one.
    pub last_crc: Option<u32>,
    /// Where its slots end.
    pub slots_end: u64,
    /// The slot behind its last one, as its footer has it.
    pub sealed_end: Option<SlotNo>,
    /// Its bytes.
    pub size: u64,
}

impl WalFacts {
    /// Where the file before this one ends, as this one has it.
    pub fn end_of_file_before(&self, before: &Self) -> Option<SlotNo> {
        if self.incarnation == before.incarnation {
            return Some(self.first_slot);
        }
        let named = self.predecessor.filter(|named| named.incarnation == before.incarnation);
        named.map(|named| named.end)
    }

    /// Whether this file is the next of the same chain, and its first slot names another one than the last of `before`.
    pub fn breaks_chain_of(&self, before: &Self) -> bool {
        let goes_on = self.incarnation == before.incarnation && self.first_slot == before.next_slot;
        goes_on && self.first_prev_crc.is_some_and(|crc| Some(crc) != before.last_crc)
    }

    /// Whether all slots below `end` are there: lost ones at the end of a file look as if they had never been written.
    pub fn check_reaches(&self, end: Option<SlotNo>, output: &mut Output<impl Write>) {
        if let Some(end) = end.filter(|end| *end > self.next_slot) {
            let (first, last) = (self.next_slot, end.0 - 1);
            let what = format!("slots {first} to {last} are damaged or missing");
            output.damage(Damage::new(self.slots_end, self.size, what));
        }
    }
}

/// Prints or checks a WAL file. `named` is what a checkpoint says of it, if it is sealed.
pub fn dump(
    file: &LogFile,
    named: Option<&UnitMeta>,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> io::Result<Option<WalFacts>> {
    let header = match read_header(file, output)? {
        Ok(header) => header,
        Err(damage) => {
            output.damage(damage);
            return Ok(None);
        }
    };
    output.item(
        &Item::new("wal_file", 0)
            .with("file_no", header.file_no.0)
            .with("incarnation", header.incarnation)
            .with("first_slot", header.first_slot.0)
            .with("size", header.size)
            .with("bytes", file.len()),
    )?;
    let mut counted = Counted::default();
    let mut facts = walk_slots(file, &header, wanted, &mut counted, output)?;
    let footer = read_footer(file, &facts, named, output);
    if let Some(table) = &footer {
        facts.sealed_end = Some(table.meta.end_slot);
        unit::dump_table(file, table, wanted, output)?;
    }
    let summary = Item::new("wal_end", 1)
        .with("slots", facts.next_slot.0.saturating_sub(facts.first_slot.0))
        .with("next_slot", facts.next_slot.0)
        .with("pos", facts.slots_end)
        .with("last_crc", facts.last_crc.map(hex32))
        .with("sealed", footer.is_some())
        .with("runs", counted.runs)
        .with("batches", counted.batches);
    output.summary(&summary)?;
    Ok(Some(facts))
}

fn read_header(
    file: &LogFile,
    output: &mut Output<impl Write>,
) -> io::Result<Result<WalFileHeader, Damage>> {
    let len = WAL_FILE_HEADER_BYTES as u64;
    let bytes = file.read(0, WAL_FILE_HEADER_BYTES)?;
    let header = match WalFileHeader::decode(&bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err(Damage::new(0, len, error.to_string()))),
    };
    check_zeros(&bytes, HEADER_USED_BYTES, 0, output);
    Ok(match file.number() {
        Some(number) if number != header.file_no.0 => {
            let what = format!("the header of WAL file {}", header.file_no);
            Err(Damage::new(0, len, what))
        }
        Some(_) | None => Ok(header),
    })
}

/// Nothing relies on padding, but a disk that changes it changes other bytes too.
fn check_zeros(bytes: &[u8], from: usize, pos: u64, output: &mut Output<impl Write>) {
    let padding = bytes.get(from..).unwrap_or_default();
    if padding.iter().any(|byte| *byte != 0) {
        let (from, to) = (pos + from as u64, pos + bytes.len() as u64);
        output.damage(Damage::new(from, to, "padding that is not zero"));
    }
}

fn walk_slots(
    file: &LogFile,
    header: &WalFileHeader,
    wanted: &Wanted,
    counted: &mut Counted,
    output: &mut Output<impl Write>,
) -> io::Result<WalFacts> {
    let mut walk = Walk::new(file, header);
    let mut facts = WalFacts {
        file_no: header.file_no,
        incarnation: header.incarnation,
        first_slot: header.first_slot,
        first_prev_crc: None,
        predecessor: None,
        leader_epoch: None,
        next_slot: header.first_slot,
        last_crc: None,
        slots_end: WAL_FILE_HEADER_BYTES as u64,
        sealed_end: None,
        size: file.len(),
    };
    while let Some(found) = walk.next(output)? {
        let head = &found.slot.header;
        if head.head.slot_no == header.first_slot {
            facts.first_prev_crc = Some(head.head.prev_crc);
            facts.predecessor = slot::predecessor(&found.slot);
        }
        facts.leader_epoch = facts.leader_epoch.or_else(|| epoch_of(&found.slot));
        facts.next_slot = head.head.slot_no.next();
        facts.last_crc = Some(head.crc);
        facts.slots_end = found.pos + head.padded_len() as u64;
        check_zeros(&found.bytes, head.total_len, found.pos, output);
        slot::dump(&found, wanted, counted, output)?;
    }
    Ok(facts)
}

/// The footer, if the file has one of its own: a recycled file may still end with that of its former life.
fn read_footer(
    file: &LogFile,
    facts: &WalFacts,
    named: Option<&UnitMeta>,
    output: &mut Output<impl Write>,
) -> Option<UnitTable> {
    let mut source = file;
    let table = UnitTable::read(&mut source, UnitId::Wal(facts.file_no), file.len());
    match (table, named) {
        (Ok(table), Some(named)) if table.meta == *named => Some(table),
        (Ok(_), Some(named)) => {
            let damage = Damage::new(named.entries_off, named.len, "another footer than it had");
            output.damage(damage);
            None
        }
        (Ok(table), None) => Some(table).filter(|table| is_own(file, table, facts)),
        (Err(error), Some(named)) => {
            output.damage(Damage::new(named.entries_off, named.len, error.to_string()));
            None
        }
        (Err(_), None) => None,
    }
}

/// Slots are counted from 0 in every incarnation, so that the footer of a former life may well begin with the same one.
fn is_own(file: &LogFile, table: &UnitTable, facts: &WalFacts) -> bool {
    let footer = &table.meta;
    let may_be = footer.kind == UnitKind::SealedWal
        && footer.first_slot == facts.first_slot
        && footer.entries_off >= facts.slots_end;
    let mut source = file;
    may_be
        && table.shards.first().is_none_or(|row| match table.entries(&mut source, row) {
            Ok(entries) => entries.iter().all(|run| Some(run.leader_epoch) == facts.leader_epoch),
            // That it is damaged is told when it is printed.
            Err(_) => true,
        })
}

fn epoch_of(slot: &Slot) -> Option<LeaderEpoch> {
    match &slot.body {
        SlotBody::Data { runs, .. } => runs.first().map(|run| run.leader_epoch),
        SlotBody::Control(_) => None,
    }
}
