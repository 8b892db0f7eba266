//! A unit's bytes as docs/formats/unit.md describes them, held still.

use bytes::Bytes;
use wire::offset::{LeaderEpoch, Offset};
use wire::time::UnixMs;

use broker_log::sim_disk::FileName;
use broker_log::{
    FileNo, Job, JobDone, RunEntry, RunFlags, SealJob, ShardRow, SlotNo, UnitId, UnitKind, UnitNo,
    UnitRun, UnitTable,
};

use super::world::{World, Write, split_placed};
use crate::batches::key;

const MADE: &[u8] = include_bytes!("../../golden/unit-v1.bin");
const FOOTER: &[u8] = include_bytes!("../../golden/unit-v1-wal-footer.bin");

#[test]
fn a_made_unit() {
    let mut world = World::new();
    let id = UnitId::Unit(UnitNo(1));
    world.disk.put(FileName::Unit(UnitNo(1)), MADE.to_vec());
    let table = UnitTable::read(&mut world.disk, id, MADE.len() as u64).unwrap();
    let meta = table.meta;
    assert_eq!((meta.kind, meta.entry_count, meta.dir_count), (UnitKind::Evacuated, 4, 3));
    assert_eq!((meta.first_slot, meta.end_slot), (SlotNo(0x0102), SlotNo(0x0a_0b0c)));
    assert_eq!(meta.max_append_ms, UnixMs(1_790_000_000_456));
    let mut entries = Vec::new();
    for row in &table.shards {
        entries.extend(table.entries(&mut world.disk, row).unwrap());
    }
    let told: Vec<_> = entries
        .iter()
        .map(|e| (e.key, e.batches, e.base_offset.0, e.last_offset.0, e.max_timestamp.0))
        .collect();
    let mut wanted = vec![
        (key(5, 3), 2, 40, 42, 3_000),
        (key(5, 4), 1, 7, 7, 2_000),
        (key(5, 4), 1, 10, 12, 502),
        (key(7, 0), 1, 0, 0, 9),
    ];
    wanted.sort_by_key(|(key, _, base, ..)| (key.shard(), *key, *base));
    assert_eq!(told, wanted);

    // The same batches, in WAL files, make the same unit.
    let epoch = |base| i32::from(base == 10) + 2;
    let mut slots: Vec<(i64, Vec<Write>)> = Vec::new();
    for entry in &entries {
        let run = &MADE[entry.pos as usize..][..entry.len as usize];
        let of_key = slots.iter().flat_map(|(_, batches)| batches).any(|b| b.key == entry.key);
        let append_ms = match (entry.key.topic_no.0, entry.key.partition.0) {
            (5, 3) => 1_790_000_000_123,
            (5, _) => 1_790_000_000_456,
            _ => 1_790_000_000_001,
        };
        let mut gap = if of_key { 2 } else { entry.base_offset.0 };
        if entry.base_offset.0 == 0 {
            gap = 0;
        }
        for batch in split_placed(Bytes::copy_from_slice(run)) {
            let epoch = if entry.key == key(7, 0) { 1 } else { epoch(entry.base_offset.0) };
            slots.push((append_ms, vec![Write { key: entry.key, gap, epoch, bytes: batch }]));
            gap = 0;
        }
    }
    let mut world = World::new();
    let mut job = world.wal_file(slots);
    (job.first_slot, job.end_slot) = (SlotNo(0x0102), SlotNo(0x0a_0b0c));
    let sealed = world.seal(job).units[0].id;
    let job = world.rewrite_job(&[sealed]);
    let JobDone::Rewritten { made, damaged, .. } = world.run(Job::Rewrite(job)) else {
        panic!("a good unit can be rewritten");
    };
    assert_eq!(damaged, []);
    assert_eq!(made.units, [meta]);
    assert_eq!(world.disk.content(FileName::Unit(UnitNo(1))).unwrap(), MADE);
}

#[test]
fn the_footer_of_a_wal_file() {
    let entry = |partition, pos, len, batches, flags, (base, last), max| RunEntry {
        key: key(1, partition),
        leader_epoch: LeaderEpoch(4),
        pos,
        len,
        batches,
        flags: RunFlags(flags),
        base_offset: Offset(base),
        last_offset: Offset(last),
        max_timestamp: UnixMs(max),
    };
    let run = |entry, append_ms| UnitRun { entry, append_ms: UnixMs(append_ms), setsum: 0 };
    let mut runs = vec![
        run(entry(0, 4096 + 112, 48, 1, 0, (0, 0), 55), 1_790_000_000_400),
        run(entry(1, 4096 + 160, 300, 2, 4, (5, 9), 77), 1_790_000_000_500),
        run(entry(1, 8192 + 160, 61, 1, 0, (10, 10), 66), 1_790_000_000_600),
    ];
    runs[2].setsum = 0x1122_3344_5566_7788;
    let job = SealJob {
        file_no: FileNo(7),
        first_slot: SlotNo(3),
        end_slot: SlotNo(5),
        slots_end: 12_288,
        size: 16_384,
        setsum: 0x1122_3344_5566_7788,
        runs,
    };
    let mut world = World::new();
    world.disk.put(FileName::Wal(FileNo(7)), vec![0xcc; 16_384]);
    let made = world.seal(job);
    let file = world.disk.content(FileName::Wal(FileNo(7))).unwrap();
    let (before, footer) = file.split_at(16_384 - FOOTER.len());
    assert_eq!(footer, FOOTER);
    assert!(before.iter().all(|byte| *byte == 0xcc));
    let table = UnitTable::read(&mut world.disk, UnitId::Wal(FileNo(7)), 16_384).unwrap();
    assert_eq!(table.meta, made.units[0]);
    let shards: Vec<_> = table.shards.iter().map(|ShardRow { count, .. }| *count).collect();
    assert_eq!(shards, [1, 2]);
}

#[test]
fn a_sum_does_not_depend_on_the_order_of_batches_but_on_everything_else() {
    let number = broker_log::setsum_of_batch;
    let one = number(key(1, 2), Offset(3), 4);
    let others = [
        number(key(2, 1), Offset(3), 4),
        number(key(1, 2), Offset(4), 3),
        number(key(1, 3), Offset(2), 4),
        number(key(0, 0), Offset(0), 0),
    ];
    assert!(others.iter().all(|other| *other != one && *other != 0));
}
