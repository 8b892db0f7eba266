//! A device that runs the SDK: its outbox and queue, as they ship, without the MQTT client around them.

use std::collections::VecDeque;

use bytes::Bytes;
use device_sdk::batcher::{BatchLimits, Batcher, SetupError};
use device_sdk::outbox::{Outbox, OutboxSettings, Refusal, Resume, WINDOW_MAX, WhenFull};
use device_sdk::queue::RamQueue;
use wire::ids::{QueueId, SpoolId};
use wire::reading::{ClockQuality, Quality, Reading, Sensor, Value, ValueKind};
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use crate::device::Memory;
use crate::event::Publish;
use crate::rng::Rng;

/// Bytes of a batch.
const BATCH_BYTES: usize = 192;

/// Bytes of a queue: a long outage fills it.
const QUEUE_BYTES: usize = 900;

/// Where a device builds a batch.
pub(crate) type Buffer = [u8; BATCH_BYTES];

const SENSORS: &[Sensor<'static>] =
    &[Sensor { name: "count", unit: "1", kind: ValueKind::Scaled { decimals: 0 } }];

type SdkOutbox<'m> = Outbox<'m, RamQueue<QUEUE_BYTES>>;

#[derive(Debug)]
pub(super) struct Sdk<'m> {
    memory: Memory,
    limits: BatchLimits,
    settings: OutboxSettings,
    clock: ClockQuality,
    queue: u64,
    outbox: Option<SdkOutbox<'m>>,
    /// The first reading of each batch on its way.
    in_flight: VecDeque<DeviceSeq>,
    /// What a durable queue remembers beside its batches.
    numbered: DeviceSeq,
}

impl<'m> Sdk<'m> {
    pub(super) fn new(
        memory: Memory,
        rng: &mut Rng,
        buffer: &'m mut Buffer,
    ) -> Result<Self, String> {
        let readings = u16::try_from(rng.between(1, 8)).unwrap_or(1);
        let when_full = if rng.chance(50) { WhenFull::DropNewest } else { WhenFull::DropOldest };
        let mut sdk = Self {
            memory,
            limits: BatchLimits { readings, age_ms: rng.between(1, 3_000) },
            settings: OutboxSettings { when_full, window: 1 + rng.place(WINDOW_MAX) },
            clock: if rng.chance(50) { ClockQuality::Synced } else { ClockQuality::Uptime },
            queue: rng.number(),
            outbox: None,
            in_flight: VecDeque::new(),
            numbered: DeviceSeq::NONE,
        };
        sdk.begin(buffer)?;
        Ok(sdk)
    }

    pub(super) fn sample(&mut self, now: MonoMs) {
        let Some(outbox) = &mut self.outbox else {
            return;
        };
        self.numbered = DeviceSeq(self.numbered.0 + 1);
        let time_ms = i64::try_from(now.0).unwrap_or(0);
        let time_ms = match self.clock {
            ClockQuality::Synced => 1_700_000_000_000 + time_ms,
            ClockQuality::Uptime => time_ms,
        };
        let value = Value::Scaled(i64::try_from(self.numbered.0).unwrap_or(0));
        let reading = Reading { sensor: 0, time_ms, value, quality: Quality::Good };
        // Without room it is lost, and counted: its number is used up all the same.
        let _ = outbox.record(now, &reading);
    }

    pub(super) fn poll(&mut self, now: MonoMs) -> Option<MonoMs> {
        let outbox = self.outbox.as_mut()?;
        outbox.poll(now);
        outbox.due()
    }

    pub(super) fn connected(&mut self, spool: SpoolId) -> bool {
        let Some(outbox) = &mut self.outbox else {
            return false;
        };
        self.in_flight.clear();
        outbox.connected();
        outbox.spool_seen(spool)
    }

    pub(super) fn next(&mut self) -> Result<Option<Publish>, String> {
        let Some(outbox) = &mut self.outbox else {
            return Ok(None);
        };
        let Some(publish) = outbox.next_publish() else {
            return Ok(None);
        };
        let mut payload = vec![0; outbox.payload_len_max()];
        let len = outbox.payload(&publish, &mut payload);
        payload.truncate(len.map_err(|error| format!("a batch cannot be sent: {error:?}"))?);
        let (first, count) = (publish.first.0, u64::from(publish.count));
        self.in_flight.push_back(publish.first);
        Ok(Some(Publish {
            queue: self.queue,
            first,
            count,
            lost_before: publish.lost_before,
            maybe_dup: publish.maybe_dup,
            batch: Some(Bytes::from(payload)),
        }))
    }

    pub(super) fn acknowledged(&mut self, count: usize) {
        for first in self.in_flight.drain(..count.min(self.in_flight.len())) {
            if let Some(outbox) = &mut self.outbox {
                outbox.acknowledged(first);
            }
        }
    }

    pub(super) fn refused(&mut self) {
        if let (Some(outbox), Some(first)) = (&mut self.outbox, self.in_flight.front()) {
            outbox.refused(*first, Refusal::Busy);
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.in_flight.clear();
        if let Some(outbox) = &mut self.outbox {
            outbox.disconnected();
        }
    }

    /// The open batch is lost with the RAM; closed ones stay where the queue is durable.
    pub(super) fn reboot(&mut self, queue: u64, buffer: &'m mut Buffer) -> Result<(), String> {
        self.in_flight.clear();
        match (self.memory, self.outbox.take()) {
            (Memory::Flash, Some(before)) => {
                let resume = Resume {
                    attachment: before.attachment(),
                    acknowledged: before.acknowledged_through(),
                    numbered: self.numbered,
                };
                let batcher = self.batcher(buffer)?;
                let outbox = Outbox::resume(batcher, before.into_queue(), self.settings, resume);
                self.outbox = Some(outbox.map_err(explain)?);
                Ok(())
            }
            (Memory::Flash | Memory::Ram, _) => self.reflash(queue, buffer),
        }
    }

    pub(super) fn reflash(&mut self, queue: u64, buffer: &'m mut Buffer) -> Result<(), String> {
        self.in_flight.clear();
        self.queue = queue;
        self.numbered = DeviceSeq::NONE;
        self.begin(buffer)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.counts().waiting() == 0)
    }

    fn begin(&mut self, buffer: &'m mut Buffer) -> Result<(), String> {
        let batcher = self.batcher(buffer)?;
        let outbox = Outbox::new(batcher, RamQueue::new(), self.settings);
        let mut outbox = outbox.map_err(explain)?;
        outbox.set_clock(self.clock);
        self.outbox = Some(outbox);
        Ok(())
    }

    fn batcher(&self, buffer: &'m mut Buffer) -> Result<Batcher<'m>, String> {
        Batcher::new(QueueId(self.queue), SENSORS, buffer, self.limits).map_err(explain)
    }
}

fn explain(error: SetupError) -> String {
    format!("a device cannot be set up: {error}")
}
