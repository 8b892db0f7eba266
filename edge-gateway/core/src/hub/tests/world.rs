//! Hub and connections with clients that publish and subscribe, through cuts and takeovers from a seed: what is promised
//! to QoS 1 and QoS 2 on the way from one client to another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use wire::time::MonoMs;

use super::client::{Client, Rng};
use crate::hub::{Effect, Entry, Hub, Place};
use crate::mqtt::{
    ConnectRefusal, Connection, Departure, Forward, Message, MqttLimits, Output, Publish, Qos,
};

const SEEDS: u64 = 300;
const STEPS: usize = 1_500;

/// One connection's end at the gateway.
struct Seat {
    client: usize,
    client_id: Arc<str>,
    connection: Connection,
    buf: BytesMut,
    to_client: VecDeque<u8>,
    /// With the store.
    publishes: VecDeque<Publish>,
    /// From the hub, on its way.
    mail: VecDeque<Forward>,
    admitted: bool,
    closed: bool,
}

struct World {
    rng: Rng,
    now: MonoMs,
    hub: Hub,
    clients: Vec<Client>,
    seats: BTreeMap<Place, Seat>,
    last_place: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clients = (0..5).map(Client::new).collect();
        let (rng, hub) = (Rng::new(seed), Hub::new(Vec::new()));
        Self { rng, now: MonoMs(0), hub, clients, seats: BTreeMap::new(), last_place: 0 }
    }

    fn connect(&mut self, client: usize) {
        self.last_place += 1;
        let place = Place(self.last_place);
        let connection = Connection::new(MqttLimits::default(), 1, self.now);
        let seat = Seat {
            client,
            client_id: "?".into(),
            connection,
            buf: BytesMut::new(),
            to_client: VecDeque::new(),
            publishes: VecDeque::new(),
            mail: VecDeque::new(),
            admitted: false,
            closed: false,
        };
        self.seats.insert(place, seat);
        self.clients[client].connect(place);
    }

    /// The network between a client and its connection is gone; what was parsed is stored all the same.
    fn cut(&mut self, place: Place) {
        let Some(seat) = self.seats.get(&place) else { return };
        let count = seat.publishes.len();
        self.commit(place, count);
        let Some(mut seat) = self.seats.remove(&place) else { return };
        self.clients[seat.client].cut(place);
        if seat.admitted {
            let state = seat.connection.take_session();
            let departure = seat.connection.departure();
            self.hub.leave(self.now, place, state, seat.mail.into(), departure);
        }
        self.perform();
    }

    fn commit(&mut self, place: Place, count: usize) {
        let Some(seat) = self.seats.get_mut(&place) else { return };
        let count = count.min(seat.publishes.len());
        seat.connection.committed(self.now, count);
        let committed: Vec<Publish> = seat.publishes.drain(..count).collect();
        for publish in &committed {
            let message = Message::new(publish, &seat.client_id, self.now);
            self.hub.publish(self.now, &Arc::new(message));
        }
        self.drive(place);
    }

    /// Lets a connection read and do, and the hub after it.
    fn drive(&mut self, place: Place) {
        if let Some(seat) = self.seats.get_mut(&place) {
            let mut buf = std::mem::take(&mut seat.buf);
            seat.connection.handle_input(self.now, &mut buf);
            seat.buf = buf;
            while let Some(output) = seat.connection.poll_output() {
                match output {
                    Output::Connect(request) => {
                        seat.client_id = Arc::clone(&request.client_id);
                        let entry = Entry {
                            client_id: request.client_id,
                            clean_start: request.clean_start,
                            session_expiry_s: request.session_expiry_s,
                            will: request.will,
                        };
                        self.hub.enter(self.now, place, entry);
                    }
                    Output::Publish(publish) => seat.publishes.push_back(publish),
                    Output::Subscribe(request) => self.hub.subscribe(self.now, place, request),
                    Output::Unsubscribe(request) => self.hub.unsubscribe(place, &request),
                    Output::Send(bytes) => seat.to_client.extend(&bytes),
                    Output::Close(_) => seat.closed = true,
                    Output::Dropped(_) | Output::Refused(_) => panic!("{output:?}"),
                }
            }
            if let Some(credit) = seat.connection.take_credit() {
                self.hub.credit(place, credit);
            }
        }
        self.perform();
    }

    fn perform(&mut self) {
        let mut touched = Vec::new();
        while let Some(effect) = self.hub.poll_effect() {
            let (Effect::Admit { place, .. }
            | Effect::Evict { place }
            | Effect::Forward { place, .. }
            | Effect::Subscribed { place, .. }
            | Effect::TurnAway { place }
            | Effect::Unsubscribed { place, .. }) = effect
            else {
                panic!("nobody has a will")
            };
            touched.push(place);
            let Some(seat) = self.seats.get_mut(&place) else {
                // It was waiting for its place, and is gone.
                match effect {
                    Effect::Admit { place, grant } => {
                        self.hub.leave(self.now, place, grant.state, Vec::new(), Departure::LOST);
                    }
                    Effect::TurnAway { .. } => {}
                    _ => panic!("{effect:?}"),
                }
                continue;
            };
            match effect {
                Effect::Admit { grant, .. } => {
                    seat.admitted = true;
                    seat.connection.accept_connect(self.now, grant);
                }
                Effect::Evict { .. } => seat.connection.taken_over(),
                Effect::Forward { forward, .. } => seat.mail.push_back(forward),
                Effect::Subscribed { packet_id, outcomes, .. } => {
                    seat.connection.subscribed(self.now, packet_id, &outcomes);
                }
                Effect::TurnAway { .. } => {
                    seat.connection.refuse_connect(ConnectRefusal::ServerUnavailable);
                }
                Effect::StoreWill { .. } | Effect::Unsubscribed { .. } => panic!("{effect:?}"),
            }
        }
        for place in touched {
            self.drive(place);
        }
    }

    /// Bytes of a client reach its connection, and the other way round.
    fn carry(&mut self, client: usize, len: usize) {
        let Some(place) = self.clients[client].place else { return };
        let Some(seat) = self.seats.get_mut(&place) else { return };
        let sent = self.clients[client].take_sent(len);
        seat.buf.extend_from_slice(&sent);
        self.drive(place);
        let Some(seat) = self.seats.get_mut(&place) else { return };
        let len = len.min(seat.to_client.len());
        let received: Vec<u8> = seat.to_client.drain(..len).collect();
        self.clients[client].receive(&received);
    }

    /// Connections that are closed and have nothing more to say are gone.
    fn sweep(&mut self) {
        let done = |seat: &Seat| seat.closed && seat.publishes.is_empty();
        let gone: Vec<Place> =
            self.seats.iter().filter(|(_, seat)| done(seat)).map(|(place, _)| *place).collect();
        gone.into_iter().for_each(|place| self.cut(place));
    }

    fn step(&mut self) {
        self.now = self.now + 1;
        let client = self.rng.below(self.clients.len());
        let places: Vec<Place> = self.seats.keys().copied().collect();
        let place = places.get(self.rng.below(places.len().max(1))).copied();
        match (self.rng.below(100), place) {
            (0..20, _) => self.clients[client].publish(&mut self.rng),
            (20..55, _) => {
                let len = 1 + self.rng.below(60);
                self.carry(client, len);
            }
            (55..70, Some(place)) => {
                let count = self.rng.below(4);
                self.commit(place, count);
            }
            (70..90, Some(place)) => self.fill(place),
            (90..93, Some(place)) => self.cut(place),
            (93..95, _) => self.connect(client),
            _ if self.clients[client].place.is_none() => self.connect(client),
            _ => self.sweep(),
        }
    }

    fn fill(&mut self, place: Place) {
        let room = self.rng.below(200);
        if let Some(seat) = self.seats.get_mut(&place) {
            seat.mail.drain(..).for_each(|forward| seat.connection.forward(forward));
            seat.connection.fill(self.now, room);
        }
        self.drive(place);
    }

    /// No more faults: everything must arrive.
    fn settle(&mut self) {
        for client in 0..self.clients.len() {
            self.connect(client);
        }
        for _ in 0..200 {
            self.sweep();
            for place in self.seats.keys().copied().collect::<Vec<_>>() {
                self.commit(place, usize::MAX);
                self.fill(place);
            }
            for client in 0..self.clients.len() {
                if self.clients[client].place.is_none() {
                    self.connect(client);
                }
                self.carry(client, 4_096);
            }
        }
    }
}

#[test]
fn qos_1_arrives_and_qos_2_arrives_once_in_order_through_everything() {
    let mut messages = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        // Everybody is subscribed before anybody publishes.
        (0..world.clients.len()).for_each(|client| world.connect(client));
        for _ in 0..20 {
            (0..world.clients.len()).for_each(|client| world.carry(client, 4_096));
        }
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        for subscriber in world.clients.iter().filter(|client| client.subscribes().is_some()) {
            for publisher in &world.clients {
                let got = subscriber.got_from(publisher);
                let sent = publisher.published();
                let exact = subscriber.subscribes() == Some(Qos::ExactlyOnce);
                check(&got, sent, exact, &format!("seed {seed}, {subscriber:?} of {publisher:?}"));
                messages += got.len();
            }
        }
        let status = world.hub.status();
        assert_eq!((status.queued, status.queued_bytes), (0, 0), "seed {seed}");
        assert!(status.counters.dropped.is_empty(), "seed {seed}: {status:?}");
    }
    assert!(messages > 100_000, "{messages}");
}

/// Messages of one topic and quality of service, by number: nothing is missing; those of QoS 2 came once if the
/// subscription has it too, and in order; copies of the others came in the order of the first.
fn check(got: &[(Qos, u64)], sent: &[Qos], exact: bool, who: &str) {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let numbers: Vec<u64> = got.iter().filter(|(q, _)| *q == qos).map(|(_, n)| *n).collect();
        let expected: Vec<u64> =
            (0..).zip(sent).filter(|(_, q)| **q == qos).map(|(n, _)| n).collect();
        let mut firsts = Vec::new();
        for number in &numbers {
            if !firsts.contains(number) {
                firsts.push(*number);
            }
        }
        assert_eq!(firsts, expected, "{who}: {qos:?}");
        if exact && qos == Qos::ExactlyOnce {
            assert_eq!(numbers, expected, "{who}: twice");
        }
    }
}
