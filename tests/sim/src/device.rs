//! Devices: most run the SDK, some are of somebody else's making.

mod plain;
mod sdk;

use bytes::Bytes;
use wire::ids::SpoolId;
use wire::time::MonoMs;

use crate::event::{LinkNo, Publish};
use crate::rng::Rng;
use plain::Plain;
use sdk::Sdk;

pub(crate) use sdk::Buffer;

/// What survives a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The queue does.
    Flash,
    /// Nothing does.
    Ram,
}

#[derive(Debug)]
pub(crate) struct Device<'m> {
    pub(crate) name: Bytes,
    pub(crate) gateway: usize,
    pub(crate) link: Option<LinkNo>,
    program: Program<'m>,
}

#[derive(Debug)]
enum Program<'m> {
    Plain(Plain),
    Sdk(Box<Sdk<'m>>),
}

impl<'m> Device<'m> {
    /// A device as the seed wants it. What it allocates for a batch is `buffer`.
    pub(crate) fn new(
        name: Bytes,
        gateway: usize,
        rng: &mut Rng,
        buffer: &'m mut Buffer,
    ) -> Result<Self, String> {
        let memory = if rng.chance(60) { Memory::Flash } else { Memory::Ram };
        let program = if rng.chance(30) {
            Program::Plain(Plain::new(memory, rng.number()))
        } else {
            Program::Sdk(Box::new(Sdk::new(memory, rng, buffer)?))
        };
        Ok(Self { name, gateway, link: None, program })
    }

    /// Takes a reading.
    pub(crate) fn sample(&mut self, now: MonoMs) {
        match &mut self.program {
            Program::Plain(plain) => plain.sample(),
            Program::Sdk(sdk) => sdk.sample(now),
        }
    }

    /// Time has passed. When to come again, if something waits for that.
    pub(crate) fn poll(&mut self, now: MonoMs) -> Option<MonoMs> {
        match &mut self.program {
            Program::Plain(_) => None,
            Program::Sdk(sdk) => sdk.poll(now),
        }
    }

    /// The gateway has accepted the connection and named its spool (D4). Returns whether the connection may go on.
    pub(crate) fn connected(&mut self, spool: SpoolId) -> bool {
        match &mut self.program {
            Program::Plain(plain) => {
                plain.connected(spool);
                true
            }
            Program::Sdk(sdk) => sdk.connected(spool),
        }
    }

    /// The next publish, if the window has room.
    pub(crate) fn next(&mut self) -> Result<Option<Publish>, String> {
        match &mut self.program {
            Program::Plain(plain) => Ok(plain.next()),
            Program::Sdk(sdk) => sdk.next(),
        }
    }

    /// The oldest publishes on their way are acknowledged.
    pub(crate) fn acknowledged(&mut self, count: usize) {
        match &mut self.program {
            Program::Plain(plain) => plain.acknowledged(count),
            Program::Sdk(sdk) => sdk.acknowledged(count),
        }
    }

    /// The oldest publish on its way is refused for now.
    pub(crate) fn refused(&mut self) {
        match &mut self.program {
            Program::Plain(_) => {}
            Program::Sdk(sdk) => sdk.refused(),
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.link = None;
        match &mut self.program {
            Program::Plain(plain) => plain.disconnected(),
            Program::Sdk(sdk) => sdk.disconnected(),
        }
    }

    /// Power comes back. A queue in RAM is a new one.
    pub(crate) fn reboot(&mut self, queue: u64, buffer: &'m mut Buffer) -> Result<(), String> {
        self.link = None;
        match &mut self.program {
            Program::Plain(plain) => {
                plain.reboot(queue);
                Ok(())
            }
            Program::Sdk(sdk) => sdk.reboot(queue, buffer),
        }
    }

    /// New firmware: its memory is formatted.
    pub(crate) fn reflash(&mut self, queue: u64, buffer: &'m mut Buffer) -> Result<(), String> {
        self.link = None;
        match &mut self.program {
            Program::Plain(plain) => {
                plain.reflash(queue);
                Ok(())
            }
            Program::Sdk(sdk) => sdk.reflash(queue, buffer),
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        match &self.program {
            Program::Plain(plain) => plain.is_drained(),
            Program::Sdk(sdk) => sdk.is_drained(),
        }
    }
}

/// What a reading says that is sent as it is: nobody but its device can have made it.
pub(crate) fn payload(device: &[u8], queue: u64, seq: u64) -> String {
    format!("{} {queue:x} {seq}", String::from_utf8_lossy(device))
}

/// What the gateway makes of a reading of a batch, up to its time: the value is its number.
pub(crate) fn is_opened(value: &[u8], seq: u64) -> bool {
    let text = String::from_utf8_lossy(value);
    text.starts_with("{\"sensor\":\"count\",")
        && text.contains(&format!(",\"value\":{seq},"))
        && text.ends_with(",\"unit\":\"1\",\"quality\":\"good\"}")
}
