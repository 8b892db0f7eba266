//! Damage in the middle is refused with its range; a torn tail is dropped; half-made files are no obstacle.

use wire::ids::Incarnation;
use wire::time::UnixMs;

use broker_log::{
    Corruption, CorruptionKind, FileNo, RecoveryError, SlotHead, SlotNo, SlotToWrite,
    WalFileHeader, encode_data, recover,
};

use crate::batches::{Rng, batch, key};
use crate::disk::{Disk, DiskError, flush, read_all, small, start};

const LIVES: u8 = 3;
const HEADER: u64 = 4096;

/// Three lives of a broker, several files each. The slots in order; OPENs are not among them.
fn written() -> (Disk, Vec<SlotToWrite>) {
    let mut disk = Disk::new();
    let mut slots = Vec::new();
    for life in 1..=LIVES {
        let mut log = start(&mut disk, life, &small()).unwrap();
        log.register_partition(key(0, 0)).unwrap();
        for name in 0..9 {
            let bytes = if name % 4 == 1 { 30_000 } else { 200 };
            log.append(UnixMs(3), key(0, 0), batch(name, 1, bytes)).unwrap();
            slots.extend(flush(&mut log, &mut disk));
        }
    }
    (disk, slots)
}

fn corruption(disk: &mut Disk) -> Option<Corruption> {
    match recover(disk) {
        Ok(_) => None,
        Err(RecoveryError::Corrupt(corruption)) => Some(corruption),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_flipped_bit_in_any_slot_but_the_last_is_refused_with_its_range() {
    let (disk, slots) = written();
    let (last, earlier) = slots.split_last().unwrap();
    let mut rng = Rng(5);
    for slot in earlier {
        let used = used_len(slot);
        for _ in 0..40 {
            let at = slot.pos as usize + rng.below(used) as usize;
            let mut damaged = disk.clone();
            damaged.bytes_mut(slot.file_no)[at] ^= 1 << rng.below(8);
            let found = corruption(&mut damaged).unwrap();
            assert_eq!(found.file_no, slot.file_no);
            assert!((found.from..found.to).contains(&(at as u64)), "{found} holds byte {at}");
            assert_eq!(found.kind, CorruptionKind::Slots { first: slot.slot_no });
        }
    }
    // Nothing tells a damaged last slot from a torn one.
    let mut damaged = disk.clone();
    damaged.bytes_mut(last.file_no)[last.pos as usize + 100] ^= 1;
    let recovered = recover(&mut damaged).unwrap();
    let torn = recovered.report.torn_tail.unwrap();
    assert_eq!((torn.file_no, torn.from), (last.file_no, u64::from(last.pos)));
    assert_eq!(torn.to, u64::from(last.pos) + last.bytes.len() as u64);
    let log = start(&mut damaged, LIVES + 1, &small()).unwrap();
    let found = read_all(&log, &mut damaged, key(0, 0));
    assert_eq!(found.len(), slots.len() - 1);
}

fn used_len(slot: &SlotToWrite) -> u64 {
    u64::from(u32::from_le_bytes(slot.bytes[32..36].try_into().unwrap()))
}

#[test]
fn a_damaged_open_is_refused_while_anything_hangs_on_it() {
    let (disk, slots) = written();
    for file_no in disk.file_nos() {
        let holds_open = !slots.iter().any(|s| s.file_no == file_no && u64::from(s.pos) == HEADER);
        let mut damaged = disk.clone();
        damaged.bytes_mut(file_no)[HEADER as usize + 70] ^= 1;
        if holds_open {
            let found = corruption(&mut damaged).unwrap();
            assert_eq!((found.file_no, found.from), (file_no, HEADER));
            assert_eq!(found.kind, CorruptionKind::Slots { first: SlotNo(0) });
        }
    }
}

#[test]
fn a_damaged_file_header_is_refused() {
    let (disk, _) = written();
    for file_no in disk.file_nos() {
        for at in [0, 5, 8, 25, 33, 42, 61] {
            let mut damaged = disk.clone();
            damaged.bytes_mut(file_no)[at] ^= 4;
            let found = corruption(&mut damaged).unwrap();
            let header = Corruption { file_no, from: 0, to: HEADER, kind: CorruptionKind::Header };
            assert_eq!(found, header);
        }
    }
}

#[test]
fn a_missing_file_is_refused_unless_it_was_the_last() {
    let (disk, slots) = written();
    let files = disk.file_nos();
    assert_eq!(files.len(), 2 * usize::from(LIVES));
    for file_no in &files[..files.len() - 1] {
        let mut damaged = disk.clone();
        damaged.unlink(*file_no);
        let found = corruption(&mut damaged).unwrap();
        let missing = (*file_no, CorruptionKind::FileMissing);
        assert_eq!((found.file_no, found.kind), missing);
    }
    // The last file of an earlier life, with all behind it: its successor knew better.
    let first_life: Vec<FileNo> = slots[..9].iter().map(|s| s.file_no).collect();
    let mut damaged = disk.clone();
    for file_no in files.iter().filter(|f| !first_life.contains(f)) {
        damaged.unlink(*file_no);
    }
    assert_eq!(corruption(&mut damaged), None);
}

#[test]
fn a_truncated_file_is_refused_if_the_log_goes_on_behind_it() {
    let (disk, _) = written();
    let files = disk.file_nos();
    for file_no in &files[..files.len() - 1] {
        let mut damaged = disk.clone();
        damaged.bytes_mut(*file_no).truncate(2 * HEADER as usize);
        let found = corruption(&mut damaged).unwrap();
        assert_eq!(found.file_no, *file_no);
    }
}

#[test]
fn a_torn_last_slot_is_dropped_wherever_it_tears() {
    let (disk, slots) = written();
    let last = slots.last().unwrap();
    let start_at = last.pos as usize;
    let used = used_len(last) as usize;
    for torn_at in (0..used).step_by(512) {
        let mut torn = disk.clone();
        torn.bytes_mut(last.file_no)[start_at + torn_at..].fill(0);
        let recovered = recover(&mut torn).unwrap();
        assert_eq!(recovered.report.torn_tail.is_some(), torn_at > 0);
        assert_eq!(recovered.report.slots, slots.len() as u64 + u64::from(LIVES) - 1);
    }
}

#[test]
fn a_half_made_last_file_is_replaced() {
    let (disk, slots) = written();
    let next = disk.file_nos().last().unwrap().next();
    let header = WalFileHeader {
        incarnation: Incarnation([99; 16]),
        file_no: next,
        first_slot: SlotNo(0),
        size: 64 << 10,
    };
    let mut whole = header.encode().to_vec();
    whole.resize(64 << 10, 0);
    for bytes in [Vec::new(), vec![0; 64 << 10], whole[..40].to_vec(), whole.clone()] {
        let mut disk = disk.clone();
        disk.put_file(next, bytes);
        let recovered = recover(&mut disk).unwrap();
        assert_eq!(recovered.dead_files, [next]);
        for life in [LIVES + 1, LIVES + 2] {
            let log = start(&mut disk, life, &small()).unwrap();
            assert_eq!(read_all(&log, &mut disk, key(0, 0)).len(), slots.len());
        }
    }
}

#[test]
fn an_empty_folder_and_a_dead_first_file_begin_a_new_log() {
    for first in [None, Some(vec![0; 8192])] {
        let mut disk = Disk::new();
        if let Some(bytes) = first {
            disk.put_file(FileNo(0), bytes);
        }
        let mut log = start(&mut disk, 1, &small()).unwrap();
        log.register_partition(key(0, 0)).unwrap();
        log.append(UnixMs(3), key(0, 0), batch(1, 1, 10)).unwrap();
        flush(&mut log, &mut disk);
        let log = start(&mut disk, 2, &small()).unwrap();
        assert_eq!(read_all(&log, &mut disk, key(0, 0)).len(), 1);
        assert_eq!(disk.file_nos(), [FileNo(0), FileNo(1)]);
    }
}

#[test]
fn stale_slots_behind_the_last_one_are_not_taken() {
    let (disk, slots) = written();
    let last = slots.last().unwrap();
    let behind = last.pos as usize + last.bytes.len();
    let current = Incarnation([LIVES; 16]);
    let mut rng = Rng(8);
    for _ in 0..3_000 {
        let lower = SlotNo(rng.below(last.slot_no.0 + 1));
        let (incarnation, slot_no) = match rng.below(3) {
            0 => (Incarnation([LIVES - 1; 16]), last.slot_no.next()),
            1 => (Incarnation([77; 16]), SlotNo(rng.next())),
            _ => (current, lower),
        };
        let head = SlotHead {
            incarnation,
            slot_no,
            prev_crc: u32::from_le_bytes(last.bytes[60..64].try_into().unwrap()),
            append_ms: UnixMs(3),
        };
        let stale = encode_data(&head, &[]).bytes;
        let mut recycled = disk.clone();
        let at = behind + 4096 * rng.below(2) as usize;
        recycled.bytes_mut(last.file_no)[at..at + stale.len()].copy_from_slice(&stale);
        let recovered = recover(&mut recycled).unwrap();
        assert_eq!(recovered.report.slots, slots.len() as u64 + u64::from(LIVES));
        assert!(recovered.report.torn_tail.is_some());
    }
}

#[test]
fn a_file_of_another_version_is_named() {
    let (mut disk, _) = written();
    let mut bytes = disk.bytes_mut(FileNo(1));
    bytes[4] = 2;
    let crc = wire::record_batch::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    drop(bytes);
    let error: RecoveryError<DiskError> = recover(&mut disk).unwrap_err();
    let RecoveryError::Version { file_no, version } = error else {
        panic!("{error}");
    };
    assert_eq!((file_no, version), (FileNo(1), 2));
}
