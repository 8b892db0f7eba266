use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};

use broker_log::{FirstBatch, PartitionKey, TopicNo};
use bytes::Bytes;
use tempfile::TempDir;
use wire::ids::{Partition, ProducerId};
use wire::offset::Offset;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};

use super::writer::WriterStopped;
use super::*;

const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(0), partition: Partition(0) };
const FILE_BYTES: u32 = 64 << 10;
const VALUE_BYTES: usize = 9_000;

/// A broker's log on disk, with nothing around it.
struct Process {
    wal: OpenedWal,
    events: Receiver<WalEvent>,
}

impl Process {
    fn start(folder: &Path, life: u8) -> Result<Self, WalError> {
        let settings =
            LogSettings { wal_file_bytes: FILE_BYTES, tail_bytes: 0, ..LogSettings::default() };
        let (sender, events) = channel();
        let wal = open(folder, &settings, Incarnation([life; 16]), UnixMs(1), move |event| {
            sender.send(event).unwrap();
        })?;
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
            let part = plan.unwrap().pieces[0].read(&mut self.wal.reader.clone()).unwrap();
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

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    names
}

#[test]
fn what_was_written_is_there_after_every_restart() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("data/wal");
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
    assert!(names_in(&folder).len() > 8, "files were filled: {:?}", names_in(&folder));
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
    let path = file_path(dir.path(), FileNo(0));
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
    let folder = dir.path().join("wal");
    let mut process = Process::start(&folder, 1).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    // Files that are open go on existing; the next one cannot be made.
    let error = loop {
        let log = &mut process.wal.log;
        log.append(UnixMs(2), KEY, batch(1)).unwrap();
        process.wal.writer.write(log.take_slot().unwrap()).unwrap();
        match process.events.recv().unwrap() {
            WalEvent::Durable(slot_no) => drop(log.slot_durable(slot_no)),
            WalEvent::Failed(error) => break error,
        }
    };
    assert!(error.to_string().starts_with("cannot make "), "{error}");
    assert!(process.events.recv().is_err(), "the thread has ended");
    let slot = broker_log::SlotToWrite {
        slot_no: broker_log::SlotNo(99),
        new_file: None,
        file_no: FileNo(0),
        pos: 4096,
        bytes: Bytes::new(),
    };
    assert_eq!(process.wal.writer.write(slot), Err(WriterStopped));
}

#[test]
fn a_spare_becomes_the_next_file_and_leftovers_go() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("0000000000000009.tmp"), b"half made").unwrap();
    spare::prepare(dir.path(), FILE_BYTES, &AtomicBool::new(false)).unwrap();
    let inode = fs::metadata(dir.path().join("spare")).unwrap().ino();
    let mut process = Process::start(dir.path(), 1).unwrap();
    process.append(1);
    let first = fs::metadata(file_path(dir.path(), FileNo(0))).unwrap();
    assert_eq!((first.ino(), first.len()), (inode, u64::from(FILE_BYTES)));
    assert!(!dir.path().join("spare").exists());
    assert!(!dir.path().join("0000000000000009.tmp").exists());
    assert_eq!(process.names(), [1]);
}

#[test]
fn a_stopped_spare_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    spare::prepare(dir.path(), FILE_BYTES, &AtomicBool::new(true)).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn only_names_of_wal_files_are_numbers() {
    for (name, expected) in [
        ("000000000000001f.wal", Some(FileNo(31))),
        ("000000000000001f.tmp", None),
        ("1f.wal", None),
        ("+00000000000001f.wal", None),
        ("spare", None),
        ("lock", None),
    ] {
        assert_eq!(file_no_of(Path::new(name)), expected, "{name}");
    }
}

/// Each life reserves a file: without cutting the last one's, a broker that restarts often would fill its disk.
#[test]
fn a_life_that_is_over_gives_its_reserve_back() {
    let folder = TempDir::new().unwrap();
    let used = || -> u64 {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
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
