//! Gateways: the real core on the twin of its disk, and what its shell does around it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gateway_core::dedupe::Numbered;
use gateway_core::dedupe::QueuesSeen;
use gateway_core::gateway::{
    Alarm, Arrival, ClientBatch, ClientToken, Due, Gateway, GatewaySettings, Rejection, Verdict,
};
use gateway_core::spool::memory::MemoryStore;
use gateway_core::spool::quota::Quota;
use gateway_core::uplink::backoff::Backoff;
use wire::ids::{GatewayId, QueueId, SpoolId};
use wire::seq::DeviceSeq;

use crate::clock::HostClock;
use crate::device::payload;
use crate::event::{Down, Event, GatewayStep, Life, LinkNo, Publish, SessionNo};
use crate::oracle::Oracle;
use crate::world::World;
use crate::world::spools::held;
use crate::world::uplink::Unanswered;

/// How long a commit takes at most.
const COMMIT_MS_MAX: u64 = 15;

/// How often a session record is written: often, so that runs have some.
const RECORD_INTERVAL_MS: u64 = 10_000;

/// A device's connection, as the shell holds it.
#[derive(Debug)]
struct Client {
    device: Bytes,
    queues_seen: QueuesSeen,
    buffered: VecDeque<Publish>,
    staged: Vec<Publish>,
    /// Whether the device is known to be gone; the connection stays until its batch is stored.
    gone: bool,
    /// The connection that waits for this one to be off (D3).
    successor: Option<LinkNo>,
}

#[derive(Debug)]
pub(crate) struct GatewayHost {
    pub(super) identity: GatewayId,
    pub(super) clock: HostClock,
    pub(super) running: Option<Gateway<MemoryStore>>,
    /// The disk of a gateway that is off; a host without one does not exist (yet).
    pub(super) disk: Option<MemoryStore>,
    /// A copy of the disk that somebody keeps.
    pub(super) saved: Option<MemoryStore>,
    life: Life,
    clients: BTreeMap<LinkNo, Client>,
    by_device: BTreeMap<Bytes, LinkNo>,
    commit_due: bool,
    wake_at: Option<u64>,
    pub(super) uplink_up: bool,
    pub(super) session: Option<SessionNo>,
    /// Whether WELCOME has come.
    pub(super) opened: bool,
    pub(super) backoff: Backoff,
    /// This session's frames without an answer.
    pub(super) unanswered: Unanswered,
    /// Whether the log has acknowledged a record of the control lane since this session began.
    pub(super) proved: bool,
    alarm: Option<Alarm>,
}

impl GatewayHost {
    pub(super) fn new(identity: GatewayId, clock: HostClock, disk: Option<MemoryStore>) -> Self {
        Self {
            identity,
            clock,
            running: None,
            disk,
            saved: None,
            life: 0,
            clients: BTreeMap::new(),
            by_device: BTreeMap::new(),
            commit_due: false,
            wake_at: None,
            uplink_up: true,
            session: None,
            opened: false,
            backoff: Backoff::default(),
            unanswered: Unanswered::default(),
            proved: false,
            alarm: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    pub(super) fn spool(&self) -> Option<SpoolId> {
        self.running.as_ref().map(Gateway::spool)
    }

    pub(super) fn is_drained(&self, now: u64) -> bool {
        let Some(gateway) = &self.running else {
            return self.disk.is_none();
        };
        let status = gateway.status(self.clock.now(now));
        let sent = status.spooled == 0 && status.window == 0;
        (sent || status.alarm.is_some()) && gateway.wants_commit() == Due::Never
    }

    pub(super) fn describe(&self, now: u64) -> String {
        match &self.running {
            Some(gateway) => format!("{:?}", gateway.status(self.clock.now(now))),
            None => "off".to_owned(),
        }
    }

    /// Tells the oracle what is in the spool, and what its ledger says.
    pub(super) fn report(&mut self, now: u64, oracle: &mut Oracle) -> Result<(), String> {
        let Some(gateway) = &mut self.running else {
            return Ok(());
        };
        let status = gateway.status(self.clock.now(now));
        let spool = gateway.spool();
        if status.alarm.is_some() {
            oracle.spooled(held(gateway.store_mut())?);
        }
        oracle.ledger(&self.identity, spool, &status)
    }
}

impl World<'_> {
    pub(super) fn gateway_step(
        &mut self,
        number: usize,
        life: Life,
        step: GatewayStep,
    ) -> Result<(), String> {
        if self.gateways[number].life != life {
            return Ok(());
        }
        match step {
            GatewayStep::Commit => self.commit(number)?,
            GatewayStep::Dial => self.dial(number),
            GatewayStep::HandshakeOver(session) => self.handshake_over(number, session),
            GatewayStep::LinkLost(link) => self.gateway_lost_link(number, link),
            GatewayStep::SessionLost(session) => self.session_lost(number, session),
            GatewayStep::Start => self.start_gateway(number)?,
            GatewayStep::Wake => self.wake(number),
        }
        self.pump_gateway(number)
    }

    pub(super) fn start_gateway(&mut self, number: usize) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let Some(disk) = host.disk.take() else {
            return Ok(());
        };
        let settings = GatewaySettings {
            gateway: host.identity.clone(),
            quota: Quota::new(Quota::BUDGET_BYTES_MIN),
            record_interval_ms: RECORD_INTERVAL_MS,
        };
        host.clock.boot(now);
        host.life += 1;
        let gateway = Gateway::open(settings, disk, host.clock.mono(now));
        let gateway = gateway.map_err(|error| format!("gw{number} does not start: {error}"))?;
        self.trace.line(now, format_args!("gw{number} starts, spool {}", gateway.spool()));
        host.running = Some(gateway);
        host.alarm = None;
        let wait = self.rng.gateways.below(200);
        self.schedule.after(wait, Event::Gateway(number, host.life, GatewayStep::Dial));
        Ok(())
    }

    /// The process dies: what it had not committed is gone, and so are its connections.
    pub(super) fn stop_gateway(&mut self, number: usize) {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let Some(gateway) = host.running.take() else {
            return;
        };
        self.trace.line(now, format_args!("gw{number} dies"));
        host.disk = Some(gateway.into_store().crashed());
        // Another life from now on: nothing that was on its way inside the process happens.
        host.life += 1;
        host.by_device.clear();
        host.commit_due = false;
        host.wake_at = None;
        host.clients.clear();
        let ended = host.life - 1;
        let links = self.links.iter();
        let links = links.filter(|(_, link)| (link.gateway, link.gateway_life) == (number, ended));
        let links: Vec<LinkNo> = links.map(|(link, _)| *link).collect();
        for link in links {
            self.cut_link(link);
        }
        let host = &mut self.gateways[number];
        host.opened = false;
        host.proved = false;
        host.unanswered.clear();
        if let Some(session) = host.session.take() {
            self.abandon_session(session);
        }
    }

    pub(super) fn accept_device(&mut self, number: usize, link: LinkNo, device: &Bytes) {
        let host = &mut self.gateways[number];
        if let Some(old) = host.by_device.get(device).copied().filter(|old| *old != link)
            && let Some(client) = host.clients.get_mut(&old)
        {
            if !client.staged.is_empty() {
                client.successor = Some(link);
                return;
            }
            host.clients.remove(&old);
            self.send_down(old, Down::Closed);
        }
        let host = &mut self.gateways[number];
        let Some(spool) = host.spool() else {
            return;
        };
        host.by_device.insert(device.clone(), link);
        host.clients.insert(
            link,
            Client {
                device: device.clone(),
                queues_seen: QueuesSeen::default(),
                buffered: VecDeque::new(),
                staged: Vec::new(),
                gone: false,
                successor: None,
            },
        );
        self.send_down(link, Down::Connack(spool));
    }

    pub(super) fn take_publish(&mut self, number: usize, link: LinkNo, publish: Publish) {
        if let Some(client) = self.gateways[number].clients.get_mut(&link) {
            client.buffered.push_back(publish);
            self.stage(number, link);
            self.wants_commit(number);
        }
    }

    /// Hands over what a connection has buffered, unless something of it is staged already.
    fn stage(&mut self, number: usize, link: LinkNo) {
        let host = &mut self.gateways[number];
        let (Some(client), Some(gateway)) = (host.clients.get_mut(&link), &mut host.running) else {
            return;
        };
        if !client.staged.is_empty() || client.buffered.is_empty() {
            return;
        }
        client.staged = client.buffered.drain(..).collect();
        let arrivals = client.staged.iter().map(|publish| arrival(&client.device, publish));
        let arrivals: Vec<_> = arrivals.collect();
        let queues_seen = client.queues_seen;
        for queue in arrivals.iter().filter_map(Arrival::queue) {
            client.queues_seen.note(queue);
        }
        gateway.stage(ClientBatch {
            token: ClientToken(link.0),
            device: client.device.clone(),
            queues_seen,
            arrivals,
        });
    }

    fn commit(&mut self, number: usize) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        host.commit_due = false;
        let Some(gateway) = &mut host.running else {
            return Ok(());
        };
        let clock = host.clock.now(now);
        let verdicts = gateway.commit(clock, &mut self.rng.gateways);
        let verdicts = verdicts.map_err(|error| format!("gw{number} cannot commit: {error}"))?;
        let status = gateway.status(clock);
        let (ledger, spooled) = (status.ledger, status.spooled);
        if !ledger.balances(spooled) {
            return Err(format!("gw{number}: {ledger:?} does not balance with {spooled} spooled"));
        }
        for verdict in verdicts {
            match verdict.rejected {
                None | Some(Rejection::Full) => self.answer(number, &verdict),
                Some(rejected) => return Err(format!("gw{number} refuses: {rejected:?}")),
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: usize, verdict: &Verdict) {
        let now = self.schedule.now();
        let link = LinkNo(verdict.token.0);
        self.trace.line(
            now,
            format_args!("gw{number} verdict {} {:?}", verdict.stored, verdict.rejected),
        );
        let Some(client) = self.gateways[number].clients.get_mut(&link) else {
            return;
        };
        let (device, successor) = (client.device.clone(), client.successor.take());
        let ends = verdict.rejected.is_some() || successor.is_some() || client.gone;
        let staged = std::mem::take(&mut client.staged);
        for publish in staged.iter().take(verdict.stored) {
            self.oracle.acknowledged(&device, publish);
        }
        if verdict.stored > 0 {
            self.send_down(link, Down::Puback(verdict.stored));
        }
        if ends {
            let refused = verdict.rejected.is_some();
            self.send_down(link, if refused { Down::Refused } else { Down::Closed });
            self.gateways[number].clients.remove(&link);
            if let Some(successor) = successor {
                self.accept_device(number, successor, &device);
            }
        } else {
            self.stage(number, link);
        }
    }

    fn gateway_lost_link(&mut self, number: usize, link: LinkNo) {
        let clients = &mut self.gateways[number].clients;
        match clients.get_mut(&link) {
            Some(client) if !client.staged.is_empty() => client.gone = true,
            Some(_) => {
                clients.remove(&link);
            }
            None => {}
        }
    }

    fn wake(&mut self, number: usize) {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        host.wake_at = None;
        if let Some(gateway) = &mut host.running {
            gateway.handle_timeout(host.clock.now(now));
        }
    }

    /// Whatever follows from what has just happened: a commit, a time to wake, frames, an alarm.
    pub(super) fn pump_gateway(&mut self, number: usize) -> Result<(), String> {
        self.wants_commit(number);
        self.send_batches(number)?;
        self.look_at_alarm(number)?;
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let Some(gateway) = &host.running else {
            return Ok(());
        };
        let deadline = gateway.next_deadline(host.clock.mono(now));
        if let Some(at) = deadline.map(|at| host.clock.when(at).max(now + 1))
            && host.wake_at.is_none_or(|wake| at < wake || wake <= now)
        {
            host.wake_at = Some(at);
            self.schedule.at(at, Event::Gateway(number, host.life, GatewayStep::Wake));
        }
        Ok(())
    }

    fn wants_commit(&mut self, number: usize) {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let Some(gateway) = &host.running else {
            return;
        };
        let due = match gateway.wants_commit() {
            Due::Now => true,
            Due::At(at) => at <= host.clock.mono(now),
            Due::Never => false,
        };
        if due && !host.commit_due {
            host.commit_due = true;
            let wait = self.rng.gateways.between(1, COMMIT_MS_MAX);
            self.schedule.after(wait, Event::Gateway(number, host.life, GatewayStep::Commit));
        }
    }

    /// An alarm is a violation unless somebody has put a spool back or cloned it.
    fn look_at_alarm(&mut self, number: usize) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let Some(gateway) = &host.running else {
            return Ok(());
        };
        let alarm = gateway.status(host.clock.now(now)).alarm;
        if alarm == host.alarm {
            return Ok(());
        }
        host.alarm.clone_from(&alarm);
        let spool = gateway.spool();
        match alarm {
            None => Ok(()),
            Some(Alarm::Forked { .. }) if self.oracle.is_suspect(spool) => {
                self.trace.line(now, format_args!("gw{number} FORKED"));
                Ok(())
            }
            Some(alarm) => Err(format!("gw{number} stops without a cause: {alarm}")),
        }
    }
}

fn arrival(device: &Bytes, publish: &Publish) -> Arrival {
    let Publish { queue, first, count, lost_before, .. } = *publish;
    let numbered = Numbered { first: DeviceSeq(first), count, lost_before };
    let (topic, payload, sequence) = match &publish.batch {
        // The device's name is in the topic, its numbers are in the batch.
        Some(batch) => {
            let topic = [b"culvert/v1/", device.as_ref(), b"/batch"].concat();
            (Bytes::from(topic), batch.clone(), None)
        }
        None => {
            let payload = Bytes::from(payload(device, queue, first));
            (Bytes::from_static(b"plant/1"), payload, Some((QueueId(queue), numbered)))
        }
    };
    Arrival {
        topic,
        payload,
        properties: Vec::new(),
        sequence,
        maybe_dup: publish.maybe_dup,
        acknowledged: true,
    }
}
