//! Members go: LeaveGroup, and whoever is taken for gone.

use super::{Group, Phase, Turn};
use crate::error::GroupError;
use crate::ids::MemberId;
use crate::request::MemberName;

impl<A: Copy> Group<A> {
    /// Members leave, by their own word or an administrator's; says what became of each.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_, A>,
        names: &[MemberName],
    ) -> Vec<Result<(), GroupError>> {
        let mut verdicts = Vec::with_capacity(names.len());
        let members = self.members.len();
        for name in names {
            verdicts.push(self.find(name).map(|id| {
                if !self.forget_pending(&id) {
                    self.take_out(turn, &id);
                }
            }));
        }
        if self.members.len() < members {
            self.prepare_again(turn);
        } else {
            self.complete_if_all_joined(turn);
        }
        verdicts
    }

    /// The member of this name. An administrator knows static members by their instance ids only.
    fn find(&self, name: &MemberName) -> Result<MemberId, GroupError> {
        if let Some(instance) = &name.instance
            && name.id.as_str().is_empty()
        {
            let id = self.instances.get(instance);
            return id.cloned().ok_or(GroupError::UnknownMemberId);
        }
        self.check_name(name)?;
        let is_known = self.members.contains_key(&name.id) || self.pending.contains_key(&name.id);
        if is_known { Ok(name.id.clone()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub(super) fn remove_all(&mut self, turn: &mut Turn<'_, A>, ids: &[MemberId]) {
        for id in ids {
            self.take_out(turn, id);
        }
        if !ids.is_empty() {
            self.prepare_again(turn);
        }
    }

    /// Takes a member out; whatever it waits for, it is told that it is none. If it led, the next generation finds another
    /// leader.
    pub(super) fn take_out(&mut self, turn: &mut Turn<'_, A>, id: &MemberId) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        self.bytes -= member.bytes();
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        Self::answer_join(turn, &mut member, Err((GroupError::UnknownMemberId, id.clone())));
        Self::answer_sync(turn, &mut member, Err(GroupError::UnknownMemberId));
    }

    /// Members are gone. An id that nobody joined with is no member: it only ceases to be waited for.
    pub(super) fn prepare_again(&mut self, turn: &mut Turn<'_, A>) {
        match self.phase {
            Phase::Empty => {}
            Phase::Joining { .. } => self.complete_if_all_joined(turn),
            Phase::Syncing | Phase::Stable => self.prepare(turn),
        }
    }
}
