//! SyncGroup and Heartbeat.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Group, Phase, Turn};
use crate::error::GroupError;
use crate::ids::MemberId;
use crate::outbox::{Answer, Synced, Then};
use crate::request::{Heartbeat, MemberName, SyncGroup};

impl<A: Copy> Group<A> {
    /// Takes a sync. It is answered now, or when the leader's assignments are saved.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_, A>, asker: A, sync: &SyncGroup) {
        if let Err(error) = self.try_sync(turn, asker, sync) {
            turn.out.answer(asker, Answer::Sync(Err(error)));
        }
    }

    fn try_sync(
        &mut self,
        turn: &mut Turn<'_, A>,
        asker: A,
        sync: &SyncGroup,
    ) -> Result<(), GroupError> {
        let id = &sync.member.id;
        self.check_member(&sync.member, sync.generation)?;
        let differs = |claimed: &Option<String>, ours: &Option<String>| {
            claimed.as_ref().is_some_and(|claimed| Some(claimed) != ours.as_ref())
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let member = self.members.get_mut(id).ok_or(GroupError::UnknownMemberId)?;
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMemberId),
            Phase::Joining { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Syncing => {
                Self::answer_sync(turn, member, Err(GroupError::RebalanceInProgress));
                member.syncing = Some(asker);
                member.must_sync = false;
                if self.leader.as_ref() == Some(id)
                    && let Err(error) = self.assign(turn, sync)
                {
                    self.not_assigned(turn, error);
                }
                Ok(())
            }
            Phase::Stable => {
                member.must_sync = false;
                member.restart_session(turn.now.mono);
                let assignment = member.assignment.clone();
                self.note_synced();
                let synced = self.synced(assignment);
                turn.out.answer(asker, Answer::Sync(Ok(synced)));
                Ok(())
            }
        }
    }

    /// Hands out the write of the leader's assignments. Who is not in them gets nothing.
    fn assign(&mut self, turn: &mut Turn<'_, A>, sync: &SyncGroup) -> Result<(), GroupError> {
        let given: BTreeMap<&MemberId, &Bytes> =
            sync.assignments.iter().map(|(id, assignment)| (id, assignment)).collect();
        let assigned = |id: &MemberId| given.get(id).map_or(Bytes::new(), |&bytes| bytes.clone());
        let record = self.record(|id, _| assigned(id));
        let members = self.members.keys();
        let assignments = members.map(|id| (id.clone(), assigned(id))).collect();
        let group = self.id.clone();
        let then = Then::Assign { group, generation: self.generation, assignments };
        self.write(turn, record, then)
    }

    /// The assignments are in the log.
    pub(crate) fn assigned(
        &mut self,
        turn: &mut Turn<'_, A>,
        generation: i32,
        assignments: Vec<(MemberId, Bytes)>,
    ) {
        if self.phase != Phase::Syncing || self.generation != generation {
            return;
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        self.since = turn.now.wall;
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let assignment = self.members.get(&id).map(|member| member.assignment.clone());
            let synced = self.synced(assignment.unwrap_or_default());
            if let Some(member) = self.members.get_mut(&id)
                && member.syncing.is_some()
            {
                Self::answer_sync(turn, member, Ok(synced));
                member.restart_session(turn.now.mono);
            }
        }
        self.note_synced();
    }

    /// The assignments could not be saved: the leader may try again.
    pub(crate) fn not_assigned(&mut self, turn: &mut Turn<'_, A>, error: GroupError) {
        if let Some(leader) = self.leader.clone()
            && let Some(member) = self.members.get_mut(&leader)
        {
            member.must_sync = true;
            Self::answer_sync(turn, member, Err(error));
        }
    }

    /// A static member's new id could not be saved: everybody joins again.
    pub(crate) fn not_replaced(&mut self, turn: &mut Turn<'_, A>) {
        self.prepare(turn);
    }

    /// Takes a heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &Turn<'_, A>,
        heartbeat: &Heartbeat,
    ) -> Result<(), GroupError> {
        if self.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&heartbeat.member, heartbeat.generation)?;
        self.keep_alive(turn, &heartbeat.member);
        match self.phase {
            Phase::Joining { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::Syncing | Phase::Stable => Ok(()),
        }
    }

    /// The member has said something.
    pub(crate) fn keep_alive(&mut self, turn: &Turn<'_, A>, name: &MemberName) {
        if let Some(member) = self.members.get_mut(&name.id) {
            member.restart_session(turn.now.mono);
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            assignment,
        }
    }
}
