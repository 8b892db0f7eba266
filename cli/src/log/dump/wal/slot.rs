//! One slot as lines.

use std::io::{self, Write};

use broker_log::{ControlBody, Predecessor, RunEntry, Slot, SlotBody, UplinkEntry};

use super::walk::FoundSlot;
use crate::log::dump::Wanted;
use crate::log::dump::batches::{Counted, dump_run, run_item};
use crate::log::dump::item::{Item, hex32, hex64};
use crate::log::dump::output::Output;

/// Prints a slot, or checks its batches.
pub fn dump(
    found: &FoundSlot,
    wanted: &Wanted,
    counted: &mut Counted,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    match &found.slot.body {
        SlotBody::Control(_) if wanted.is_part() => Ok(()),
        SlotBody::Control(body) => {
            output.item(&slot_item(found, kind(body)))?;
            dump_control(body, output)
        }
        SlotBody::Data { runs, uplinks } => {
            let has_run = runs.iter().any(|run| wanted.takes(run.key));
            if has_run || !wanted.is_part() {
                let item = slot_item(found, "data");
                output.item(&item.with("runs", runs.len()).with("uplinks", uplinks.len()))?;
            }
            for run in runs.iter().filter(|run| wanted.takes(run.key)) {
                dump_slots_run(found, run, wanted, counted, output)?;
            }
            for uplink in uplinks.iter().filter(|uplink| wanted.takes(uplink.append.stream.key)) {
                output.item(&uplink_item(uplink, found.pos))?;
            }
            Ok(())
        }
    }
}

/// What an OPEN says of the chain before.
pub fn predecessor(slot: &Slot) -> Option<Predecessor> {
    match &slot.body {
        SlotBody::Control(ControlBody::Open(open)) => open.predecessors.first().copied(),
        SlotBody::Control(_) | SlotBody::Data { .. } => None,
    }
}

fn dump_slots_run(
    found: &FoundSlot,
    run: &RunEntry,
    wanted: &Wanted,
    counted: &mut Counted,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let pos = found.pos + u64::from(run.pos);
    output.item(&run_item(run, 2, pos))?;
    if !wanted.reads_batches() {
        counted.runs += 1;
        counted.batches += u64::from(run.batches);
        return Ok(());
    }
    // A slot that was decoded holds its runs.
    let start = run.pos as usize;
    let bytes = found.bytes.get(start..start + run.len as usize).unwrap_or_default();
    dump_run(run, (pos, bytes), wanted, counted, output)
}

fn slot_item(found: &FoundSlot, kind: &'static str) -> Item<'static> {
    let header = &found.slot.header;
    Item::new("slot", 1)
        .with("slot_no", header.head.slot_no.0)
        .with("kind", kind)
        .with("pos", found.pos)
        .with("len", header.total_len)
        .with("append_time", header.head.append_ms)
        .with("prev_crc", hex32(header.head.prev_crc))
        .with("crc", hex32(header.crc))
}

fn kind(body: &ControlBody) -> &'static str {
    match body {
        ControlBody::Open(_) => "open",
        ControlBody::Release { .. } => "release",
        ControlBody::Seal { .. } => "seal",
    }
}

fn dump_control(body: &ControlBody, output: &mut Output<impl Write>) -> io::Result<()> {
    match body {
        ControlBody::Open(open) => {
            for predecessor in &open.predecessors {
                let item = Item::new("predecessor", 2);
                let item = item.with("incarnation", predecessor.incarnation);
                output.item(&item.with("end", predecessor.end.0))?;
            }
            for shard in &open.shards {
                let item = Item::new("shard_epoch", 2).with("shard", shard.shard);
                output.item(&item.with("epoch", shard.epoch))?;
            }
            Ok(())
        }
        ControlBody::Release { shard } => {
            output.item(&Item::new("released", 2).with("shard", *shard))
        }
        ControlBody::Seal { by } => output.item(&Item::new("sealed", 2).with("by", *by)),
    }
}

fn uplink_item(entry: &UplinkEntry, slot_pos: u64) -> Item<'static> {
    let append = &entry.append;
    Item::new("uplink", 2)
        .with("topic_no", append.stream.key.topic_no.0)
        .with("partition", append.stream.key.partition.0)
        .with("producer_id", append.stream.pid.0)
        .with("epoch", append.epoch.0)
        .with("base_sequence", append.base.get())
        .with("readings", append.count)
        .with("prev_tag", hex64(append.prev_tag.0))
        .with("tag", hex64(append.tag.0))
        .with("pos", slot_pos + u64::from(entry.pos))
}
