//! Recycled WAL files: behind the last slot lie slots that were whole and valid once, in any arrangement, under the torn
//! rest of the slot that was being written. None of them is ever taken for part of the log (LOG-ENGINE's test 4).

use bytes::Bytes;
use wire::time::UnixMs;

use broker_log::sim_disk::FileName;
use broker_log::{FileNo, LogSettings, SLOT_ALIGN, recover};

use super::settings;
use crate::batches::{Rng, batch, key};
use crate::disk::{Disk, flush, small, start};

/// Cases that a change must pass.
const CASES_DEFAULT: u64 = 100_000;

/// Pages of a WAL file, its header included.
const PAGES: usize = 10;

const SECTOR: usize = 512;

/// What lives before have written, page by page, and the files that they left.
struct History {
    disk: Disk,
    stale: Vec<Bytes>,
    /// The last file's slots; its header is the first element.
    last: Vec<Bytes>,
    last_file: FileNo,
    /// Slots in the files before it.
    before: u64,
}

/// Two lives, each of which has rolled: its own old slots are the most plausible stale ones.
fn history() -> History {
    let file_bytes = (PAGES * SLOT_ALIGN) as u32;
    let settings = LogSettings { wal_file_bytes: file_bytes, ..small() };
    let mut disk = Disk::new();
    let mut stale: Vec<Bytes> = Vec::new();
    let mut older = 0;
    let mut last = Vec::new();
    let mut before = 0;
    for life in 1..=2 {
        let mut log = start(&mut disk, life, &settings).unwrap();
        log.register_partition(key(0, 0)).unwrap();
        let open = disk.file_nos().last().copied().unwrap();
        last = vec![page(&disk, open, 0), page(&disk, open, 1)];
        before += 1;
        for name in 0..12 {
            let bytes = if name % 3 == 1 { 6_000 } else { 200 };
            log.append(UnixMs(3), key(0, 0), batch(u64::from(life) * 100 + name, 1, bytes))
                .unwrap();
            for slot in flush(&mut log, &mut disk) {
                if let Some(file) = slot.new_file {
                    last = vec![file.header];
                    older = stale.len();
                }
                before += 1;
                stale.extend(slot.bytes.chunks(SLOT_ALIGN).map(Bytes::copy_from_slice));
                last.push(slot.bytes);
            }
        }
    }
    before -= last.len() as u64 - 1;
    // No file holds what was written after it.
    stale.truncate(older);
    let last_file = disk.file_nos().last().copied().unwrap();
    History { disk, stale, last, last_file, before }
}

fn page(disk: &Disk, file_no: FileNo, nth: usize) -> Bytes {
    let content = disk.content(FileName::Wal(file_no)).unwrap();
    Bytes::copy_from_slice(&content[nth * SLOT_ALIGN..(nth + 1) * SLOT_ALIGN])
}

#[test]
fn stale_slots_of_a_recycled_file_are_never_taken() {
    let history = history();
    assert!(history.last.len() > 4, "the last file has some slots");
    let mut rng = Rng(1);
    let mut torn = 0;
    for case in 0..settings::number("CULVERT_LOG_STALE_CASES").unwrap_or(CASES_DEFAULT) {
        let slots = rng.below(history.last.len() as u64 - 1) as usize;
        let mut disk = history.disk.clone();
        let file = arrange(&history, slots, &mut rng);
        disk.put(FileName::Wal(history.last_file), file);
        let recovered = recover(&mut disk).unwrap_or_else(|error| panic!("case {case}: {error}"));
        assert_eq!(recovered.report.slots, history.before + slots as u64, "case {case}");
        torn += u64::from(recovered.report.torn_tail.is_some());
    }
    assert!(torn > 0, "something lies behind the last slot");
}

/// The last file with so many of its slots, and anything behind them but the whole next one.
fn arrange(history: &History, slots: usize, rng: &mut Rng) -> Vec<u8> {
    let mut file = history.last[..=slots].concat();
    let behind = file.len();
    while file.len() < PAGES * SLOT_ALIGN {
        match rng.below(8) {
            0 => file.extend([0; SLOT_ALIGN]),
            _ => file.extend(&history.stale[rng.below(history.stale.len() as u64) as usize]),
        }
    }
    file.truncate(PAGES * SLOT_ALIGN);
    // Of the slot that was being written when the power went, some sectors may have come through, but not all. A lost sector
    // of padding would be no loss.
    if rng.below(3) > 0 {
        let next = &history.last[slots + 1];
        let used = u32::from_le_bytes(next[32..36].try_into().unwrap()) as usize;
        let lost = rng.below(used.div_ceil(SECTOR) as u64) as usize;
        for (sector, bytes) in next.chunks(SECTOR).enumerate() {
            let at = behind + sector * SECTOR;
            if sector != lost && rng.below(2) == 0 {
                file[at..at + SECTOR].copy_from_slice(bytes);
            }
        }
    }
    file
}
