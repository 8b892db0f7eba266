//! What a session owes its client: publishes that are not sent or not acknowledged (v5 4.3, 4.4).
//!
//! Everything leaves in the order it came, so messages of one topic keep theirs [MQTT-4.6.0-6]. A client that
//! acknowledges nothing gets no QoS 0 either; what waits for it waits in the hub, which has limits.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use bytes::BytesMut;
use wire::time::MonoMs;

use super::close::CloseReason;
use super::limits::{INFLIGHT_BYTES_MAX, INFLIGHT_MAX};
use super::message::{DropReason, Forward};
use super::outgoing::{self, Form};
use super::qos::Qos;

/// Room that the client's side of the hub's window has again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit {
    /// Messages.
    pub count: usize,
    /// What they take, in bytes.
    pub bytes: usize,
}

/// Publishes to one client.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// The packet identifier that was given out last.
    last_id: u16,
    /// Sent on this connection, in the order of sending.
    inflight: VecDeque<Inflight>,
    /// Payload bytes among them.
    inflight_bytes: usize,
    /// Sent on an earlier connection, to be sent again before anything else [MQTT-4.4.0-1].
    resend: VecDeque<Inflight>,
    /// Never sent.
    pending: VecDeque<Forward>,
    /// Left `pending` since the last [`Outbound::take_credit`].
    credit: Credit,
}

#[derive(Debug)]
struct Inflight {
    packet_id: NonZeroU16,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Awaits PUBACK or PUBREC.
    Published(Forward),
    /// Awaits PUBCOMP.
    Released,
}

impl Stage {
    fn bytes(&self) -> usize {
        match self {
            Self::Published(forward) => forward.memory_bytes(),
            Self::Released => 0,
        }
    }
}

impl Outbound {
    pub(super) fn push(&mut self, forward: Forward) {
        self.pending.push_back(forward);
    }

    /// Appends packets to `out` until it has `room` bytes or the client's window is full; says what was dropped instead.
    pub(super) fn fill(
        &mut self,
        out: &mut BytesMut,
        room: usize,
        form: Form,
        receive_max: u16,
        now: MonoMs,
    ) -> Vec<DropReason> {
        let mut dropped = Vec::new();
        while out.len() < room {
            if let Some(again) = self.resend.front() {
                if !self.has_window(again.stage.bytes(), receive_max) {
                    break;
                }
                self.send_again(out, form, now, &mut dropped);
            } else if let Some(next) = self.pending.front() {
                if next.qos > Qos::AtMostOnce && !self.has_window(next.memory_bytes(), receive_max)
                {
                    break;
                }
                self.send_next(out, form, now, &mut dropped);
            } else {
                break;
            }
        }
        dropped
    }

    /// PUBACK of `packet_id`.
    pub(super) fn puback(&mut self, packet_id: NonZeroU16) -> Result<(), CloseReason> {
        match self.inflight(packet_id) {
            Some((at, Stage::Published(forward))) if forward.qos == Qos::AtLeastOnce => {
                self.settle(at);
                Ok(())
            }
            Some(_) => Err(CloseReason::Protocol("a PUBACK for a QoS 2 publish")),
            // It may belong to a session that is no more.
            None => Ok(()),
        }
    }

    /// PUBREC of success of `packet_id`: whether there is such a publish, which is released now.
    pub(super) fn pubrec(&mut self, packet_id: NonZeroU16) -> Result<bool, CloseReason> {
        let Some((at, stage)) = self.inflight(packet_id) else {
            return Ok(false);
        };
        match stage {
            Stage::Published(forward) if forward.qos == Qos::ExactlyOnce => {}
            Stage::Published(_) => {
                return Err(CloseReason::Protocol("a PUBREC for a QoS 1 publish"));
            }
            Stage::Released => return Ok(true),
        }
        if let Some(inflight) = self.inflight.get_mut(at) {
            self.inflight_bytes -= inflight.stage.bytes();
            inflight.stage = Stage::Released;
        }
        Ok(true)
    }

    /// PUBREC that refuses `packet_id` (v5 3.5.2.1): the flow is over.
    pub(super) fn pubrec_refused(&mut self, packet_id: NonZeroU16) {
        if let Some((at, Stage::Published(_))) = self.inflight(packet_id) {
            self.settle(at);
        }
    }

    /// PUBCOMP of `packet_id`.
    pub(super) fn pubcomp(&mut self, packet_id: NonZeroU16) -> Result<(), CloseReason> {
        match self.inflight(packet_id) {
            Some((at, Stage::Released)) => {
                self.settle(at);
                Ok(())
            }
            Some(_) => Err(CloseReason::Protocol("a PUBCOMP before its PUBREC")),
            None => Ok(()),
        }
    }

    /// The connection is over: what was sent is to be sent again, and what was not is given back.
    pub(super) fn suspend(&mut self) -> Vec<Forward> {
        self.inflight_bytes = 0;
        self.credit = Credit::default();
        let mut again = std::mem::take(&mut self.inflight);
        again.append(&mut self.resend);
        self.resend = again;
        self.pending.drain(..).collect()
    }

    /// What left [`Outbound::push`]'s queue since the last call, once that is worth telling the hub.
    pub(super) fn take_credit(&mut self, worth: usize) -> Option<Credit> {
        let due = self.credit.count >= worth || self.pending.is_empty();
        (due && self.credit.count > 0).then(|| std::mem::take(&mut self.credit))
    }

    /// Publishes with a packet identifier whose flow is not over.
    pub(super) fn unacknowledged(&self) -> usize {
        self.inflight.len() + self.resend.len()
    }

    fn send_again(
        &mut self,
        out: &mut BytesMut,
        form: Form,
        now: MonoMs,
        dropped: &mut Vec<DropReason>,
    ) {
        let Some(again) = self.resend.pop_front() else { return };
        let packet_id = again.packet_id;
        match &again.stage {
            // [MQTT-3.3.1-1]: DUP. A client that takes smaller packets now does not get it any more.
            Stage::Published(forward) => {
                if !outgoing::put_publish(out, form, forward, Some(packet_id), true, now) {
                    return dropped.push(DropReason::TooLarge);
                }
            }
            Stage::Released => outgoing::put_pubrel(out, packet_id),
        }
        self.inflight_bytes += again.stage.bytes();
        self.inflight.push_back(again);
    }

    fn send_next(
        &mut self,
        out: &mut BytesMut,
        form: Form,
        now: MonoMs,
        dropped: &mut Vec<DropReason>,
    ) {
        let Some(forward) = self.pending.pop_front() else { return };
        self.credit.count += 1;
        self.credit.bytes += forward.memory_bytes();
        if forward.message.is_expired(now) {
            return dropped.push(DropReason::Expired); // [MQTT-3.3.2-5]
        }
        let packet_id = (forward.qos > Qos::AtMostOnce).then(|| self.next_id());
        if !outgoing::put_publish(out, form, &forward, packet_id, false, now) {
            return dropped.push(DropReason::TooLarge); // [MQTT-3.1.2-25]
        }
        if let Some(packet_id) = packet_id {
            self.inflight_bytes += forward.memory_bytes();
            self.inflight.push_back(Inflight { packet_id, stage: Stage::Published(forward) });
        }
    }

    /// An identifier that no unfinished flow has [MQTT-2.2.1-3]. There is one: the window is far smaller than their number.
    fn next_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.inflight.iter().chain(&self.resend).any(|taken| taken.packet_id == id)
            {
                return id;
            }
        }
    }

    fn has_window(&self, bytes: usize, receive_max: u16) -> bool {
        let count = self.inflight.len();
        let fits = self.inflight_bytes + bytes <= INFLIGHT_BYTES_MAX || count == 0;
        count < usize::from(receive_max).min(INFLIGHT_MAX) && fits
    }

    fn inflight(&self, packet_id: NonZeroU16) -> Option<(usize, &Stage)> {
        let at = self.inflight.iter().position(|inflight| inflight.packet_id == packet_id)?;
        Some((at, &self.inflight[at].stage))
    }

    fn settle(&mut self, at: usize) {
        if let Some(inflight) = self.inflight.remove(at) {
            self.inflight_bytes -= inflight.stage.bytes();
        }
    }
}

const _: () = assert!(INFLIGHT_MAX < u16::MAX as usize);
