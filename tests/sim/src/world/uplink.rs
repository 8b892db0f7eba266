//! Uplink sessions: frames as bytes, between the gateways' core and the broker's, and whoever delivers them again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gateway_core::gateway::{Outgoing, SessionId, UplinkEvent, WelcomeFacts};
use gateway_core::routing;
use wire::ids::{GatewayId, Lane, ProducerId, SpoolId, Tag};
use wire::uplink::{Append, Frame, Hello, LENGTH_BYTES, StreamKey, VERSION};

use crate::describe::describe;
use crate::event::{BrokerStep, Event, FrameNo, GatewayStep, LateAnswer, Life, SessionNo};
use crate::pipe::Pipe;
use crate::world::World;

/// A broker that does not answer HELLO within this time is not there.
const HANDSHAKE_MS: u64 = 4_000;

/// A dead session is noticed within this time: frames without an answer end it.
const STALL_MS_MAX: u64 = 10_000;

/// Frames that one ghost delivers again.
const GHOST_FRAMES_MAX: u64 = 24;

/// An answer may come again after so long.
const LATE_MS_MAX: u64 = 20_000;

/// A connection between a gateway and the broker: a stream for the handshake and the control lane, one for data.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) gateway: usize,
    pub(super) broker_life: Life,
    spool: SpoolId,
    /// Nobody's session: an adversary delivers old frames in it.
    ghost: bool,
    up: [Pipe; Lane::ALL.len()],
    down: [Pipe; Lane::ALL.len()],
    /// Answers that came by another way already: a session answers a frame once.
    overtaken: BTreeSet<FrameNo>,
    pub(super) tokens: u64,
}

/// How often each batch was sent in a session without an answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered(BTreeMap<Tag, usize>);

impl Unanswered {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn sent(&mut self, tag: Tag) {
        *self.0.entry(tag).or_default() += 1;
    }

    fn answered(&mut self, tag: Tag) {
        if let Some(times) = self.0.get_mut(&tag) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&tag);
            }
        }
    }

    fn times(&self, tag: Tag) -> usize {
        self.0.get(&tag).copied().unwrap_or(0)
    }
}

/// Every frame that ever went up, by the spool that sent it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    hellos: BTreeMap<SpoolId, Bytes>,
    appends: BTreeMap<SpoolId, Vec<Bytes>>,
}

impl World<'_> {
    /// Tries to open a session.
    pub(super) fn dial(&mut self, number: usize) {
        let host = &self.gateways[number];
        let Some(gateway) = host.running.as_ref().filter(|_| host.session.is_none()) else {
            return;
        };
        if !host.uplink_up || !self.broker.is_up() {
            self.dial_later(number, HANDSHAKE_MS / 4);
            return;
        }
        let (spool, streams) = (gateway.spool(), gateway.hello_streams());
        let hello = hello(&host.identity, spool, streams);
        let life = host.life();
        let session = self.open_session(number, spool, false);
        self.gateways[number].session = Some(session);
        self.archive.hellos.insert(spool, hello.clone());
        self.send_frame_up(session, Lane::Control, hello);
        let over = GatewayStep::HandshakeOver(session);
        self.schedule.after(HANDSHAKE_MS, Event::Gateway(number, life, over));
    }

    fn open_session(&mut self, gateway: usize, spool: SpoolId, ghost: bool) -> SessionNo {
        let session = SessionNo(self.next_number());
        let broker_life = self.broker.life();
        let (up, down, overtaken) = Default::default();
        let opened = Session { gateway, broker_life, spool, ghost, up, down, overtaken, tokens: 0 };
        self.sessions.insert(session, opened);
        session
    }

    pub(super) fn dial_later(&mut self, number: usize, more_ms: u64) {
        let host = &mut self.gateways[number];
        let random = self.rng.gateways.number();
        let wait = host.backoff.failed(random) + self.rng.network.below(more_ms + 1);
        self.schedule.after(wait, Event::Gateway(number, host.life(), GatewayStep::Dial));
    }

    pub(super) fn handshake_over(&mut self, number: usize, session: SessionNo) {
        let host = &self.gateways[number];
        let connecting = host.session == Some(session) && !host.opened;
        if connecting {
            self.session_lost(number, session);
        }
    }

    /// The gateway gives a session up.
    pub(super) fn session_lost(&mut self, number: usize, session: SessionNo) {
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        if host.session != Some(session) {
            return;
        }
        self.trace.line(now, format_args!("gw{number} session over"));
        host.session = None;
        host.opened = false;
        host.unanswered.clear();
        host.proved = false;
        let clock = host.clock.now(now);
        if let Some(gateway) = &mut host.running {
            gateway.handle_uplink(clock, UplinkEvent::Closed(SessionId(session.0)));
        }
        self.abandon_session(session);
        self.dial_later(number, 0);
    }

    /// A connection is dead for its gateway; the broker notices later.
    pub(super) fn abandon_session(&mut self, number: SessionNo) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        for pipe in &mut session.up {
            pipe.cut(&mut self.rng.network);
        }
        for pipe in &mut session.down {
            pipe.close();
        }
        let gone = Event::Broker(session.broker_life, BrokerStep::SessionGone(number));
        self.schedule.after(self.rng.network.below(STALL_MS_MAX), gone);
    }

    /// A connection breaks; both ends notice some time.
    pub(super) fn cut_session(&mut self, number: SessionNo) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        for pipe in session.up.iter_mut().chain(&mut session.down) {
            pipe.cut(&mut self.rng.network);
        }
        let host = &self.gateways[session.gateway];
        let lost = GatewayStep::SessionLost(number);
        let lost = Event::Gateway(session.gateway, host.life(), lost);
        self.schedule.after(self.rng.network.below(STALL_MS_MAX), lost);
        let gone = Event::Broker(session.broker_life, BrokerStep::SessionGone(number));
        self.schedule.after(self.rng.network.below(STALL_MS_MAX), gone);
    }

    /// Builds and sends what the core gives out.
    pub(super) fn send_batches(&mut self, number: usize) -> Result<(), String> {
        loop {
            let now = self.schedule.now();
            let host = &mut self.gateways[number];
            let (Some(session), Some(gateway)) = (host.session, &mut host.running) else {
                return Ok(());
            };
            let clock = host.clock.mono(now);
            let taken = gateway.take_batch(clock);
            let Some(outgoing) = taken.map_err(|error| format!("gw{number}: {error}"))? else {
                return Ok(());
            };
            let lane = outgoing.batch.lane;
            if lane == Lane::Live && !host.proved {
                return Err(format!("gw{number} sends data before its session record is stored"));
            }
            host.unanswered.sent(outgoing.batch.tag);
            let spool = gateway.spool();
            let frame = append(&outgoing, &host.identity)
                .map_err(|error| format!("gw{number} cannot build a batch: {error}"))?;
            self.archive.appends.entry(spool).or_default().push(frame.clone());
            self.send_frame_up(session, lane, frame);
        }
    }

    fn send_frame_up(&mut self, number: SessionNo, lane: Lane, frame: Bytes) {
        let (now, latency) = (self.schedule.now(), self.rng.network.between(5, 120));
        if let Some(session) = self.sessions.get_mut(&number)
            && let Some((at, count)) = session.up[lane as usize].send(now, latency)
        {
            let event = Event::FrameUp { session: number, lane, number: count, frame };
            self.schedule.at(at, event);
        }
    }

    /// The broker answers in a session.
    pub(super) fn send_frame_down(&mut self, number: SessionNo, lane: Lane, frame: Bytes) {
        let (now, latency) = (self.schedule.now(), self.rng.network.between(5, 120));
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        let (gateway, spool) = (session.gateway, session.spool);
        if self.rng.adversary.chance(self.profile.late_answers) {
            let answer = LateAnswer { gateway, spool, overtakes: None };
            let late = Event::LateAnswer { answer, frame: frame.clone() };
            self.schedule.after(self.rng.adversary.below(LATE_MS_MAX), late);
        }
        if !session.ghost
            && let Some((at, count)) = session.down[lane as usize].send(now, latency)
        {
            if self.rng.adversary.chance(self.profile.late_answers) {
                let overtakes = Some(FrameNo { session: number, lane, number: count });
                let answer = LateAnswer { gateway, spool, overtakes };
                let early = Event::LateAnswer { answer, frame: frame.clone() };
                self.schedule.after(self.rng.adversary.below(at - now), early);
            }
            let event = Event::FrameDown { session: number, lane, number: count, frame };
            self.schedule.at(at, event);
        }
    }

    /// A frame arrives at the broker.
    pub(super) fn frame_up(
        &mut self,
        number: SessionNo,
        lane: Lane,
        count: u64,
        frame: &Bytes,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&number) else {
            return Ok(());
        };
        if !session.up[lane as usize].arrives(count) || session.broker_life != self.broker.life() {
            return Ok(());
        }
        session.tokens += 1;
        let token = session.tokens;
        let gateway = session.gateway;
        let body = frame.slice(LENGTH_BYTES..);
        let text = Frame::decode(&body).map(|frame| describe(&frame));
        let text = text.map_err(|error| format!("a frame was damaged: {error}"))?;
        self.trace.line(self.schedule.now(), format_args!("broker <- gw{gateway} {text}"));
        let identity = self.gateways[gateway].identity.clone();
        self.broker_takes((number, lane, token), identity, &body)
    }

    /// A frame arrives at its gateway.
    pub(super) fn frame_down(
        &mut self,
        number: SessionNo,
        lane: Lane,
        count: u64,
        frame: &Bytes,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&number) else {
            return Ok(());
        };
        let gateway = session.gateway;
        let frame_no = FrameNo { session: number, lane, number: count };
        if !session.down[lane as usize].arrives(count)
            || session.overtaken.remove(&frame_no)
            || self.gateways[gateway].session != Some(number)
        {
            return Ok(());
        }
        let body = frame.slice(LENGTH_BYTES..);
        let frame = Frame::decode(&body).map_err(|error| format!("damaged: {error}"))?;
        let now = self.schedule.now();
        self.trace.line(now, format_args!("gw{gateway} <- {}", describe(&frame)));
        self.gateway_takes(gateway, number, frame)?;
        self.pump_gateway(gateway)
    }

    fn gateway_takes(
        &mut self,
        number: usize,
        session: SessionNo,
        frame: Frame<'_>,
    ) -> Result<(), String> {
        let event = match frame {
            Frame::Welcome(welcome) => {
                let (topics, states) = (&welcome.topics, &welcome.states);
                let facts = WelcomeFacts::new(topics, states, welcome.frames_in_flight);
                let facts = facts.ok_or("WELCOME lacks a topic")?;
                self.gateways[number].opened = true;
                UplinkEvent::Opened(SessionId(session.0), facts)
            }
            Frame::State(state) => {
                let host = &mut self.gateways[number];
                host.unanswered.answered(state.answers);
                self.note_proof(number, state.stream);
                UplinkEvent::State(state)
            }
            Frame::Refused(refused) => {
                self.gateways[number].unanswered.answered(refused.state.answers);
                UplinkEvent::Refused {
                    state: refused.state,
                    code: refused.code,
                    permanent: refused.permanent,
                    detail: refused.detail.to_owned(),
                }
            }
            Frame::Goodbye(..) => {
                self.session_lost(number, session);
                return Ok(());
            }
            frame @ (Frame::Hello(_) | Frame::Append(_) | Frame::NotOwner(_) | Frame::Reset(_)) => {
                return Err(format!("unexpected {}", describe(&frame)));
            }
        };
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let clock = host.clock.now(now);
        if let Some(gateway) = &mut host.running {
            gateway.handle_uplink(clock, event);
        }
        Ok(())
    }

    /// An answer for the control lane: from now on data may flow, if the core finds it a proof.
    fn note_proof(&mut self, number: usize, stream: StreamKey) {
        let host = &mut self.gateways[number];
        if let Some(spool) = host.spool() {
            let control = ProducerId::of_lane(&host.identity, spool, Lane::Control);
            host.proved |= host.opened && stream.pid == control;
        }
    }

    /// "From any connection, however late": but what answers a frame that the open session has sent again is kept away,
    /// as the shell does by giving up the streams of a session with it (docs/decisions/0012). So is what would overtake
    /// another answer to the same frame: they come in one stream.
    pub(super) fn late_answer(&mut self, answer: LateAnswer, frame: &Bytes) -> Result<(), String> {
        let LateAnswer { gateway: number, spool, overtakes } = answer;
        let body = frame.slice(LENGTH_BYTES..);
        let Ok(Frame::State(state)) = Frame::decode(&body) else {
            return Ok(());
        };
        let now = self.schedule.now();
        let host = &mut self.gateways[number];
        let own = overtakes.filter(|original| host.session == Some(original.session));
        let confuses = match (own, host.unanswered.times(state.answers)) {
            (None, 0) | (Some(_), 0 | 1) => false,
            (None, 1..) | (Some(_), 2..) => true,
        };
        if host.spool() != Some(spool) || confuses {
            return Ok(());
        }
        host.unanswered.answered(state.answers);
        if let Some(original) = own
            && let Some(session) = self.sessions.get_mut(&original.session)
        {
            session.overtaken.insert(original);
        }
        let text = describe(&Frame::State(state));
        self.trace.line(now, format_args!("gw{number} <- late {text}"));
        self.note_proof(number, state.stream);
        let host = &mut self.gateways[number];
        let clock = host.clock.now(now);
        if let Some(gateway) = &mut host.running {
            gateway.handle_uplink(clock, UplinkEvent::State(state));
        }
        self.pump_gateway(number)
    }

    /// Frames that were sent some time come to the broker once more, in any order.
    pub(super) fn ghost(&mut self, number: usize) {
        let spools: Vec<SpoolId> = self.archive.hellos.keys().copied().collect();
        if spools.is_empty() || !self.broker.is_up() {
            return;
        }
        let spool = spools[self.rng.adversary.place(spools.len())];
        let Some(hello) = self.archive.hellos.get(&spool).cloned() else {
            return;
        };
        // Under the certificate that the frames came with.
        let Ok(Frame::Hello(said)) = Frame::decode(&hello[LENGTH_BYTES..]) else {
            return;
        };
        let owner = self.gateways.iter().position(|host| host.identity.as_str() == said.gateway);
        let session = self.open_session(owner.unwrap_or(number), spool, true);
        self.send_frame_up(session, Lane::Control, hello.clone());
        let frames = self.archive.appends.get(&spool).cloned().unwrap_or_default();
        if frames.is_empty() {
            return;
        }
        let newest = self.rng.adversary.chance(50);
        for _ in 0..self.rng.adversary.between(1, GHOST_FRAMES_MAX) {
            // Half of the ghosts deliver what was sent last: that is what may still fit.
            let back = if newest { frames.len().min(12) } else { frames.len() };
            let at = frames.len() - 1 - self.rng.adversary.place(back);
            self.send_frame_up(session, Lane::Control, frames[at].clone());
        }
    }
}

fn hello(identity: &GatewayId, spool: SpoolId, streams: Vec<StreamKey>) -> Bytes {
    let hello = Frame::Hello(Hello {
        version_min: VERSION,
        version_max: VERSION,
        gateway: identity.as_str(),
        spool,
        topics: routing::topics(),
        streams,
    });
    Bytes::from(hello.encode().expect("a few names and streams are far below a frame's limit"))
}

fn append(outgoing: &Outgoing, identity: &GatewayId) -> Result<Bytes, String> {
    let batch = &outgoing.batch;
    let records = outgoing.rows.build(batch, identity).map_err(|error| error.to_string())?;
    let frame = Frame::Append(Append {
        stream: batch.stream,
        epoch: batch.epoch,
        base: batch.base,
        count: batch.count,
        prev_tag: batch.prev_tag,
        tag: batch.tag,
        batch: &records,
    });
    frame.encode().map(Bytes::from).map_err(|error| error.to_string())
}
