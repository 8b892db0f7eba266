//! What the disk can do: records copied behind each other into a file that was filled with zeros before, `pwrite` and
//! `fdatasync` on a thread of their own, one commit under way. It knows no partitions, offsets or checksums.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use super::closed_loop::Commits;
use crate::records::RECORD_BYTES;
use crate::zeros::zeroed;

/// Commits begin on blocks of this size, as slots of the WAL do.
const BLOCK_BYTES: usize = 4 << 10;

const FILE_BYTES: u64 = 512 << 20;

/// The file, and the thread that writes it.
#[derive(Debug)]
pub struct RawFile {
    record: Vec<u8>,
    /// The commit to come.
    staged: Vec<u8>,
    next_commit: u64,
    is_under_way: bool,
    pos: u64,
    /// Buffers that come back.
    free: Vec<Vec<u8>>,
    commits: Option<SyncSender<(Vec<u8>, u64)>>,
    done: Receiver<std::io::Result<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl RawFile {
    /// Makes the file in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("raw");
        let file = zeroed(&path, FILE_BYTES)?;
        let (commits, requests) = sync_channel::<(Vec<u8>, u64)>(1);
        let (answers, done) = sync_channel(1);
        let thread = thread::spawn(move || {
            for (bytes, pos) in requests {
                let written = file.write_all_at(&bytes, pos).and_then(|()| file.sync_data());
                if answers.send(written.map(|()| bytes)).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            record: vec![b'R'; RECORD_BYTES],
            staged: Vec::new(),
            next_commit: 0,
            is_under_way: false,
            pos: 0,
            free: Vec::new(),
            commits: Some(commits),
            done,
            thread: Some(thread),
            path,
        })
    }
}

impl Commits for RawFile {
    fn append(&mut self, _partition: u32) -> Result<u64> {
        self.staged.extend_from_slice(&self.record);
        Ok(self.next_commit)
    }

    fn begin(&mut self) -> Result<()> {
        if self.is_under_way || self.staged.is_empty() {
            return Ok(());
        }
        let empty = self.free.pop().unwrap_or_default();
        let mut bytes = std::mem::replace(&mut self.staged, empty);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        if self.pos + bytes.len() as u64 > FILE_BYTES {
            self.pos = 0;
        }
        let pos = self.pos;
        self.pos += bytes.len() as u64;
        self.next_commit += 1;
        self.is_under_way = true;
        let commits = self.commits.as_ref().context("the thread has ended")?;
        commits.send((bytes, pos)).context("the thread has ended")
    }

    fn wait(&mut self) -> Result<u64> {
        let mut bytes = self.done.recv().context("the thread has ended")??;
        bytes.clear();
        self.free.push(bytes);
        self.is_under_way = false;
        Ok(self.next_commit - 1)
    }

    fn keep_house(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
        // It is only in the way of the next one.
        let _ = std::fs::remove_file(&self.path);
    }
}
