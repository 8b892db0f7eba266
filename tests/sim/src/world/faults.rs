//! Faults strike, and are healed.

use gateway_core::spool::memory::MemoryStore;
use gateway_core::spool::store::SpoolStore;

use crate::event::{DeviceStep, Event, GatewayStep};
use crate::fault::Fault;
use crate::world::World;
use crate::world::broker::Crash;
use crate::world::spool_id;
use crate::world::spools::held;

/// A gateway that died is started again after at most this time.
const RESTART_MS_MAX: u64 = 4_000;

/// Bytes that a full spool still takes: now and then a reading fits.
const ROOM_LEFT_MAX: u64 = 300;

/// How a device comes back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Restart {
    Reboot,
    Reflash,
}

impl World<'_> {
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        self.trace.line(self.schedule.now(), format_args!("fault {fault:?}"));
        match fault {
            Fault::BrokerKilled => self.crash_and_restart_broker(Crash::Killed),
            Fault::BrokerPowerLost => self.crash_and_restart_broker(Crash::Power),
            Fault::BrokerStops => self.stop_broker(),
            Fault::BrokerSyncFails => self.crash_and_restart_broker(Crash::SyncFailed),
            Fault::ClockStep { gateway, by_ms } => match gateway {
                Some(number) => self.gateways[number].clock.step(by_ms),
                None => self.broker.clock.step(by_ms),
            },
            Fault::DeviceCut(number) => self.abandon_link(number),
            Fault::DeviceReboot(number) => self.restart_device(number, Restart::Reboot)?,
            Fault::DeviceRebootsOnceAccepted(number) => {
                self.reboots_once_accepted.insert(number);
            }
            Fault::DeviceReflash(number) => self.restart_device(number, Restart::Reflash)?,
            Fault::DeviceRoams(number) => self.roam(number),
            Fault::GatewayCrash(number) => {
                self.stop_gateway(number);
                self.start_gateway_later(number);
            }
            Fault::Ghost(number) => self.ghost(number),
            Fault::Heal => self.heal(),
            Fault::SpoolCloned(number) => self.clone_spool(number)?,
            Fault::SpoolFull(number) => self.fill_spool(number)?,
            Fault::SpoolLost(number) => self.lose_spool(number)?,
            Fault::SpoolRestored(number) => self.restore_spool(number)?,
            Fault::SpoolRoomy(number) => self.empty_spool(number),
            Fault::SpoolSaved(number) => {
                let host = &mut self.gateways[number];
                host.saved = host.running.as_mut().map(|g| g.store_mut().clone().crashed());
            }
            Fault::UplinkCut(number) => {
                if let Some(session) = self.gateways[number].session {
                    self.cut_session(session);
                }
            }
            Fault::UplinkDown(number) => {
                self.gateways[number].uplink_up = false;
                if let Some(session) = self.gateways[number].session {
                    self.cut_session(session);
                }
            }
            Fault::UplinkUp(number) => self.gateways[number].uplink_up = true,
        }
        Ok(())
    }

    pub(super) fn restart_device(&mut self, number: usize, restart: Restart) -> Result<(), String> {
        let Some(buffer) = self.buffers.next() else {
            return Ok(());
        };
        self.abandon_link(number);
        let queue = self.rng.devices.number();
        match restart {
            Restart::Reboot => self.devices[number].reboot(queue, buffer)?,
            Restart::Reflash => self.devices[number].reflash(queue, buffer)?,
        }
        self.reconnect_later(number);
        Ok(())
    }

    /// The device goes to another gateway.
    fn roam(&mut self, number: usize) {
        let here = self.devices[number].gateway;
        let hosts = self.gateways.iter().enumerate();
        let others = hosts.filter(|(no, host)| *no != here && host.is_up());
        let up: Vec<usize> = others.map(|(no, _)| no).collect();
        if up.is_empty() {
            return;
        }
        self.devices[number].gateway = up[self.rng.faults.place(up.len())];
        self.abandon_link(number);
        if self.devices[number].link.is_some() {
            self.devices[number].disconnected();
            self.schedule.after(1, Event::Device(number, DeviceStep::Connect));
        }
    }

    fn start_gateway_later(&mut self, number: usize) {
        let host = &self.gateways[number];
        let start = Event::Gateway(number, host.life(), GatewayStep::Start);
        self.schedule.after(self.rng.faults.between(20, RESTART_MS_MAX), start);
    }

    fn fill_spool(&mut self, number: usize) -> Result<(), String> {
        let room = self.rng.faults.below(ROOM_LEFT_MAX);
        if let Some(gateway) = &mut self.gateways[number].running {
            let store = gateway.store_mut();
            let used = store.used_bytes().map_err(|error| error.to_string())?;
            store.set_room(used + room);
        }
        Ok(())
    }

    fn empty_spool(&mut self, number: usize) {
        let host = &mut self.gateways[number];
        if let Some(gateway) = &mut host.running {
            gateway.store_mut().set_room(u64::MAX);
        }
        if let Some(disk) = &mut host.disk {
            disk.set_room(u64::MAX);
        }
    }

    /// Takes a spool out of its gateway for good. What only it held is lost, and nobody promised otherwise.
    fn take_spool(&mut self, number: usize) -> Result<(), String> {
        self.stop_gateway(number);
        if let Some(mut disk) = self.gateways[number].disk.take() {
            self.oracle.lost_with_a_disk(held(&mut disk)?);
        }
        Ok(())
    }

    fn lose_spool(&mut self, number: usize) -> Result<(), String> {
        self.take_spool(number)?;
        let spool = spool_id(&mut self.rng.gateways);
        self.gateways[number].disk = Some(MemoryStore::new(spool));
        self.start_gateway_later(number);
        Ok(())
    }

    fn restore_spool(&mut self, number: usize) -> Result<(), String> {
        if let Some(mut saved) = self.gateways[number].saved.take() {
            self.take_spool(number)?;
            self.suspect(&mut saved)?;
            self.gateways[number].disk = Some(saved);
            self.start_gateway_later(number);
        }
        Ok(())
    }

    fn clone_spool(&mut self, number: usize) -> Result<(), String> {
        let spare = self.gateways.len() - 1;
        let Some(gateway) = &mut self.gateways[number].running else {
            return Ok(());
        };
        let mut copy = gateway.store_mut().clone().crashed();
        self.suspect(&mut copy)?;
        self.gateways[spare].identity = self.gateways[number].identity.clone();
        self.gateways[spare].disk = Some(copy);
        self.start_gateway_later(spare);
        Ok(())
    }

    /// From now on a stopped uplink is no surprise for this spool.
    fn suspect(&mut self, store: &mut MemoryStore) -> Result<(), String> {
        let known = store.recover().map_err(|error| error.to_string())?;
        self.oracle.suspect(known.spool);
        Ok(())
    }

    /// No more faults, and an end to those that last.
    fn heal(&mut self) {
        for number in 0..self.gateways.len() {
            self.empty_spool(number);
            self.gateways[number].uplink_up = true;
        }
        self.healed = true;
    }
}
