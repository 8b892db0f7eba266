//! Which batches are in flight, and what the gateway must be told about the next one.
//!
//! Pure: counts and sequence numbers, no bytes. The queue's batches are known by their place, 0 being the oldest; the
//! window always covers a beginning of the queue.

use wire::ids::SpoolId;
use wire::seq::DeviceSeq;

use crate::mutant::{self, Mutant};
use crate::queue::Queued;

/// Most batches in flight: what the MQTT client keeps.
pub const WINDOW_MAX: usize = 8;

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; the gateway has not said yet which spool it writes to.
    Up,
    Ready,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    first: DeviceSeq,
    last: DeviceSeq,
    count: u16,
    acknowledged: bool,
}

/// The batches in flight.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    size: usize,
    link: Link,
    /// Unacknowledged readings up to `doubtful_through` were sent to another spool than this one.
    attachment: Option<Attachment>,
    flights: [Flight; WINDOW_MAX],
    in_flight: usize,
    /// Batches at the head of the queue that were sent at least once: a gateway may have them.
    sent: usize,
    /// Last reading that a gateway has acknowledged. What lies between it and the oldest batch is lost.
    acknowledged: DeviceSeq,
    /// Last reading that was ever sent.
    sent_through: DeviceSeq,
}

/// Which spool a device speaks to, and what that means for the readings it had already sent elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The gateway's spool.
    pub spool: SpoolId,
    /// Readings up to here may be in another spool too, if they are not acknowledged yet.
    pub doubtful_through: DeviceSeq,
}

/// What goes with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) lost_before: u64,
    pub(crate) maybe_dup: bool,
}

impl Window {
    pub(crate) fn new(size: usize) -> Self {
        const NONE: Flight =
            Flight { first: DeviceSeq(0), last: DeviceSeq(0), count: 0, acknowledged: false };
        Self {
            size: size.clamp(1, WINDOW_MAX),
            link: Link::Down,
            attachment: None,
            flights: [NONE; WINDOW_MAX],
            in_flight: 0,
            sent: 0,
            acknowledged: DeviceSeq::NONE,
            sent_through: DeviceSeq::NONE,
        }
    }

    /// For a durable queue that was opened again with `sent` batches that may have been sent, the last of them ending
    /// with `sent_through`.
    pub(crate) fn resume(
        &mut self,
        attachment: Option<Attachment>,
        acknowledged: DeviceSeq,
        sent: usize,
        sent_through: DeviceSeq,
    ) {
        self.attachment = attachment;
        if let Some(attachment) = &mut self.attachment
            && mutant::is(Mutant::ForgetDoubt)
        {
            attachment.doubtful_through = DeviceSeq::NONE;
        }
        self.acknowledged = acknowledged;
        self.sent = sent;
        self.sent_through = sent_through;
    }

    pub(crate) fn attachment(&self) -> Option<Attachment> {
        self.attachment
    }

    pub(crate) fn acknowledged_through(&self) -> DeviceSeq {
        self.acknowledged
    }

    /// Batches at the head of the queue that must not be dropped: a gateway may have taken them, and what follows them
    /// says so by its numbers.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn connected(&mut self) {
        self.disconnected();
        self.link = Link::Up;
        self.in_flight = usize::from(mutant::is(Mutant::BeginWithSecond) && self.sent > 1);
    }

    pub(crate) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.in_flight = 0;
    }

    /// The gateway has said which spool it writes to. Returns whether the connection may go on: in the middle of it, a
    /// change would leave batches in flight without their flag, so the window begins anew on another connection.
    pub(crate) fn spool_seen(&mut self, spool: SpoolId) -> bool {
        let changed = self.attachment.is_some_and(|before| before.spool != spool)
            && !mutant::is(Mutant::SpoolNotCompared);
        match self.link {
            Link::Down => return false,
            Link::Ready if changed => {
                self.disconnected();
                return false;
            }
            Link::Ready | Link::Up => self.link = Link::Ready,
        }
        if changed || self.attachment.is_none() {
            // Before the first spool nothing was sent, so that nothing is doubtful then.
            self.attachment = Some(Attachment { spool, doubtful_through: self.sent_through });
        }
        true
    }

    /// The place in the queue of the batch to send next, if one may be sent.
    pub(crate) fn next(&self) -> Option<usize> {
        (self.link == Link::Ready && self.in_flight < self.size).then_some(self.in_flight)
    }

    /// What to say about the batch at the place that [`Window::next`] gave.
    ///
    /// The batch before it cannot change any more once this one was sent, because batches that were sent are never
    /// dropped; so a batch that is sent again says the same again, unless the one before it was refused for good.
    pub(crate) fn label(&self, batch: &Queued<'_>) -> Label {
        let before = match self.in_flight.checked_sub(1) {
            Some(newest) => self.flights[newest].last,
            None => self.acknowledged,
        };
        let lost_before = batch.first.0.saturating_sub(before.0).saturating_sub(1);
        let lost_before = if mutant::is(Mutant::LossNotDeclared) { 0 } else { lost_before };
        let maybe_dup =
            self.attachment.is_some_and(|attachment| batch.first <= attachment.doubtful_through);
        Label { lost_before, maybe_dup }
    }

    /// The batch at the place that [`Window::next`] gave is being sent.
    pub(crate) fn sending(&mut self, batch: &Queued<'_>) {
        let (first, last, count) = (batch.first, batch.last(), batch.count);
        self.flights[self.in_flight] = Flight { first, last, count, acknowledged: false };
        self.in_flight += 1;
        self.sent = self.sent.max(self.in_flight);
        self.sent_through = self.sent_through.max(last);
    }

    /// The newest batch in flight was not sent after all.
    pub(crate) fn withdrawn(&mut self, first: DeviceSeq) {
        let newest = self.in_flight.checked_sub(1).map(|newest| self.flights[newest].first);
        if newest == Some(first) {
            self.in_flight -= 1;
        }
    }

    /// The gateway has this batch. Returns what leaves the queue, from its head: batches and readings.
    pub(crate) fn acknowledged(&mut self, first: DeviceSeq) -> (usize, u64) {
        if let Some(flight) =
            self.flights[..self.in_flight].iter_mut().find(|flight| flight.first == first)
        {
            flight.acknowledged = true;
        }
        let (mut batches, mut readings) = (0, 0);
        for flight in self.flights[..self.in_flight].iter().take_while(|f| f.acknowledged) {
            batches += 1;
            readings += u64::from(flight.count);
            self.acknowledged = flight.last;
        }
        self.advance(batches);
        (batches, readings)
    }

    /// The gateway will never take this batch. Returns its readings if it is the oldest and thus leaves the queue;
    /// another one has to wait until those before it are decided.
    pub(crate) fn discarded(&mut self, first: DeviceSeq) -> Option<u64> {
        let oldest = self.flights[..self.in_flight].first()?;
        let readings = (oldest.first == first).then_some(u64::from(oldest.count))?;
        self.advance(1);
        Some(readings)
    }

    fn advance(&mut self, batches: usize) {
        self.flights.copy_within(batches..self.in_flight, 0);
        self.in_flight -= batches;
        self.sent = self.sent.saturating_sub(batches);
    }
}
