//! The event heap: what happens next, and when.

use std::collections::BTreeMap;

use crate::event::Event;

/// Events by time, those of one time in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    now_ms: u64,
    made: u64,
    heap: BTreeMap<(u64, u64), Event>,
}

impl Schedule {
    /// Virtual time.
    pub(crate) fn now(&self) -> u64 {
        self.now_ms
    }

    /// Something will happen at `ms`; not before now.
    pub(crate) fn at(&mut self, ms: u64, event: Event) {
        self.made += 1;
        self.heap.insert((ms.max(self.now_ms), self.made), event);
    }

    /// Something will happen in `ms`.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    /// The next event; time moves to it.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let ((ms, _), event) = self.heap.pop_first()?;
        self.now_ms = ms;
        Some(event)
    }
}
