//! What a checkpoint says of one partition, as lines.

use std::io::{self, Write};

use broker_log::{Extent, PartitionState, ProducerState};

use super::batches::run_item;
use super::item::{Item, hex64};
use super::output::Output;

/// How deep a partition lies: file, section, partition.
const DEPTH: usize = 2;

/// Prints it.
pub fn dump(state: &PartitionState, output: &mut Output<impl Write>) -> io::Result<()> {
    let of_partition = |name, depth| {
        Item::new(name, DEPTH + depth)
            .with("topic_no", state.key.topic_no.0)
            .with("partition", state.key.partition.0)
    };
    let item = Item::new("partition", DEPTH)
        .with("topic_no", state.key.topic_no.0)
        .with("partition", state.key.partition.0)
        .with("log_start", state.log_start.0)
        .with("next", state.next.0)
        .with("cleaned", state.cleaned.0)
        .with("next_horizon", state.next_horizon)
        .with("epochs", state.epochs.len())
        .with("extents", state.extents.len())
        .with("runs", state.runs.len())
        .with("producers", state.producers.len())
        .with("streams", state.streams.len());
    output.item(&item)?;
    for (epoch, start) in &state.epochs {
        output.item(&of_partition("epoch", 1).with("epoch", epoch.0).with("start", start.0))?;
    }
    for extent in &state.extents {
        output.item(&with_extent(of_partition("extent", 1), extent))?;
    }
    for (file_no, run) in &state.runs {
        let item =
            run_item(&run.entry, DEPTH + 1, u64::from(run.entry.pos)).with("file_no", file_no.0);
        let item = item.with("append_time", run.append_ms).with("setsum", hex64(run.setsum));
        output.item(&item)?;
    }
    for producer in &state.producers {
        dump_producer(producer, &of_partition, output)?;
    }
    for (pid, stream) in &state.streams {
        let item = of_partition("stream", 1)
            .with("producer_id", pid.0)
            .with("epoch", stream.epoch.0)
            .with("last_sequence", stream.last.map(|last| last.get()))
            .with("tag", hex64(stream.tag.0));
        output.item(&item)?;
    }
    Ok(())
}

fn with_extent(item: Item<'static>, extent: &Extent) -> Item<'static> {
    item.with("unit", extent.unit.to_string())
        .with("base_offset", extent.base.0)
        .with("last_offset", extent.last.0)
        .with("first", extent.first)
        .with("runs", extent.count)
        .with("bytes", extent.bytes)
        .with("max_timestamp", extent.max_timestamp)
        .with("max_append_time", extent.max_append_ms)
}

fn dump_producer(
    producer: &ProducerState,
    of_partition: &impl Fn(&'static str, usize) -> Item<'static>,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let item = of_partition("producer", 1)
        .with("producer_id", producer.pid.0)
        .with("epoch", producer.epoch)
        .with("used", producer.used);
    output.item(&item)?;
    for batch in &producer.batches {
        let item = of_partition("producer_batch", 2)
            .with("producer_id", producer.pid.0)
            .with("base_sequence", batch.base.get())
            .with("last_sequence", batch.last.get())
            .with("base_offset", batch.base_offset.0)
            .with("append_time", batch.append_time);
        output.item(&item)?;
    }
    Ok(())
}
