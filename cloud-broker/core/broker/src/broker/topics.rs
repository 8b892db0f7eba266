//! Changes of the metadata: who asks for them, who waits for them, and what they change elsewhere.

use broker_log::store::CheckpointId;
use broker_log::{PartitionKey, TopicNo};
use wire::ids::{Partition, ProducerId};
use wire::time::{MonoMs, UnixMs};

use super::{Broker, WaitingForTopics, register};
use crate::event::{Answer, Asker, Effect};
use crate::handlers::admin::{AdminAnswer, AdminRequest, Settled, WaitingAdmin};
use crate::handlers::alter_configs::{self, AlterConfigsQuery};
use crate::handlers::create_partitions::{self, CreatePartitionsQuery};
use crate::handlers::create_topics::{self, CreateTopicsQuery};
use crate::handlers::delete_topics::{self, DeleteTopicsQuery};
use crate::handlers::{DeleteRecordsQuery, InitProducerIdAnswer, InitProducerIdQuery};
use crate::metadata::{Ticket, Topic};

impl Broker {
    pub(super) fn admin(
        &mut self,
        mono: MonoMs,
        asker: Asker,
        request: AdminRequest,
        out: &mut Vec<Effect>,
    ) {
        match request {
            AdminRequest::AlterConfigs(query) => self.alter_configs(asker, query, out),
            AdminRequest::CreatePartitions(query) => self.create_partitions(asker, query, out),
            AdminRequest::CreateTopics(query) => self.create_topics(asker, query, out),
            AdminRequest::DeleteRecords(query) => self.delete_records(mono, asker, query, out),
            AdminRequest::DeleteTopics(query) => self.delete_topics(asker, query, out),
            AdminRequest::DescribeConfigs(query) => {
                let answer = query.answer(&self.settings, self.metadata.image());
                give(asker, AdminAnswer::DescribeConfigs(answer), out);
            }
            AdminRequest::InitProducerId(query) => self.init_producer_id(asker, query, out),
        }
    }

    fn alter_configs(&mut self, asker: Asker, query: AlterConfigsQuery, out: &mut Vec<Effect>) {
        match query.begin(&self.settings, &mut self.metadata) {
            alter_configs::Outcome::Now(answer) => {
                give(asker, AdminAnswer::AlterConfigs(answer), out);
            }
            alter_configs::Outcome::After(ticket, waiting) => {
                self.wait_for(ticket, asker, WaitingAdmin::AlterConfigs(waiting));
            }
        }
    }

    fn create_partitions(
        &mut self,
        asker: Asker,
        query: CreatePartitionsQuery,
        out: &mut Vec<Effect>,
    ) {
        match query.begin(&mut self.metadata) {
            create_partitions::Outcome::Now(answer) => {
                give(asker, AdminAnswer::CreatePartitions(answer), out);
            }
            create_partitions::Outcome::After(ticket, waiting) => {
                self.wait_for(ticket, asker, WaitingAdmin::CreatePartitions(waiting));
            }
        }
    }

    fn create_topics(&mut self, asker: Asker, query: CreateTopicsQuery, out: &mut Vec<Effect>) {
        match query.begin(&self.settings, &mut self.metadata, &mut self.ids) {
            create_topics::Outcome::Now(answer) => {
                give(asker, AdminAnswer::CreateTopics(answer), out);
            }
            create_topics::Outcome::After(ticket, waiting) => {
                self.wait_for(ticket, asker, WaitingAdmin::CreateTopics(waiting));
            }
        }
    }

    fn delete_records(
        &mut self,
        mono: MonoMs,
        asker: Asker,
        query: DeleteRecordsQuery,
        out: &mut Vec<Effect>,
    ) {
        let deadline = mono + query.wait_ms();
        let image = self.metadata.image();
        let (answer, after) = query.delete(&mut self.log, image, &self.settings.retention);
        match after {
            Some(id) => self.deletions.park(asker, id, deadline, answer),
            None => give(asker, AdminAnswer::DeleteRecords(answer), out),
        }
    }

    /// What was deleted before this checkpoint stays deleted.
    pub(super) fn checkpoint_durable(&mut self, id: CheckpointId, out: &mut Vec<Effect>) {
        while let Some((asker, answer)) = self.deletions.release(id) {
            give(asker, AdminAnswer::DeleteRecords(answer), out);
        }
    }

    pub(super) fn deletions_due(&mut self, mono: MonoMs, out: &mut Vec<Effect>) {
        while let Some((asker, answer)) = self.deletions.take_due(mono) {
            give(asker, AdminAnswer::DeleteRecords(answer.timed_out()), out);
        }
    }

    fn delete_topics(&mut self, asker: Asker, query: DeleteTopicsQuery, out: &mut Vec<Effect>) {
        match query.begin(&mut self.metadata) {
            delete_topics::Outcome::Now(answer) => {
                give(asker, AdminAnswer::DeleteTopics(answer), out);
            }
            delete_topics::Outcome::After(ticket, waiting) => {
                self.wait_for(ticket, asker, WaitingAdmin::DeleteTopics(waiting));
            }
        }
    }

    /// Gives out a reserved id, or has more of them reserved first: an id must not come again after a crash.
    fn init_producer_id(
        &mut self,
        asker: Asker,
        query: InitProducerIdQuery,
        out: &mut Vec<Effect>,
    ) {
        let reserved = &self.producer_ids;
        let end = self.metadata.image().producer_ids_end();
        let first_free = if reserved.is_empty() { end } else { reserved.start };
        let answer = query.without_id(first_free).or_else(|| self.next_producer_id());
        let answer = match answer {
            Some(answer) => answer,
            None => match self.metadata.reserve_producer_ids() {
                Some(ticket) => {
                    return self.wait_for(ticket, asker, WaitingAdmin::InitProducerId);
                }
                None => InitProducerIdAnswer::none_left(),
            },
        };
        give(asker, AdminAnswer::InitProducerId(answer), out);
    }

    fn next_producer_id(&mut self) -> Option<InitProducerIdAnswer> {
        let pid = self.producer_ids.next()?;
        Some(InitProducerIdAnswer::id(ProducerId(i64::try_from(pid).ok()?)))
    }

    fn wait_for(&mut self, ticket: Ticket, asker: Asker, waiting: WaitingAdmin) {
        self.wait(ticket, WaitingForTopics::Admin(asker, waiting));
    }

    pub(super) fn control_stored(&mut self, wall: UnixMs, version: u64, out: &mut Vec<Effect>) {
        let changes = self.metadata.stored(version);
        for topic in changes.made.iter().chain(&changes.changed) {
            // The metadata's limit on partitions is far below the log's, so there is room; were there none, reads and
            // appends of the missing partition would say that it is unknown.
            let _ = register(&mut self.log, topic);
            self.apply_policy(topic);
        }
        for topic in &changes.deleted {
            self.topic_gone(topic, out);
            self.groups.topic_gone(wall, &topic.name);
        }
        if !changes.producer_ids.is_empty() {
            self.producer_ids = changes.producer_ids;
        }
        self.settled(wall, (changes.ticket, Settled::Stored), out);
    }

    pub(super) fn control_not_stored(&mut self, wall: UnixMs, out: &mut Vec<Effect>) {
        let ticket = self.metadata.not_stored();
        self.settled(wall, (ticket, Settled::NotStored), out);
    }

    /// The log forgets the topic, and who waits for its data hears that there is none.
    fn topic_gone(&mut self, topic: &Topic, out: &mut Vec<Effect>) {
        let topic_no = TopicNo(topic.no);
        self.log.remove_topic(topic_no);
        let partitions = (0..topic.partitions)
            .map(|index| PartitionKey { topic_no, partition: Partition(index) });
        for asker in self.fetches.watching(partitions) {
            if let Some(query) = self.fetches.take(asker) {
                let answer = query.plan(&self.log, self.metadata.image());
                out.push(Effect::Answer(asker, Answer::Fetch(answer)));
            }
        }
    }

    /// Answers who waited for a change: it is made, or it will not be.
    fn settled(
        &mut self,
        wall: UnixMs,
        (ticket, settled): (Ticket, Settled),
        out: &mut Vec<Effect>,
    ) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > ticket {
                break;
            }
            for waiting in first.remove() {
                match waiting {
                    WaitingForTopics::Admin(asker, waiting) => {
                        self.answer_admin(asker, waiting, settled, out);
                    }
                    WaitingForTopics::Coordinator(asker, query) => {
                        self.answer_coordinator(asker, &query, out);
                    }
                    WaitingForTopics::Hello(waiting) => self.welcome(wall, *waiting, out),
                    WaitingForTopics::Metadata(asker, query) => {
                        self.answer_metadata(asker, &query, out);
                    }
                }
            }
        }
    }

    fn answer_admin(
        &mut self,
        asker: Asker,
        waiting: WaitingAdmin,
        settled: Settled,
        out: &mut Vec<Effect>,
    ) {
        let image = self.metadata.image();
        let answer = match waiting {
            WaitingAdmin::AlterConfigs(waiting) => {
                AdminAnswer::AlterConfigs(waiting.answer(settled))
            }
            WaitingAdmin::CreatePartitions(waiting) => {
                AdminAnswer::CreatePartitions(waiting.answer(settled))
            }
            WaitingAdmin::CreateTopics(waiting) => AdminAnswer::CreateTopics(waiting.answer(image)),
            WaitingAdmin::DeleteTopics(waiting) => AdminAnswer::DeleteTopics(waiting.answer(image)),
            WaitingAdmin::InitProducerId => {
                // So many may have waited that the reserved ones do not suffice; clients ask again.
                let answer = self.next_producer_id();
                let answer = answer.unwrap_or_else(InitProducerIdAnswer::none_now);
                AdminAnswer::InitProducerId(answer)
            }
        };
        give(asker, answer, out);
    }
}

fn give(asker: Asker, answer: AdminAnswer, out: &mut Vec<Effect>) {
    out.push(Effect::Answer(asker, Answer::Admin(Box::new(answer))));
}
