//! A unit, or the footer of a sealed WAL file: its table, and the runs that the table leads to.

use std::io::{self, Write};

use broker_log::{
    RunEntry, SLOT_BYTES_MAX, ShardRow, UnitError, UnitId, UnitKind, UnitMeta, UnitNo, UnitTable,
};

use super::batches::{Counted, dump_run, run_item};
use super::damage::Damage;
use super::file::LogFile;
use super::item::{Item, hex32, hex64};
use super::output::Output;
use super::{Depth, Wanted};

/// Prints or checks a unit. `named` is what a checkpoint says of it.
pub fn dump(
    file: &LogFile,
    named: Option<&UnitMeta>,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    // A file that somebody renamed has its bytes all the same.
    let id = UnitId::Unit(UnitNo(file.number().unwrap_or(0)));
    let mut source = file;
    let table = match UnitTable::read(&mut source, id, file.len()) {
        Ok(table) => table,
        Err(error) => return unreadable(error, file.len(), output),
    };
    if let Some(named) = named
        && table.meta != *named
    {
        let what = "another unit than the one that the checkpoint names";
        output.damage(Damage::new(0, file.len(), what));
    }
    let counted = dump_table(file, &table, wanted, output)?;
    let summary = Item::new("unit_end", 1)
        .with("shards", table.shards.len())
        .with("runs", counted.runs)
        .with("batches", counted.batches);
    output.summary(&summary)
}

/// Prints or checks what a table says, and the runs that it leads to.
pub fn dump_table(
    file: &LogFile,
    table: &UnitTable,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> io::Result<Counted> {
    output.item(&unit_item(&table.meta))?;
    let mut counted = Counted::default();
    for row in &table.shards {
        let mut source = file;
        let entries = match table.entries(&mut source, row) {
            Ok(entries) => entries,
            Err(error) => {
                unreadable(error, file.len(), output)?;
                continue;
            }
        };
        if !wanted.is_part() {
            output.item(&shard_item(row))?;
        }
        check_order(table, row, &entries, output);
        for entry in entries.iter().filter(|entry| wanted.takes(entry.key)) {
            let pos = u64::from(entry.pos);
            output.item(&run_item(entry, 2, pos))?;
            if !wanted.reads_batches() {
                counted.runs += 1;
                counted.batches += u64::from(entry.batches);
            } else if is_placed(table, entry) {
                let bytes = file.read(pos, entry.len as usize)?;
                dump_run(entry, (pos, &bytes), wanted, &mut counted, output)?;
            } else {
                let what = "a run outside the file's body";
                output.damage(Damage::new(pos, pos + u64::from(entry.len), what));
            }
        }
    }
    let is_whole = wanted.depth == Depth::Verify && !output.holds_damage();
    if is_whole && counted.setsum != table.meta.setsum {
        let what = "the batches do not add up to the setsum";
        output.damage(Damage::new(0, table.meta.entries_off, what));
    }
    Ok(counted)
}

fn unreadable(
    error: UnitError<io::Error>,
    len: u64,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    match error {
        UnitError::Damaged { from, to, .. } => {
            output.damage(Damage::new(from, to, "the table's checksum does not match"));
            Ok(())
        }
        UnitError::Source(error) => Err(error),
        UnitError::Version { .. } => {
            output.damage(Damage::new(0, len, error.to_string()));
            Ok(())
        }
    }
}

/// Whether a run can be where its entry says. One that is longer than any slot is not read into memory.
fn is_placed(table: &UnitTable, entry: &RunEntry) -> bool {
    let end = u64::from(entry.pos) + u64::from(entry.len);
    end <= table.meta.entries_off && entry.len as usize <= SLOT_BYTES_MAX
}

fn check_order(
    table: &UnitTable,
    row: &ShardRow,
    entries: &[RunEntry],
    output: &mut Output<impl Write>,
) {
    let ascends = |before: &RunEntry, after: &RunEntry| {
        before.key < after.key
            || (before.key == after.key && before.last_offset < after.base_offset)
    };
    let is_own = entries.iter().all(|entry| entry.key.shard() == row.shard);
    if !is_own || !entries.is_sorted_by(ascends) {
        let what = format!("the entries of shard {} are not in order", row.shard.0);
        output.damage(Damage::new(table.meta.entries_off, table.meta.dir_off, what));
    }
}

/// The line about a unit.
pub fn unit_item(meta: &UnitMeta) -> Item<'static> {
    Item::new("unit", 1)
        .with("id", meta.id.to_string())
        .with("kind", kind_name(meta.kind))
        .with("len", meta.len)
        .with("runs", meta.entry_count)
        .with("shards", meta.dir_count)
        .with("entries_pos", meta.entries_off)
        .with("directory_pos", meta.dir_off)
        .with("first_slot", meta.first_slot.0)
        .with("end_slot", meta.end_slot.0)
        .with("max_append_time", meta.max_append_ms)
        .with("setsum", hex64(meta.setsum))
        .with("crc", hex32(meta.crc))
}

fn shard_item(row: &ShardRow) -> Item<'static> {
    Item::new("shard", 1)
        .with("shard", row.shard.0)
        .with("first", row.first)
        .with("runs", row.count)
        .with("max_append_time", row.max_append_ms)
        .with("crc", hex32(row.crc))
}

fn kind_name(kind: UnitKind) -> &'static str {
    match kind {
        UnitKind::SealedWal => "sealed_wal",
        UnitKind::Evacuated => "evacuated",
        UnitKind::OnePartition => "one_partition",
        UnitKind::Compacted => "compacted",
    }
}
