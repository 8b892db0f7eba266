//! The coordinator: committed state, living groups, timers and what comes out, put together.

mod describe;
mod expiry;
mod offsets;

use std::collections::{BTreeMap, BTreeSet};

use wire::time::{MonoMs, UnixMs};

use crate::committed::CommittedGroups;
use crate::error::GroupError;
use crate::group::{Group, Turn};
use crate::ids::GroupId;
use crate::outbox::{Answer, Outbox, Then, Write};
use crate::placement::partition_of;
use crate::record::Record;
use crate::request::{Heartbeat, JoinGroup, MemberName, SyncGroup};
use crate::settings::{
    CLIENT_ID_BYTES_MAX, GROUP_ID_BYTES_MAX, GROUPS_MAX, GroupSettings, MEMBER_METADATA_BYTES_MAX,
    MEMBER_PROTOCOLS_MAX, METADATA_BYTES_MAX, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN,
};
use crate::timers::Timers;

pub use describe::{GroupDescription, GroupListing, MemberDescription};
use expiry::Expiry;

/// The time of a call, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub mono: MonoMs,
    /// For people, and for what outlives the process.
    pub wall: UnixMs,
}

/// The deterministic coordinator of all groups; `A` names whoever is to be answered.
#[derive(Debug)]
pub struct Coordinator<A> {
    settings: GroupSettings,
    /// Which partitions of the topic were replayed.
    loaded: Vec<bool>,
    /// Groups with records in the partition that is being replayed.
    replayed: BTreeSet<GroupId>,
    committed: CommittedGroups,
    groups: BTreeMap<GroupId, Group<A>>,
    /// What the members of all groups take.
    metadata_bytes: usize,
    timers: Timers,
    expiry: Expiry,
    out: Outbox<A>,
}

impl<A: Copy> Coordinator<A> {
    /// A coordinator for a topic of so many partitions, which knows nothing of them yet.
    #[must_use]
    pub fn new(settings: GroupSettings, partitions: u32, now: MonoMs) -> Self {
        Self {
            settings,
            loaded: vec![false; partitions as usize],
            replayed: BTreeSet::new(),
            committed: CommittedGroups::default(),
            groups: BTreeMap::new(),
            metadata_bytes: 0,
            timers: Timers::default(),
            expiry: Expiry::new(now),
            out: Outbox::new(),
        }
    }

    /// Takes a record of a partition that is not loaded yet. They come in order, one partition after the other.
    pub fn replay(&mut self, record: &Record) {
        self.replayed.insert(record.group().clone());
        self.committed.apply(record);
    }

    /// The partition has no more records: its groups are served, their members' sessions begin now.
    pub fn loaded(&mut self, partition: u32, now: Now) {
        if let Some(loaded) = self.loaded.get_mut(partition as usize) {
            *loaded = true;
        }
        for id in std::mem::take(&mut self.replayed) {
            let committed = self.committed.get(id.as_str());
            if let Some(saved) = committed.and_then(|group| group.metadata.as_ref()) {
                let group = Group::saved(id.clone(), partition, saved, now);
                self.metadata_bytes += group.bytes();
                self.timers.set(&id, group.deadline());
                self.groups.insert(id, group);
            }
        }
    }

    /// Whether every partition is loaded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.iter().all(|loaded| *loaded)
    }

    /// What the records say.
    #[must_use]
    pub fn committed(&self) -> &CommittedGroups {
        &self.committed
    }

    /// A member joins; [`Answer::Join`] follows, perhaps after the rebalance.
    pub fn join(&mut self, now: Now, asker: A, join: &JoinGroup) {
        let checked = self.check_join(join);
        let partition = match checked {
            Ok(partition) => partition,
            Err(error) => {
                let refused = Answer::Join(Err((error, join.member.id.clone())));
                return self.out.answer(asker, refused);
            }
        };
        if !self.groups.contains_key(&join.group) {
            let group = Group::new(join.group.clone(), partition, now);
            self.groups.insert(join.group.clone(), group);
        }
        self.with_group(now, &join.group, |group, turn| group.join(turn, asker, join));
    }

    /// A member wants its assignment; [`Answer::Sync`] follows, perhaps after the leader's.
    pub fn sync(&mut self, now: Now, asker: A, sync: &SyncGroup) {
        let synced = self.member_route(&sync.group).and_then(|_| {
            let group = &sync.group;
            let found = self.with_group(now, group, |group, turn| group.sync(turn, asker, sync));
            found.ok_or(GroupError::UnknownMemberId)
        });
        if let Err(error) = synced {
            self.out.answer(asker, Answer::Sync(Err(error)));
        }
    }

    /// A member is alive.
    ///
    /// # Errors
    /// [`GroupError`]: it has to join again, or is none.
    pub fn heartbeat(&mut self, now: Now, heartbeat: &Heartbeat) -> Result<(), GroupError> {
        self.member_route(&heartbeat.group)?;
        let Self { groups, settings, out, .. } = self;
        let group = groups.get_mut(&heartbeat.group).ok_or(GroupError::UnknownMemberId)?;
        // The deadline only moves later: the timer that is set finds that out.
        group.heartbeat(&Turn { now, settings, bytes_left: 0, out }, heartbeat)
    }

    /// Members leave; says what became of each.
    ///
    /// # Errors
    /// [`GroupError`]: the group is not served.
    pub fn leave(
        &mut self,
        now: Now,
        group: &GroupId,
        members: &[MemberName],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.member_route(group)?;
        let left = self.with_group(now, group, |group, turn| group.leave(turn, members));
        Ok(left.unwrap_or_else(|| vec![Err(GroupError::UnknownMemberId); members.len()]))
    }

    /// When [`Coordinator::handle_deadlines`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        let expiry = self.expiry.next();
        Some(self.timers.next().map_or(expiry, |timer| timer.min(expiry)))
    }

    /// Carries out what is due: sessions that end, rebalances that waited long enough, offsets that expire.
    pub fn handle_deadlines(&mut self, now: Now) {
        for id in self.timers.take_due(now.mono) {
            self.with_group(now, &id, |group, turn| group.handle_deadline(turn));
        }
        self.expire_offsets(now);
    }

    /// The next write to make.
    pub fn take_write(&mut self) -> Option<Write<A>> {
        self.out.writes.pop_front()
    }

    /// The next answer to give.
    pub fn take_answer(&mut self) -> Option<(A, Answer)> {
        self.out.answers.pop_front()
    }

    /// A write is appended to the log: this is when state changes.
    pub fn appended(&mut self, now: Now, write: Write<A>) {
        for record in &write.records {
            self.committed.apply(record);
            if let Record::Group { group, .. } = record {
                self.with_group(now, group, |living, _| living.note_saved());
            }
        }
        match write.then {
            Then::Answer { asker, appended, .. } => self.out.answer(asker, appended),
            Then::Assign { group, generation, assignments } => {
                self.with_group(now, &group, |group, turn| {
                    group.assigned(turn, generation, assignments);
                });
            }
            Then::Delete(deleting) => self.deleted(now, deleting),
            Then::Expire => {}
            Then::Replace { group, member, leader_before, may_skip_assignment } => {
                self.with_group(now, &group, |group, turn| {
                    group.replaced(turn, &member, leader_before, may_skip_assignment);
                });
            }
            Then::Save { .. } => {}
        }
    }

    /// The log has no room for a write: nothing of it has happened.
    pub fn refused(&mut self, now: Now, write: Write<A>) {
        let error = GroupError::CoordinatorNotAvailable;
        match write.then {
            Then::Answer { asker, refused, .. } => self.out.answer(asker, refused),
            Then::Assign { group, .. } => {
                self.with_group(now, &group, |group, turn| group.not_assigned(turn, error));
            }
            Then::Delete(deleting) => self.not_deleted(now, deleting),
            Then::Expire => {}
            Then::Replace { group, .. } => {
                self.with_group(now, &group, Group::not_replaced);
            }
            Then::Save { group } => {
                self.with_group(now, &group, |group, _| group.not_saved(now.mono));
            }
        }
    }

    /// The partition of a group that is served.
    fn route(&self, group: &GroupId) -> Result<u32, GroupError> {
        if group.as_str().len() > GROUP_ID_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        let partitions = u32::try_from(self.loaded.len()).unwrap_or(u32::MAX);
        let partition = partition_of(group.as_str(), partitions);
        match self.loaded.get(partition as usize) {
            Some(true) => Ok(partition),
            Some(false) | None => Err(GroupError::LoadInProgress),
        }
    }

    /// The same for whoever is a member: only offsets may belong to a group without a name.
    fn member_route(&self, group: &GroupId) -> Result<u32, GroupError> {
        if group.as_str().is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.route(group)
    }

    fn check_join(&self, join: &JoinGroup) -> Result<u32, GroupError> {
        let partition = self.member_route(&join.group)?;
        if !(SESSION_TIMEOUT_MS_MIN..=SESSION_TIMEOUT_MS_MAX).contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let instance = join.member.instance.as_ref().map_or("", |instance| instance.as_str());
        let names = [&join.client_id, &join.client_host, &join.protocol_type, instance];
        if names.iter().any(|name| name.len() > CLIENT_ID_BYTES_MAX) {
            return Err(GroupError::InvalidRequest);
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let bytes = join.protocols.iter().map(|p| p.name.len() + p.metadata.len());
        if join.protocols.len() > MEMBER_PROTOCOLS_MAX
            || bytes.sum::<usize>() > MEMBER_METADATA_BYTES_MAX
        {
            return Err(GroupError::InvalidRequest);
        }
        if self.groups.contains_key(&join.group) {
            return Ok(partition);
        }
        if !join.member.id.as_str().is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        // Groups that only have records count too: they may come back.
        if self.groups.len().max(self.committed.len()) >= GROUPS_MAX {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(partition)
    }

    /// Lets `act` happen to a group, if it is there, and looks after the group's deadline.
    fn with_group<T>(
        &mut self,
        now: Now,
        id: &GroupId,
        act: impl FnOnce(&mut Group<A>, &mut Turn<'_, A>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let before = group.bytes();
        let bytes_left = METADATA_BYTES_MAX.saturating_sub(self.metadata_bytes);
        let mut turn = Turn { now, settings: &self.settings, bytes_left, out: &mut self.out };
        let done = act(group, &mut turn);
        self.metadata_bytes = self.metadata_bytes - before + group.bytes();
        self.settle(id);
        Some(done)
    }

    /// Sets the group's timer, or forgets it if there is nothing to remember.
    fn settle(&mut self, id: &GroupId) {
        let Some(group) = self.groups.get(id) else {
            return;
        };
        let committed = self.committed.get(id.as_str());
        let is_saved = committed.is_some_and(|group| group.metadata.is_some());
        // Looked at last: many groups may be saved at once.
        let is_writing = || self.out.writes.iter().any(|write| write.concerns(id));
        if group.is_idle() && !is_saved && !is_writing() {
            self.timers.set(id, None);
            self.groups.remove(id);
        } else {
            self.timers.set(id, group.deadline());
        }
    }
}
