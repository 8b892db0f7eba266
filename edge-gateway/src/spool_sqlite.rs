//! The spool on SQLite: WAL mode with `synchronous=FULL`, so that COMMIT returns after the sync of its frames.
//!
//! One connection, which holds the file exclusively. Checkpoints are made between commits, after the acknowledgements
//! have left, and a checkpoint that fails is a failed disk.

mod queries;

use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::spool::quota::Quota;
use gateway_core::spool::store::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;
use wire::ids::{GatewayId, SpoolId};

/// The format that this code writes; it reads older ones too.
const FORMAT: i64 = 2;

/// The oldest format that it reads. What format 1 wrote is valid in format 2, whose rows may hold a device's time.
const FORMAT_MIN: i64 = 1;

/// Bytes of a database page.
const PAGE_BYTES: u64 = 4096;

/// The WAL is checkpointed when about this many bytes were written to it. Larger costs disk and a longer recovery,
/// smaller costs writes.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// A WAL file that grew beyond this, by one large commit or many while a checkpoint was due, is cut back.
const WAL_BYTES_KEPT: u64 = 64 << 20;

/// Pages that a commit writes beside its segments: counters, devices, window.
const COMMIT_OVERHEAD_BYTES: u64 = 6 * PAGE_BYTES;

/// How long a process that is just ending may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Page cache in KiB.
const CACHE_KIB: i64 = 4 << 10;

/// Why a spool cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{}: the spool is in use by another process", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// It was made by a later version.
    #[error("{}: format {found}, this version reads formats up to {FORMAT}", path.display())]
    Format {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It belongs to a gateway of another name.
    #[error(
        "{}: this spool belongs to gateway {found}, the certificate says {expected}; its producer ids would change",
        path.display()
    )]
    OtherGateway {
        /// The database.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        expected: GatewayId,
    },
    /// The disk or the database failed.
    #[error("{}: {source}", path.display())]
    Store {
        /// The database.
        path: PathBuf,
        /// How.
        source: StoreError,
    },
}

/// The spool's database.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    since_checkpoint: u64,
}

impl SqliteStore {
    /// Opens the spool `spool.db` in `folder`, or makes one named `new_spool` for `gateway`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        folder: &Path,
        gateway: &GatewayId,
        new_spool: SpoolId,
        quota: Quota,
    ) -> Result<Self, OpenError> {
        let path = folder.join("spool.db");
        let failed = |source: StoreError| OpenError::Store { path: path.clone(), source };
        let io = |error: std::io::Error| failed(StoreError::Disk(error.to_string()));
        std::fs::create_dir_all(folder).map_err(io)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|e| failed(store_error(&e)))?;
        let mut store = Self { connection, since_checkpoint: 0 };
        match store.prepare(gateway, new_spool, quota) {
            Ok(None) => {}
            Ok(Some((format, _))) if !is_readable(format) => {
                return Err(OpenError::Format { path, found: format });
            }
            Ok(Some((_, found))) if found != gateway.as_str() => {
                return Err(OpenError::OtherGateway { path, found, expected: gateway.clone() });
            }
            Ok(Some(_)) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Err(OpenError::Busy { path });
            }
            Err(error) => return Err(failed(store_error(&error))),
        }
        // The folder's entry for the database, and the entry for the folder itself.
        let sync = |folder: &Path| std::fs::File::open(folder).and_then(|dir| dir.sync_all());
        sync(folder).map_err(io)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent).map_err(io)?;
        }
        Ok(store)
    }

    /// Work that must not make an acknowledgement wait; called between commits.
    ///
    /// # Errors
    /// [`StoreError::Disk`]: the process must end.
    pub fn maintain(&mut self) -> Result<(), StoreError> {
        if self.since_checkpoint >= CHECKPOINT_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Copies the WAL into the database and begins it anew.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.since_checkpoint = 0;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match done.map_err(|error| store_error(&error)) {
            // The database file may not grow on a full disk. Nothing is lost by that: the WAL stays as it is.
            Ok(()) | Err(StoreError::Full(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets the connection up and makes the tables if there are none; otherwise says what format and whose they are.
    fn prepare(
        &mut self,
        gateway: &GatewayId,
        new_spool: SpoolId,
        quota: Quota,
    ) -> rusqlite::Result<Option<(i64, String)>> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Exclusive before the first access: one process per spool, and no shared memory file beside it. The page size
        // and incremental vacuum can only be chosen before the first table is made.
        connection.execute_batch(&format!(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA page_size = {PAGE_BYTES};
             PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT};
             PRAGMA cache_size = -{CACHE_KIB};
             PRAGMA temp_store = MEMORY;"
        ))?;
        // Never below what the database has already, or a spool whose budget was lowered could not be drained.
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let pages = pages.cast_unsigned() + Quota::RESERVE_BYTES / PAGE_BYTES;
        let pages = pages.max(quota.budget_bytes() / PAGE_BYTES);
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages};"))?;
        let transaction = connection.transaction()?;
        let tables: i64 = transaction.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'identity'",
            [],
            |row| row.get(0),
        )?;
        if tables > 0 {
            let identity = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found =
                transaction.query_row("SELECT format, gateway FROM identity", [], identity)?;
            let (format, owner): &(i64, String) = &found;
            let ours = is_readable(*format) && owner == gateway.as_str();
            // Written even when nothing changed: takes the exclusive lock now, not at the first reading.
            let format = if ours { FORMAT } else { *format };
            transaction.execute("UPDATE identity SET format = ?1", [format])?;
            transaction.commit()?;
            return Ok(Some(found));
        }
        transaction.execute_batch(include_str!("spool_sqlite/schema.sql"))?;
        transaction.execute(
            "INSERT INTO identity (one, format, spool, gateway) VALUES (1, ?1, ?2, ?3)",
            (FORMAT, new_spool.0, gateway.as_str()),
        )?;
        transaction.commit()?;
        Ok(None)
    }
}

fn is_readable(format: i64) -> bool {
    (FORMAT_MIN..=FORMAT).contains(&format)
}

/// What SQLite's errors mean for the spool.
fn store_error(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        _ => StoreError::Disk(text),
    }
}

#[cfg(test)]
mod tests;
