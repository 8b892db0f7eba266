//! Bytes at random, packets gone wrong, and streams cut anywhere. Every failure prints its seed.

use std::collections::{BTreeSet, VecDeque};

use bytes::BytesMut;
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use super::forwarding::forward;
use super::rig::{
    Rig, V5, V311, answer, connect, connect_with, packet, properties, publish_with, publish0,
    publish1, string, user,
};
use crate::mqtt::{Connection, MqttLimits, MqttVersion, Output, Qos, RejectReason};

/// Connections per test; each lives through several inputs.
pub(super) const ROUNDS: u64 = 100_000;

/// A small generator (xorshift64*): the test must be the same everywhere, for ever.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Plays the shell's part and checks what must hold whatever comes in.
struct Shell {
    connection: Connection,
    buf: BytesMut,
    /// First byte of the acknowledgement (0 for QoS 0) and packet identifier of publishes that have no answer yet.
    pending: VecDeque<(u8, u16)>,
    /// Acknowledgements of success that may leave, in their order.
    owed: VecDeque<(u8, u16)>,
    /// Packet identifiers of QoS 2 publishes that were committed: their PUBREC may leave again.
    durable: BTreeSet<u16>,
    closed: bool,
}

impl Shell {
    fn new() -> Self {
        Self {
            connection: Connection::new(MqttLimits::default(), 1, MonoMs(0)),
            buf: BytesMut::new(),
            pending: VecDeque::new(),
            owed: VecDeque::new(),
            durable: BTreeSet::new(),
            closed: false,
        }
    }

    fn input(&mut self, now: u64, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        loop {
            self.connection.handle_input(MonoMs(now), &mut self.buf);
            let mut asked = false;
            while let Some(output) = self.connection.poll_output() {
                asked |= matches!(
                    output,
                    Output::Connect(_) | Output::Subscribe(_) | Output::Unsubscribe(_)
                );
                self.take(&output);
                answer(&mut self.connection, MonoMs(now), &output);
            }
            if !asked {
                break;
            }
        }
    }

    fn take(&mut self, output: &Output) {
        assert!(!self.closed, "an output after the close: {output:?}");
        match output {
            Output::Publish(publish) => {
                let id = publish.delivery.packet_id().map_or(0, std::num::NonZero::get);
                let first = match publish.delivery.qos() {
                    Qos::AtMostOnce => 0,
                    Qos::AtLeastOnce => 0x40,
                    Qos::ExactlyOnce => 0x50,
                };
                self.pending.push_back((first, id));
                assert!(!publish.topic.as_str().is_empty());
                assert!(!publish.topic.as_str().contains(['+', '#', '\0']));
            }
            Output::Send(bytes) => self.check_acknowledgements(bytes),
            Output::Close(_) => self.closed = true,
            Output::Connect(_)
            | Output::Dropped(_)
            | Output::Refused(_)
            | Output::Subscribe(_)
            | Output::Unsubscribe(_) => {}
        }
    }

    /// Every PUBACK and PUBREC of success must be owed, and the oldest of those; a PUBREC may be said again.
    fn check_acknowledgements(&mut self, mut bytes: &[u8]) {
        while let [first, len, rest @ ..] = bytes {
            if let (0x40 | 0x50, 2, [high, low, ..]) = (*first, *len, rest) {
                let id = u16::from_be_bytes([*high, *low]);
                if self.owed.front() == Some(&(*first, id)) {
                    self.owed.pop_front();
                } else {
                    let again = *first == 0x50 && self.durable.contains(&id);
                    assert!(again, "an acknowledgement without a commit");
                }
            }
            let Some(next) = rest.get(usize::from(*len)..) else {
                break;
            };
            bytes = next;
        }
    }

    /// Somebody publishes what this client subscribed to.
    fn forward(&mut self, now: u64, random: &mut Random) {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][random.below(3)];
        for _ in 0..random.below(4) {
            self.connection.forward(forward(qos, "x"));
        }
        self.connection.fill(MonoMs(now), random.below(64));
        self.input(now, &[]);
    }

    fn answer(&mut self, now: u64, random: &mut Random) {
        let count = random.below(self.pending.len() + 1);
        let committed = self.pending.drain(..count).filter(|(first, _)| *first != 0);
        self.owed.extend(committed);
        self.durable.extend(self.owed.iter().filter(|(first, _)| *first == 0x50).map(|(_, id)| id));
        self.connection.committed(MonoMs(now), count);
        if !self.pending.is_empty() && random.below(20) == 0 {
            let sequence =
                RejectReason::DeviceSequence { expected: DeviceSeq(1), first: DeviceSeq(2) };
            self.connection.rejected(if random.below(2) == 0 {
                RejectReason::Full
            } else {
                sequence
            });
            self.pending.clear();
        }
        self.input(now, &[]);
        assert!(self.closed || self.owed.is_empty(), "committed and not acknowledged");
    }
}

fn corpus(version: MqttVersion) -> Vec<Vec<u8>> {
    let props: &[u8] = if version == V5 { &[0] } else { &[] };
    let mut packets = vec![
        publish0(version, "a/b", b"x"),
        publish1(version, 7, "a/b", b"some payload"),
        publish1(version, 8, "$SYS/x", b""),
        packet(0x34, &[&string("q"), &[0, 1], props, b"2"]),
        packet(0x82, &[&[0, 9], props, &string("$share/g/a/+/#"), &[1], &string("b"), &[0]]),
        packet(0xa2, &[&[0, 9], props, &string("a/#")]),
        packet(0x62, &[&[0, 3]]),
        packet(0x40, &[&[0, 3]]),
        packet(0x50, &[&[0, 1]]),
        packet(0x70, &[&[0, 1]]),
        packet(0x62, &[&[0, 1]]),
        vec![0xc0, 0],
        vec![0xd0, 0],
        vec![0xe0, 0],
        connect(version),
    ];
    if version == V5 {
        let numbered = [user("cv-queue", "1"), user("cv-seq", "2"), user("cv-lost", "1")].concat();
        let flagged = user("cv-maybe-dup", "1");
        packets.extend([
            publish_with(9, &[&[0x01, 1, 0x02, 0, 0, 0, 9, 0x23, 0, 3], &user("k", "v")]),
            publish_with(10, &[&numbered, &flagged]),
            packet(0x32, &[&string(""), &[0, 11], &properties(&[&[0x23, 0, 3]]), b"x"]),
            packet(0x40, &[&[0, 3, 0x97], &properties(&[&[0x1f, 0, 1, b'x']])]),
            packet(0xe0, &[&[4], &properties(&[&[0x11, 0, 0, 0, 0], &user("a", "b")])]),
            packet(0xf0, &[&[0x18], &properties(&[&[0x15, 0, 1, b'x']])]),
        ]);
    }
    packets
}

fn openers(version: MqttVersion) -> Vec<Vec<u8>> {
    let all = [string("id"), string("user"), string("secret")].concat();
    let will = [string("id"), string("t"), string("bye")].concat();
    let will5 = [string("id"), vec![0], string("t"), string("bye")].concat();
    let will = if version == V5 { will5 } else { will };
    let rich: &[u8] = &[0x11, 0, 0, 0, 1, 0x21, 0, 5, 0x27, 0, 0, 1, 0, 0x22, 0, 1, 0x17, 0];
    vec![
        connect(version),
        connect_with(version, 0b1100_0010, 30, &[rich, &user("a", "b")], &[&all]),
        connect_with(version, 0b0011_0110, 30, &[], &[&will]),
    ]
}

pub(super) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.byte(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at.min(bytes.len()), random.byte()),
            4 if bytes.len() > 1 => {
                bytes.remove(at);
            }
            _ => bytes.extend_from_within(at.min(bytes.len())..),
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let version = if seed % 2 == 0 { V311 } else { V5 };
        let mut shell = Shell::new();
        if seed % 4 < 3 {
            shell.input(0, &connect(version));
        }
        for now in 0..3 {
            let len = random.below(48);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.byte()).collect();
            // A plausible fixed header lets the rest be looked at.
            if len > 2 && random.below(4) > 0 {
                bytes[1] = u8::try_from(len - 2).unwrap();
            }
            shell.input(now, &bytes);
            shell.answer(now, &mut random);
        }
        assert!(shell.buf.len() < 48 * 4, "seed {seed}");
    }
}

#[test]
fn packets_gone_wrong_do_no_harm() {
    let packets = [V311, V5].map(corpus);
    let openers = [V311, V5].map(openers);
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let version = random.below(2);
        let mut shell = Shell::new();
        // Most connections are opened, so that there is something to go wrong later.
        let mut opener = openers[version][random.below(2)].clone();
        if random.below(8) == 0 {
            opener = openers[version][random.below(openers[version].len())].clone();
            mutate(&mut random, &mut opener);
        }
        shell.input(0, &opener);
        for now in 1..9 {
            // Half of them publish: the other packets mostly end the connection.
            let choice = random.below(packets[version].len());
            let choice = if random.below(2) == 0 { choice % 3 } else { choice };
            let mut bytes = packets[version][choice].clone();
            if random.below(3) == 0 {
                mutate(&mut random, &mut bytes);
            }
            shell.input(now, &bytes);
            match random.below(6) {
                0 | 1 => shell.answer(now, &mut random),
                2 => shell.forward(now, &mut random),
                _ => {}
            }
        }
        shell.connection.handle_timeout(MonoMs(u64::MAX));
        shell.connection.shutdown();
        shell.input(9, &[]);
        // What is unanswered is still answered before the connection closes.
        for _ in 0..ROUNDS {
            if shell.closed {
                break;
            }
            shell.answer(9, &mut random);
        }
        assert!(shell.closed && shell.buf.is_empty(), "seed {seed}");
    }
}

/// Outputs with what is sent joined, since packets may be sent one by one or together.
fn joined(outputs: Vec<Output>) -> (Vec<Output>, Vec<u8>) {
    let mut sent = Vec::new();
    let mut others = Vec::new();
    for output in outputs {
        match output {
            Output::Send(bytes) => sent.extend_from_slice(&bytes),
            other => others.push(other),
        }
    }
    (others, sent)
}

#[test]
fn streams_may_be_cut_anywhere() {
    for version in [V311, V5] {
        let mut streams: Vec<Vec<u8>> = corpus(version)
            .into_iter()
            .map(|last| {
                let first = [connect(version), publish1(version, 1, "t", b"first"), vec![0xc0, 0]];
                [first.concat(), last, publish0(version, "t", b"after")].concat()
            })
            .collect();
        streams.extend(openers(version).into_iter().map(|first| [first, vec![0xc0, 0]].concat()));
        let mut random = Random::new(42);
        for _ in 0..200 {
            let mut stream = streams[random.below(streams.len())].clone();
            mutate(&mut random, &mut stream);
            streams.push(stream);
        }
        for stream in streams {
            let whole = joined(Rig::new(version).feed_raw(&stream));
            let mut rig = Rig::new(version);
            let bytewise = stream.iter().flat_map(|byte| rig.feed_raw(&[*byte])).collect();
            assert_eq!(joined(bytewise), whole, "byte by byte: {stream:x?}");
            for at in 1..stream.len() {
                let mut rig = Rig::new(version);
                let mut outputs = rig.feed_raw(&stream[..at]);
                outputs.extend(rig.feed_raw(&stream[at..]));
                assert_eq!(joined(outputs), whole, "cut at {at}: {stream:x?}");
            }
        }
    }
}
