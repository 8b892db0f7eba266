//! What every store must do, as one suite that its implementations run in their tests (feature `sim`).

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails")]

use std::fmt::Debug;

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::time::UnixMs;

use super::{CheckpointId, CheckpointStore, Put, SlotPlace, SlotStore, UnitStore, UnitWrite};
use crate::ids::{FileNo, SlotNo, UnitId, UnitNo};
use crate::log::{NewFile, SlotToWrite};
use crate::slot::{SLOT_ALIGN, SlotHead, encode_data};
use crate::wal_file_header::{WAL_FILE_HEADER_BYTES, WalFileHeader};

/// Everything that a log is kept in.
pub trait Store:
    SlotStore<Error: Debug>
    + UnitStore<Error: Debug, Writer: UnitWrite<Error: Debug>>
    + CheckpointStore<Error: Debug>
{
}

impl<S> Store for S where
    S: SlotStore<Error: Debug>
        + UnitStore<Error: Debug, Writer: UnitWrite<Error: Debug>>
        + CheckpointStore<Error: Debug>
{
}

/// Bytes of the WAL files of this suite.
const FILE_BYTES: u32 = 64 << 10;

const FIRST_POS: u32 = WAL_FILE_HEADER_BYTES as u32;

const LIFE: Incarnation = Incarnation([1; 16]);

/// Runs the suite: `make` gives an empty store whose WAL files have 64 KiB, `reopen` closes one as a crash would and opens
/// what is left.
///
/// # Panics
/// If the store does not conform.
pub fn check<S: Store>(mut make: impl FnMut() -> S, mut reopen: impl FnMut(S) -> S) {
    a_slot_has_its_place_once(make(), &mut reopen);
    a_recycled_file_is_as_good_as_a_new_one(make(), &mut reopen);
    a_sealed_file_ends_behind_its_footer(make(), &mut reopen);
    a_unit_is_there_once_it_is_finished(make(), &mut reopen);
    a_unit_that_is_given_up_leaves_nothing(make(), &mut reopen);
    what_is_freed_is_gone(make(), &mut reopen);
    checkpoints_are_kept_until_they_are_removed(make(), &mut reopen);
}

fn head(incarnation: Incarnation, slot_no: u64, mark: i64) -> SlotHead {
    SlotHead { incarnation, slot_no: SlotNo(slot_no), prev_crc: 7, append_ms: UnixMs(mark) }
}

/// The slot at the `nth` place of a file; slots are 4 KiB long. `mark` makes them differ.
fn slot(incarnation: Incarnation, file_no: u64, slot_no: u64, nth: u32, mark: i64) -> SlotToWrite {
    let header = || {
        let header = WalFileHeader {
            incarnation,
            file_no: FileNo(file_no),
            first_slot: SlotNo(slot_no),
            size: u64::from(FILE_BYTES),
        };
        Bytes::copy_from_slice(&header.encode())
    };
    let file_no = FileNo(file_no);
    SlotToWrite {
        slot_no: SlotNo(slot_no),
        new_file: (nth == 0).then(|| NewFile { file_no, size: FILE_BYTES, header: header() }),
        file_no,
        pos: FIRST_POS + nth * SLOT_ALIGN as u32,
        bytes: encode_data(&head(incarnation, slot_no, mark), &[]).bytes,
    }
}

fn place(incarnation: Incarnation, slot: &SlotToWrite) -> SlotPlace {
    SlotPlace { incarnation, slot_no: slot.slot_no, file_no: slot.file_no, pos: slot.pos }
}

fn put<S: Store>(store: &mut S, slot: &SlotToWrite) {
    let put = store.put_new(slot);
    assert!(matches!(put, Put::Created), "slot {} at a free place: {put:?}", slot.slot_no);
}

fn a_slot_has_its_place_once<S: Store>(mut store: S, reopen: &mut impl FnMut(S) -> S) {
    let slots: Vec<_> = (0..5).map(|n| slot(LIFE, n / 3, n, (n % 3) as u32, 0)).collect();
    assert_eq!(store.get(&place(LIFE, &slots[0])).unwrap(), None, "no file, no slot");
    for slot in &slots {
        put(&mut store, slot);
        assert_eq!(store.get(&place(LIFE, slot)).unwrap().as_ref(), Some(&slot.bytes));
    }
    let last = slots.last().unwrap();
    for again in [last.clone(), slot(LIFE, 1, 4, 1, 99)] {
        assert!(matches!(store.put_new(&again), Put::Exists), "the place is taken");
    }
    let mut store = reopen(store);
    for slot in &slots {
        let at = place(LIFE, slot);
        assert_eq!(store.get(&at).unwrap().as_ref(), Some(&slot.bytes), "durable at once");
        let others = [
            SlotPlace { incarnation: Incarnation([2; 16]), ..at },
            SlotPlace { slot_no: slot.slot_no.next(), ..at },
            SlotPlace { pos: FILE_BYTES - SLOT_ALIGN as u32, ..at },
            SlotPlace { file_no: FileNo(9), ..at },
        ];
        for other in others {
            assert_eq!(store.get(&other).unwrap(), None, "no other slot is taken for it");
        }
    }
}

fn a_recycled_file_is_as_good_as_a_new_one<S: Store>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) {
    let old: Vec<_> = (0..6).map(|n| slot(LIFE, n / 3, n, (n % 3) as u32, 0)).collect();
    old.iter().for_each(|slot| put(&mut store, slot));
    store.free(UnitId::Wal(FileNo(0))).unwrap();
    // Once with the spare file of this process, once with what it left behind.
    for file_no in [2, 3] {
        let base = file_no * 3;
        let new: Vec<_> = (0..3).map(|n| slot(LIFE, file_no, base + n, n as u32, 5)).collect();
        new.iter().for_each(|slot| put(&mut store, slot));
        let header = store.read_at(UnitId::Wal(FileNo(file_no)), 0, FIRST_POS as usize).unwrap();
        assert_eq!(WalFileHeader::decode(&header).unwrap().file_no, FileNo(file_no));
        store.free(UnitId::Wal(FileNo(file_no - 1))).unwrap();
        store = reopen(store);
        for slot in &new {
            assert_eq!(store.get(&place(LIFE, slot)).unwrap().as_ref(), Some(&slot.bytes));
        }
        for slot in &old[..3] {
            assert_eq!(store.get(&place(LIFE, slot)).unwrap(), None, "its file is gone");
        }
    }
}

fn a_sealed_file_ends_behind_its_footer<S: Store>(mut store: S, reopen: &mut impl FnMut(S) -> S) {
    for (file_no, footer_bytes) in [(0, 100), (1, 4096), (2, 200_000)] {
        let unit = UnitId::Wal(FileNo(file_no));
        let slot = slot(LIFE, file_no, file_no, 0, 0);
        put(&mut store, &slot);
        let slots_end = u64::from(slot.pos) + slot.bytes.len() as u64;
        let footer = vec![0xf0 + file_no as u8; footer_bytes];
        let pos = slots_end.max(u64::from(FILE_BYTES).saturating_sub(footer.len() as u64));
        // A second time, as after a crash that nobody knows the outcome of.
        for _ in 0..2 {
            store.seal(FileNo(file_no), pos, &footer).unwrap();
            let whole = store.read_at(unit, 0, 1 << 20).unwrap();
            assert_eq!(whole.len() as u64, pos + footer.len() as u64);
            assert_eq!(whole[pos as usize..], footer);
            store = reopen(store);
        }
        assert_eq!(store.read_at(unit, pos, 1 << 20).unwrap(), footer, "durable");
        assert_eq!(store.get(&place(LIFE, &slot)).unwrap().as_ref(), Some(&slot.bytes));
        // Shorter than before: the file ends with the footer.
        let short = &footer[..footer.len() / 2];
        store.seal(FileNo(file_no), pos, short).unwrap();
        assert_eq!(store.read_at(unit, pos, 1 << 20).unwrap(), short);
    }
}

/// Bytes that differ from place to place.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at) as u8).collect()
}

fn write_unit<S: Store>(store: &mut S, unit_no: u64, bytes: &[u8]) {
    let mut writer = store.create(UnitNo(unit_no)).unwrap();
    bytes.chunks(70_000).for_each(|piece| writer.append(piece).unwrap());
    writer.finish().unwrap();
}

fn units<S: Store>(store: &mut S) -> Vec<(UnitNo, u64)> {
    let mut units = store.units().unwrap();
    units.sort();
    units
}

fn a_unit_is_there_once_it_is_finished<S: Store>(mut store: S, reopen: &mut impl FnMut(S) -> S) {
    assert_eq!(units(&mut store), []);
    let bytes = content(1 << 20);
    for unit_no in [3, 0] {
        write_unit(&mut store, unit_no, &bytes);
    }
    write_unit(&mut store, u64::MAX, b"");
    put(&mut store, &slot(LIFE, 0, 0, 0, 0));
    for _ in 0..2 {
        let len = bytes.len() as u64;
        let expected = [(UnitNo(0), len), (UnitNo(3), len), (UnitNo(u64::MAX), 0)];
        assert_eq!(units(&mut store), expected, "WAL files are not among them");
        let unit = UnitId::Unit(UnitNo(3));
        for (pos, len) in [(0, 1 << 20), (0, 1), (4095, 2), (1 << 19, 1 << 19)] {
            let expected = &bytes[pos as usize..pos as usize + len];
            assert_eq!(store.read_at(unit, pos, len).unwrap(), expected);
        }
        let end = bytes.len() as u64;
        assert_eq!(store.read_at(unit, end - 3, 100).unwrap(), bytes[bytes.len() - 3..]);
        assert_eq!(store.read_at(unit, end, 100).unwrap(), b""[..]);
        assert_eq!(store.read_at(unit, end + 5, 100).unwrap(), b""[..]);
        store = reopen(store);
    }
}

fn a_unit_that_is_given_up_leaves_nothing<S: Store>(mut store: S, reopen: &mut impl FnMut(S) -> S) {
    let mut given_up = store.create(UnitNo(1)).unwrap();
    given_up.append(&content(5_000)).unwrap();
    assert_eq!(units(&mut store), [], "it has no name yet");
    assert!(store.read_at(UnitId::Unit(UnitNo(1)), 0, 1).is_err());
    drop(given_up);
    let mut in_a_crash = store.create(UnitNo(2)).unwrap();
    in_a_crash.append(&content(5_000)).unwrap();
    let mut store = reopen(store);
    drop(in_a_crash);
    assert_eq!(units(&mut store), []);
    for unit_no in [1, 2] {
        write_unit(&mut store, unit_no, &content(10));
    }
    assert_eq!(units(&mut store), [(UnitNo(1), 10), (UnitNo(2), 10)]);
}

fn what_is_freed_is_gone<S: Store>(mut store: S, reopen: &mut impl FnMut(S) -> S) {
    for unit_no in 0..2 {
        write_unit(&mut store, unit_no, &content(10));
        put(&mut store, &slot(LIFE, unit_no, unit_no, 0, 0));
    }
    let gone = [UnitId::Unit(UnitNo(0)), UnitId::Wal(FileNo(0))];
    for unit in gone {
        assert_eq!(store.read_at(unit, 0, 10).unwrap().len(), 10, "what was read before");
        store.free(unit).unwrap();
        store.free(unit).unwrap();
    }
    for _ in 0..2 {
        for unit in gone {
            assert!(store.read_at(unit, 0, 10).is_err(), "{unit} is read after it was freed");
        }
        assert_eq!(units(&mut store), [(UnitNo(1), 10)]);
        assert_eq!(store.read_at(UnitId::Wal(FileNo(1)), 0, 10).unwrap().len(), 10);
        store = reopen(store);
    }
    // A number that only an orphan had is used again.
    write_unit(&mut store, 0, &content(20));
    assert_eq!(store.read_at(UnitId::Unit(UnitNo(0)), 0, 100).unwrap(), content(20));
}

fn checkpoints_are_kept_until_they_are_removed<S: Store>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) {
    let id = |life, n| CheckpointId { incarnation: Incarnation([life; 16]), n };
    assert_eq!(store.checkpoints().unwrap(), []);
    assert!(store.get_checkpoint(id(1, 1)).is_err());
    store.remove_checkpoint(id(1, 1)).unwrap();
    let parts = [content(100), Vec::new(), content(300_000)];
    let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
    let ids = [id(1, 1), id(1, 2), id(2, 3), id(2, u64::MAX)];
    for (i, id) in ids.into_iter().enumerate() {
        store.put_checkpoint(id, &parts[..i]).unwrap();
    }
    store.remove_checkpoint(ids[1]).unwrap();
    assert!(!store.checkpoints().unwrap().contains(&ids[1]), "removed");
    for _ in 0..2 {
        let mut found = store.checkpoints().unwrap();
        // A crash may bring a removed one back: removing need not be durable.
        found.retain(|id| *id != ids[1]);
        found.sort();
        assert_eq!(found, [ids[0], ids[2], ids[3]]);
        for (i, id) in [(0, ids[0]), (2, ids[2]), (3, ids[3])] {
            assert_eq!(store.get_checkpoint(id).unwrap(), parts[..i].concat());
        }
        store = reopen(store);
    }
}
