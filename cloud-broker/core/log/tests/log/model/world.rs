//! A broker's log on the simulated disk, with its clients, and the book that it is compared with at every step.

mod compacted;
mod jobs;
mod reads;
mod sends;
mod steps;

use std::collections::VecDeque;
use std::fmt::Arguments;

use wire::ids::Incarnation;
use wire::offset::Offset;
use wire::time::{MonoMs, UnixMs};

use broker_log::sim_disk::{self, DiskError, FileName, SimDisk};
use broker_log::store::CheckpointId;
use broker_log::{
    Log, LogSettings, Now, PartitionKey, ReadPlan, RecoveryError, Room, SlotToWrite, TopicNo,
    TopicPolicy,
};

use super::book::{Book, Part, Topic};
use super::settings;
use crate::batches::key;
use jobs::Taken;
use reads::Limit;

/// Wall time at which every world begins.
const BEGIN: i64 = 1_700_000_000_000;

/// WAL files that are kept ready.
const READY_FILES: usize = 2;

/// Bytes of the disk that nothing is appended into: what the next start needs.
const FLOOR_BYTES: u64 = 3 * (64 << 10);

/// Small enough that a short workload fills many files, leaves the tail behind and has units rewritten.
pub fn tiny() -> LogSettings {
    LogSettings {
        wal_file_bytes: 64 << 10,
        slot_bytes_target: 16 << 10,
        tail_bytes: 24 << 10,
        pending_bytes_max: 1 << 20,
        wal_file_age_ms_max: 600_000,
        checkpoint_bytes_min: 200 << 10,
        space_checkpoint_ms: 1_000,
        l0_bytes_max: 256 << 10,
        l0_entries_max: 60,
        l0_age_ms_max: 3_600_000,
        rewrite_bytes_min: 128 << 10,
        own_unit_bytes: 48 << 10,
        unit_bytes: 96 << 10,
        maintenance_ms: 500,
        step_entries: 1,
    }
}

/// A plan that is carried out later.
struct Held {
    key: PartitionKey,
    from: i64,
    limit: Limit,
    plan: ReadPlan,
}

pub struct World {
    pub disk: SimDisk,
    pub book: Book,
    pub settings: LogSettings,
    log: Option<Log>,
    lives: u64,
    /// True time since the world began, and when this life did.
    truth: i64,
    born: i64,
    slot: Option<SlotToWrite>,
    is_written: bool,
    jobs: Vec<Taken>,
    held: VecDeque<Held>,
    /// Deletions that are answered with a checkpoint.
    deletions: Vec<(CheckpointId, PartitionKey, i64)>,
    next_topic: u32,
    names: u64,
    /// Appends that the log turned away for now.
    pub turned_away: usize,
    /// Whether topics with odd numbers are compacted.
    compacts: bool,
    /// Bytes of the disk.
    space_max: Option<u64>,
    trace: u64,
    lines: Option<Vec<String>>,
}

impl World {
    pub fn new(settings: LogSettings) -> Self {
        let mut book = Book::default();
        for (no, partitions) in [(0, 2), (1, 2)] {
            book.topics.insert(no, Topic { policy: TopicPolicy::default() });
            for partition in 0..partitions {
                book.parts.insert(key(no, partition), Part::default());
            }
        }
        Self {
            disk: SimDisk::new(),
            book,
            settings,
            log: None,
            lives: 0,
            truth: 0,
            born: 0,
            slot: None,
            is_written: false,
            jobs: Vec::new(),
            held: VecDeque::new(),
            deletions: Vec::new(),
            next_topic: 2,
            names: 0,
            turned_away: 0,
            compacts: false,
            space_max: None,
            trace: 0xcbf2_9ce4_8422_2325,
            lines: settings::number("CULVERT_LOG_TRACE").map(|_| Vec::new()),
        }
    }

    /// Topics with odd numbers are compacted by key from now on.
    pub fn compact_odd_topics(&mut self) {
        self.compacts = true;
        for (topic_no, topic) in &mut self.book.topics {
            if topic_no % 2 == 1 {
                topic.policy = compacted::policy(0);
            }
        }
    }

    /// What has happened, as one number.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn log_mut(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    pub fn now(&self) -> Now {
        let mono = (self.truth - self.born).unsigned_abs();
        Now { mono: MonoMs(mono), wall: UnixMs(BEGIN + self.truth) }
    }

    pub fn note(&mut self, line: Arguments<'_>) {
        let line = line.to_string();
        for byte in line.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9} {line}", self.truth));
        }
    }

    /// A process begins on what the disk holds. What it finds is compared with the book, and what clients lost is sent again.
    ///
    /// # Errors
    /// If it dies meanwhile.
    pub fn open(&mut self) -> Result<(), DiskError> {
        self.lives += 1;
        self.born = self.truth;
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&self.lives.to_le_bytes());
        let (incarnation, now) = (Incarnation(incarnation), self.now().wall);
        let mut log = match sim_disk::start(&mut self.disk, incarnation, &self.settings, now) {
            Ok(log) => log,
            Err(RecoveryError::Source(error)) => return Err(error),
            Err(error) => panic!("a crash is no damage: {error}"),
        };
        // The owner of the metadata removes what it has removed before, and knows what there is.
        for topic_no in &self.book.removed {
            log.remove_topic(TopicNo(*topic_no));
        }
        let mut lost = Vec::new();
        for key in self.book.keys() {
            let found = log.offsets(key);
            lost.push((key, self.book.parts[&key].sent.clone()));
            self.book.reopened(key, found);
            log.register_partition(key).unwrap();
        }
        for (topic_no, topic) in &self.book.topics {
            log.set_policy(TopicNo(*topic_no), topic.policy);
        }
        assert!(log.next_topic_no().0 >= self.greatest_stored_topic());
        let stored = self.book.parts.values().filter_map(|part| part.sent.last());
        assert!(stored.map(|sent| sent.epoch).max() < Some(log.leader_epoch()), "epochs go on");
        self.log = Some(log);
        let life = self.lives;
        self.note(format_args!("life {life} begins"));
        self.look_at_room()?;
        self.check_everything();
        // The clock is right when a process begins; what it shows later may be wrong for a moment.
        self.pass(0);
        for (key, sent) in lost {
            self.clients_ask_again(key, &sent);
        }
        Ok(())
    }

    fn greatest_stored_topic(&self) -> u32 {
        let stored = self.book.parts.iter().filter(|(_, part)| part.acked_end() > 0);
        stored.map(|(key, _)| key.topic_no.0 + 1).max().unwrap_or(0)
    }

    /// The process is gone, and all that was in its memory.
    pub fn die(&mut self) {
        self.log = None;
        self.slot = None;
        self.is_written = false;
        self.jobs.clear();
        self.held.clear();
        self.deletions.clear();
        self.disk.heal();
        self.note(format_args!("dies"));
    }

    /// The disk is so large from now on.
    ///
    /// # Errors
    /// If the process dies.
    pub fn set_space(&mut self, bytes_max: Option<u64>) -> Result<(), DiskError> {
        self.space_max = bytes_max;
        self.disk.set_space(bytes_max);
        if self.log.is_some() { self.look_at_room() } else { Ok(()) }
    }

    /// The newest checkpoint rots, if there is another one. What was deleted since that one was made may come back.
    pub fn rot_newest_checkpoint(&mut self, at: u64) {
        let is_checkpoint = |name: &FileName| matches!(name, FileName::Checkpoint(_));
        let mut checkpoints: Vec<FileName> =
            self.disk.names().into_iter().filter(is_checkpoint).collect();
        checkpoints.sort_by_key(|name| match name {
            FileName::Checkpoint(id) => id.n,
            _ => 0,
        });
        if let [.., _, newest] = checkpoints[..] {
            let len = self.disk.content(newest).map_or(1, |bytes| bytes.len() as u64);
            self.disk.flip(newest, (at % len) as usize, 4);
            for part in self.book.parts.values_mut() {
                part.deleted = 0;
            }
            self.note(format_args!("{newest:?} rots"));
        }
    }

    /// Says how much space there is.
    pub fn look_at_room(&mut self) -> Result<(), DiskError> {
        let ready_files = self.disk.prepare(READY_FILES, self.settings.wal_file_bytes)?;
        let free = self.space_max.map(|max| max.saturating_sub(self.disk.used()));
        let below_floor = free.is_some_and(|free| free < FLOOR_BYTES);
        let free_bytes = free.unwrap_or(u64::MAX);
        let spare_bytes = free_bytes.saturating_sub(FLOOR_BYTES);
        self.log_mut().set_room(Room { ready_files, below_floor, free_bytes, spare_bytes });
        Ok(())
    }

    fn part_key(&self, part: u64) -> PartitionKey {
        let keys = self.book.keys();
        keys[(part % keys.len() as u64) as usize]
    }

    /// The offset at so many thousandths of what can be read of a partition.
    fn offset_at(&self, key: PartitionKey, per_mille: i64) -> Offset {
        let offsets = self.log().offsets(key).unwrap();
        let len = offsets.high_watermark.0 - offsets.log_start.0;
        Offset(offsets.log_start.0 + len * per_mille / 1000)
    }
}

/// A world that ends early shows what has happened, if `CULVERT_LOG_TRACE` is set.
impl Drop for World {
    fn drop(&mut self) {
        for line in self.lines.iter().flatten() {
            eprintln!("{line}");
        }
    }
}
