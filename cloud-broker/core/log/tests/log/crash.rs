//! A scripted workload is killed, or loses power, at each of its calls to the disk; then twice more. Nothing that was
//! acknowledged or shown to a reader may vanish.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::{ProducerId, Tag};
use wire::record_batch::BatchProducer;
use wire::seq::StreamEpoch;
use wire::time::UnixMs;
use wire::uplink::StreamState;

use broker_log::{Log, PartitionKey, SlotNo, UplinkAppend, UplinkOutcome, UplinkStream};

use crate::batches::{Rng, batch, batch_of, key, produced};
use crate::disk::{Death, Disk, DiskError, read_all, small, start, write};

const STEPS: u64 = 14;

/// What the outside knows: what it sent, and how much of it was acknowledged or read.
#[derive(Default)]
struct Model {
    sent: BTreeMap<PartitionKey, Vec<Sent>>,
    streams: BTreeMap<UplinkStream, Vec<StreamState>>,
}

struct Sent {
    produced: Bytes,
    slot_no: SlotNo,
    stream: Option<UplinkStream>,
    acked: bool,
}

struct Run {
    disk: Disk,
    model: Model,
    rng: Rng,
    lives: u8,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { disk: Disk::new(), model: Model::default(), rng: Rng(seed), lives: 0 }
    }

    /// One life of a broker: recover, check, work. Ends early when the disk says so.
    fn live(&mut self) -> Result<(), DiskError> {
        self.lives += 1;
        let mut log = match start(&mut self.disk, self.lives, &small()) {
            Ok(log) => log,
            Err(broker_log::RecoveryError::Source(died)) => return Err(died),
            Err(error) => panic!("a crash is not corruption: {error}"),
        };
        self.model.check(&log, &mut self.disk);
        for partition in 0..3 {
            log.register_partition(key(0, partition)).unwrap();
        }
        let mut name = 0;
        for _ in 0..STEPS {
            self.send(&mut log, &mut name);
            let Some(slot) = log.take_slot() else {
                continue;
            };
            // Appends arrive while the disk is busy.
            self.send(&mut log, &mut name);
            write(&mut self.disk, &slot)?;
            log.slot_durable(slot.slot_no);
            self.model.acknowledge(slot.slot_no);
        }
        Ok(())
    }

    fn send(&mut self, log: &mut Log, name: &mut u64) {
        for _ in 0..self.rng.below(3) {
            *name += 1;
            let bytes = [40, 700, 9_000][self.rng.below(3) as usize];
            let records = 1 + self.rng.below(3) as u32;
            let partition = key(0, self.rng.below(3) as u32);
            if self.rng.below(2) == 0 {
                let batch = batch(*name, records, bytes);
                let appended = log.append(UnixMs(5), partition, batch.clone()).unwrap();
                self.model.sent(partition, &batch, appended.slot_no, None);
            } else {
                let pid = ProducerId(ProducerId::UPLINK_MIN.0 + self.rng.below(2) as i64);
                let stream = UplinkStream { pid, key: partition };
                self.send_uplink(log, stream, *name, records, bytes);
            }
        }
    }

    fn send_uplink(
        &mut self,
        log: &mut Log,
        stream: UplinkStream,
        name: u64,
        records: u32,
        bytes: usize,
    ) {
        let states = self.model.streams.entry(stream).or_default();
        let state = states.last().copied().unwrap_or(StreamState::UNKNOWN);
        let append = UplinkAppend {
            stream,
            epoch: state.epoch,
            base: state.next(),
            count: records,
            prev_tag: state.tag,
            tag: Tag(name + (u64::from(self.lives) << 32)),
        };
        let producer =
            BatchProducer { id: stream.pid, epoch: StreamEpoch::FIRST, base: append.base };
        let batch = batch_of(producer, name, records, bytes, 77);
        match log.append_uplink(UnixMs(5), &append, batch.clone()) {
            UplinkOutcome::Appended(appended) => {
                states.push(append.state_after());
                self.model.sent(stream.key, &batch, appended.slot_no, Some(stream));
            }
            other => panic!("it fits: {other:?}"),
        }
    }
}

impl Model {
    fn sent(
        &mut self,
        key: PartitionKey,
        batch: &Bytes,
        slot_no: SlotNo,
        stream: Option<UplinkStream>,
    ) {
        self.sent.entry(key).or_default().push(Sent {
            produced: produced(batch),
            slot_no,
            stream,
            acked: false,
        });
    }

    fn acknowledge(&mut self, slot_no: SlotNo) {
        for sent in self.sent.values_mut().flatten() {
            sent.acked |= sent.slot_no <= slot_no;
        }
    }

    /// Compares the log with what is known, then takes over what it holds: readers have seen it now.
    fn check(&mut self, log: &Log, disk: &mut Disk) {
        for (key, sent) in &mut self.sent {
            let found = read_all(log, disk, *key);
            let acked = sent.iter().filter(|s| s.acked).count();
            assert!(found.len() >= acked, "{key:?}: {} of {acked} acknowledged", found.len());
            assert!(found.len() <= sent.len());
            for (sent, (_, found)) in sent.iter().zip(&found) {
                assert_eq!(sent.produced, *found);
            }
            sent.truncate(found.len());
            for sent in sent {
                sent.acked = true;
                // Another life counts its slots anew.
                sent.slot_no = SlotNo(0);
            }
        }
        for (stream, states) in &mut self.streams {
            let stored = self.sent.get(&stream.key).into_iter().flatten();
            let stored = stored.filter(|s| s.stream == Some(*stream)).count();
            states.truncate(stored);
            assert_eq!(log.stream_state_durable(stream), states.last().copied());
        }
    }
}

fn calls_of_one_life(seed: u64) -> usize {
    let mut run = Run::new(seed);
    run.live().unwrap();
    run.disk.calls()
}

#[test]
fn nothing_acknowledged_vanishes_whenever_the_process_dies() {
    for seed in 0..4 {
        let calls = calls_of_one_life(seed);
        assert!(calls > 20, "the workload reaches the disk");
        for crash_at in 0..calls {
            for death in [Death::Killed, Death::FailedSync] {
                for power in [false, true] {
                    crash_three_times(seed, crash_at, death, power);
                }
            }
        }
    }
}

fn crash_three_times(seed: u64, crash_at: usize, death: Death, power: bool) {
    let mut run = Run::new(seed);
    run.disk.die_after(crash_at, death);
    run.live().unwrap_err();
    if power {
        run.disk.lose_power(&mut || run.rng.below(2) == 0);
    }

    // Now and then already recovery dies.
    let again = run.rng.below(24) as usize;
    run.disk.heal();
    run.disk.die_after(again, death);
    if run.live().is_err() {
        run.disk.lose_power(&mut || run.rng.below(2) == 0);
    }

    run.disk.heal();
    run.live().unwrap();
    run.disk.lose_power(&mut || run.rng.below(2) == 0);
    run.live().unwrap();
}

#[test]
fn power_loss_right_after_recovery_takes_nothing_back() {
    // A slot that reads back from the page cache although its sync failed: shown to readers after the restart, it must
    // be on disk by then.
    for seed in 100..104 {
        for crash_at in 0..calls_of_one_life(seed) {
            let mut run = Run::new(seed);
            run.disk.die_after(crash_at, Death::FailedSync);
            run.live().unwrap_err();
            run.disk.heal();
            run.lives += 1;
            let log = start(&mut run.disk, run.lives, &small()).unwrap();
            run.model.check(&log, &mut run.disk);
            run.disk.lose_power(&mut || run.rng.below(2) == 0);
            run.live().unwrap();
        }
    }
}
