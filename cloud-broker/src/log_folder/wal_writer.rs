//! The one thread that writes the WAL.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use broker_log::store::{Put, SlotStore};
use broker_log::{SlotNo, SlotToWrite};

use super::wal::WalFiles;
use super::{StoreError, WalError};

/// What the writer reports.
#[derive(Debug)]
pub enum WalEvent {
    /// This slot is on disk: give it to the engine's `slot_durable`.
    Durable(SlotNo),
    /// A write or a sync failed. It is the last event. Acknowledge nothing more, and end the process with an error:
    /// only a new one can find out what is on disk.
    Failed(WalError),
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
        mut on_event: impl FnMut(WalEvent) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (slots, requests) = sync_channel(1);
        let folder = files.folder().to_owned();
        let thread = thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || {
                write_all(&mut files, &requests, &mut on_event);
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

    /// Ends without waiting for the slot in hand: for a disk that hangs.
    pub(crate) fn abandon(mut self) {
        self.thread = None;
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

fn write_all(
    files: &mut WalFiles,
    slots: &Receiver<SlotToWrite>,
    on_event: &mut impl FnMut(WalEvent),
) {
    for slot in slots {
        match files.put_new(&slot) {
            Put::Created => on_event(WalEvent::Durable(slot.slot_no)),
            Put::Exists => {
                on_event(WalEvent::Failed(WalError::PlaceTaken {
                    file_no: slot.file_no,
                    pos: slot.pos,
                }));
                return;
            }
            Put::Unknown(error) => {
                on_event(WalEvent::Failed(error.into()));
                return;
            }
        }
    }
}
