//! One group: its members, and which phase of a rebalance it is in.
//!
//! The rules are those of Kafka's classic groups (KIP-62, KIP-345, KIP-394, KIP-814), as `ClassicGroup.java` and
//! `GroupMetadataManager.java` of release 4.1 apply them.
//!
//! ```text
//!           join                  all have joined,            leader has synced,
//! Empty ───────────► Joining ──── or time is up ───► Syncing ──── and is saved ───► Stable
//!   ▲                 │  ▲ ▲                           │                              │
//!   └── nobody left ──┘  │ └── a member comes or goes ─┘                              │
//!                        └───────────── a member comes, goes or changes ──────────────┘
//! ```

mod join;
mod leave;
mod member;
mod rebalance;
mod sync;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::time::{MonoMs, UnixMs};

use crate::coordinator::Now;
use crate::error::GroupError;
use crate::ids::{GroupId, InstanceId, MemberId};
use crate::outbox::{Answer, Outbox, Then, Write};
use crate::record::{GroupMetadata, Record, encode_batch};
use crate::request::MemberName;
use crate::settings::GroupSettings;

pub(crate) use member::Member;

/// What a group is given when something happens to it.
pub(crate) struct Turn<'a, A> {
    pub(crate) now: Now,
    pub(crate) settings: &'a GroupSettings,
    /// Bytes of members' metadata that all groups together may still take.
    pub(crate) bytes_left: usize,
    pub(crate) out: &'a mut Outbox<A>,
}

/// A group and who waits for it.
#[derive(Debug)]
pub(crate) struct Group<A> {
    id: GroupId,
    /// The partition of `__consumer_offsets` that it lives in.
    partition: u32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member<A>>,
    instances: BTreeMap<InstanceId, MemberId>,
    /// Ids that were given out and not joined with yet, until when.
    pending: BTreeMap<MemberId, MonoMs>,
    phase: Phase,
    /// When the phase began.
    since: UnixMs,
    /// When members that have not synced are taken for gone; after the leader has synced too.
    sync_deadline: Option<MonoMs>,
    /// Whether there are records of it, so that its end has to be one too.
    is_saved: bool,
    /// When to save the group again, for which the log had no room.
    save_again: Option<MonoMs>,
    /// What the members take, and the ids that were given out.
    bytes: usize,
}

/// Where a group is in a rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody is in it.
    Empty,
    /// It waits for its members to join.
    Joining { deadline: MonoMs, initial: Option<Initial> },
    /// It waits for the leader's assignments.
    Syncing,
    /// Everybody has an assignment.
    Stable,
}

/// The first rebalance of an empty group, which waits for more members as long as they keep coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Initial {
    /// How much longer it may be put off.
    pub(crate) remaining_ms: u64,
    /// Whether somebody came since it was put off last.
    pub(crate) newcomer: bool,
}

impl<A: Copy> Group<A> {
    pub(crate) fn new(id: GroupId, partition: u32, now: Now) -> Self {
        Self {
            id,
            partition,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            phase: Phase::Empty,
            since: now.wall,
            sync_deadline: None,
            is_saved: false,
            save_again: None,
            bytes: 0,
        }
    }

    /// The group as it was saved; its members' sessions begin now.
    pub(crate) fn saved(id: GroupId, partition: u32, saved: &GroupMetadata, now: Now) -> Self {
        let mut group = Self::new(id, partition, now);
        group.protocol_type = Some(saved.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol.clone_from(&saved.protocol);
        group.generation = saved.generation;
        group.leader.clone_from(&saved.leader);
        group.since = saved.since;
        group.is_saved = true;
        let protocol = saved.protocol.as_deref().unwrap_or_default();
        for saved in &saved.members {
            let member = Member::saved(saved, protocol, now.mono);
            group.bytes += member.bytes();
            if let Some(instance) = &member.instance {
                group.instances.insert(instance.clone(), saved.id.clone());
            }
            group.members.insert(saved.id.clone(), member);
        }
        if !group.members.is_empty() {
            group.phase = Phase::Stable;
        }
        group
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    /// Whether nothing is lost if the group is forgotten, its records apart.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_empty() && self.pending.is_empty() && self.save_again.is_none()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn since(&self) -> UnixMs {
        self.since
    }

    pub(crate) fn members(&self) -> &BTreeMap<MemberId, Member<A>> {
        &self.members
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or_default()
    }

    /// When the group has to be looked at.
    pub(crate) fn deadline(&self) -> Option<MonoMs> {
        let joining = match self.phase {
            Phase::Joining { deadline, .. } => Some(deadline),
            Phase::Empty | Phase::Syncing | Phase::Stable => None,
        };
        let sessions = self.members.values().map(|member| member.deadline);
        let pending = self.pending.values().copied();
        let own = [joining, self.sync_deadline, self.save_again].into_iter().flatten();
        sessions.chain(pending).chain(own).min()
    }

    /// Checks that a static member is the one that has its instance id (KIP-345).
    pub(crate) fn check_name(&self, member: &MemberName) -> Result<(), GroupError> {
        let Some(instance) = &member.instance else {
            return Ok(());
        };
        match self.instances.get(instance) {
            None => Err(GroupError::UnknownMemberId),
            Some(id) if *id != member.id => Err(GroupError::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// Checks that it is a member that is in this generation.
    pub(crate) fn check_member(
        &self,
        member: &MemberName,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_name(member)?;
        if !self.members.contains_key(&member.id) {
            return Err(GroupError::UnknownMemberId);
        }
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    /// The group as a record, everybody with this assignment.
    fn record(&self, assignment: impl Fn(&MemberId, &Member<A>) -> Bytes) -> Record {
        let protocol = self.protocol();
        let members = self.members.iter();
        let members = members.map(|(id, member)| member.save(id, protocol, assignment(id, member)));
        let metadata = GroupMetadata {
            protocol_type: self.protocol_type().to_owned(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: members.collect(),
        };
        Record::Group { group: self.id.clone(), metadata: Some(metadata) }
    }

    /// Hands out the write of a record of this group.
    fn write(
        &self,
        turn: &mut Turn<'_, A>,
        record: Record,
        then: Then<A>,
    ) -> Result<(), GroupError> {
        let records = vec![record];
        let batch = encode_batch(&records, turn.now.wall);
        let batch = batch.map_err(|_| GroupError::GroupMaxSizeReached)?;
        turn.out.writes.push_back(Write { partition: self.partition, batch, records, then });
        Ok(())
    }

    /// Saves the group as it is.
    fn save(&mut self, turn: &mut Turn<'_, A>) {
        self.save_again = None;
        let record = self.record(|_, member| member.assignment.clone());
        let then = Then::Save { group: self.id.clone() };
        // Only groups without members are saved this way, and those always fit.
        let _ = self.write(turn, record, then);
    }

    /// A record of the group is in the log.
    pub(crate) fn note_saved(&mut self) {
        self.is_saved = true;
    }

    /// The log had no room for the group.
    pub(crate) fn not_saved(&mut self, now: MonoMs) {
        self.save_again = Some(now + crate::settings::WRITE_RETRY_MS);
    }

    fn answer_join(
        turn: &mut Turn<'_, A>,
        member: &mut Member<A>,
        answer: Result<crate::outbox::Joined, (GroupError, MemberId)>,
    ) {
        if let Some(asker) = member.joining.take() {
            turn.out.answer(asker, Answer::Join(answer));
        }
    }

    fn answer_sync(
        turn: &mut Turn<'_, A>,
        member: &mut Member<A>,
        answer: Result<crate::outbox::Synced, GroupError>,
    ) {
        if let Some(asker) = member.syncing.take() {
            turn.out.answer(asker, Answer::Sync(answer));
        }
    }
}
