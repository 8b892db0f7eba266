//! A checkpoint: its head, its sections, its partitions.

use std::io::{self, Write};

use broker_log::{
    CHECKPOINT_HEADER_BYTES, CheckpointError, CheckpointHead, CheckpointIndex, Section, SectionKind,
};

use super::Wanted;
use super::damage::Damage;
use super::file::LogFile;
use super::item::{Item, hex32};
use super::output::Output;
use super::{partition, unit};

/// Prints or checks a checkpoint. Returns its head if all of it is intact.
pub fn dump(
    file: &LogFile,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> io::Result<Option<CheckpointHead>> {
    let index = match read_index(file)? {
        Ok(index) => index,
        Err(error) => {
            output.damage(damage(&error));
            return Ok(None);
        }
    };
    if let Err(error) = index.check_len(file.len()) {
        output.damage(damage(&error));
    }
    if file.number().is_some_and(|number| number != index.id.n) {
        let what = format!("the header of checkpoint {}", index.id.n);
        output.damage(Damage::new(0, CHECKPOINT_HEADER_BYTES as u64, what));
    }
    output.item(&index_item(&index))?;
    let mut head = None;
    let mut partitions = 0;
    for section in &index.sections {
        let bytes = file.read(section.pos, section.len as usize)?;
        if !wanted.is_part() {
            output.item(&section_item(section))?;
        }
        let error = match (section.kind, &head) {
            (SectionKind::Units, _) => match index.decode_head(&bytes) {
                Ok(found) => {
                    dump_head(&found, wanted, output)?;
                    head = Some(found);
                    continue;
                }
                Err(error) => error,
            },
            // Without the list of units nothing can be said but whether the bytes are what was written.
            (SectionKind::Shard(_), None) => match section.check(&bytes) {
                Ok(_) => continue,
                Err(error) => error,
            },
            (SectionKind::Shard(_), Some(head)) => match section.decode_shard(&bytes, head) {
                Ok(states) => {
                    partitions += states.len();
                    for state in states.iter().filter(|state| wanted.takes(state.key)) {
                        partition::dump(state, output)?;
                    }
                    continue;
                }
                Err(error) => error,
            },
        };
        output.damage(damage(&error));
    }
    let summary = Item::new("checkpoint_end", 1);
    let summary = summary.with("sections", index.sections.len()).with("partitions", partitions);
    output.summary(&summary)?;
    Ok(head.filter(|_| !output.holds_damage()))
}

fn read_index(file: &LogFile) -> io::Result<Result<CheckpointIndex, CheckpointError>> {
    let header = file.read(0, CHECKPOINT_HEADER_BYTES)?;
    Ok(match CheckpointIndex::len_in(&header) {
        Ok(len) => CheckpointIndex::decode(&file.read(0, len)?),
        Err(error) => Err(error),
    })
}

fn damage(error: &CheckpointError) -> Damage {
    Damage::new(error.from, error.to, error.kind.to_string())
}

fn index_item(index: &CheckpointIndex) -> Item<'static> {
    Item::new("checkpoint", 0)
        .with("n", index.id.n)
        .with("incarnation", index.id.incarnation)
        .with("replay_slot", index.replay_slot.0)
        .with("prev_crc", hex32(index.prev_crc))
        .with("leader_epoch", index.leader_epoch.0)
        .with("gc_slot", index.gc_slot.0)
        .with("sections", index.sections.len())
}

fn section_item(section: &Section) -> Item<'static> {
    let (kind, shard) = match section.kind {
        SectionKind::Units => ("units", None),
        SectionKind::Shard(shard) => ("shard", Some(shard.0)),
    };
    Item::new("section", 1)
        .with("kind", kind)
        .with("shard", shard)
        .with("pos", section.pos)
        .with("len", section.len)
        .with("crc", hex32(section.crc))
}

fn dump_head(
    head: &CheckpointHead,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    if wanted.is_part() {
        return Ok(());
    }
    let item = Item::new("log", 1)
        .with("replay_file_no", head.replay.file_no.0)
        .with("replay_pos", head.replay.pos)
        .with("next_unit", head.next_unit.0)
        .with("next_topic_no", head.next_topic.0);
    output.item(&item)?;
    for meta in &head.units {
        output.item(&unit::unit_item(meta))?;
    }
    for file in &head.unsealed {
        let item = Item::new("unsealed_file", 1)
            .with("file_no", file.file_no.0)
            .with("first_slot", file.first_slot.0)
            .with("end_slot", file.end_slot.0)
            .with("slots_end", file.slots_end)
            .with("size", file.size);
        output.item(&item)?;
    }
    Ok(())
}
