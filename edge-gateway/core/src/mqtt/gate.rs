//! The gate: the one place where a PUBACK of success is made, and it takes a commit to make one (DESIGN, promise 1).
//!
//! Publishes wait here in the order they came. What leaves, leaves in that order, refusals included [MQTT-4.6.0-2].

use std::collections::VecDeque;
use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};

use super::publish::Delivery;

/// Bytes of a PUBACK of success, the same in both versions (v5 3.4.2.1: no reason code means success).
const PUBACK_LEN: usize = 4;

/// Publishes of one connection that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: VecDeque<Waiting>,
    /// How many of them await the store's word.
    undecided: usize,
    /// How many of them have QoS 1.
    numbered: usize,
    /// Bytes of the packets that await the store's word.
    bytes: usize,
}

#[derive(Debug)]
enum Waiting {
    /// With the store.
    Undecided { packet_id: Option<NonZeroU16>, len: u32 },
    /// Refused before the store saw it; its answer waits for those of older publishes.
    Refused { puback: Bytes },
}

impl Gate {
    /// Takes a publish of a packet of `len` bytes that the store will decide on.
    pub(super) fn admit(&mut self, delivery: Delivery, len: u32) {
        let packet_id = delivery.packet_id();
        self.undecided += 1;
        self.numbered += usize::from(packet_id.is_some());
        self.bytes += len as usize;
        self.waiting.push_back(Waiting::Undecided { packet_id, len });
    }

    /// Takes the answer to a refused QoS 1 publish, to be given in its turn: see [`Gate::release`].
    pub(super) fn refuse(&mut self, puback: Bytes) {
        self.numbered += 1;
        self.waiting.push_back(Waiting::Refused { puback });
    }

    /// The oldest `count` undecided publishes are durable: returns every answer whose turn it is now.
    pub(super) fn commit(&mut self, count: usize) -> Bytes {
        debug_assert!(count <= self.undecided, "committed more than was handed out");
        let mut answers = BytesMut::with_capacity(count.min(self.waiting.len()) * PUBACK_LEN);
        let mut left = count;
        while let Some(front) = self.waiting.front() {
            match front {
                Waiting::Undecided { .. } if left == 0 => break,
                Waiting::Undecided { packet_id: Some(packet_id), .. } => {
                    put_success(&mut answers, *packet_id);
                    left -= 1;
                }
                Waiting::Undecided { packet_id: None, .. } => left -= 1,
                Waiting::Refused { puback } => answers.put_slice(puback),
            }
            self.pop();
        }
        answers.freeze()
    }

    /// Answers to refused publishes that no undecided one precedes.
    pub(super) fn release(&mut self) -> Bytes {
        self.commit(0)
    }

    /// Takes out the oldest undecided publish, which the store refused: its packet identifier, if it has one. `None`
    /// if there is no undecided publish.
    pub(super) fn reject(&mut self) -> Option<Option<NonZeroU16>> {
        // Refused ones at the front have been released, so an undecided one is the oldest of all.
        match self.pop()? {
            Waiting::Undecided { packet_id, .. } => Some(packet_id),
            Waiting::Refused { .. } => None,
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

    /// QoS 1 publishes without an answer, as the client counts them.
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
            Waiting::Undecided { packet_id, len } => {
                self.undecided -= 1;
                self.numbered -= usize::from(packet_id.is_some());
                self.bytes -= *len as usize;
            }
            Waiting::Refused { .. } => self.numbered -= 1,
        }
        Some(front)
    }
}

/// The acknowledgement of success. Private: nothing outside the gate can make one.
fn put_success(answers: &mut BytesMut, packet_id: NonZeroU16) {
    let [high, low] = packet_id.get().to_be_bytes();
    answers.put_slice(&[0x40, 0x02, high, low]);
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
        assert_eq!(gate.commit(1), &b"\x40\x02\x00\x01"[..]);
        assert_eq!(gate.commit(1), "refused 2", "QoS 0 counts and gets nothing");
        assert_eq!((gate.len(), gate.numbered(), gate.bytes()), (1, 1, 30));
        assert_eq!(gate.commit(1), &b"\x40\x02\x00\x03"[..]);
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
        assert_eq!(gate.reject(), Some(None));
        assert_eq!(gate.reject(), Some(NonZeroU16::new(9)));
        assert!(gate.is_empty());
    }
}
