//! All hosts of a run and what is between them: shipped cores on one event heap.
//!
//! The hosts stand in for the shells: they hold a device's connection, take everything that is staged into one
//! transaction, write and sync slots, move frames. What is stored, acknowledged, sent or refused is decided by the cores.

mod broker;
mod devices;
mod faults;
mod gateways;
mod spools;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::slice::IterMut;

use broker_log::sim_disk::SimDisk;
use bytes::Bytes;
use gateway_core::spool::memory::MemoryStore;
use wire::ids::{GatewayId, SpoolId};

use crate::clock::HostClock;
use crate::device::{Buffer, Device};
use crate::event::{BrokerStep, DeviceStep, Event, GatewayStep, LinkNo, SessionNo};
use crate::fault::Profile;
use crate::oracle::Oracle;
use crate::rng::{Rng, Streams};
use crate::schedule::Schedule;
use crate::trace::Trace;
use crate::world::broker::BrokerHost;
use crate::world::devices::Link;
use crate::world::gateways::GatewayHost;
use crate::world::uplink::{Archive, Session};

/// How long draining may take once everything is healed, in virtual milliseconds: beyond it, something is stuck.
const DRAIN_MS_MAX: u64 = 300_000;

/// Events after which a run is a livelock.
const EVENTS_MAX: u64 = 2_000_000;

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Virtual time.
    pub ms: u64,
    /// Which promise, and how.
    pub what: String,
}

pub(crate) struct World<'m> {
    schedule: Schedule,
    trace: Trace,
    rng: Streams,
    profile: Profile,
    devices: Vec<Device<'m>>,
    /// Memory that devices build batches in: each life of a device takes one.
    buffers: IterMut<'m, Buffer>,
    links: BTreeMap<LinkNo, Link>,
    gateways: Vec<GatewayHost>,
    sessions: BTreeMap<SessionNo, Session>,
    archive: Archive,
    broker: BrokerHost,
    oracle: Oracle,
    numbers: u64,
    /// Devices that lose power the next time a gateway accepts them.
    reboots_once_accepted: BTreeSet<usize>,
    healed: bool,
}

impl<'m> World<'m> {
    pub(crate) fn new(
        seed: u64,
        keep_trace: bool,
        memory: &'m mut Vec<Buffer>,
    ) -> Result<Self, String> {
        let mut rng = Streams::new(seed);
        let profile = Profile::draw(&mut rng.faults);
        let mut gateways: Vec<GatewayHost> = (0..profile.gateways)
            .map(|number| {
                let store = MemoryStore::new(spool_id(&mut rng.gateways));
                GatewayHost::new(identity(number), clock(&mut rng.gateways), Some(store))
            })
            .collect();
        // A place for a clone of the first.
        gateways.push(GatewayHost::new(identity(0), clock(&mut rng.gateways), None));
        let mut buffers = memory.iter_mut();
        let mut devices = Vec::new();
        for (number, buffer) in (0..profile.devices).zip(&mut buffers) {
            let gateway = rng.devices.place(profile.gateways);
            let name = Bytes::from(format!("dev{number}"));
            devices.push(Device::new(name, gateway, &mut rng.devices, buffer)?);
        }
        let broker = BrokerHost::new(clock(&mut rng.broker), &profile);
        let mut world = Self {
            schedule: Schedule::default(),
            trace: Trace::new(keep_trace),
            rng,
            profile,
            devices,
            buffers,
            links: BTreeMap::new(),
            gateways,
            sessions: BTreeMap::new(),
            archive: Archive::default(),
            broker,
            oracle: Oracle::default(),
            numbers: 0,
            reboots_once_accepted: BTreeSet::new(),
            healed: false,
        };
        world.begin();
        Ok(world)
    }

    /// Runs to the end: faults, healing, draining, and the last look at the log.
    pub(crate) fn run(mut self) -> (Result<(), Violation>, Trace) {
        let result = self.run_to_end();
        let ms = self.schedule.now();
        let result = result.map_err(|what| Violation { ms, what });
        if let Err(violation) = &result {
            self.trace.line(ms, format_args!("VIOLATION {}", violation.what));
        }
        (result, self.trace)
    }

    fn begin(&mut self) {
        self.schedule.at(0, Event::Broker(0, BrokerStep::Start));
        for gateway in 0..self.profile.gateways {
            self.schedule.at(0, Event::Gateway(gateway, 0, GatewayStep::Start));
        }
        for device in 0..self.devices.len() {
            let at = self.rng.devices.below(1_000);
            self.schedule.at(at, Event::Device(device, DeviceStep::Connect));
            self.schedule.at(at, Event::Device(device, DeviceStep::Sample));
        }
        for (at, fault) in std::mem::take(&mut self.profile.faults) {
            self.schedule.at(at, Event::Fault(fault));
        }
    }

    fn run_to_end(&mut self) -> Result<(), String> {
        let mut events = 0;
        let mut drain_until = u64::MAX;
        while let Some(event) = self.schedule.pop() {
            events += 1;
            self.handle(event)?;
            if !self.healed {
                continue;
            }
            let now = self.schedule.now();
            drain_until = drain_until.min(now + DRAIN_MS_MAX);
            if events % 8 == 0 && self.is_drained() {
                return self.last_look();
            }
            if now > drain_until || events > EVENTS_MAX {
                return Err(format!("stuck: {}", self.what_is_left()));
            }
        }
        // Where every uplink has stopped, nothing happens any more.
        if self.is_drained() {
            self.last_look()
        } else {
            Err(format!("dead: {}", self.what_is_left()))
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Broker(life, step) => self.broker_step(life, step),
            Event::Device(device, step) => self.device_step(device, step),
            Event::Fault(fault) => self.fault(fault),
            Event::FrameDown { session, lane, number, frame } => {
                self.frame_down(session, lane, number, &frame)
            }
            Event::FrameUp { session, lane, number, frame } => {
                self.frame_up(session, lane, number, &frame)
            }
            Event::Gateway(gateway, life, step) => self.gateway_step(gateway, life, step),
            Event::LateAnswer { answer, frame } => self.late_answer(answer, &frame),
            Event::LinkDown { link, number, message } => self.link_down(link, number, message),
            Event::LinkUp { link, number, message } => {
                self.link_up(link, number, message);
                Ok(())
            }
        }
    }

    /// Whether nothing is on its way any more, but for what a stopped uplink keeps.
    fn is_drained(&self) -> bool {
        let now = self.schedule.now();
        self.devices.iter().all(Device::is_drained)
            && self.gateways.iter().all(|host| host.is_drained(now))
            && self.broker.is_idle()
    }

    fn what_is_left(&self) -> String {
        let now = self.schedule.now();
        let queues: Vec<bool> = self.devices.iter().map(Device::is_drained).collect();
        let spools: Vec<String> = self.gateways.iter().map(|host| host.describe(now)).collect();
        format!("device queues empty {queues:?}, gateways {spools:?}")
    }

    /// Power is lost once more, then everything that was promised is looked for.
    fn last_look(&mut self) -> Result<(), String> {
        self.trace.line(self.schedule.now(), format_args!("drained"));
        self.crash_broker(broker::Crash::Power);
        self.look_at_log()?;
        for host in &mut self.gateways {
            host.report(self.schedule.now(), &mut self.oracle)?;
        }
        self.oracle.last_look()
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

fn identity(number: usize) -> GatewayId {
    GatewayId::new(&format!("gw{number}")).expect("letters and digits")
}

fn clock(rng: &mut Rng) -> HostClock {
    let drift = i64::try_from(rng.below(400)).unwrap_or(0) - 200;
    let off = i64::try_from(rng.below(20_000)).unwrap_or(0) - 10_000;
    HostClock::new(drift, off)
}

fn spool_id(rng: &mut Rng) -> SpoolId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.number().to_le_bytes());
    id[8..].copy_from_slice(&rng.number().to_le_bytes());
    SpoolId(id)
}

/// A new broker's disk.
fn empty_disk() -> SimDisk {
    SimDisk::new()
}
