use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use broker_log::{FileNo, FirstBatch, LogSettings, PartitionKey, TopicNo};
use bytes::Bytes;
use tempfile::TempDir;
use wire::ids::{Incarnation, Partition, ProducerId};
use wire::offset::Offset;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use super::wal_writer::WriterStopped;
use super::*;

const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(0), partition: Partition(0) };
const FILE_BYTES: u32 = 64 << 10;
const VALUE_BYTES: usize = 9_000;

const SPACE: SpaceSettings = SpaceSettings { file_bytes: FILE_BYTES, ready_files: 2, floor: 0 };

/// A broker's log on disk, with nothing around it.
struct Process {
    wal: OpenedLog,
    events: Receiver<WalEvent>,
}

struct Events(Sender<WalEvent>);

impl WalListener for Events {
    fn event(&mut self, event: WalEvent) {
        self.0.send(event).unwrap();
    }

    fn synced(&mut self, _: Duration) {}
}

impl Process {
    fn start(root: &Path, life: u8) -> Result<Self, WalError> {
        let settings =
            LogSettings { wal_file_bytes: FILE_BYTES, tail_bytes: 0, ..LogSettings::default() };
        let (sender, events) = channel();
        let incarnation = Incarnation([life; 16]);
        let wal = open(root, &settings, SPACE, incarnation, UnixMs(1), Events(sender), |_| {})?;
        let mut process = Self { wal, events };
        process.wal.log.register_partition(KEY).unwrap();
        Ok(process)
    }

    fn append(&mut self, name: u8) {
        let log = &mut self.wal.log;
        log.append(UnixMs(2), KEY, batch(name)).unwrap();
        while let Some(slot) = log.take_slot() {
            self.wal.writer.write(slot).unwrap();
            match self.events.recv().unwrap() {
                WalEvent::Durable(slot_no) => drop(log.slot_durable(slot_no)),
                WalEvent::Failed(error) => panic!("{error}"),
            }
        }
    }

    /// The first byte of every value in the log, read back from the files.
    fn names(&self) -> Vec<u8> {
        let end = self.wal.log.offsets(KEY).unwrap().high_watermark;
        let read = |offset| {
            let plan = self.wal.log.read(KEY, Offset(offset), 1, FirstBatch::Always);
            let part = plan.unwrap().pieces[0].read(&mut self.wal.folder.clone()).unwrap();
            let bytes = &part.batches[0];
            *bytes.last_chunk::<2>().unwrap().first().unwrap()
        };
        (0..end.0).map(read).collect()
    }
}

fn batch(name: u8) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    builder.push(&Record {
        timestamp: UnixMs(1),
        key: None,
        value: Some(&[name; VALUE_BYTES]),
        headers: &[],
    });
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    let sealed = builder.seal(producer, Codec::None, builder.records());
    sealed.unwrap().into()
}

fn wal_file(root: &Path, file_no: u64) -> PathBuf {
    Folders::new(root).wal_file(FileNo(file_no))
}

fn wal_files(root: &Path) -> Vec<PathBuf> {
    let is_wal = |path: &Path, _| names::file_no_of(path).map(|_| path.to_owned());
    entries(&root.join("wal"), is_wal).unwrap()
}

#[test]
fn what_was_written_is_there_after_every_restart() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("data");
    let mut expected = Vec::new();
    for life in 1..=4 {
        let mut process = Process::start(&folder, life).unwrap();
        assert_eq!(process.names(), expected);
        assert_eq!(process.wal.report.incarnations, u64::from(life) - 1);
        assert_eq!(process.wal.report.torn_tail, None);
        for name in 0..12 {
            process.append(life * 16 + name);
            expected.push(life * 16 + name);
        }
        assert_eq!(process.names(), expected);
    }
    assert!(wal_files(&folder).len() > 8, "files were filled: {:?}", wal_files(&folder));
}

#[test]
fn two_processes_cannot_share_a_folder() {
    let dir = TempDir::new().unwrap();
    let first = Process::start(dir.path(), 1).unwrap();
    let second = Process::start(dir.path(), 2).err().unwrap();
    assert!(matches!(second, WalError::Locked { .. }), "{second}");
    drop(first);
    Process::start(dir.path(), 2).unwrap();
}

#[test]
fn a_torn_tail_is_dropped_and_damage_before_it_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut process = Process::start(dir.path(), 1).unwrap();
    for name in 1..=4 {
        process.append(name);
    }
    drop(process);
    let path = wal_file(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    // Header, OPEN, then slots of three blocks each.
    let slot = |n: usize| 2 * 4096 + n * 3 * 4096;

    let mut damaged = whole.clone();
    damaged[slot(1) + 500] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = Process::start(dir.path(), 2).err().unwrap();
    let WalError::Corrupt { corruption, .. } = &error else {
        panic!("{error}");
    };
    let range = (corruption.file_no, corruption.from, corruption.to);
    assert_eq!(range, (FileNo(0), slot(1) as u64, slot(2) as u64));

    let mut torn = whole;
    torn[slot(3) + 4096..].fill(0);
    fs::write(&path, &torn).unwrap();
    let process = Process::start(dir.path(), 2).unwrap();
    assert_eq!(process.names(), [1, 2, 3]);
    assert!(process.wal.report.torn_tail.is_some());
}

#[test]
fn a_failed_write_is_the_last_event() {
    let dir = TempDir::new().unwrap();
    let Process { wal, events } = Process::start(dir.path(), 1).unwrap();
    let OpenedLog { mut log, writer, .. } = wal;
    fs::remove_dir_all(dir.path().join("wal")).unwrap();
    // Files that are open go on existing; the next one cannot be made.
    let error = loop {
        log.append(UnixMs(2), KEY, batch(1)).unwrap();
        writer.write(log.take_slot().unwrap()).unwrap();
        match events.recv().unwrap() {
            WalEvent::Durable(slot_no) => drop(log.slot_durable(slot_no)),
            WalEvent::Failed(error) => break error,
        }
    };
    assert!(matches!(error, WalError::Store(_)), "{error}");
    assert!(events.recv().is_err(), "the thread has ended");
    let slot = broker_log::SlotToWrite {
        slot_no: broker_log::SlotNo(99),
        new_file: None,
        file_no: FileNo(0),
        pos: 4096,
        bytes: Bytes::new(),
    };
    assert_eq!(writer.write(slot), Err(WriterStopped));
}

/// Each life reserves a file: without cutting the last one's, a broker that restarts often would fill its disk.
#[test]
fn a_life_that_is_over_gives_its_reserve_back() {
    let folder = TempDir::new().unwrap();
    let used =
        || -> u64 { entries(&folder.path().join("wal"), |_, len| Some(len)).unwrap().iter().sum() };
    let lives = 20;
    for life in 1..=lives {
        let mut process = Process::start(folder.path(), life).unwrap();
        if life % 5 == 0 {
            process.append(life);
        }
    }
    let last = Process::start(folder.path(), lives + 1).unwrap();
    assert_eq!(last.names(), [5, 10, 15, 20]);
    assert!(used() < 6 * u64::from(FILE_BYTES), "{} bytes after {lives} lives", used());
}
