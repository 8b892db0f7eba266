//! The broker: the real core and the real log on the simulated disk, and what its shell does around them.

mod jobs;

use std::collections::BTreeSet;

use broker_coordinator::GroupSettings;
use broker_core::{
    Answer, Asker, Broker, BrokerSettings, ClientId, ControlWrite, Effect, Event as BrokerEvent,
    Identity, Image, RequestError, RetentionDefaults, SessionId, UplinkRequest,
};
use broker_log::sim_disk::{Death, SimDisk, start};
use broker_log::{Log, LogSettings, RecoveryError, SlotToWrite};
use bytes::Bytes;
use wire::ids::{GatewayId, Incarnation, Lane};
use wire::limits::DEFAULT_TOPIC;

use crate::clock::HostClock;
use crate::event::{BrokerStep, Event, Life, SessionNo};
use crate::fault::Profile;
use crate::read_log::read_log;
use crate::world::World;
use jobs::Jobs;

/// A broker that died is started again after at most this time.
const RESTART_MS_MAX: u64 = 6_000;

/// Of 100 starts, how many die before the log is open.
const STARTS_THAT_DIE: u64 = 15;

/// Calls to the disk within which such a start dies.
const CALLS_OF_A_START: usize = 14;

/// How a broker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process is killed: the page cache stays.
    Killed,
    /// The machine loses power: what was not synced may be lost, sector by sector.
    Power,
    /// A sync fails, then the process ends.
    SyncFailed,
}

#[derive(Debug)]
pub(crate) struct BrokerHost {
    pub(super) clock: HostClock,
    life: Life,
    running: Option<Broker>,
    disk: SimDisk,
    /// `ctl/cluster`: its version and content.
    control: (u64, Vec<u8>),
    control_write: Option<ControlWrite>,
    slot: Option<SlotToWrite>,
    slot_written: bool,
    jobs: Jobs,
    /// It was asked to end.
    stops: bool,
    settings: LogSettings,
    keeps_bytes: Option<u64>,
}

impl BrokerHost {
    pub(super) fn new(clock: HostClock, profile: &Profile) -> Self {
        Self {
            clock,
            life: 0,
            running: None,
            disk: super::empty_disk(),
            control: (1, Image::first([7; 16])),
            control_write: None,
            slot: None,
            slot_written: false,
            jobs: Jobs::default(),
            stops: false,
            keeps_bytes: profile.retention_bytes,
            // Small enough that a run fills several files, leaves the tail behind, and has files rewritten and given back.
            settings: LogSettings {
                wal_file_bytes: 64 << 10,
                slot_bytes_target: 16 << 10,
                tail_bytes: 24 << 10,
                pending_bytes_max: profile.pending_bytes_max,
                checkpoint_bytes_min: 128 << 10,
                l0_bytes_max: 192 << 10,
                l0_entries_max: 60,
                rewrite_bytes_min: 64 << 10,
                own_unit_bytes: 48 << 10,
                unit_bytes: 64 << 10,
                maintenance_ms: 3_000,
                ..LogSettings::default()
            },
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_up() && self.slot.is_none() && self.control_write.is_none()
    }
}

impl World<'_> {
    pub(super) fn broker_step(&mut self, life: Life, step: BrokerStep) -> Result<(), String> {
        if self.broker.life != life {
            return Ok(());
        }
        match step {
            BrokerStep::ControlStored => {
                if let Some(write) = self.broker.control_write.take() {
                    self.broker.control = (write.expected_version + 1, write.bytes);
                    let event = BrokerEvent::ControlStored(self.broker.control.0);
                    self.broker_handles(event)?;
                }
            }
            BrokerStep::JobDone => self.job_done()?,
            BrokerStep::RunJob => self.run_job(),
            BrokerStep::SessionGone(session) => self.broker_forgets(session)?,
            BrokerStep::Start => self.start_broker()?,
            BrokerStep::Sync => self.sync_slot()?,
            BrokerStep::Tick => self.tick()?,
            BrokerStep::Write => self.write_slot()?,
        }
        self.pump_broker();
        self.end_broker_if_settled();
        Ok(())
    }

    /// Dies, and comes back some time.
    pub(super) fn crash_and_restart_broker(&mut self, crash: Crash) {
        if self.broker.is_up() {
            self.crash_broker(crash);
            self.start_broker_later();
        }
    }

    pub(super) fn crash_broker(&mut self, crash: Crash) {
        let now = self.schedule.now();
        self.trace.line(now, format_args!("broker dies: {crash:?}"));
        self.broker.running = None;
        self.broker.jobs = Jobs::default();
        self.broker.stops = false;
        // Another life from now on: nothing that was on its way inside the process happens.
        self.broker.life += 1;
        let slot = self.broker.slot.take();
        if let Some(slot) = slot.filter(|_| self.broker.slot_written)
            && crash == Crash::SyncFailed
        {
            self.broker.disk.fail_sync(slot.file_no);
        }
        if crash == Crash::Power {
            let disk = &mut self.rng.disk;
            self.broker.disk.lose_power(&mut || disk.chance(50));
        }
        // The file is replaced as a whole, or not.
        if let Some(write) = self.broker.control_write.take()
            && self.rng.disk.chance(50)
        {
            self.broker.control = (write.expected_version + 1, write.bytes);
        }
        let ended = self.broker.life - 1;
        let sessions = self.sessions.iter();
        let sessions = sessions.filter(|(_, session)| session.broker_life == ended);
        for number in sessions.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.cut_session(number);
        }
    }

    fn start_broker_later(&mut self) {
        let wait = self.rng.broker.between(50, RESTART_MS_MAX);
        let start = Event::Broker(self.broker.life, BrokerStep::Start);
        self.schedule.after(wait, start);
    }

    fn start_broker(&mut self) -> Result<(), String> {
        let now = self.schedule.now();
        let dies = !self.healed && self.rng.broker.chance(STARTS_THAT_DIE);
        self.broker.disk.heal();
        if dies {
            self.broker.disk.die_after(self.rng.broker.place(CALLS_OF_A_START), Death::Killed);
        }
        let Some((identity, log)) = self.open_log()? else {
            self.trace.line(now, format_args!("broker dies while it starts"));
            if self.rng.broker.chance(50) {
                let disk = &mut self.rng.disk;
                self.broker.disk.lose_power(&mut || disk.chance(50));
            }
            self.start_broker_later();
            return Ok(());
        };
        let host = &mut self.broker;
        host.life += 1;
        host.clock.boot(now);
        let image = Image::load(host.control.0, &host.control.1);
        let image = image.map_err(|error| format!("the metadata is damaged: {error}"))?;
        let found = read_log(&log, &mut host.disk, &image)?;
        self.oracle.look(found.entries, &found.starts)?;
        let broker = Broker::new(settings(host.keeps_bytes), &identity, log, image);
        let broker = broker.map_err(|error| format!("the broker does not start: {error}"))?;
        self.broker.running = Some(broker);
        self.trace.line(now, format_args!("broker starts, life {}", self.broker.life));
        Ok(())
    }

    /// Recovers the log and goes on with it; `None` if the process dies meanwhile.
    fn open_log(&mut self) -> Result<Option<(Identity, Log)>, String> {
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&self.rng.broker.number().to_le_bytes());
        let incarnation = Incarnation(incarnation);
        let mut id_seed = [0; 32];
        id_seed[..8].copy_from_slice(&self.rng.broker.number().to_le_bytes());
        let host = &mut self.broker;
        let wall = host.clock.wall(self.schedule.now());
        let log = start(&mut host.disk, incarnation, &host.settings, wall);
        host.disk.heal();
        match log {
            Ok(log) => Ok(Some((Identity { incarnation, id_seed }, log))),
            Err(RecoveryError::Source(_)) => Ok(None),
            Err(error) => Err(format!("a crash is no corruption: {error}")),
        }
    }

    /// What a consumer finds in the log of a broker that is off.
    pub(super) fn look_at_log(&mut self) -> Result<(), String> {
        let (_, log) = self.open_log()?.ok_or("the disk is in order")?;
        let host = &mut self.broker;
        let image = Image::load(host.control.0, &host.control.1);
        let image = image.map_err(|error| format!("the metadata is damaged: {error}"))?;
        let found = read_log(&log, &mut host.disk, &image)?;
        self.oracle.look(found.entries, &found.starts)
    }

    /// A frame, as its connection reads it.
    pub(super) fn broker_takes(
        &mut self,
        (session, lane, token): (SessionNo, Lane, u64),
        identity: GatewayId,
        body: &Bytes,
    ) -> Result<(), String> {
        let request = match UplinkRequest::parse(body) {
            Ok(request) => request,
            Err(RequestError::Goodbye(_)) => return self.broker_forgets(session),
            Err(error) => return Err(format!("a gateway breaks the protocol: {error}")),
        };
        let event = BrokerEvent::Uplink {
            asker: Asker { client: client(session, lane), token },
            session: SessionId(session.0),
            identity,
            request,
        };
        self.broker_handles(event)?;
        self.pump_broker();
        Ok(())
    }

    fn broker_forgets(&mut self, session: SessionNo) -> Result<(), String> {
        self.broker_handles(BrokerEvent::SessionGone(SessionId(session.0)))?;
        for lane in Lane::ALL {
            self.broker_handles(BrokerEvent::ClientGone(client(session, lane)))?;
        }
        self.sessions.remove(&session);
        Ok(())
    }

    fn broker_handles(&mut self, event: BrokerEvent) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.broker;
        let Some(broker) = &mut host.running else {
            return Ok(());
        };
        let mut effects = Vec::new();
        broker.handle(host.clock.mono(now), host.clock.wall(now), event, &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Answer(asker, Answer::Uplink(answer)) => {
                    let session = SessionNo(asker.client.0 / 2);
                    let lane = Lane::ALL[usize::from(asker.client.0 % 2 == 1)];
                    self.send_frame_down(session, lane, Bytes::from(answer.frame));
                }
                Effect::Answer(..) | Effect::ReadGroups(_) => {
                    return Err("an effect that nobody has asked for".to_owned());
                }
                Effect::StoreControl(write) => {
                    self.broker.control_write = Some(write);
                    let stored = Event::Broker(self.broker.life, BrokerStep::ControlStored);
                    self.schedule.after(self.rng.broker.between(1, 30), stored);
                }
            }
        }
        Ok(())
    }

    fn pump_broker(&mut self) {
        self.take_jobs();
        self.next_slot();
        if let Some(broker) = &mut self.broker.running {
            broker.lay_out_ahead();
        }
    }

    fn next_slot(&mut self) {
        let host = &mut self.broker;
        let Some(broker) = host.running.as_mut().filter(|_| host.slot.is_none()) else {
            return;
        };
        if let Some(slot) = broker.take_slot() {
            host.slot = Some(slot);
            host.slot_written = false;
            let write = Event::Broker(host.life, BrokerStep::Write);
            self.schedule.after(self.rng.broker.below(4), write);
        }
    }

    fn write_slot(&mut self) -> Result<(), String> {
        let host = &mut self.broker;
        let Some(slot) = &host.slot else {
            return Ok(());
        };
        host.disk.write_slot(slot).map_err(|error| error.to_string())?;
        host.slot_written = true;
        let sync = Event::Broker(host.life, BrokerStep::Sync);
        let wait = self.rng.broker.between(1, self.profile.sync_ms_max);
        self.schedule.after(wait, sync);
        Ok(())
    }

    fn sync_slot(&mut self) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.broker;
        let (Some(slot), Some(broker)) = (host.slot.take(), &mut host.running) else {
            return Ok(());
        };
        host.disk.sync(slot.file_no).map_err(|error| error.to_string())?;
        broker.slot_synced(slot.slot_no);
        self.next_slot();
        let mut effects = Vec::new();
        if let Some(broker) = &mut self.broker.running {
            broker.slot_durable(slot.slot_no, &mut effects);
        }
        self.trace.line(now, format_args!("broker slot {} durable", slot.slot_no));
        self.carry_out(effects)
    }
}

fn settings(keeps_bytes: Option<u64>) -> BrokerSettings {
    BrokerSettings {
        advertised_host: "broker.example".to_owned(),
        advertised_port: 9092,
        log_dir: String::new(),
        auto_create_topics: false,
        default_partitions: 1,
        replication_factor_max: 1,
        uplink_topics: BTreeSet::from([DEFAULT_TOPIC.to_owned()]),
        offsets_partitions: 1,
        groups: GroupSettings::default(),
        retention: RetentionDefaults { bytes: keeps_bytes, ..RetentionDefaults::default() },
    }
}

/// The client that a stream of a session is.
fn client(session: SessionNo, lane: Lane) -> ClientId {
    ClientId(session.0 * 2 + lane as u64)
}
