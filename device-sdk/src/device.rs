//! The outbox, shared between what measures and what publishes.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

use wire::reading::{ClockQuality, Reading};
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use crate::outbox::{Counts, Outbox, RecordError};
use crate::queue::Queue;

/// A device's outbox, used by reference from a sampling loop and the client's run loop. Both belong into one task
/// (joined) or onto one thread's executor: it is not `Sync`, and needs no lock, because nothing is borrowed while
/// anybody waits.
#[derive(Debug)]
pub struct Device<'b, Q> {
    outbox: RefCell<Outbox<'b, Q>>,
    work: Notice,
    drained: Notice,
}

impl<'b, Q: Queue> Device<'b, Q> {
    /// Takes the outbox.
    pub fn new(outbox: Outbox<'b, Q>) -> Self {
        Self { outbox: RefCell::new(outbox), work: Notice::default(), drained: Notice::default() }
    }

    /// Records a reading. Returns its number. `now` is the time of the run loop, [`now`](crate::client::now) with
    /// minimq.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn record(&self, now: MonoMs, reading: &Reading) -> Result<DeviceSeq, RecordError> {
        self.change(|outbox| outbox.record(now, reading))
    }

    /// What the times of the following readings mean: uptime, until this is called.
    pub fn set_clock(&self, clock: ClockQuality) {
        self.change(|outbox| outbox.set_clock(clock));
    }

    /// Sends what was recorded without waiting for more.
    pub fn flush(&self) {
        self.change(Outbox::flush);
    }

    /// Counts of readings.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.outbox.borrow().counts()
    }

    /// Waits until no recorded reading waits for a gateway any more. Flush before, or it takes until the open batch is
    /// old enough. For one task at a time.
    pub async fn drained(&self) {
        while self.counts().waiting() > 0 {
            self.drained.wait().await;
        }
    }

    /// Gives the outbox back.
    #[must_use]
    pub fn into_outbox(self) -> Outbox<'b, Q> {
        self.outbox.into_inner()
    }

    /// Waits until somebody recorded, flushed or set the clock.
    pub(crate) async fn work(&self) {
        self.work.wait().await;
    }

    /// For the run loop: changes the outbox on behalf of the gateway.
    pub(crate) fn update<R>(&self, update: impl FnOnce(&mut Outbox<'b, Q>) -> R) -> R {
        let mut outbox = self.outbox.borrow_mut();
        let result = update(&mut outbox);
        if outbox.counts().waiting() == 0 {
            self.drained.give();
        }
        result
    }

    fn change<R>(&self, change: impl FnOnce(&mut Outbox<'b, Q>) -> R) -> R {
        let result = change(&mut self.outbox.borrow_mut());
        self.work.give();
        result
    }
}

/// Wakes one waiting task; a notice given while nobody waits is kept.
#[derive(Default)]
struct Notice {
    given: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl core::fmt::Debug for Notice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Notice").field("given", &self.given.get()).finish_non_exhaustive()
    }
}

impl Notice {
    fn give(&self) {
        self.given.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.given.take() {
                return Poll::Ready(());
            }
            self.waiter.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
