//! Checkpoints as docs/formats/checkpoint.md describes them: the golden bytes, round trips, damage and nonsense.

mod sample;

use std::collections::BTreeMap;

use broker_log::{
    CHECKPOINT_HEADER_BYTES, Checkpoint, CheckpointError, CheckpointErrorKind, CheckpointHead,
    CheckpointIndex, CheckpointWriter, PartitionKey, PartitionState, SECTIONS_MAX, Section,
    SectionKind,
};
use wire::offset::Offset;
use wire::record_batch::crc32c;

use crate::batches::key;
use sample::{bare, extreme_head, extreme_partition, full, golden_head, golden_partitions};

const GOLDEN: &[u8] = include_bytes!("../golden/checkpoint-v1.bin");

/// Bytes of the directory's entries.
const ENTRY_BYTES: usize = 32;

fn encode<'a>(
    head: &CheckpointHead,
    partitions: impl IntoIterator<Item = &'a PartitionState>,
) -> Vec<u8> {
    let mut writer = CheckpointWriter::new();
    partitions.into_iter().for_each(|state| writer.partition(state));
    let len = writer.len(head);
    let bytes = writer.finish(head).unwrap().concat();
    assert_eq!(len, bytes.len() as u64);
    bytes
}

fn by_key(partitions: Vec<PartitionState>) -> BTreeMap<PartitionKey, PartitionState> {
    partitions.into_iter().map(|state| (state.key, state)).collect()
}

/// Makes every CRC of a checkpoint anew, so that only its content is wrong.
fn reseal(bytes: &mut [u8]) {
    let sections = u32::from_le_bytes(bytes[48..52].try_into().unwrap()) as usize;
    let index_len = CHECKPOINT_HEADER_BYTES + sections * ENTRY_BYTES;
    for entry in (CHECKPOINT_HEADER_BYTES..index_len).step_by(ENTRY_BYTES) {
        let pos = u64::from_le_bytes(bytes[entry + 16..entry + 24].try_into().unwrap()) as usize;
        let len = u32::from_le_bytes(bytes[entry + 24..entry + 28].try_into().unwrap()) as usize;
        if let Some(section) = bytes.get(pos..pos + len) {
            let crc = crc32c(section);
            bytes[entry + 28..entry + 32].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let covered = [&bytes[..60], &bytes[64..index_len]].concat();
    bytes[60..64].copy_from_slice(&crc32c(&covered).to_le_bytes());
}

fn golden_sections() -> Vec<Section> {
    CheckpointIndex::decode(GOLDEN).unwrap().sections
}

#[test]
fn golden_bytes() {
    let (head, partitions) = (golden_head(), golden_partitions());
    assert_eq!(encode(&head, &partitions), GOLDEN);
    let read = Checkpoint::decode(GOLDEN).unwrap();
    assert_eq!(read, Checkpoint { head, partitions: by_key(partitions) });
}

#[test]
fn order_does_not_matter_and_producers_may_come_first() {
    let (head, partitions) = (golden_head(), golden_partitions());
    assert_eq!(encode(&head, partitions.iter().rev()), GOLDEN);
    let mut writer = CheckpointWriter::new();
    for state in &partitions {
        writer.producers(state.key, &state.producers);
    }
    for state in &partitions {
        writer.partition(&PartitionState { producers: Vec::new(), ..state.clone() });
    }
    assert_eq!(writer.finish(&head).unwrap().concat(), GOLDEN);
}

#[test]
fn producers_of_a_partition_that_is_gone_mean_nothing() {
    let (head, partitions) = (golden_head(), golden_partitions());
    let mut writer = CheckpointWriter::new();
    // One beside partitions that are there, one in a shard without any.
    writer.producers(key(3, 2048), &full().producers);
    writer.producers(key(3, 9), &full().producers);
    partitions.iter().for_each(|state| writer.partition(state));
    let read = Checkpoint::decode(&writer.finish(&head).unwrap().concat()).unwrap();
    assert_eq!(read.partitions, by_key(partitions));
}

#[test]
fn a_shard_can_be_read_alone() {
    let index = CheckpointIndex::decode(&GOLDEN[..1 << 8]).unwrap();
    assert_eq!(CheckpointIndex::len_in(GOLDEN), Ok(CHECKPOINT_HEADER_BYTES + 3 * ENTRY_BYTES));
    let bytes = |section: &Section| &GOLDEN[section.pos as usize..section.end() as usize];
    let [units, first, second] = &index.sections[..] else {
        panic!("units and two shards");
    };
    assert_eq!(units.kind, SectionKind::Units);
    let head = index.decode_head(bytes(units)).unwrap();
    assert_eq!(head, golden_head());
    let shard = key(3, 1).shard();
    let wanted = if second.kind == SectionKind::Shard(shard) { second } else { first };
    let states = wanted.decode_shard(bytes(wanted), &head).unwrap();
    assert_eq!(states, golden_partitions()[1..2]);
}

#[test]
fn extremes_read_back() {
    let (head, state) = (extreme_head(), extreme_partition());
    let read = Checkpoint::decode(&encode(&head, [&state])).unwrap();
    assert_eq!(read, Checkpoint { head, partitions: by_key(vec![state]) });
}

#[test]
fn an_empty_log_has_a_checkpoint() {
    let head = CheckpointHead { units: Vec::new(), unsealed: Vec::new(), ..golden_head() };
    let bytes = encode(&head, []);
    assert_eq!(bytes.len(), CHECKPOINT_HEADER_BYTES + ENTRY_BYTES + 40);
    assert_eq!(Checkpoint::decode(&bytes), Ok(Checkpoint { head, partitions: BTreeMap::new() }));
}

#[test]
fn partitions_of_all_shards_read_back() {
    let partitions: Vec<_> = (0..5_000)
        .map(|i: u32| PartitionState { next: Offset(i64::from(i)), ..bare(key(i / 7, i % 7)) })
        .collect();
    let bytes = encode(&golden_head(), &partitions);
    let index = CheckpointIndex::decode(&bytes).unwrap();
    assert_eq!(index.sections.len(), 1 + 1024, "5,000 partitions leave no shard empty");
    assert_eq!(Checkpoint::decode(&bytes).unwrap().partitions, by_key(partitions));
}

#[test]
fn every_flipped_bit_is_found_and_its_range_named() {
    let index_len = CheckpointIndex::len_in(GOLDEN).unwrap() as u64;
    let sections = golden_sections();
    for at in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut bad = GOLDEN.to_vec();
            bad[at] ^= 1 << bit;
            let error = Checkpoint::decode(&bad).unwrap_err();
            let at = at as u64;
            assert!((error.from..error.to).contains(&at), "byte {at}, bit {bit}: {error}");
            let section =
                sections.iter().find(|section| (section.pos..section.end()).contains(&at));
            if let Some(section) = section {
                let kind = CheckpointErrorKind::Crc;
                let expected = CheckpointError { from: section.pos, to: section.end(), kind };
                assert_eq!(error, expected, "byte {at}, bit {bit}");
            } else {
                assert!(error.from == 0 && at < index_len, "byte {at}, bit {bit}: {error}");
            }
        }
    }
}

#[test]
fn every_cut_is_found_and_so_is_a_byte_too_many() {
    for len in 0..GOLDEN.len() {
        let error = Checkpoint::decode(&GOLDEN[..len]).unwrap_err();
        assert_eq!(error.kind, CheckpointErrorKind::Length, "{len} bytes: {error}");
    }
    let longer = [GOLDEN, &[0]].concat();
    let (from, to) = (GOLDEN.len() as u64, GOLDEN.len() as u64 + 1);
    let kind = CheckpointErrorKind::Length;
    assert_eq!(Checkpoint::decode(&longer), Err(CheckpointError { from, to, kind }));
}

#[test]
fn foreign_files_and_other_versions_are_told_apart() {
    let kind_of = |patch: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = GOLDEN.to_vec();
        patch(&mut bytes);
        reseal(&mut bytes);
        Checkpoint::decode(&bytes).unwrap_err().kind
    };
    use CheckpointErrorKind::{NotACheckpoint, SectionKind, Version};
    assert_eq!(kind_of(&|bytes| bytes[0] = b'X'), NotACheckpoint);
    assert_eq!(kind_of(&|bytes| bytes[4] = 2), Version(2));
    // The groups' and transactions' sections of a later version.
    let second = CHECKPOINT_HEADER_BYTES + ENTRY_BYTES;
    assert_eq!(kind_of(&|bytes| bytes[second] = 3), SectionKind(3));
    // A directory beyond the limit is not even looked for.
    let mut bytes = GOLDEN.to_vec();
    for (sections, expected) in [
        (SECTIONS_MAX, CheckpointErrorKind::Length),
        (SECTIONS_MAX + 1, CheckpointErrorKind::Crc),
        (u32::MAX, CheckpointErrorKind::Crc),
    ] {
        bytes[48..52].copy_from_slice(&sections.to_le_bytes());
        assert_eq!(Checkpoint::decode(&bytes).unwrap_err().kind, expected, "{sections} sections");
    }
}

/// Where in the golden file things lie: the list of units, the shard of the full partition, the full partition itself.
fn places() -> (usize, usize, usize) {
    let sections = golden_sections();
    let shard = key(3, 0).shard();
    let shard = sections.iter().find(|section| section.kind == SectionKind::Shard(shard)).unwrap();
    (sections[0].pos as usize, shard.pos as usize, shard.pos as usize + 8)
}

/// Puts bytes into the golden file, makes the CRCs fit, and looks for words in the error.
fn check_refused(cases: &[(usize, &[u8], &str)]) {
    for (at, patch, words) in cases {
        let mut bytes = GOLDEN.to_vec();
        bytes[*at..*at + patch.len()].copy_from_slice(patch);
        reseal(&mut bytes);
        let error = Checkpoint::decode(&bytes).expect_err(words);
        assert!(error.to_string().contains(words), "{patch:?} at {at}: {error}, not {words}");
        assert!(error.to <= GOLDEN.len() as u64, "{error}");
    }
}

#[test]
fn a_directory_or_a_list_of_units_that_contradicts_itself_is_refused() {
    let directory = CHECKPOINT_HEADER_BYTES;
    let (units, ..) = places();
    check_refused(&[
        (directory + 4, &[1], "no such shard"),
        (directory + 8, &[0], "directory"),
        (directory + 16, &[0], "directory"),
        (directory + ENTRY_BYTES + 5, &[4], "no such shard"),
        (directory + 2 * ENTRY_BYTES + 27, &[0x80], "a section that is too long"),
        (directory + ENTRY_BYTES + 4, &[0xff, 3], "directory"),
        (directory + ENTRY_BYTES, &[1, 0, 0, 0, 0, 0, 0, 0], "directory"),
        (units + 28, &[1], "length"),
        (units + 28, &[3], "length"),
        (units + 28, &[0xff; 4], "length"),
        (units + 32, &[0xff; 4], "length"),
        (units + 40 + 160, &[11], "the unsealed files are not in order"),
        (units + 40 + 200, &[12], "a run outside its file"),
        (units + 40 + 200 + 24, &[0, 0x20], "a run outside its file"),
        (units + 40 + 8, &[1], "an extent outside its unit"),
        (units + 40 + 8, &[2], "unknown kind"),
        (units + 40 + 9, &[5], "unknown kind"),
        (units + 40 + 9, &[0], "unknown kind"),
        (units + 40 + 80 + 8, &[0], "an extent outside its unit"),
        (units + 40 + 80, &[5, 0, 0, 0, 0, 0, 0, 0, 0], "the units are not in order"),
        (units + 40 + 40, &[39], "an extent outside its unit"),
    ]);
}

#[test]
fn a_shard_that_contradicts_itself_is_refused() {
    let (_, shard, full) = places();
    let epochs = full + 64;
    let extents = epochs + 2 * 12;
    let runs = extents + 2 * 64;
    let streams = runs + 2 * 72;
    let bare = streams + 2 * 24;
    let group = bare + 64;
    check_refused(&[
        (shard, &[1], "a shard's section has another length"),
        (shard, &[3], "partition"),
        (shard, &[0xff; 4], "partition"),
        (shard + 4, &[0], "length"),
        (shard + 4, &[2], "group"),
        (shard + 4, &[0xff; 4], "group"),
        (full + 4, &[1], "run of another partition"),
        (full + 8, &[61], "log start"),
        (full + 15, &[0x80], "log start"),
        (full + 16, &[59], "ascend"),
        (full + 40, &[2], "impossible"),
        (full + 44, &[0xff; 4], "cut off"),
        (full + 48, &[0xff; 4], "cut off"),
        (full + 52, &[0xff; 4], "cut off"),
        (full + 56, &[0xff; 4], "cut off"),
        (epochs, &[4], "epochs"),
        (epochs + 4, &[26], "epochs"),
        (extents + 8, &[20], "ascend"),
        (extents + 16, &[20], "ascend"),
        (extents + 52, &[0], "without entries"),
        (extents + 52, &[13], "outside its unit"),
        (extents + 48, &[0xff; 4], "outside its unit"),
        (extents + 56, &[2], "impossible"),
        (extents, &[0x71], "outside its unit"),
        (runs + 24, &[4], "run of another partition"),
        (runs + 24 + 24, &[39], "ascend"),
        (runs + 24 + 32, &[50], "ascend"),
        (runs, &[12], "a run outside its file"),
        (streams, &[0x57], "streams"),
        (streams + 22, &[2], "impossible"),
        (streams + 19, &[0x80], "impossible"),
        (bare + 4, &[1, 4], "another shard"),
        (bare + 4, &[0, 0], "partitions are not in order"),
        (group + 8, &[0xff; 4], "group"),
        (group + 16 + 18, &[6], "too many batches"),
        (group + 16, &[9], "the producers are not in order"),
        (group + 16 + 20 + 3, &[0xff], "negative"),
    ]);
}

#[test]
fn no_bytes_make_it_panic_or_take_much_memory() {
    let index_len = CheckpointIndex::len_in(GOLDEN).unwrap();
    let mut accepted = 0;
    for at in (48..GOLDEN.len()).filter(|at| !(52..CHECKPOINT_HEADER_BYTES).contains(at)) {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = wrong;
            if at >= index_len {
                reseal(&mut bytes);
            }
            accepted += u32::from(Checkpoint::decode(&bytes).is_ok());
        }
    }
    assert!(accepted > 0, "a timestamp may be anything");
}
