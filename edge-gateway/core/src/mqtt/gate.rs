//! The gate: the one place where a PUBACK or PUBREC of success is made, and it takes a commit to make one (DESIGN,
//! promise 1).
//!
//! Publishes wait here in the order they came. What leaves, leaves in that order, refusals included [MQTT-4.6.0-2].

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};

use super::publish::Delivery;

/// Bytes of an acknowledgement of success, the same in both versions (v5 3.4.2.1: no reason code means success).
const ACK_LEN: usize = 4;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;

/// Publishes of one connection that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: VecDeque<Waiting>,
    /// How many of them await the store's word.
    undecided: usize,
    /// How many of them the client counts against Receive Maximum.
    numbered: usize,
    /// Bytes of the packets that await the store's word.
    bytes: usize,
    /// Packet identifiers of QoS 2 publishes that await the store's word.
    exact: BTreeSet<NonZeroU16>,
}

#[derive(Debug)]
enum Waiting {
    /// With the store.
    Undecided { delivery: Delivery, len: u32 },
    /// Refused before the store saw it; its answer waits for those of older publishes.
    Refused { answer: Bytes },
    /// A copy of a QoS 2 publish that the store has; answered as the first one, after it.
    Repeated { packet_id: NonZeroU16 },
}

impl Gate {
    /// Takes a publish of a packet of `len` bytes that the store will decide on.
    pub(super) fn admit(&mut self, delivery: Delivery, len: u32) {
        self.undecided += 1;
        self.numbered += usize::from(delivery.packet_id().is_some());
        self.bytes += len as usize;
        if let Delivery::ExactlyOnce { packet_id } = delivery {
            self.exact.insert(packet_id);
        }
        self.waiting.push_back(Waiting::Undecided { delivery, len });
    }

    /// Takes the answer to a refused publish of QoS 1 or 2, to be given in its turn: see [`Gate::release`].
    pub(super) fn refuse(&mut self, answer: Bytes) {
        self.numbered += 1;
        self.waiting.push_back(Waiting::Refused { answer });
    }

    /// Takes a QoS 2 publish that the store has seen under this packet identifier: see [`Gate::release`].
    pub(super) fn repeat(&mut self, packet_id: NonZeroU16) {
        self.waiting.push_back(Waiting::Repeated { packet_id });
    }

    /// Whether a QoS 2 publish with this packet identifier awaits the store's word.
    pub(super) fn holds(&self, packet_id: NonZeroU16) -> bool {
        self.exact.contains(&packet_id)
    }

    /// The oldest `count` undecided publishes are durable: returns every answer whose turn it is now, and notes the
    /// packet identifiers of QoS 2 in `received`.
    pub(super) fn commit(&mut self, count: usize, received: &mut BTreeSet<NonZeroU16>) -> Bytes {
        debug_assert!(count <= self.undecided, "committed more than was handed out");
        let mut answers = BytesMut::with_capacity(count.min(self.waiting.len()) * ACK_LEN);
        let mut left = count;
        while let Some(front) = self.waiting.front() {
            match front {
                Waiting::Undecided { .. } if left == 0 => break,
                Waiting::Undecided { delivery, .. } => {
                    left -= 1;
                    match *delivery {
                        Delivery::AtMostOnce => {}
                        Delivery::AtLeastOnce { packet_id } => {
                            put_success(&mut answers, PUBACK, packet_id);
                        }
                        Delivery::ExactlyOnce { packet_id } => {
                            received.insert(packet_id);
                            put_success(&mut answers, PUBREC, packet_id);
                        }
                    }
                }
                Waiting::Refused { answer } => answers.put_slice(answer),
                Waiting::Repeated { packet_id } => put_success(&mut answers, PUBREC, *packet_id),
            }
            self.pop();
        }
        answers.freeze()
    }

    /// Answers that no undecided publish precedes.
    pub(super) fn release(&mut self) -> Bytes {
        self.commit(0, &mut BTreeSet::new())
    }

    /// Takes out the oldest undecided publish, which the store refused. `None` if there is no undecided publish.
    pub(super) fn reject(&mut self) -> Option<Delivery> {
        // Others at the front have been released, so an undecided one is the oldest of all.
        match self.pop()? {
            Waiting::Undecided { delivery, .. } => Some(delivery),
            Waiting::Refused { .. } | Waiting::Repeated { .. } => None,
        }
    }

    /// Whether every publish has its answer.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Publishes without an answer.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Publishes of QoS 1 and 2 without an answer, as the client counts them.
    pub(super) fn numbered(&self) -> usize {
        self.numbered
    }

    /// Bytes of the packets that await the store's word.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pop(&mut self) -> Option<Waiting> {
        let front = self.waiting.pop_front()?;
        match &front {
            Waiting::Undecided { delivery, len } => {
                self.undecided -= 1;
                self.numbered -= usize::from(delivery.packet_id().is_some());
                self.bytes -= *len as usize;
                if let Delivery::ExactlyOnce { packet_id } = delivery {
                    self.exact.remove(packet_id);
                }
            }
            Waiting::Refused { .. } => self.numbered -= 1,
            Waiting::Repeated { .. } => {}
        }
        Some(front)
    }
}

/// The acknowledgement of success. Private: nothing outside the gate can make one.
fn put_success(answers: &mut BytesMut, first: u8, packet_id: NonZeroU16) {
    let [high, low] = packet_id.get().to_be_bytes();
    answers.put_slice(&[first, 0x02, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qos1(id: u16) -> Delivery {
        Delivery::AtLeastOnce { packet_id: NonZeroU16::new(id).unwrap() }
    }

    #[test]
    fn answers_keep_the_order_of_the_publishes() {
        let mut gate = Gate::default();
        gate.admit(qos1(1), 10);
        gate.admit(Delivery::AtMostOnce, 20);
        gate.refuse(Bytes::from_static(b"refused 2"));
        gate.admit(qos1(3), 30);
        assert_eq!((gate.len(), gate.numbered(), gate.bytes()), (4, 3, 60));

        assert_eq!(gate.release(), "", "a refusal waits for older publishes");
        assert_eq!(gate.commit(1, &mut BTreeSet::new()), &b"\x40\x02\x00\x01"[..]);
        assert_eq!(
            gate.commit(1, &mut BTreeSet::new()),
            "refused 2",
            "QoS 0 counts and gets nothing"
        );
        assert_eq!((gate.len(), gate.numbered(), gate.bytes()), (1, 1, 30));
        assert_eq!(gate.commit(1, &mut BTreeSet::new()), &b"\x40\x02\x00\x03"[..]);
        assert!(gate.is_empty() && gate.bytes() == 0 && gate.numbered() == 0);
        assert_eq!(gate.reject(), None);
    }

    #[test]
    fn a_refusal_with_nothing_before_it_leaves_at_once() {
        let mut gate = Gate::default();
        gate.refuse(Bytes::from_static(b"no"));
        assert_eq!(gate.release(), "no");
        gate.admit(Delivery::AtMostOnce, 1);
        gate.admit(qos1(9), 1);
        assert_eq!(gate.reject(), Some(Delivery::AtMostOnce));
        assert_eq!(gate.reject(), Some(qos1(9)));
        assert!(gate.is_empty());
    }

    #[test]
    fn qos_2_is_received_once_it_is_durable() {
        let qos2 = |id| Delivery::ExactlyOnce { packet_id: NonZeroU16::new(id).unwrap() };
        let mut gate = Gate::default();
        let mut received = BTreeSet::new();
        let seven = NonZeroU16::new(7).unwrap();
        gate.admit(qos2(7), 10);
        gate.admit(qos2(8), 10);
        assert!(gate.holds(seven) && received.is_empty());
        gate.repeat(seven);
        assert_eq!((gate.len(), gate.numbered()), (3, 2));
        assert_eq!(gate.release(), "", "the copy waits for the first one");
        assert_eq!(gate.commit(1, &mut received), &b"\x50\x02\x00\x07"[..]);
        assert!(!gate.holds(seven) && received.contains(&seven));
        assert_eq!(gate.commit(1, &mut received), &b"\x50\x02\x00\x08\x50\x02\x00\x07"[..]);
        assert_eq!(received.len(), 2);
        gate.admit(qos2(9), 10);
        assert_eq!(gate.reject(), Some(qos2(9)));
        assert!(!gate.holds(NonZeroU16::new(9).unwrap()) && received.len() == 2);
    }
}
