//! How the log is kept on its disk.

use broker_log::{LogSettings, SLOT_BYTES_MAX};

use super::{Config, SettingsError};

/// Smallest WAL file that may be set: tests use small ones.
const WAL_FILE_BYTES_MIN: u32 = 64 << 10;

/// Largest WAL file that may be set: positions in it have 32 bits.
const WAL_FILE_BYTES_MAX: u32 = 2 << 30;

const _: () = assert!(WAL_FILE_BYTES_MAX as usize + SLOT_BYTES_MAX < u32::MAX as usize);

/// Most WAL files that may be kept ready: more only take space from what is kept in them.
const WAL_READY_FILES_MAX: usize = 64;

/// Slowest sorting and compaction that may be set, in bytes per second: beyond that they never catch up.
const COMPACTION_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// Smallest unit that may be set, and smallest part of one that may get a unit of its own: below that a log would be a folder
/// of countless files.
const UNIT_BYTES_MIN: u64 = 64 << 10;

/// Shortest time for a sync that may be set: a good disk takes as long now and then.
const SYNC_TIMEOUT_MS_MIN: u64 = 1_000;

/// Settings of the log's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// What the engine goes by. Its `l0_bytes_max` is cut to a quarter of the disk at start.
    pub log: LogSettings,
    /// Files of the write-ahead log to keep ready: the room that is left when the disk is full.
    pub wal_ready_files: usize,
    /// Bytes of the disk that must be free, or nothing is taken in; `None`: 5 %, at least 1 GiB.
    pub disk_free_floor_bytes: Option<u64>,
    /// How long a sync may take before the broker gives the disk up, in milliseconds.
    pub sync_timeout_ms: u64,
    /// What rewriting and key compaction may write. More gives space back sooner, and delays commits.
    pub compaction_bytes_per_second: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            log: LogSettings::default(),
            wal_ready_files: 2,
            disk_free_floor_bytes: None,
            sync_timeout_ms: 60_000,
            compaction_bytes_per_second: 60_000_000,
        }
    }
}

impl StorageSettings {
    /// Takes over what is set.
    pub(super) fn take(&mut self, config: &Config) {
        let log = &mut self.log;
        set(&mut log.wal_file_bytes, config.wal_file_bytes);
        set(&mut log.wal_file_age_ms_max, config.wal_file_age_ms_max);
        set(&mut log.tail_bytes, config.tail_bytes);
        set(&mut log.checkpoint_bytes_min, config.checkpoint_bytes_min);
        set(&mut log.space_checkpoint_ms, config.space_checkpoint_ms);
        set(&mut log.l0_bytes_max, config.l0_bytes_max);
        set(&mut log.l0_entries_max, config.l0_entries_max);
        set(&mut log.l0_age_ms_max, config.l0_age_ms_max);
        set(&mut log.rewrite_bytes_min, config.rewrite_bytes_min);
        set(&mut log.own_unit_bytes, config.own_unit_bytes);
        set(&mut log.unit_bytes, config.unit_bytes);
        set(&mut log.maintenance_ms, config.maintenance_ms);
        set(&mut self.wal_ready_files, config.wal_ready_files);
        set(&mut self.sync_timeout_ms, config.sync_timeout_ms);
        set(&mut self.compaction_bytes_per_second, config.compaction_bytes_per_second);
        self.disk_free_floor_bytes = config.disk_free_floor_bytes.or(self.disk_free_floor_bytes);
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let wrong = |key, detail: String| Err(SettingsError { key, detail });
        let files = WAL_FILE_BYTES_MIN..=WAL_FILE_BYTES_MAX;
        if !files.contains(&self.log.wal_file_bytes) {
            let detail = format!("{WAL_FILE_BYTES_MIN} to {WAL_FILE_BYTES_MAX} bytes");
            return wrong("wal_file_bytes", detail);
        }
        if self.wal_ready_files > WAL_READY_FILES_MAX {
            return wrong("wal_ready_files", format!("at most {WAL_READY_FILES_MAX}"));
        }
        let compaction_rate = self.compaction_bytes_per_second;
        for (key, value, least) in [
            ("compaction_bytes_per_second", compaction_rate, COMPACTION_BYTES_PER_SECOND_MIN),
            ("maintenance_ms", self.log.maintenance_ms, 1),
            ("own_unit_bytes", self.log.own_unit_bytes, UNIT_BYTES_MIN),
            ("sync_timeout_ms", self.sync_timeout_ms, SYNC_TIMEOUT_MS_MIN),
            ("unit_bytes", self.log.unit_bytes, UNIT_BYTES_MIN),
            ("wal_file_age_ms_max", self.log.wal_file_age_ms_max, 1),
        ] {
            if value < least {
                return wrong(key, format!("at least {least}"));
            }
        }
        Ok(())
    }
}

fn set<T>(place: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *place = wanted;
    }
}
