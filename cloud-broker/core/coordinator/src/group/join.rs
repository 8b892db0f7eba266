//! JoinGroup.

use super::member::{joined_bytes, pending_bytes};
use super::{Group, Initial, Member, Phase, Turn};
use crate::error::GroupError;
use crate::ids::{InstanceId, MemberId};
use crate::outbox::{Answer, Joined, JoinedMember, Then};
use crate::request::JoinGroup;
use crate::settings::{GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT_MS};

impl<A: Copy> Group<A> {
    /// Takes a join. It is answered now or when the rebalance is through.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_, A>, asker: A, join: &JoinGroup) {
        if let Err(error) = self.try_join(turn, asker, join) {
            let member = match error {
                GroupError::MemberIdRequired => join.fresh_id.clone(),
                _ => join.member.id.clone(),
            };
            turn.out.answer(asker, Answer::Join(Err((error, member))));
        }
    }

    fn try_join(
        &mut self,
        turn: &mut Turn<'_, A>,
        asker: A,
        join: &JoinGroup,
    ) -> Result<(), GroupError> {
        self.check_protocols(join)?;
        if join.member.id.as_str().is_empty() {
            self.join_new(turn, asker, join)
        } else {
            self.join_known(turn, asker, join)
        }
    }

    /// Somebody without an id.
    fn join_new(
        &mut self,
        turn: &mut Turn<'_, A>,
        asker: A,
        join: &JoinGroup,
    ) -> Result<(), GroupError> {
        if let Some(instance) = &join.member.instance
            && let Some(old) = self.instances.get(instance).cloned()
        {
            return self.replace(turn, asker, join, (instance, &old));
        }
        self.check_room(turn, join, 0)?;
        if join.needs_known_id && join.member.instance.is_none() {
            let session = u64::try_from(join.session_timeout_ms).unwrap_or(0);
            self.bytes += pending_bytes(&join.fresh_id);
            self.pending.insert(join.fresh_id.clone(), turn.now.mono + session);
            return Err(GroupError::MemberIdRequired);
        }
        self.add(turn, asker, join.fresh_id.clone(), join);
        Ok(())
    }

    /// Somebody with an id.
    fn join_known(
        &mut self,
        turn: &mut Turn<'_, A>,
        asker: A,
        join: &JoinGroup,
    ) -> Result<(), GroupError> {
        let id = &join.member.id;
        self.check_name(&join.member)?;
        if self.pending.contains_key(id) {
            self.check_room(turn, join, pending_bytes(id))?;
            self.forget_pending(id);
            self.add(turn, asker, id.clone(), join);
            return Ok(());
        }
        let member = self.members.get(id).ok_or(GroupError::UnknownMemberId)?;
        let is_same = member.protocols == join.protocols;
        let leads = self.leader.as_ref() == Some(id);
        let rejoins = match self.phase {
            Phase::Empty => return Err(GroupError::UnknownMemberId),
            Phase::Joining { .. } => true,
            // The answer to its join was lost, if it says the same again.
            Phase::Syncing => !is_same,
            // A leader that joins again wants a rebalance: it has seen topics change.
            Phase::Stable => leads || !is_same,
        };
        if rejoins {
            let freed = member.bytes();
            self.check_bytes(turn, join, freed)?;
            self.rejoin(asker, turn, join);
            self.prepare(turn);
        } else {
            let members = match self.phase {
                Phase::Syncing if leads => self.joined_members(),
                _ => Vec::new(),
            };
            let joined = self.joined(id, members);
            turn.out.answer(asker, Answer::Join(Ok(joined)));
        }
        Ok(())
    }

    fn add(&mut self, turn: &mut Turn<'_, A>, asker: A, id: MemberId, join: &JoinGroup) {
        let member = Member::new(join, asker, turn.now.mono + NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.bytes += member.bytes();
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id, member);
        if let Phase::Joining { initial: Some(Initial { newcomer, .. }), .. } = &mut self.phase {
            *newcomer = true;
        }
        self.prepare(turn);
    }

    /// A member joins again; an earlier join of its that still waits is told to try again.
    fn rejoin(&mut self, asker: A, turn: &mut Turn<'_, A>, join: &JoinGroup) {
        let id = &join.member.id;
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        Self::answer_join(turn, member, Err((GroupError::RebalanceInProgress, id.clone())));
        self.bytes -= member.bytes();
        member.rejoin(join);
        self.bytes += member.bytes();
        member.joining = Some(asker);
        member.restart_session(turn.now.mono);
        if member.is_new {
            member.deadline = turn.now.mono + NEW_MEMBER_JOIN_TIMEOUT_MS;
        }
    }

    /// A static member that comes back without its id: it gets another one, and the old one is fenced.
    fn replace(
        &mut self,
        turn: &mut Turn<'_, A>,
        asker: A,
        join: &JoinGroup,
        (instance, old): (&InstanceId, &MemberId),
    ) -> Result<(), GroupError> {
        let freed = self.members.get(old).map_or(0, Member::bytes);
        self.check_bytes(turn, join, freed)?;
        let leader_before = self.leader.clone();
        let id = join.fresh_id.clone();
        let member = self.members.remove(old);
        let mut member = member.ok_or(GroupError::UnknownMemberId)?;
        Self::answer_join(turn, &mut member, Err((GroupError::FencedInstanceId, old.clone())));
        Self::answer_sync(turn, &mut member, Err(GroupError::FencedInstanceId));
        self.bytes -= member.bytes();
        member.rejoin(join);
        self.bytes += member.bytes();
        member.joining = Some(asker);
        member.restart_session(turn.now.mono);
        self.members.insert(id.clone(), member);
        self.instances.insert(instance.clone(), id.clone());
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(id.clone());
        }
        // Nothing changes for the others if the group would choose the same protocol: no rebalance then.
        if self.phase != Phase::Stable || self.vote() != self.protocol {
            self.prepare(turn);
            return Ok(());
        }
        let record = self.record(|_, member| member.assignment.clone());
        let then = Then::Replace {
            group: self.id.clone(),
            member: id.clone(),
            leader_before: leader_before.unwrap_or(id),
            may_skip_assignment: join.may_skip_assignment,
        };
        self.write(turn, record, then)
    }

    /// The group knows a static member's new id durably: it goes on with its assignment.
    pub(crate) fn replaced(
        &mut self,
        turn: &mut Turn<'_, A>,
        id: &MemberId,
        leader_before: MemberId,
        may_skip_assignment: bool,
    ) {
        let leads = self.leader.as_ref() == Some(id);
        let mut joined = self.joined(id, Vec::new());
        if may_skip_assignment && leads {
            joined.members = self.joined_members();
            joined.skip_assignment = true;
        } else if !may_skip_assignment {
            // One that knows of no such thing must not take itself for the leader.
            joined.leader = leader_before;
        }
        if let Some(member) = self.members.get_mut(id) {
            Self::answer_join(turn, member, Ok(joined));
            member.restart_session(turn.now.mono);
        }
    }

    /// Membership in the present generation.
    pub(super) fn joined(&self, id: &MemberId, members: Vec<JoinedMember>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            leader: self.leader.clone().unwrap_or_else(|| id.clone()),
            member: id.clone(),
            members,
            skip_assignment: false,
        }
    }

    /// Everybody, as the leader sees them.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol();
        let members = self.members.iter().map(|(id, member)| JoinedMember {
            id: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }

    /// Whether the member has something in common with all others.
    fn check_protocols(&self, join: &JoinGroup) -> Result<(), GroupError> {
        let own = join.member.instance.as_ref().and_then(|instance| self.instances.get(instance));
        let is_own = |id: &MemberId| *id == join.member.id || Some(id) == own;
        let others = || self.members.iter().filter(|(id, _)| !is_own(id));
        let fits = self.is_empty()
            || (self.protocol_type.as_ref() == Some(&join.protocol_type)
                && join
                    .protocols
                    .iter()
                    .any(|offered| others().all(|(_, member)| member.offers(&offered.name))));
        if fits { Ok(()) } else { Err(GroupError::InconsistentGroupProtocol) }
    }

    /// Forgets an id that was given out; says whether it was.
    pub(super) fn forget_pending(&mut self, id: &MemberId) -> bool {
        let was_pending = self.pending.remove(id).is_some();
        if was_pending {
            self.bytes -= pending_bytes(id);
        }
        was_pending
    }

    fn check_room(
        &self,
        turn: &Turn<'_, A>,
        join: &JoinGroup,
        freed: usize,
    ) -> Result<(), GroupError> {
        let pending = self.pending.keys().filter(|id| **id != join.member.id).count();
        if self.members.len() + pending >= GROUP_MEMBERS_MAX {
            return Err(GroupError::GroupMaxSizeReached);
        }
        self.check_bytes(turn, join, freed)
    }

    /// Whether there is memory for a member. `freed` is what it gives back: one that joins again must not be turned away for
    /// what it has already.
    fn check_bytes(
        &self,
        turn: &Turn<'_, A>,
        join: &JoinGroup,
        freed: usize,
    ) -> Result<(), GroupError> {
        let bytes = joined_bytes(join);
        if self.bytes - freed + bytes > GROUP_METADATA_BYTES_MAX || bytes > turn.bytes_left + freed
        {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }
}
