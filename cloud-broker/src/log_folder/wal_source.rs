//! The WAL's files as recovery reads them.

use broker_log::{FileNo, UnitId, WalFileLen, WalSource};
use bytes::Bytes;

use super::names::file_no_of;
use super::{LogFolder, StoreError, entries};

impl WalSource for LogFolder {
    type Error = StoreError;

    fn files(&mut self) -> Result<Vec<WalFileLen>, StoreError> {
        let numbered = |path: &_, len| Some(WalFileLen { file_no: file_no_of(path)?, len });
        entries(&self.folders().wal, numbered)
    }

    fn read_at(&mut self, file_no: FileNo, pos: u64, len: usize) -> Result<Bytes, StoreError> {
        self.read_unit(UnitId::Wal(file_no), pos, len)
    }
}
