//! The log engine with the broker's own files and threads around it, but without its network.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use broker_log::{Log, LogSettings, Now, PartitionKey, SlotNo, TopicNo};
use bytes::Bytes;
use cloud_broker::job_threads::{JobReport, JobThreads};
use cloud_broker::log_folder::{
    OpenedLog, SpaceKeeper, SpaceSettings, WalEvent, WalListener, WalWriter, open,
};
use cloud_broker::{StorageSettings, SyncLatency};
use process::Shutdown;
use wire::ids::{Incarnation, Partition};
use wire::record_batch::RecordBatchHeader;
use wire::time::{MonoMs, UnixMs};

use super::closed_loop::Commits;
use crate::process::fresh;
use crate::records::batch;
use crate::zeros::zeroed;

const TOPIC: TopicNo = TopicNo(1);

/// WAL files that are kept ready, as the broker's own default.
const READY_FILES: usize = 2;

/// WAL files that are there to be used again: enough for two seconds of a fast disk.
const RECYCLED_FILES: usize = 32;

/// What the log begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Nothing: files are reserved as they are needed, and filled with zeros if there is time.
    Fresh,
    /// Files that were written before, as in a log that retention has begun to take from.
    Recycled,
}

/// A log of one topic, open.
#[derive(Debug)]
pub struct Engine {
    log: Log,
    /// Only held: prepares files while it lives. Retention would bring back as many as are used, so that none is prepared.
    _keeper: Option<SpaceKeeper>,
    writer: WalWriter,
    events: Receiver<WalEvent>,
    jobs: JobThreads,
    reports: Receiver<JobReport>,
    batch: Bytes,
    folder: PathBuf,
    begun: Instant,
    /// The turn's time.
    now: UnixMs,
    /// On disk, and not taken in yet.
    synced: Option<SlotNo>,
}

impl Engine {
    /// Opens an empty log in `folder`.
    pub fn open(folder: &Path, partitions: u32, files: Files) -> Result<Self> {
        let folder = fresh(folder, "engine")?;
        let settings = LogSettings::default();
        let ready_files = match files {
            Files::Fresh => READY_FILES,
            Files::Recycled => RECYCLED_FILES,
        };
        if files == Files::Recycled {
            std::fs::create_dir_all(folder.join("wal"))?;
            for number in 0..RECYCLED_FILES {
                let path = folder.join(format!("wal/{number:016x}.ready"));
                zeroed(&path, settings.wal_file_bytes.into())?;
            }
        }
        let space = SpaceSettings { file_bytes: settings.wal_file_bytes, ready_files, floor: 0 };
        let (sender, events) = sync_channel(1);
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let incarnation = Incarnation(since.as_nanos().to_le_bytes());
        let syncs = Arc::<SyncLatency>::default();
        let listener = Events { sender, syncs: Arc::clone(&syncs) };
        let opened = open(&folder, &settings, space, incarnation, wall()?, listener, |_| {});
        let opened = opened.map_err(|error| anyhow!("{error}"))?;
        let OpenedLog { mut log, folder: log_folder, keeper, writer, .. } = opened;
        for partition in 0..partitions {
            log.register_partition(key(partition))?;
        }
        let keeper = (files == Files::Fresh).then_some(keeper);
        let rate = StorageSettings::default().compaction_bytes_per_second;
        let (trigger, _) = Shutdown::new();
        let (done, reports) = channel();
        let jobs = JobThreads::spawn(&log_folder, rate, syncs, &trigger, move |report| {
            // Whoever has stopped listening has the figures.
            let _ = done.send(report);
        })?;
        let (batch, begun, now) = (batch(1)?, Instant::now(), wall()?);
        Ok(Self {
            log,
            _keeper: keeper,
            writer,
            events,
            jobs,
            reports,
            batch,
            folder,
            begun,
            now,
            synced: None,
        })
    }
}

impl Commits for Engine {
    fn append(&mut self, partition: u32) -> Result<u64> {
        // A connection checks what it has received.
        let header = RecordBatchHeader::parse(&self.batch).map_err(|error| anyhow!("{error:?}"))?;
        header.check_crc(&self.batch).map_err(|error| anyhow!("{error:?}"))?;
        let appended = self.log.append(self.now, key(partition), self.batch.clone())?;
        Ok(appended.slot_no.0)
    }

    fn begin(&mut self) -> Result<()> {
        match self.log.take_slot() {
            Some(slot) => Ok(self.writer.write(slot)?),
            None => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<u64> {
        self.log.lay_out_ahead();
        match self.events.recv().context("the WAL's thread has ended")? {
            WalEvent::Durable(slot_no) => {
                self.log.slot_synced(slot_no);
                self.synced = Some(slot_no);
                Ok(slot_no.0)
            }
            WalEvent::Failed(error) => bail!("{error}"),
        }
    }

    fn keep_house(&mut self) -> Result<()> {
        self.now = wall()?;
        let mono = MonoMs(u64::try_from(self.begun.elapsed().as_millis())?);
        let now = Now { mono, wall: self.now };
        let log = &mut self.log;
        if let Some(slot_no) = self.synced.take() {
            log.slot_durable(slot_no);
        }
        log.maintain(now);
        while let Ok(report) = self.reports.try_recv() {
            log.job_done(now, report.done);
        }
        while let Some(job) = log.take_job(now) {
            self.jobs.start(job);
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It is only in the way of the next one.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Hands on what the WAL's thread says.
#[derive(Debug)]
struct Events {
    sender: SyncSender<WalEvent>,
    syncs: Arc<SyncLatency>,
}

impl WalListener for Events {
    fn event(&mut self, event: WalEvent) {
        // Whoever has stopped listening has the figures.
        let _ = self.sender.send(event);
    }

    fn synced(&mut self, took: Duration) {
        self.syncs.synced(Instant::now(), took);
    }
}

fn key(partition: u32) -> PartitionKey {
    PartitionKey { topic_no: TOPIC, partition: Partition(partition) }
}

fn wall() -> Result<UnixMs> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(UnixMs(i64::try_from(since.as_millis())?))
}
