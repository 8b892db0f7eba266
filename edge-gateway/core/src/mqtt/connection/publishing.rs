//! PUBLISH: which publishes go to the store, and how the others are refused.

use bytes::Bytes;

use super::{Connection, Output, Phase, Refused};
use crate::device_batch::batch_device;
use crate::mqtt::alias::TopicAliases;
use crate::mqtt::close::{CloseReason, PublishRefusal};
use crate::mqtt::connect::MqttVersion;
use crate::mqtt::frame::FixedHeader;
use crate::mqtt::limits::{TOPIC_LEN_MAX, UNRELEASED_MAX};
use crate::mqtt::publish::{self, Delivery, Publish};
use crate::mqtt::reply::Replies;
use crate::mqtt::reserved;
use crate::mqtt::text::Topic;

impl Connection {
    pub(super) fn handle_publish(
        &mut self,
        replies: Replies,
        header: FixedHeader,
        body: Bytes,
    ) -> Result<(), CloseReason> {
        let parsed = publish::parse(replies.version, header, body)?;
        let topic = self.resolve_topic(parsed.topic, parsed.topic_alias)?;
        let delivery = parsed.delivery;
        if let Delivery::ExactlyOnce { packet_id } = delivery
            && (self.gate.holds(packet_id) || self.session.received.contains(&packet_id))
        {
            // [MQTT-4.3.3-10]: it is the same publish until it is released.
            self.gate.repeat(packet_id);
            let answers = self.gate.release();
            self.send(answers);
            return Ok(());
        }
        self.check_receive_maximum(replies.version, delivery)?;
        let batch = batch_device(topic.as_str());
        let refusal = if topic.byte_len() > TOPIC_LEN_MAX {
            Some(PublishRefusal::TopicTooLong)
        } else if topic.is_reserved() {
            Some(PublishRefusal::ReservedTopic)
        } else {
            self.check_namespace(&topic).or(parsed.refusal)
        };
        if let Some(refusal) = refusal {
            // A publish whose properties are refused may have been a numbered one: those behind the excess are not read.
            // Batches are numbered in themselves.
            let numbered = parsed.sequence.is_some() || parsed.refusal.is_some() || batch.is_some();
            return self.refuse_publish(replies, Refused { topic, delivery, refusal }, numbered);
        }
        let retain = parsed.retain && batch.is_none();
        self.gate.admit(delivery, header.total_len());
        self.outputs.push_back(Output::Publish(Publish {
            topic,
            payload: parsed.payload,
            delivery,
            retain,
            dup: parsed.dup,
            sequence: parsed.sequence,
            maybe_dup: parsed.maybe_dup,
            properties: parsed.properties,
        }));
        Ok(())
    }

    /// Of the gateway's own topics a client may publish to one: that of its own batches.
    fn check_namespace(&self, topic: &Topic) -> Option<PublishRefusal> {
        if !reserved::is_reserved(topic.as_str()) {
            return None;
        }
        let own = match &self.phase {
            Phase::Open(open) => Some(&*open.link.client_id),
            Phase::AwaitingConnect { .. }
            | Phase::Deciding(_)
            | Phase::Draining { .. }
            | Phase::Closed => None,
        };
        match batch_device(topic.as_str()) {
            Some(device) if own == Some(device) => None,
            Some(_) => Some(PublishRefusal::ForeignBatch),
            None => Some(PublishRefusal::ReservedTopic),
        }
    }

    /// The topic that a publish goes to (v5 3.3.2.1 and 3.3.2.3.4).
    pub(super) fn resolve_topic(
        &mut self,
        topic: Option<Topic>,
        alias: Option<u16>,
    ) -> Result<Topic, CloseReason> {
        let (Phase::Open(open), Some(alias)) = (&mut self.phase, alias) else {
            return topic.ok_or(CloseReason::Protocol("an empty topic"));
        };
        if !TopicAliases::allows(alias) {
            return Err(CloseReason::TopicAliasInvalid { alias });
        }
        match topic {
            Some(topic) => {
                // A topic that is refused for its length is not worth keeping.
                if topic.byte_len() <= TOPIC_LEN_MAX {
                    open.aliases.set(alias, &topic);
                }
                Ok(topic)
            }
            None => {
                let known = open.aliases.resolve(alias);
                known.ok_or(CloseReason::Protocol("a topic alias that stands for nothing"))
            }
        }
    }

    /// v5 3.3.4: beyond Receive Maximum a client is disconnected. One of 3.1.1 knows no such limit: it is not read, unless
    /// it leaves ever more QoS 2 publishes unreleased, which would be kept for it.
    pub(super) fn check_receive_maximum(
        &self,
        version: MqttVersion,
        delivery: Delivery,
    ) -> Result<(), CloseReason> {
        let beyond = |receive_max| Err(CloseReason::ReceiveMaximumExceeded { receive_max });
        let receive_max = self.limits.receive_max.get();
        let unreleased = self.session.received.len();
        match (version, delivery) {
            (_, Delivery::AtMostOnce) => Ok(()),
            (_, Delivery::ExactlyOnce { .. })
                if unreleased + self.gate.numbered() >= usize::from(UNRELEASED_MAX) =>
            {
                beyond(UNRELEASED_MAX)
            }
            (MqttVersion::V5, _)
                if self.gate.numbered() + unreleased >= usize::from(receive_max) + self.resumed =>
            {
                beyond(receive_max)
            }
            (MqttVersion::V5 | MqttVersion::V311, _) => Ok(()),
        }
    }

    pub(super) fn refuse_publish(
        &mut self,
        replies: Replies,
        refused: Refused,
        numbered: bool,
    ) -> Result<(), CloseReason> {
        let (delivery, refusal) = (refused.delivery, refused.refusal);
        self.outputs.push_back(Output::Refused(refused));
        if replies.version == MqttVersion::V311 {
            // MQTT 3.1.1 cannot refuse a publish: it is acknowledged or the connection closed (v3 3.3.5).
            return Err(CloseReason::Refused(refusal));
        }
        if let Some(answer) = replies.publish_refused(delivery, refusal) {
            self.gate.refuse(answer);
            let answers = self.gate.release();
            self.send(answers);
        }
        if numbered {
            // Or the next reading would be taken in the place of this one (docs/protocols/uplink.md, D2).
            self.drain(CloseReason::Refused(refusal));
        }
        Ok(())
    }
}
