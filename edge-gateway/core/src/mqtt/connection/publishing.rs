//! PUBLISH: which publishes go to the store, and how the others are refused.

use bytes::Bytes;

use super::{Connection, Output, Phase, Refused};
use crate::mqtt::alias::TopicAliases;
use crate::mqtt::close::{CloseReason, PublishRefusal};
use crate::mqtt::connect::MqttVersion;
use crate::mqtt::frame::FixedHeader;
use crate::mqtt::limits::TOPIC_LEN_MAX;
use crate::mqtt::publish::{self, Delivery, Publish};
use crate::mqtt::reply::Replies;
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
        self.check_receive_maximum(replies.version, delivery)?;
        let refusal = if topic.byte_len() > TOPIC_LEN_MAX {
            Some(PublishRefusal::TopicTooLong)
        } else if topic.is_reserved() {
            Some(PublishRefusal::ReservedTopic)
        } else {
            parsed.refusal
        };
        if let Some(refusal) = refusal {
            // A publish whose properties are refused may have been a numbered one: those behind the excess are not read.
            let numbered = parsed.sequence.is_some() || parsed.refusal.is_some();
            return self.refuse_publish(replies, Refused { topic, delivery, refusal }, numbered);
        }
        self.gate.admit(delivery, header.total_len());
        self.outputs.push_back(Output::Publish(Publish {
            topic,
            payload: parsed.payload,
            delivery,
            retain: parsed.retain,
            dup: parsed.dup,
            sequence: parsed.sequence,
            properties: parsed.properties,
        }));
        Ok(())
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

    /// v5 3.3.4: beyond Receive Maximum a client is disconnected. One of 3.1.1 knows no such limit: it is not read.
    pub(super) fn check_receive_maximum(
        &self,
        version: MqttVersion,
        delivery: Delivery,
    ) -> Result<(), CloseReason> {
        let receive_max = self.limits.receive_max.get();
        match (version, delivery) {
            (MqttVersion::V5, Delivery::AtLeastOnce { .. })
                if self.gate.numbered() >= usize::from(receive_max) =>
            {
                Err(CloseReason::ReceiveMaximumExceeded { receive_max })
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
        let puback = delivery.packet_id().and_then(|id| replies.puback_refused(id, refusal));
        if let Some(puback) = puback {
            self.gate.refuse(puback);
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
