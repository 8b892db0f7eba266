//! A coordinator with a journal that remembers every batch, and clients that are numbers.

use std::collections::BTreeMap;

use broker_coordinator::{
    Answer, CommitOffsets, Coordinator, GroupError, GroupId, GroupSettings, Heartbeat, InstanceId,
    JoinGroup, Joined, MemberId, MemberName, Now, OffsetToCommit, OffsetVerdict, Protocol, Record,
    SyncGroup, Synced, TopicName,
};
use bytes::Bytes;
use wire::record_batch::{HEADER_BYTES, RecordBatchHeader};
use wire::time::{MonoMs, UnixMs};

/// Partitions of the coordinator's topic.
pub const PARTITIONS: u32 = 3;

/// The session that members ask for.
pub const SESSION_MS: u64 = 10_000;

/// The rebalance timeout that members ask for.
pub const REBALANCE_MS: u64 = 60_000;

/// The delay of a group's first rebalance.
pub const DELAY_MS: u64 = 3_000;

pub type Asker = u32;

pub struct World {
    pub coordinator: Coordinator<Asker>,
    pub now: Now,
    /// Partition and batch of every append, in order.
    pub journal: Vec<(u32, Bytes)>,
    /// Whether the log takes nothing.
    pub is_full: bool,
    pub answers: BTreeMap<Asker, Answer>,
    /// How long the journal was when an answer was given: it may leave when that much is durable.
    pub given_at: BTreeMap<Asker, usize>,
    next_asker: Asker,
    next_member: u32,
}

impl World {
    /// An empty topic.
    pub fn new() -> Self {
        Self::replayed(Vec::new(), start())
    }

    /// The coordinator that comes up on this journal.
    pub fn replayed(journal: Vec<(u32, Bytes)>, now: Now) -> Self {
        let mut coordinator = Coordinator::new(GroupSettings::default(), PARTITIONS, now.mono);
        for partition in 0..PARTITIONS {
            for (_, batch) in journal.iter().filter(|(of, _)| *of == partition) {
                for record in records_of(batch) {
                    coordinator.replay(&record);
                }
            }
            coordinator.loaded(partition, now);
        }
        Self {
            coordinator,
            now,
            journal,
            is_full: false,
            answers: BTreeMap::new(),
            given_at: BTreeMap::new(),
            next_asker: 0,
            next_member: 0,
        }
    }

    pub fn asker(&mut self) -> Asker {
        self.next_asker += 1;
        self.next_asker
    }

    /// Appends and answers whatever is there.
    pub fn settle(&mut self) {
        while let Some(write) = self.coordinator.take_write() {
            if self.is_full {
                self.coordinator.refused(self.now, write);
            } else {
                RecordBatchHeader::parse(&write.batch).unwrap().check_crc(&write.batch).unwrap();
                self.journal.push((write.partition, write.batch.clone()));
                self.coordinator.appended(self.now, write);
            }
        }
        while let Some((asker, answer)) = self.coordinator.take_answer() {
            self.given_at.insert(asker, self.journal.len());
            let twice = self.answers.insert(asker, answer);
            assert_eq!(twice, None, "{asker} was answered twice");
        }
    }

    /// Lets time pass, from deadline to deadline.
    pub fn wait(&mut self, ms: u64) {
        let end = self.now.mono + ms;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono));
            self.coordinator.handle_deadlines(self.now);
            self.settle();
            if self.coordinator.next_deadline() == Some(at) {
                self.set_time(at + 1);
            }
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono: MonoMs) {
        let passed = i64::try_from(mono - self.now.mono).unwrap();
        self.now = Now { mono, wall: UnixMs(self.now.wall.0 + passed) };
    }

    /// What a member that joins sends: client "c", protocols "range" and "sticky".
    pub fn join_request(&mut self, group: &str, id: &str) -> JoinGroup {
        self.next_member += 1;
        JoinGroup {
            group: GroupId::from(group),
            member: name(id, None),
            fresh_id: MemberId::from(format!("m{}", self.next_member).as_str()),
            needs_known_id: false,
            may_skip_assignment: true,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS as i32,
            protocol_type: "consumer".to_owned(),
            protocols: protocols(&["range", "sticky"]),
        }
    }

    pub fn send_join(&mut self, join: &JoinGroup) -> Asker {
        let asker = self.asker();
        self.coordinator.join(self.now, asker, join);
        self.settle();
        asker
    }

    /// A member joins, without an id if that is empty.
    pub fn join(&mut self, group: &str, id: &str) -> Asker {
        let join = self.join_request(group, id);
        self.send_join(&join)
    }

    pub fn sync(&mut self, joined: &Joined, assignments: &[(&MemberId, &str)]) -> Asker {
        let assignments = assignments.iter();
        let assignments = assignments
            .map(|(id, text)| ((*id).clone(), Bytes::copy_from_slice(text.as_bytes())))
            .collect();
        let sync = SyncGroup {
            group: GroupId::from("g"),
            member: name(joined.member.as_str(), None),
            generation: joined.generation,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some(joined.protocol.clone()),
            assignments,
        };
        self.send_sync(&sync)
    }

    pub fn send_sync(&mut self, sync: &SyncGroup) -> Asker {
        let asker = self.asker();
        self.coordinator.sync(self.now, asker, sync);
        self.settle();
        asker
    }

    pub fn heartbeat(&mut self, id: &MemberId, generation: i32) -> Result<(), GroupError> {
        let member = name(id.as_str(), None);
        let heartbeat = Heartbeat { group: GroupId::from("g"), member, generation };
        let outcome = self.coordinator.heartbeat(self.now, &heartbeat);
        self.settle();
        outcome
    }

    pub fn leave(&mut self, members: &[MemberName]) -> Vec<Result<(), GroupError>> {
        let left = self.coordinator.leave(self.now, &GroupId::from("g"), members).unwrap();
        self.settle();
        left
    }

    pub fn commit(&mut self, member: &str, generation: i32, offsets: &[(i32, i64)]) -> Asker {
        let offsets = offsets.iter().map(|&(partition, offset)| to_commit(partition, offset));
        self.send_commit(CommitOffsets {
            group: GroupId::from("g"),
            member: name(member, None),
            generation,
            retention_ms: None,
            offsets: offsets.collect(),
        })
    }

    pub fn send_commit(&mut self, commit: CommitOffsets) -> Asker {
        let asker = self.asker();
        self.coordinator.commit(self.now, asker, commit);
        self.settle();
        asker
    }

    pub fn take_join(&mut self, asker: Asker) -> Result<Joined, GroupError> {
        match self.answers.remove(&asker) {
            Some(Answer::Join(outcome)) => outcome.map_err(|(error, _)| error),
            other => panic!("not an answer to a join: {other:?}"),
        }
    }

    pub fn take_sync(&mut self, asker: Asker) -> Result<Synced, GroupError> {
        match self.answers.remove(&asker) {
            Some(Answer::Sync(outcome)) => outcome,
            other => panic!("not an answer to a sync: {other:?}"),
        }
    }

    pub fn take_commit(&mut self, asker: Asker) -> Vec<OffsetVerdict> {
        match self.answers.remove(&asker) {
            Some(Answer::Commit(verdicts)) => verdicts,
            other => panic!("not an answer to a commit: {other:?}"),
        }
    }

    /// What a commit of one offset gets.
    pub fn commit_one(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let asker = self.commit(member, generation, &[(0, 5)]);
        self.take_commit(asker)[0].outcome
    }

    pub fn offset(&self, partition: i32) -> Option<i64> {
        let found = self.coordinator.offset(&GroupId::from("g"), "t", partition).unwrap();
        found.map(|offset| offset.offset)
    }

    pub fn state(&self) -> &'static str {
        self.coordinator.describe(&GroupId::from("g")).map_or("none", |group| group.state)
    }

    /// The group "g" with so many members, all with an assignment that is their own id. The leader comes first.
    pub fn stable(&mut self, members: usize) -> Vec<Joined> {
        let askers: Vec<Asker> = (0..members).map(|_| self.join("g", "")).collect();
        self.wait(DELAY_MS * 2);
        let mut joined: Vec<Joined> =
            askers.into_iter().map(|asker| self.take_join(asker).unwrap()).collect();
        joined.sort_by_key(|joined| joined.member != joined.leader);
        self.sync_all(&joined);
        assert_eq!(self.state(), "Stable");
        joined
    }

    /// Everybody syncs, the leader last; each gets its own id for an assignment.
    pub fn sync_all(&mut self, joined: &[Joined]) {
        let ids: Vec<MemberId> = joined.iter().map(|joined| joined.member.clone()).collect();
        let assignments: Vec<_> = ids.iter().map(|id| (id, id.as_str())).collect();
        let (leaders, others): (Vec<&Joined>, Vec<&Joined>) =
            joined.iter().partition(|joined| joined.member == joined.leader);
        let mut askers: Vec<_> =
            others.iter().map(|joined| (self.sync(joined, &[]), joined.member.clone())).collect();
        for leader in leaders {
            askers.push((self.sync(leader, &assignments), leader.member.clone()));
        }
        for (asker, id) in askers {
            let synced = self.take_sync(asker).unwrap();
            assert_eq!(synced.assignment, id.as_str().as_bytes());
        }
    }
}

pub fn start() -> Now {
    Now { mono: MonoMs(1_000), wall: UnixMs(1_700_000_000_000) }
}

pub fn name(id: &str, instance: Option<&str>) -> MemberName {
    MemberName { id: MemberId::from(id), instance: instance.map(InstanceId::from) }
}

pub fn protocols(names: &[&str]) -> Vec<Protocol> {
    let offered = names.iter().map(|name| Protocol {
        name: (*name).to_owned(),
        metadata: Bytes::copy_from_slice(format!("{name} metadata").as_bytes()),
    });
    offered.collect()
}

pub fn to_commit(partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        topic: TopicName::from("t"),
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        known: Ok(()),
    }
}

/// The records of a batch that is not compressed (Kafka documentation, "Record").
pub fn records_of(batch: &[u8]) -> Vec<Record> {
    let header = RecordBatchHeader::parse(batch).unwrap();
    let mut rest = &batch[HEADER_BYTES..header.total_len];
    let mut records = Vec::new();
    for _ in 0..header.record_count {
        let length = usize::try_from(varint(&mut rest)).unwrap();
        let (mut record, after) = rest.split_at(length);
        rest = after;
        record = &record[1..];
        varint(&mut record);
        varint(&mut record);
        let key = piece(&mut record).unwrap();
        let value = piece(&mut record);
        records.push(Record::decode(key, value).unwrap());
    }
    records
}

fn piece<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)).ok()?;
    let (piece, rest) = bytes.split_at(length);
    *bytes = rest;
    Some(piece)
}

fn varint(bytes: &mut &[u8]) -> i64 {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
