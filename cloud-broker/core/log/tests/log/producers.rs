//! Idempotent producers that send again what was not answered, over crashes: each batch is stored once and in order, and a
//! copy gets the original's offset.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::ProducerId;
use wire::offset::Offset;
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use broker_log::{
    AppendError, BATCHES_KEPT, IdempotentError, IdempotentOutcome, Log, LogSettings, PartitionKey,
    SlotNo, TopicNo,
};

use crate::batches::{Rng, batch, batch_of, key, produced};
use crate::disk::{Death, Disk, DiskError, flush, read_all, small, start, write};
use crate::world;

const NOW: UnixMs = UnixMs(1_000);

fn numbered(pid: i64, epoch: i16, base: i32, name: u64, records: u32) -> Bytes {
    let base = StreamSeq::new(base).unwrap();
    let producer = BatchProducer { id: ProducerId(pid), epoch: StreamEpoch(epoch), base };
    batch_of(producer, name, records, 40, 1_000)
}

fn appended_at(outcome: Result<IdempotentOutcome, IdempotentError>) -> i64 {
    match outcome {
        Ok(IdempotentOutcome::Appended(appended)) => appended.base_offset.0,
        other => panic!("not appended: {other:?}"),
    }
}

fn opened(disk: &mut Disk, settings: &LogSettings) -> Log {
    let mut log = start(disk, 1, settings).unwrap();
    for partition in 0..2 {
        log.register_partition(key(0, partition)).unwrap();
        log.register_partition(key(1, partition)).unwrap();
    }
    log
}

#[test]
fn a_copy_is_answered_after_its_original() {
    let mut disk = Disk::new();
    let mut log = opened(&mut disk, &small());
    let a = key(0, 0);
    log.append(NOW, a, batch(9, 2, 20)).unwrap();
    let first = numbered(5, 0, 0, 1, 3);
    assert_eq!(appended_at(log.append_idempotent(NOW, a, first.clone())), 2);
    let copy = |answer_after| {
        Ok(IdempotentOutcome::Duplicate { base_offset: Offset(2), append_time: None, answer_after })
    };
    assert_eq!(log.append_idempotent(NOW, a, first.clone()), copy(Some(SlotNo(1))));
    let slot = log.take_slot().unwrap();
    assert_eq!(log.append_idempotent(NOW, a, first.clone()), copy(Some(SlotNo(1))));
    write(&mut disk, &slot).unwrap();
    log.slot_durable(slot.slot_no);
    assert_eq!(log.append_idempotent(NOW, a, first.clone()), copy(None));
    assert!(log.take_slot().is_none(), "copies are not written");

    // After a restart as before.
    let mut log = start(&mut disk, 2, &small()).unwrap();
    assert_eq!(log.append_idempotent(NOW, a, first.clone()), copy(None));
    let hole = log.append_idempotent(NOW, a, numbered(5, 0, 4, 2, 1));
    assert_eq!(hole, Err(IdempotentError::OutOfOrder));
    assert_eq!(appended_at(log.append_idempotent(NOW, a, numbered(5, 1, 0, 2, 1))), 5);
    assert_eq!(log.append_idempotent(NOW, a, first), Err(IdempotentError::Fenced));
}

#[test]
fn what_is_turned_away_changes_nothing() {
    let mut disk = Disk::new();
    let settings = LogSettings { pending_bytes_max: 400, ..small() };
    let mut log = opened(&mut disk, &settings);
    let a = key(0, 0);
    let invalid = Err(IdempotentError::Append(AppendError::Invalid));
    for foreign in
        [batch(1, 1, 8), numbered(ProducerId::UPLINK_MIN.0, 0, 0, 1, 1), numbered(5, -1, 0, 1, 1)]
    {
        assert_eq!(log.append_idempotent(NOW, a, foreign), invalid);
    }
    let mut negative = numbered(5, 0, 0, 1, 1).to_vec();
    negative[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
    assert_eq!(log.append_idempotent(NOW, a, Bytes::from(negative)), invalid);
    let nowhere = log.append_idempotent(NOW, key(7, 0), numbered(5, 0, 0, 1, 1));
    assert_eq!(nowhere, Err(IdempotentError::Append(AppendError::UnknownPartition)));
    let numbers = log.append(NOW, a, numbered(5, 0, 0, 1, 1));
    assert_eq!(numbers, Err(AppendError::Invalid), "its sequence would go unseen");

    // A busy log turns new batches away, and takes them later; a copy needs no room.
    let first = numbered(5, 0, 0, 1, 1);
    let second = numbered(5, 0, 1, 2, 1);
    assert_eq!(appended_at(log.append_idempotent(NOW, a, first.clone())), 0);
    let busy = Err(IdempotentError::Append(AppendError::Busy));
    assert_eq!(log.append_idempotent(NOW, a, second.clone()), busy);
    assert!(log.append_idempotent(NOW, a, first).is_ok());
    flush(&mut log, &mut disk);
    assert_eq!(appended_at(log.append_idempotent(NOW, a, second)), 1);
}

#[test]
fn a_wall_clock_that_jumps_for_a_moment_forgets_no_producer() {
    const DAY: u64 = 86_400_000;
    let mut world = world::World::new(small(), &[key(0, 0)]);
    let a = key(0, 0);
    let send = |world: &mut world::World, seq: i32| {
        let batch = numbered(5, 0, seq, 1, 1);
        world.log.append_idempotent(world.now.wall, a, batch)
    };
    world.maintain();
    assert_eq!(appended_at(send(&mut world, 0)), 0);
    for jump in [0, 300 * DAY as i64] {
        world.now.wall.0 += jump;
        world.pass(DAY / 24);
        world.maintain();
        let other = numbered(6, 0, i32::from(jump > 0), 2, 1);
        world.log.append_idempotent(world.now.wall, a, other).unwrap();
        world.now.wall.0 -= jump;
        world.maintain();
        assert_eq!(send(&mut world, 7), Err(IdempotentError::OutOfOrder), "its place is known");
    }
    for _ in 0..30 {
        world.pass(DAY / 24);
        world.maintain();
    }
    assert!(send(&mut world, 7).is_ok(), "after a day it may begin anywhere");
}

#[test]
fn a_removed_topic_is_forgotten_and_its_number_stays_used() {
    let mut disk = Disk::new();
    let mut log = opened(&mut disk, &small());
    let gone = numbered(5, 0, 0, 1, 1);
    log.append_idempotent(NOW, key(1, 0), gone.clone()).unwrap();
    let slot = log.take_slot().unwrap();
    // One batch is on its way to the disk, one is staged.
    log.append_idempotent(NOW, key(1, 1), numbered(5, 0, 0, 2, 1)).unwrap();
    log.append_idempotent(NOW, key(0, 0), numbered(5, 0, 0, 3, 1)).unwrap();
    log.remove_topic(TopicNo(1));
    assert_eq!(log.topic_nos().collect::<Vec<_>>(), [TopicNo(0)]);
    assert_eq!(log.next_topic_no(), TopicNo(2));
    let appended = log.append_idempotent(NOW, key(1, 0), gone);
    assert_eq!(appended, Err(IdempotentError::Append(AppendError::UnknownPartition)));
    write(&mut disk, &slot).unwrap();
    assert_eq!(log.slot_durable(slot.slot_no).moved, []);
    flush(&mut log, &mut disk);
    assert_eq!(log.offsets(key(1, 0)), None);

    // What the disk holds of it comes back with recovery, for the owner of the metadata to remove again.
    let mut log = start(&mut disk, 2, &small()).unwrap();
    assert_eq!(log.topic_nos().collect::<Vec<_>>(), [TopicNo(0), TopicNo(1)]);
    log.remove_topic(TopicNo(1));
    assert_eq!(log.topic_nos().collect::<Vec<_>>(), [TopicNo(0)]);
    assert_eq!(log.next_topic_no(), TopicNo(2));
    assert_eq!(read_all(&log, &mut disk, key(0, 0)).len(), 1);
}

/// A client: what it has made, in order, and how much of it was answered.
struct Client {
    key: PartitionKey,
    pid: i64,
    next_seq: i32,
    made: Vec<Made>,
    /// Batches at the front that were answered.
    acked: usize,
    /// Batches that this life of the broker was sent.
    sent: usize,
}

struct Made {
    batch: Bytes,
    /// Where the log has put it, as far as it was told.
    offset: Option<i64>,
}

struct World {
    disk: Disk,
    rng: Rng,
    clients: Vec<Client>,
    /// Answers that leave when their slot is durable: client, batch, offset.
    parked: Vec<(SlotNo, usize, usize, i64)>,
    copies: usize,
    names: u64,
    lives: u8,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let clients = (0..6).map(|i| Client {
            key: key(0, i as u32 % 2),
            pid: i,
            // Some of them wrap on their way; each begins where the log has never seen it.
            next_seq: if rng.below(2) == 0 { 0 } else { i32::MAX - rng.below(20) as i32 },
            made: Vec::new(),
            acked: 0,
            sent: 0,
        });
        let clients = clients.collect();
        let disk = Disk::new();
        Self { disk, rng, clients, parked: Vec::new(), copies: 0, names: 0, lives: 0 }
    }

    /// One life of a broker. Ends early when the disk says so.
    fn live(&mut self, steps: u64) -> Result<(), DiskError> {
        self.lives += 1;
        // Connections end with the broker: nothing that was sent before comes later, and every client goes back to what
        // was not answered.
        self.parked.clear();
        for client in &mut self.clients {
            client.sent = client.acked;
        }
        let mut log = match start(&mut self.disk, self.lives, &small()) {
            Ok(log) => log,
            Err(broker_log::RecoveryError::Source(died)) => return Err(died),
            Err(error) => panic!("a crash is not corruption: {error}"),
        };
        for partition in 0..2 {
            log.register_partition(key(0, partition)).unwrap();
        }
        for _ in 0..steps {
            for _ in 0..self.rng.below(6) {
                self.act(&mut log);
            }
            if let Some(slot) = log.take_slot() {
                self.act(&mut log);
                write(&mut self.disk, &slot)?;
                log.slot_durable(slot.slot_no);
                self.release(slot.slot_no);
            }
        }
        Ok(())
    }

    fn act(&mut self, log: &mut Log) {
        let at = self.rng.below(self.clients.len() as u64) as usize;
        let client = &mut self.clients[at];
        match self.rng.below(8) {
            // The connection is cut: what is unanswered is sent again on another one.
            0 => client.sent = client.acked,
            // A request of a connection that was cut arrives late: any that this broker has been sent before.
            1 if client.sent > 0 => {
                let late = self.rng.below(client.sent as u64) as usize;
                self.send(log, at, late);
            }
            _ if client.sent - client.acked < BATCHES_KEPT => {
                if client.sent == client.made.len() {
                    let records = 1 + self.rng.below(3) as u32;
                    self.names += 1;
                    let batch = numbered(client.pid, 0, client.next_seq, self.names, records);
                    let next = StreamSeq::new(client.next_seq).unwrap().plus(records);
                    client.next_seq = next.get();
                    client.made.push(Made { batch, offset: None });
                }
                client.sent += 1;
                let batch = client.sent - 1;
                self.send(log, at, batch);
            }
            _ => {}
        }
    }

    fn send(&mut self, log: &mut Log, at: usize, index: usize) {
        let client = &mut self.clients[at];
        let made = &mut client.made[index];
        match log.append_idempotent(NOW, client.key, made.batch.clone()) {
            Ok(IdempotentOutcome::Appended(appended)) => {
                let offset = appended.base_offset.0;
                assert!(index >= client.acked, "an answered batch was stored again");
                made.offset = Some(offset);
                self.parked.push((appended.slot_no, at, index, offset));
            }
            Ok(IdempotentOutcome::Duplicate { base_offset, answer_after, .. }) => {
                self.copies += 1;
                match answer_after {
                    Some(slot_no) => self.parked.push((slot_no, at, index, base_offset.0)),
                    None => self.answer(at, index, base_offset.0),
                }
            }
            // Only a request that is much too late.
            Err(IdempotentError::OutOfOrder) => assert!(index + BATCHES_KEPT < client.made.len()),
            Err(error) => panic!("client {at}, batch {index}: {error}"),
        }
    }

    fn release(&mut self, durable: SlotNo) {
        let (ready, parked) = self.parked.drain(..).partition(|(slot_no, ..)| *slot_no <= durable);
        self.parked = parked;
        let ready: Vec<_> = ready;
        for (_, at, index, offset) in ready {
            self.answer(at, index, offset);
        }
    }

    fn answer(&mut self, at: usize, index: usize, offset: i64) {
        let client = &mut self.clients[at];
        let told = client.made[index].offset.replace(offset);
        assert!(told.is_none_or(|told| told == offset), "{told:?}, then {offset}");
        // Answers of a connection come in order; one of a late request tells the client nothing.
        if index == client.acked {
            client.acked += 1;
            client.sent = client.sent.max(client.acked);
        }
    }

    /// Reads the log: every answered batch once, where its answer said, in the order of its client.
    fn check(&mut self) {
        self.lives += 1;
        let log = start(&mut self.disk, self.lives, &small()).unwrap();
        let mut found: BTreeMap<Bytes, i64> = BTreeMap::new();
        for partition in 0..2 {
            for (offset, bytes) in read_all(&log, &mut self.disk, key(0, partition)) {
                assert_eq!(found.insert(bytes, offset.0), None, "a batch is stored twice");
            }
        }
        for client in &self.clients {
            let stored: Vec<Option<i64>> =
                client.made.iter().map(|made| found.remove(&produced(&made.batch))).collect();
            for (made, stored) in client.made.iter().zip(&stored).take(client.acked) {
                assert_eq!(*stored, made.offset, "an answered batch is where its answer says");
                assert!(stored.is_some());
            }
            let there = stored.iter().take_while(|offset| offset.is_some()).count();
            assert!(stored[there..].iter().all(Option::is_none), "there is no hole");
            assert!(stored[..there].is_sorted(), "order is kept");
        }
        assert!(found.is_empty(), "nothing else is stored");
    }
}

#[test]
fn retries_over_crashes_neither_lose_nor_double() {
    let mut copies = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let calls = world.rng.below(60) as usize;
            let death = if world.rng.below(2) == 0 { Death::Killed } else { Death::FailedSync };
            world.disk.die_after(calls, death);
            let died = world.live(40).is_err();
            world.disk.heal();
            if died && world.rng.below(2) == 0 {
                world.disk.lose_power(&mut || world.rng.below(2) == 0);
            }
        }
        world.live(20).unwrap();
        world.check();
        assert!(world.clients.iter().any(|client| client.acked > 0));
        copies += world.copies;
    }
    assert!(copies > 1_000, "{copies} copies arrived");
}
