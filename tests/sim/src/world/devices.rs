//! Devices and their connections.

use wire::time::MonoMs;

use crate::event::{DeviceStep, Down, Event, GatewayStep, Life, LinkNo, Publish, Up};
use crate::pipe::Pipe;
use crate::world::World;
use crate::world::faults::Restart;

/// A device that finds no gateway, or was refused, comes back after at most this time.
const RECONNECT_MS_MAX: u64 = 1_500;

/// A dead connection is noticed within this time.
const NOTICE_MS_MAX: u64 = 2_500;

/// A connection between a device and a gateway.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) device: usize,
    pub(crate) gateway: usize,
    pub(crate) gateway_life: Life,
    up: Pipe,
    down: Pipe,
}

impl World<'_> {
    pub(super) fn device_step(&mut self, number: usize, step: DeviceStep) -> Result<(), String> {
        match step {
            DeviceStep::Connect => self.connect_device(number),
            DeviceStep::LinkLost(link) => self.device_lost_link(number, link),
            DeviceStep::Poll => return self.publish(number),
            DeviceStep::Sample if self.healed => {}
            DeviceStep::Sample => {
                self.devices[number].sample(MonoMs(self.schedule.now()));
                let wait = self.rng.devices.between(20, self.profile.sample_ms_max);
                self.schedule.after(wait, Event::Device(number, DeviceStep::Sample));
                return self.publish(number);
            }
        }
        Ok(())
    }

    fn connect_device(&mut self, number: usize) {
        if self.devices[number].link.is_some() {
            return;
        }
        let gateway = self.devices[number].gateway;
        let host = &self.gateways[gateway];
        if !host.is_up() {
            self.reconnect_later(number);
            return;
        }
        let link = LinkNo(self.next_number());
        let gateway_life = self.gateways[gateway].life();
        self.links.insert(
            link,
            Link {
                device: number,
                gateway,
                gateway_life,
                up: Pipe::default(),
                down: Pipe::default(),
            },
        );
        self.devices[number].link = Some(link);
        self.send_up(link, Up::Connect);
    }

    pub(super) fn reconnect_later(&mut self, number: usize) {
        let wait = self.rng.devices.between(10, RECONNECT_MS_MAX);
        self.schedule.after(wait, Event::Device(number, DeviceStep::Connect));
    }

    fn device_lost_link(&mut self, number: usize, link: LinkNo) {
        if self.devices[number].link == Some(link) {
            self.devices[number].disconnected();
            self.reconnect_later(number);
        }
    }

    /// Closes what is old enough, and sends what there is.
    fn publish(&mut self, number: usize) -> Result<(), String> {
        let now = self.schedule.now();
        if let Some(due) = self.devices[number].poll(MonoMs(now)) {
            self.schedule.at(due.0.max(now + 1), Event::Device(number, DeviceStep::Poll));
        }
        if let Some(link) = self.devices[number].link {
            while let Some(publish) = self.devices[number].next()? {
                self.send_up(link, Up::Publish(publish));
            }
        }
        Ok(())
    }

    fn send_up(&mut self, number: LinkNo, message: Up) {
        let (now, latency) = (self.schedule.now(), self.rng.network.between(1, 40));
        if let Some(link) = self.links.get_mut(&number)
            && let Some((at, count)) = link.up.send(now, latency)
        {
            self.schedule.at(at, Event::LinkUp { link: number, number: count, message });
        }
    }

    pub(super) fn send_down(&mut self, number: LinkNo, message: Down) {
        let (now, latency) = (self.schedule.now(), self.rng.network.between(1, 40));
        if let Some(link) = self.links.get_mut(&number)
            && let Some((at, count)) = link.down.send(now, latency)
        {
            self.schedule.at(at, Event::LinkDown { link: number, number: count, message });
        }
    }

    /// A message arrives at a gateway.
    pub(super) fn link_up(&mut self, number: LinkNo, count: u64, message: Up) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        if !link.up.arrives(count) {
            return;
        }
        let (device, gateway, life) = (link.device, link.gateway, link.gateway_life);
        let host = &self.gateways[gateway];
        if !host.is_up() || host.life() != life {
            return;
        }
        let name = self.devices[device].name.clone();
        match message {
            Up::Connect => {
                self.trace
                    .line(self.schedule.now(), format_args!("dev{device} CONNECT gw{gateway}"));
                self.accept_device(gateway, number, &name);
            }
            Up::Publish(publish) => {
                let Publish { queue, first, count, lost_before, .. } = &publish;
                let flag = if publish.maybe_dup { " maybe-dup" } else { "" };
                let text = format!("{queue:x} {first}+{count} lost {lost_before}{flag}");
                let now = self.schedule.now();
                self.trace.line(now, format_args!("gw{gateway} PUBLISH dev{device} {text}"));
                self.take_publish(gateway, number, publish);
            }
        }
    }

    /// A message arrives at a device.
    pub(super) fn link_down(
        &mut self,
        number: LinkNo,
        count: u64,
        message: Down,
    ) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else {
            return Ok(());
        };
        let device = link.device;
        if !link.down.arrives(count) || self.devices[device].link != Some(number) {
            return Ok(());
        }
        self.trace.line(self.schedule.now(), format_args!("dev{device} {message:?}"));
        match message {
            Down::Closed => self.device_lost_link(device, number),
            Down::Connack(spool) => {
                if self.devices[device].connected(spool) {
                    self.publish(device)?;
                    if self.reboots_once_accepted.remove(&device) {
                        self.restart_device(device, Restart::Reboot)?;
                    }
                    return Ok(());
                }
                self.cut_link(number);
                self.device_lost_link(device, number);
            }
            Down::Puback(acknowledged) => {
                self.devices[device].acknowledged(acknowledged);
                return self.publish(device);
            }
            Down::Refused => {
                self.devices[device].refused();
                self.device_lost_link(device, number);
            }
        }
        Ok(())
    }

    /// A connection dies; both ends notice some time.
    pub(super) fn cut_link(&mut self, number: LinkNo) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        link.up.cut(&mut self.rng.network);
        link.down.cut(&mut self.rng.network);
        let (device, gateway, life) = (link.device, link.gateway, link.gateway_life);
        let wait = self.rng.network.below(NOTICE_MS_MAX);
        self.schedule.after(wait, Event::Device(device, DeviceStep::LinkLost(number)));
        let wait = self.rng.network.below(4 * NOTICE_MS_MAX);
        let lost = GatewayStep::LinkLost(number);
        self.schedule.after(wait, Event::Gateway(gateway, life, lost));
    }

    /// The device itself ends its connection, without a word.
    pub(super) fn abandon_link(&mut self, device: usize) {
        if let Some(link) = self.devices[device].link {
            self.cut_link(link);
        }
    }
}
