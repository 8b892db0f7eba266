//! DeleteTopics, versions 1 to 6.
//!
//! A deleted topic is gone at once for everybody; its batches stay in the files of the log until these are given back.

use std::collections::BTreeSet;

use broker_kafka::ErrorCode;
use broker_kafka::generated::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use broker_kafka::runtime::{Text, Uuid};
use wire::ids::TopicId;

use super::admin::Failure;
use crate::metadata::{Image, Metadata, Ticket, Topic, is_own};

/// The first version that may name topics by id.
const IDS_FROM: i16 = 6;

/// A DeleteTopics request.
#[derive(Debug)]
pub struct DeleteTopicsQuery {
    topics: Vec<DeleteTopicState>,
}

/// A query whose deletions are staged.
#[derive(Debug)]
pub(crate) struct WaitingDelete {
    topics: Vec<(DeleteTopicState, Result<TopicId, Failure>)>,
}

/// The answer.
#[derive(Debug)]
pub struct DeleteTopicsAnswer {
    topics: Vec<(DeleteTopicState, Result<(), Failure>)>,
}

/// What a DeleteTopics request gets.
pub(crate) enum Outcome {
    Now(DeleteTopicsAnswer),
    After(Ticket, WaitingDelete),
}

impl DeleteTopicsQuery {
    /// Takes what matters from a request of this version.
    pub(super) fn new(version: i16, request: &DeleteTopicsRequest) -> Self {
        let named =
            |name: &Text| DeleteTopicState { name: Some(name.detached()), topic_id: Uuid::ZERO };
        let topics = if version >= IDS_FROM {
            let copy = |topic: &DeleteTopicState| DeleteTopicState {
                name: topic.name.as_ref().map(Text::detached),
                topic_id: topic.topic_id,
            };
            request.topics.iter().map(copy).collect()
        } else {
            request.topic_names.iter().map(named).collect()
        };
        Self { topics }
    }

    /// Stages the deletions.
    pub(crate) fn begin(self, metadata: &mut Metadata) -> Outcome {
        let mut last = None;
        let twice = self.named_twice(metadata.image());
        let mut topics = Vec::with_capacity(self.topics.len());
        for mut asked in self.topics {
            let found = find(&asked, metadata.image()).map(|topic| (topic.id, topic.name.clone()));
            let staged = found.and_then(|(id, name)| {
                // A response tells both, whichever the request has named.
                asked = DeleteTopicState {
                    name: Some(Text::from(name.as_str())),
                    topic_id: Uuid::from(id),
                };
                if twice.contains(&id) {
                    let why = "the request names it twice";
                    return Err(Failure::new(ErrorCode::InvalidRequest, why));
                }
                if is_own(&name) {
                    let why = "the broker needs this topic itself";
                    return Err(Failure::new(ErrorCode::InvalidTopicException, why));
                }
                last = last.max(Some(metadata.delete(id)));
                Ok(id)
            });
            topics.push((asked, staged));
        }
        let waiting = WaitingDelete { topics };
        match last {
            Some(ticket) => Outcome::After(ticket, waiting),
            None => Outcome::Now(waiting.answer(metadata.image())),
        }
    }
}

impl DeleteTopicsQuery {
    /// Topics that are named more than once, by name or by id: as on Kafka, such a one is not deleted at all.
    fn named_twice(&self, image: &Image) -> BTreeSet<TopicId> {
        let mut seen = BTreeSet::new();
        let found = self.topics.iter().filter_map(|asked| Some(find(asked, image).ok()?.id));
        found.filter(|id| !seen.insert(*id)).collect()
    }
}

fn find<'a>(asked: &DeleteTopicState, image: &'a Image) -> Result<&'a Topic, Failure> {
    let is_by_id = asked.topic_id != Uuid::ZERO;
    let (found, code) = match &asked.name {
        Some(name) if !is_by_id => (image.by_name(name), ErrorCode::UnknownTopicOrPartition),
        None if is_by_id => (image.by_id(TopicId::from(asked.topic_id)), ErrorCode::UnknownTopicId),
        Some(_) | None => {
            let why = "a topic is named by its name or by its id";
            return Err(Failure::new(ErrorCode::InvalidRequest, why));
        }
    };
    found.ok_or_else(|| Failure::new(code, "this broker has no such topic"))
}

impl WaitingDelete {
    /// The answer as the image stands now.
    pub(crate) fn answer(self, image: &Image) -> DeleteTopicsAnswer {
        let topics = self.topics.into_iter().map(|(asked, staged)| {
            let gone = staged.and_then(|id| match image.by_id(id) {
                None => Ok(()),
                Some(_) => Err(Failure::not_stored()),
            });
            (asked, gone)
        });
        DeleteTopicsAnswer { topics: topics.collect() }
    }
}

impl DeleteTopicsAnswer {
    pub(super) fn into_response(self) -> DeleteTopicsResponse {
        let responses = self.topics.into_iter().map(|(asked, gone)| {
            let failure = gone.err();
            DeletableTopicResult {
                name: asked.name,
                topic_id: asked.topic_id,
                error_code: failure.as_ref().map_or(0, |failure| i16::from(failure.code)),
                error_message: failure.as_ref().and_then(Failure::text),
            }
        });
        DeleteTopicsResponse { responses: responses.collect(), ..DeleteTopicsResponse::default() }
    }
}
