//! An MQTT client of the tests' own: as little of the protocol as publishes and subscriptions of QoS 1 and 2 need.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::hub::Place;
use crate::mqtt::Qos;

/// Publishes that a client has under way at a time.
const UNDER_WAY_MAX: usize = 12;

/// A small generator (xorshift64*): the test must be the same everywhere, for ever.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap() % bound
    }
}

/// A publish under way.
struct Sent {
    id: u16,
    qos: Qos,
    number: u64,
    released: bool,
}

/// A client with a session that it comes back to.
pub(super) struct Client {
    number: usize,
    /// Its connection, as the gateway names it.
    pub(super) place: Option<Place>,
    connected: bool,
    to_server: VecDeque<u8>,
    received: Vec<u8>,
    last_id: u16,
    under_way: Vec<Sent>,
    /// Everything that it has published, by number.
    published: Vec<Qos>,
    /// Packet identifiers of QoS 2 publishes that it has and that are not released.
    held: BTreeSet<u16>,
    /// What it got, by the client that published it.
    got: BTreeMap<usize, Vec<(Qos, u64)>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.number)
    }
}

impl Client {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            place: None,
            connected: false,
            to_server: VecDeque::new(),
            received: Vec::new(),
            last_id: 0,
            under_way: Vec::new(),
            published: Vec::new(),
            held: BTreeSet::new(),
            got: BTreeMap::new(),
        }
    }

    /// The quality of service of its subscription, if it has one.
    pub(super) fn subscribes(&self) -> Option<Qos> {
        match self.number {
            0 => Some(Qos::ExactlyOnce),
            1 => Some(Qos::AtLeastOnce),
            2 => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }

    fn is_v5(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    pub(super) fn published(&self) -> &[Qos] {
        &self.published
    }

    pub(super) fn got_from(&self, publisher: &Self) -> Vec<(Qos, u64)> {
        self.got.get(&publisher.number).cloned().unwrap_or_default()
    }

    pub(super) fn connect(&mut self, place: Place) {
        self.place = Some(place);
        self.connected = false;
        self.to_server.clear();
        self.received.clear();
        let mut body = b"\0\x04MQTT".to_vec();
        if self.is_v5() {
            // Session expiry an hour, receive maximum 3.
            body.extend([5, 0, 0, 0, 8, 0x11, 0, 0, 0x0e, 0x10, 0x21, 0, 3]);
        } else {
            body.extend([4, 0, 0, 0]);
        }
        body.extend([0, 1, b'0' + u8::try_from(self.number).unwrap()]);
        self.send(0x10, &body);
    }

    pub(super) fn cut(&mut self, place: Place) {
        if self.place == Some(place) {
            self.place = None;
            self.connected = false;
        }
    }

    pub(super) fn publish(&mut self, rng: &mut Rng) {
        if !self.connected || self.under_way.len() >= UNDER_WAY_MAX {
            return;
        }
        let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce][rng.below(2)];
        loop {
            self.last_id = self.last_id % 50 + 1;
            if !self.under_way.iter().any(|sent| sent.id == self.last_id) {
                break;
            }
        }
        let sent =
            Sent { id: self.last_id, qos, number: self.published.len() as u64, released: false };
        self.published.push(qos);
        self.send_publish(&sent, 0);
        self.under_way.push(sent);
    }

    pub(super) fn take_sent(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.to_server.len());
        self.to_server.drain(..len).collect()
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
        // No packet of this test is longer than 127 bytes.
        while let [first, len, ..] = self.received[..] {
            let end = 2 + usize::from(len);
            if self.received.len() < end {
                return;
            }
            let body: Vec<u8> = self.received.drain(..end).skip(2).collect();
            self.handle(first, &body);
        }
    }

    fn handle(&mut self, first: u8, body: &[u8]) {
        let id = u16::from_be_bytes([body[0], body[1]]);
        match first >> 4 {
            2 if body[1] == 0 => self.connected(body[0] == 1),
            // Turned away, or told to go: the connection ends.
            2 | 14 => {}
            3 => self.got_publish(first, body),
            4 => self.under_way.retain(|sent| sent.id != id),
            5 => {
                for sent in &mut self.under_way {
                    sent.released |= sent.id == id;
                }
                self.send(0x62, &id.to_be_bytes());
            }
            6 => {
                self.held.remove(&id);
                self.send(0x70, &id.to_be_bytes());
            }
            7 => self.under_way.retain(|sent| sent.id != id),
            9 => assert_eq!(Some(body[body.len() - 1]), self.subscribes().map(|qos| qos as u8)),
            _ => panic!("{first:x} {body:x?}"),
        }
    }

    fn connected(&mut self, session_present: bool) {
        self.connected = true;
        if !session_present {
            assert!(self.published.is_empty(), "the session is lost");
            if let Some(qos) = self.subscribes() {
                let props: &[u8] = if self.is_v5() { &[0] } else { &[] };
                self.send(0x82, &[&[0, 99], props, &[0, 1, b'+', qos as u8]].concat());
            }
        }
        for sent in std::mem::take(&mut self.under_way) {
            if sent.released {
                self.send(0x62, &sent.id.to_be_bytes());
            } else {
                self.send_publish(&sent, 0x08);
            }
            self.under_way.push(sent);
        }
    }

    fn got_publish(&mut self, first: u8, body: &[u8]) {
        let qos = first >> 1 & 3;
        // The topic is one byte: the publisher.
        let publisher = usize::from(body[2] - b'0');
        let id = u16::from_be_bytes([body[3], body[4]]);
        let payload = if self.is_v5() { &body[6..] } else { &body[5..] };
        let payload = std::str::from_utf8(payload).unwrap();
        let (published, number) = payload.split_once(' ').unwrap();
        let published = if published == "1" { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
        let is_new = qos == 1 || self.held.insert(id);
        if is_new {
            let got = self.got.entry(publisher).or_default();
            got.push((published, number.parse().unwrap()));
        }
        self.send(if qos == 1 { 0x40 } else { 0x50 }, &id.to_be_bytes());
    }

    fn send_publish(&mut self, sent: &Sent, dup: u8) {
        let (qos, id) = (sent.qos as u8, sent.id.to_be_bytes());
        let topic = b'0' + u8::try_from(self.number).unwrap();
        let props: &[u8] = if self.is_v5() { &[0] } else { &[] };
        let payload = format!("{qos} {}", sent.number);
        let body = [&[0, 1, topic], &id[..], props, payload.as_bytes()].concat();
        self.send(0x30 | dup | qos << 1, &body);
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        self.to_server.extend([first, u8::try_from(body.len()).unwrap()]);
        self.to_server.extend(body);
    }
}
