//! The one thread that writes the WAL.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use broker_log::store::{Put, SlotStore};
use broker_log::{SlotNo, SlotToWrite};

use super::wal::WalFiles;
use super::{StoreError, WalError};

/// What the writer reports.
#[derive(Debug)]
pub enum WalEvent {
    /// This slot is on disk: give it to the engine's `slot_synced`, and behind that to `slot_durable`.
    Durable(SlotNo),
    /// A write or a sync failed. It is the last event. Acknowledge nothing more, and end the process with an error:
    /// only a new one can find out what is on disk.
    Failed(WalError),
}

/// Hears of the writer, on its thread, which must not be blocked for long: no slot is written meanwhile.
pub trait WalListener: Send + 'static {
    /// See [`WalEvent`].
    fn event(&mut self, event: WalEvent);
    /// Writing and syncing a slot took so long.
    fn synced(&mut self, took: Duration);
}

/// The writer has reported [`WalEvent::Failed`] and takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WAL's writer has stopped")]
pub struct WriterStopped;

/// Hands slots to the writer's thread. Dropped, it waits until the slot in hand is written, then lets go of the folder.
#[derive(Debug)]
pub struct WalWriter {
    /// `None` once this is dropped. Bounded by one, because the engine has one slot in flight.
    slots: Option<SyncSender<SlotToWrite>>,
    thread: Option<JoinHandle<()>>,
}

impl WalWriter {
    /// `lock` keeps other processes out for as long as the thread lives.
    pub(super) fn spawn(
        mut files: WalFiles,
        lock: File,
        mut listener: impl WalListener,
    ) -> Result<Self, StoreError> {
        let (slots, requests) = sync_channel(1);
        let folder = files.folder().to_owned();
        let thread = thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || {
                write_all(&mut files, &requests, &mut listener);
                drop(lock);
            })
            .map_err(|e| StoreError::io("start a thread for", &folder, e))?;
        Ok(Self { slots: Some(slots), thread: Some(thread) })
    }

    /// Has `slot` written and synced. Does not block while the engine keeps to one slot in flight.
    ///
    /// # Errors
    /// [`WriterStopped`].
    pub fn write(&self, slot: SlotToWrite) -> Result<(), WriterStopped> {
        let slots = self.slots.as_ref().ok_or(WriterStopped)?;
        slots.send(slot).map_err(|_| WriterStopped)
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.slots = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

fn write_all(files: &mut WalFiles, slots: &Receiver<SlotToWrite>, listener: &mut impl WalListener) {
    for slot in slots {
        let begun = Instant::now();
        let error = match files.put_new(&slot) {
            Put::Created => {
                listener.synced(begun.elapsed());
                listener.event(WalEvent::Durable(slot.slot_no));
                continue;
            }
            Put::Exists => WalError::PlaceTaken { file_no: slot.file_no, pos: slot.pos },
            Put::Unknown(error) => error.into(),
        };
        listener.event(WalEvent::Failed(error));
        return;
    }
}
