//! The broker's side of the group coordinator: it appends the records, and gives the answers when they are durable.

use broker_coordinator::{Now, OFFSETS_TOPIC};
use broker_kafka::Response;

use super::{Broker, ParkedAnswer, WaitingForTopics};
use crate::event::{Answer, Asker, Effect};
use crate::groups::COMMITS_PAUSED_BYTES;
use crate::handlers::find_coordinator::CoordinatorQuery;
use crate::handlers::groups::{GroupQuery, GroupRequest};
use crate::metadata::{NewTopic, Wish};

impl Broker {
    pub(super) fn group(
        &mut self,
        now: Now,
        asker: Asker,
        request: GroupRequest,
        out: &mut Vec<Effect>,
    ) {
        if let GroupQuery::Find(query) = request.query {
            return self.find_coordinator(asker, query, out);
        }
        self.groups.begin(now, self.metadata.image());
        let takes_commits = self.undurable.bytes < COMMITS_PAUSED_BYTES;
        let known = (self.metadata.image(), &mut self.ids, takes_commits);
        let response = self.groups.handle(now, asker, request, known);
        // What the request has changed is appended before its answer is given: the answer waits for it.
        self.append_group_records(now);
        if let Some(response) = response {
            self.answer_group(asker, response, out);
        }
    }

    /// Carries out what the coordinator wants: appends, answers, and what has to be read of its topic.
    pub(super) fn settle_groups(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.groups.begin(now, self.metadata.image());
        self.append_group_records(now);
        while let Some((asker, response)) = self.groups.take_answer() {
            self.answer_group(asker, response, out);
        }
        if let Some(read) = self.groups.poll_read(now, &self.log) {
            out.push(Effect::ReadGroups(read));
        }
        self.groups.forget_absent_topics(now.wall, self.metadata.image());
        self.append_group_records(now);
    }

    pub(super) fn answer_coordinator(
        &self,
        asker: Asker,
        query: &CoordinatorQuery,
        out: &mut Vec<Effect>,
    ) {
        let is_there = self.metadata.image().by_name(OFFSETS_TOPIC).is_some();
        let response = query.response(&self.settings, is_there);
        out.push(Effect::Answer(asker, Answer::Group(Box::new(response.into()))));
    }

    /// Answers when the coordinator's topic is there, which the first question makes.
    fn find_coordinator(&mut self, asker: Asker, query: CoordinatorQuery, out: &mut Vec<Effect>) {
        if query.is_about_groups() {
            let topic = NewTopic {
                name: OFFSETS_TOPIC.to_owned(),
                id: self.ids.topic_id(),
                partitions: self.settings.offsets_partitions,
            };
            // If it cannot be made, the answer says that there is none.
            if let Ok(Wish::Staged(ticket)) = self.metadata.ensure(topic) {
                self.wait(ticket, WaitingForTopics::Coordinator(asker, query));
                return;
            }
        }
        self.answer_coordinator(asker, &query, out);
    }

    fn append_group_records(&mut self, now: Now) {
        while let Some((key, write)) = self.groups.take_write() {
            let bytes = write.batch.len();
            // Batches are bounded and partitions exist: only a log that has too much to write turns one away.
            let appended = self.log.append(now.wall, key, write.batch.clone());
            let slot_no = appended.ok().map(|appended| appended.slot_no);
            if let Some(slot_no) = slot_no {
                self.undurable.add(slot_no, bytes);
            }
            self.groups.written(now, write, slot_no);
        }
    }

    fn answer_group(&mut self, asker: Asker, response: Response, out: &mut Vec<Effect>) {
        let response = Box::new(response);
        match self.groups.slot_for_answer() {
            Some(slot_no) => self.answers.park(slot_no, ParkedAnswer::Group(asker, response)),
            None => out.push(Effect::Answer(asker, Answer::Group(response))),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
