//! The group coordinator in the broker: its topic, the replay at start, its records in the log, and its answers.
//!
//! One rule for answers: each waits until every record of the coordinator that was appended before it is durable. So
//! nothing that a crash could take back is ever said, be it a commit, an assignment or an offset that is fetched.

use std::collections::VecDeque;

use broker_coordinator::{
    Answer as GroupAnswer, Coordinator, GroupError, GroupSettings, Now, OFFSETS_TOPIC, Record,
    Write,
};
use broker_kafka::Response;
use broker_kafka::records::Records;
use broker_log::{FirstBatch, Log, PartitionKey, Piece, SlotNo, TopicNo};
use bytes::Bytes;
use wire::ids::Partition;
use wire::offset::Offset;
use wire::time::{MonoMs, UnixMs};

use crate::event::Asker;
use crate::handlers::groups::{GroupQuery, GroupRequest};
use crate::handlers::{
    ReadPiece, delete_groups, heartbeat, join_group, offset_commit, offset_delete, sync_group,
};
use crate::ids::IdSource;
use crate::metadata::{Image, Topic};

/// Bytes of `__consumer_offsets` that are read at once at start.
pub const GROUPS_READ_BYTES: usize = 1 << 20;

/// Pause before records that could not be read are read again.
pub const GROUPS_READ_RETRY_MS: u64 = 5_000;

/// Bytes that wait for the disk beyond which commits are turned away: what is left up to the log's own limit is for the
/// records of groups.
pub const COMMITS_PAUSED_BYTES: usize = 48 << 20;

const _: () = assert!(crate::broker::APPENDS_PAUSED_BYTES < COMMITS_PAUSED_BYTES);

/// Whether a topic belongs to the broker: clients read it and never write to it.
pub(crate) fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC
}

/// Whom the coordinator answers: with the version of the request.
pub(crate) type Asked = (Asker, i16);

/// The coordinator, and how far it has come with its topic.
#[derive(Debug)]
pub(crate) struct Groups {
    settings: GroupSettings,
    running: Option<Running>,
    /// The last slot with a record of the coordinator, until it is durable.
    last_slot: Option<SlotNo>,
}

#[derive(Debug)]
struct Running {
    topic_no: TopicNo,
    coordinator: Coordinator<Asked>,
    /// Partitions that are still to be replayed, each from an offset on.
    to_read: VecDeque<(u32, Offset)>,
    /// Whether a read is under way, or when the next one may begin.
    reading: Reading,
    /// Until the topics of all offsets were looked at, after the replay.
    may_have_absent_topics: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Idle,
    UnderWay,
    PausedUntil(MonoMs),
}

/// A part of `__consumer_offsets` that has to be read.
#[derive(Debug)]
pub struct GroupsRead {
    partition: u32,
    from: Offset,
    pieces: Vec<Piece>,
}

/// What was read of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupsChunk {
    partition: u32,
    found: Option<Found>,
}

#[derive(Debug)]
struct Found {
    records: Vec<Record>,
    next: Offset,
}

impl GroupsRead {
    /// Reads and decodes the records; blocks on files. Says how many were skipped because they are of a kind that is not
    /// known: an operator should hear of those.
    #[must_use]
    pub fn run(self, read: &mut ReadPiece<'_>) -> (GroupsChunk, usize) {
        let mut skipped = 0;
        let mut found = Found { records: Vec::new(), next: self.from };
        for piece in &self.pieces {
            let part = match piece.at_hand() {
                Some(bytes) => Some(bytes.clone().into()),
                None => read(piece).ok(),
            };
            let taken = part.and_then(|part| {
                for run in &part.batches {
                    take_run(run, &mut found, &mut skipped)?;
                }
                Some(part.is_whole)
            });
            match taken {
                Some(true) => {}
                Some(false) => break,
                None => return (GroupsChunk { partition: self.partition, found: None }, skipped),
            }
        }
        (GroupsChunk { partition: self.partition, found: Some(found) }, skipped)
    }
}

impl GroupsChunk {
    /// Whether the records could not be read. They are tried again, and their groups are not served until then.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.found.is_none()
    }

    /// The partition of `__consumer_offsets`.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }
}

/// Takes the records of consecutive batches; `None` if one of them is damaged.
fn take_run(run: &Bytes, found: &mut Found, skipped: &mut usize) -> Option<()> {
    let mut rest = &run[..];
    while !rest.is_empty() {
        let mut records = Records::new(rest).ok()?;
        let header = *records.header();
        header.check_crc(rest).ok()?;
        while let Some(record) = records.next_record().ok()? {
            match Record::decode(record.key.unwrap_or_default(), record.value) {
                Ok(record) => found.records.push(record),
                Err(_) => *skipped += 1,
            }
        }
        // Compaction leaves fewer records than offsets.
        found.next = header.base_offset.plus(header.last_offset_delta + 1);
        rest = rest.get(header.total_len..)?;
    }
    Some(())
}

impl Groups {
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self { settings, running: None, last_slot: None }
    }

    /// Begins, as soon as the topic is there.
    pub(crate) fn begin(&mut self, now: Now, image: &Image) {
        if self.running.is_none()
            && let Some(topic) = image.by_name(OFFSETS_TOPIC)
        {
            self.running = Some(Running::new(self.settings, topic, now));
        }
    }

    /// The next part of the topic to read.
    pub(crate) fn poll_read(&mut self, now: Now, log: &Log) -> Option<GroupsRead> {
        self.running.as_mut()?.poll_read(now, log)
    }

    /// Takes what was read.
    pub(crate) fn take_chunk(&mut self, now: Now, chunk: GroupsChunk) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Some(found) = chunk.found else {
            running.reading = Reading::PausedUntil(now.mono + GROUPS_READ_RETRY_MS);
            return;
        };
        running.reading = Reading::Idle;
        for record in &found.records {
            running.coordinator.replay(record);
        }
        if let Some((partition, next)) = running.to_read.front_mut()
            && *partition == chunk.partition
        {
            *next = found.next;
        }
    }

    pub(crate) fn handle_deadlines(&mut self, now: Now) {
        if let Some(running) = &mut self.running {
            running.coordinator.handle_deadlines(now);
        }
    }

    /// A topic was deleted.
    pub(crate) fn topic_gone(&mut self, wall: UnixMs, topic: &str) {
        if let Some(running) = &mut self.running {
            running.coordinator.forget_topics(wall, |name| name == topic);
        }
    }

    /// Once everything is loaded, offsets go whose topic was deleted and that were not forgotten then: a crash came first, or
    /// their group was still being loaded.
    pub(crate) fn forget_absent_topics(&mut self, wall: UnixMs, image: &Image) {
        if let Some(running) = &mut self.running
            && running.may_have_absent_topics
            && running.coordinator.is_loaded()
        {
            running.may_have_absent_topics = false;
            running.coordinator.forget_topics(wall, |name| image.by_name(name).is_none());
        }
    }

    /// When [`Self::handle_deadlines`] or [`Self::poll_read`] has something to do.
    pub(crate) fn next_deadline(&self, image: &Image) -> Option<MonoMs> {
        let Some(running) = &self.running else {
            return image.by_name(OFFSETS_TOPIC).map(|_| MonoMs(0));
        };
        let reads = match running.reading {
            Reading::Idle if !running.to_read.is_empty() => Some(MonoMs(0)),
            Reading::PausedUntil(at) => Some(at),
            Reading::Idle | Reading::UnderWay => None,
        };
        [running.coordinator.next_deadline(), reads].into_iter().flatten().min()
    }

    /// Takes a request; what can be said at once comes back. `takes_commits`: the log has room for them.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        asker: Asker,
        request: GroupRequest,
        (image, ids, takes_commits): (&Image, &mut IdSource, bool),
    ) -> Option<Response> {
        let coordinator = self.running.as_mut().map(|running| &mut running.coordinator);
        let coordinator = coordinator.ok_or(GroupError::NotCoordinator);
        let asked = (asker, request.version);
        match request.query {
            GroupQuery::Commit(mut commit) => {
                offset_commit::check_topics(&mut commit, image);
                let error = match coordinator {
                    Err(error) => error,
                    Ok(_) if !takes_commits => GroupError::CoordinatorNotAvailable,
                    Ok(coordinator) => {
                        coordinator.commit(now, asked, commit);
                        return None;
                    }
                };
                return Some(offset_commit::all_refused(&commit, error).into());
            }
            GroupQuery::Delete(groups) => match coordinator {
                Err(error) => {
                    let verdicts = groups.into_iter().map(|group| (group, Err(error)));
                    return Some(delete_groups::response(verdicts.collect()).into());
                }
                Ok(coordinator) => coordinator.delete(now, asked, groups),
            },
            GroupQuery::DeleteOffsets(mut delete) => {
                let checked = coordinator.and_then(|coordinator| {
                    offset_delete::check(&mut delete, coordinator, image)?;
                    Ok(coordinator)
                });
                match checked {
                    Err(error) => return Some(offset_delete::response(Err(error)).into()),
                    Ok(coordinator) => coordinator.delete_offsets(now, asked, &delete),
                }
            }
            GroupQuery::Join(mut query) => match coordinator {
                Err(error) => {
                    let refused = Err((error, query.join.member.id));
                    return Some(join_group::response(request.version, refused).into());
                }
                Ok(coordinator) => {
                    query.name_new_member(&ids.member_suffix());
                    coordinator.join(now, asked, &query.join);
                }
            },
            GroupQuery::Sync(sync) => match coordinator {
                Err(error) => return Some(sync_group::response(Err(error)).into()),
                Ok(coordinator) => coordinator.sync(now, asked, &sync),
            },
            GroupQuery::Heartbeat(query) => {
                let outcome = coordinator.and_then(|c| c.heartbeat(now, &query));
                return Some(heartbeat::response(outcome).into());
            }
            GroupQuery::Leave(query) => {
                let outcome = coordinator.and_then(|c| c.leave(now, &query.group, &query.members));
                return Some(query.response(outcome).into());
            }
            GroupQuery::Describe(query) => {
                return Some(query.response(coordinator.map(|c| &*c)).into());
            }
            GroupQuery::Offsets(query) => {
                return Some(query.response(coordinator.map(|c| &*c)).into());
            }
            // A broker without the topic has no groups, which is no error.
            GroupQuery::List(query) => {
                let listed = coordinator.map_or(Ok(Vec::new()), |c| c.list());
                return Some(query.response(listed).into());
            }
            // The broker answers it, because it may have to make the topic.
            GroupQuery::Find(_) => {}
        }
        None
    }

    /// The next record batch to append, and where.
    pub(crate) fn take_write(&mut self) -> Option<(PartitionKey, Write<Asked>)> {
        let running = self.running.as_mut()?;
        let write = running.coordinator.take_write()?;
        Some((running.key(write.partition), write))
    }

    /// The batch was appended in this slot; `None`: the log would not take it.
    pub(crate) fn written(&mut self, now: Now, write: Write<Asked>, slot_no: Option<SlotNo>) {
        let Some(running) = &mut self.running else {
            return;
        };
        match slot_no {
            Some(slot_no) => {
                self.last_slot = self.last_slot.max(Some(slot_no));
                running.coordinator.appended(now, write);
            }
            None => running.coordinator.refused(now, write),
        }
    }

    /// The next answer to give.
    pub(crate) fn take_answer(&mut self) -> Option<(Asker, Response)> {
        let ((asker, version), answer) = self.running.as_mut()?.coordinator.take_answer()?;
        let response = match answer {
            GroupAnswer::Commit(verdicts) => offset_commit::response(verdicts).into(),
            GroupAnswer::Delete(verdicts) => delete_groups::response(verdicts).into(),
            GroupAnswer::DeleteOffsets(outcome) => offset_delete::response(outcome).into(),
            GroupAnswer::Join(outcome) => join_group::response(version, outcome).into(),
            GroupAnswer::Sync(outcome) => sync_group::response(outcome).into(),
        };
        Some((asker, response))
    }

    /// The slot that an answer of now has to wait for.
    pub(crate) fn slot_for_answer(&self) -> Option<SlotNo> {
        self.last_slot
    }

    pub(crate) fn slot_durable(&mut self, slot_no: SlotNo) {
        self.last_slot = self.last_slot.filter(|last| *last > slot_no);
    }
}

impl Running {
    fn new(settings: GroupSettings, topic: &Topic, now: Now) -> Self {
        Self {
            topic_no: TopicNo(topic.no),
            coordinator: Coordinator::new(settings, topic.partitions, now.mono),
            to_read: (0..topic.partitions).map(|partition| (partition, Offset::ZERO)).collect(),
            reading: Reading::Idle,
            may_have_absent_topics: true,
        }
    }

    fn key(&self, partition: u32) -> PartitionKey {
        PartitionKey { topic_no: self.topic_no, partition: Partition(partition) }
    }

    /// The next part to read; partitions that have none are loaded on the way.
    fn poll_read(&mut self, now: Now, log: &Log) -> Option<GroupsRead> {
        match self.reading {
            Reading::UnderWay => return None,
            Reading::PausedUntil(at) if at > now.mono => return None,
            Reading::Idle | Reading::PausedUntil(_) => self.reading = Reading::Idle,
        }
        while let Some(&(partition, from)) = self.to_read.front() {
            let key = self.key(partition);
            let from = from.max(log.offsets(key).map_or(Offset::ZERO, |known| known.log_start));
            let plan = log.read(key, from, GROUPS_READ_BYTES, FirstBatch::Always);
            let pieces = plan.map_or_else(|_| Vec::new(), |plan| plan.pieces);
            if !pieces.is_empty() {
                self.reading = Reading::UnderWay;
                return Some(GroupsRead { partition, from, pieces });
            }
            self.to_read.pop_front();
            self.coordinator.loaded(partition, now);
        }
        None
    }
}
