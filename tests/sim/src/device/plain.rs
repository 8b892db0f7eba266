//! A device of somebody else's making that keeps rules D1 to D4 (docs/protocols/uplink.md): it numbers its readings one by
//! one, keeps them until they are acknowledged, and says which may be copies.

use std::collections::VecDeque;

use wire::ids::SpoolId;

use crate::device::Memory;
use crate::event::Publish;

/// Publishes without an acknowledgement that a device has on its way.
const WINDOW: usize = 4;

/// Readings that its queue holds; the next one is dropped and counted.
const QUEUE_MAX: usize = 48;

#[derive(Debug, Clone, Copy)]
struct Item {
    seq: u64,
    lost_before: u64,
}

#[derive(Debug)]
pub(super) struct Plain {
    memory: Memory,
    queue_id: u64,
    next_seq: u64,
    items: VecDeque<Item>,
    /// Dropped since the last reading that found room.
    lost: u64,
    /// Of the oldest items, how many are on their way in this connection.
    sent: usize,
    /// Whether the gateway has said who it is.
    ready: bool,
    spool: Option<SpoolId>,
    flag_through: u64,
}

impl Plain {
    pub(super) fn new(memory: Memory, queue_id: u64) -> Self {
        Self {
            memory,
            queue_id,
            next_seq: 1,
            items: VecDeque::new(),
            lost: 0,
            sent: 0,
            ready: false,
            spool: None,
            flag_through: 0,
        }
    }

    /// Takes a reading.
    pub(super) fn sample(&mut self) {
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.items.len() >= QUEUE_MAX {
            self.lost += 1;
        } else {
            let lost_before = std::mem::take(&mut self.lost);
            self.items.push_back(Item { seq, lost_before });
        }
    }

    /// The gateway has accepted the connection and named its spool (D4).
    pub(super) fn connected(&mut self, spool: SpoolId) {
        if self.spool.is_some_and(|known| known != spool) {
            let first = self.items.front().map_or(self.next_seq, |item| item.seq);
            let through =
                self.items.get(WINDOW - 1).map_or(first + WINDOW as u64 - 1, |item| item.seq);
            self.flag_through = self.flag_through.max(through);
        }
        self.spool = Some(spool);
        self.ready = true;
    }

    /// The next publish, if the window has room.
    pub(super) fn next(&mut self) -> Option<Publish> {
        if !self.ready || self.sent >= WINDOW {
            return None;
        }
        let item = self.items.get(self.sent)?;
        self.sent += 1;
        Some(Publish {
            queue: self.queue_id,
            first: item.seq,
            count: 1,
            lost_before: item.lost_before,
            maybe_dup: item.seq <= self.flag_through,
            batch: None,
        })
    }

    /// The oldest readings on their way are acknowledged.
    pub(super) fn acknowledged(&mut self, count: usize) {
        let count = count.min(self.sent);
        self.items.drain(..count);
        self.sent -= count;
    }

    pub(super) fn disconnected(&mut self) {
        self.sent = 0;
        self.ready = false;
    }

    /// Power comes back. A queue in RAM is a new one.
    pub(super) fn reboot(&mut self, queue_id: u64) {
        self.disconnected();
        match self.memory {
            Memory::Flash => {}
            Memory::Ram => self.format(queue_id),
        }
    }

    /// New firmware: its memory is formatted.
    pub(super) fn reflash(&mut self, queue_id: u64) {
        self.disconnected();
        self.format(queue_id);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.items.is_empty()
    }

    fn format(&mut self, queue_id: u64) {
        self.queue_id = queue_id;
        self.next_seq = 1;
        self.items.clear();
        self.lost = 0;
        self.spool = None;
        self.flag_through = 0;
    }
}
