//! How a connection ends.

use super::{Connection, Output, Phase};
use crate::mqtt::close::CloseReason;

impl Connection {
    /// Reads nothing more, and closes for `reason` as soon as every publish has its answer.
    pub(super) fn drain(&mut self, reason: CloseReason) {
        match &self.phase {
            Phase::Open(open) => {
                self.phase = Phase::Draining { replies: open.link.replies, reason };
                self.finish_draining();
            }
            Phase::Draining { .. } => {}
            Phase::AwaitingConnect { .. } | Phase::Deciding(_) | Phase::Closed => self.fail(reason),
        }
    }

    pub(super) fn finish_draining(&mut self) {
        if let Phase::Draining { reason, .. } = &self.phase
            && self.gate.is_empty()
        {
            let reason = reason.clone();
            self.fail(reason);
        }
    }

    /// Says goodbye where the protocol allows it (no DISCONNECT before the CONNACK [MQTT-3.14.0-1]) and closes.
    pub(super) fn fail(&mut self, reason: CloseReason) {
        let disconnect = self.replies().and_then(|replies| replies.disconnect(&reason));
        self.outputs.extend(disconnect.map(Output::Send));
        self.close(reason);
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed) {
            self.departure.with_will = reason.leaves_will();
            self.outputs.push_back(Output::Close(reason));
        }
        self.phase = Phase::Closed;
    }
}
