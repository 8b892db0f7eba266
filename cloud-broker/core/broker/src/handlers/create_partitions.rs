//! CreatePartitions, versions 0 to 3.
//!
//! New partitions are empty, and keys move to other partitions, as on Kafka: order across the change is kept only within each
//! partition. A gateway takes the new number with its next session, once nothing of the topic is on its way.

use std::collections::BTreeMap;

use broker_kafka::ErrorCode;
use broker_kafka::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use broker_kafka::runtime::Text;
use wire::ids::TopicId;

use super::admin::{Failure, Settled};
use super::create_topics::{TOPICS_PER_REQUEST_MAX, failure};
use super::metadata::NODE_ID;
use crate::metadata::{Metadata, Ticket, is_reserved};

/// A CreatePartitions request.
#[derive(Debug)]
pub struct CreatePartitionsQuery {
    /// In the order of the request, each name once.
    topics: Vec<(Text, Result<Wanted, Failure>)>,
    validate_only: bool,
}

#[derive(Debug)]
struct Wanted {
    /// Partitions that the topic has afterwards.
    count: i32,
    /// For how many new ones the request says where they are, if it does; whether all of them are here.
    assigned: Option<(usize, bool)>,
}

/// A query whose partitions are staged.
#[derive(Debug)]
pub(crate) struct WaitingPartitions {
    topics: Vec<(Text, Result<(), Failure>)>,
}

/// The answer.
#[derive(Debug)]
pub struct CreatePartitionsAnswer {
    topics: Vec<(Text, Result<(), Failure>)>,
}

/// What a CreatePartitions request gets.
pub(crate) enum Outcome {
    Now(CreatePartitionsAnswer),
    After(Ticket, WaitingPartitions),
}

impl CreatePartitionsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &CreatePartitionsRequest) -> Self {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut topics: Vec<(Text, Result<Wanted, Failure>)> = Vec::new();
        for topic in &request.topics {
            let place = *places.entry(&topic.name).or_insert(topics.len());
            if let Some((_, first)) = topics.get_mut(place) {
                let why = "the request names it twice";
                *first = Err(Failure::new(ErrorCode::InvalidRequest, why));
                continue;
            }
            let wanted = if request.topics.len() > TOPICS_PER_REQUEST_MAX {
                let why = format!("at most {TOPICS_PER_REQUEST_MAX} topics in one request");
                Err(Failure::new(ErrorCode::PolicyViolation, why))
            } else {
                Ok(Wanted::new(topic))
            };
            topics.push((topic.name.detached(), wanted));
        }
        Self { topics, validate_only: request.validate_only }
    }

    /// Stages what can be made, or only looks whether it could.
    pub(crate) fn begin(self, metadata: &mut Metadata) -> Outcome {
        let mut last = None;
        let mut topics = Vec::with_capacity(self.topics.len());
        for (name, wanted) in self.topics {
            let staged = wanted.and_then(|wanted| {
                let (id, partitions) = wanted.check(&name, metadata)?;
                if !self.validate_only {
                    let ticket = metadata.grow(id, partitions).map_err(failure)?;
                    last = last.max(Some(ticket));
                }
                Ok(())
            });
            topics.push((name, staged));
        }
        match last {
            Some(ticket) => Outcome::After(ticket, WaitingPartitions { topics }),
            None => Outcome::Now(CreatePartitionsAnswer { topics }),
        }
    }
}

impl Wanted {
    fn new(topic: &CreatePartitionsTopic) -> Self {
        let assigned = topic.assignments.as_ref().map(|assignments| {
            let are_here = assignments.iter().all(|a| a.broker_ids == [NODE_ID]);
            (assignments.len(), are_here)
        });
        Self { count: topic.count, assigned }
    }

    /// The topic, and how many partitions it gets.
    fn check(&self, name: &str, metadata: &Metadata) -> Result<(TopicId, u32), Failure> {
        if is_reserved(name) {
            // Groups and gateways are spread over its partitions by their number.
            let why = "the broker chooses the partitions of this topic itself";
            return Err(Failure::new(ErrorCode::InvalidTopicException, why));
        }
        let topic = metadata.latest().by_name(name).ok_or_else(|| {
            Failure::new(ErrorCode::UnknownTopicOrPartition, "this broker has no such topic")
        })?;
        // What is below zero is refused with the numbers that are no increase.
        let count = u32::try_from(self.count).unwrap_or(0);
        if count <= topic.partitions {
            let has = topic.partitions;
            let why = format!("the topic has {has} partitions; {} is not more", self.count);
            return Err(Failure::new(ErrorCode::InvalidPartitions, why));
        }
        metadata.check_grow(topic.id, count).map_err(failure)?;
        match self.assigned {
            Some((number, are_here))
                if !are_here || number != (count - topic.partitions) as usize =>
            {
                let why = format!("an assignment names broker {NODE_ID} for each new partition");
                Err(Failure::new(ErrorCode::InvalidReplicaAssignment, why))
            }
            Some(_) | None => Ok((topic.id, count)),
        }
    }
}

impl WaitingPartitions {
    /// The answer, now that the changes are settled.
    pub(crate) fn answer(self, settled: Settled) -> CreatePartitionsAnswer {
        let topics = self.topics.into_iter();
        let topics = topics.map(|(name, staged)| (name, staged.and(settled.outcome())));
        CreatePartitionsAnswer { topics: topics.collect() }
    }
}

impl CreatePartitionsAnswer {
    pub(super) fn into_response(self) -> CreatePartitionsResponse {
        let results = self.topics.into_iter().map(|(name, made)| {
            let failure = made.err();
            CreatePartitionsTopicResult {
                name,
                error_code: failure.as_ref().map_or(0, |failure| i16::from(failure.code)),
                error_message: failure.as_ref().and_then(Failure::text),
            }
        });
        CreatePartitionsResponse {
            results: results.collect(),
            ..CreatePartitionsResponse::default()
        }
    }
}
