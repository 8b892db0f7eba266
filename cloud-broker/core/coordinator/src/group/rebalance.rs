//! From one generation to the next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Group, Initial, Phase, Turn};
use crate::error::GroupError;
use crate::ids::MemberId;

impl<A: Copy> Group<A> {
    /// Something has changed: the group needs another generation. If it waits for one already, that may be complete now.
    pub(super) fn prepare(&mut self, turn: &mut Turn<'_, A>) {
        let now = turn.now.mono;
        match self.phase {
            Phase::Joining { .. } => return self.complete_if_all_joined(turn),
            Phase::Empty => {
                let delay = turn.settings.initial_rebalance_delay_ms;
                let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay);
                let initial = Some(Initial { remaining_ms, newcomer: false });
                self.phase = Phase::Joining { deadline: now + delay, initial };
                self.since = turn.now.wall;
                return;
            }
            Phase::Syncing => self.drop_assignments(turn),
            Phase::Stable => {}
        }
        let deadline = now + self.rebalance_timeout_ms();
        self.phase = Phase::Joining { deadline, initial: None };
        self.since = turn.now.wall;
        self.sync_deadline = None;
        self.complete_if_all_joined(turn);
    }

    /// Carries out whatever is due.
    pub(crate) fn handle_deadline(&mut self, turn: &mut Turn<'_, A>) {
        let now = turn.now.mono;
        self.expire_members(turn);
        if let Phase::Joining { deadline, initial } = self.phase
            && deadline <= now
        {
            self.join_deadline(turn, initial);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            let late = self.members.iter().filter(|(_, member)| member.must_sync);
            let late: Vec<MemberId> = late.map(|(id, _)| id.clone()).collect();
            self.remove_all(turn, &late);
        }
        if self.save_again.is_some_and(|at| at <= now) {
            self.save_again = None;
            // One that has members again is saved with their assignments: without those, the generation must not come back.
            if self.is_empty() {
                self.save(turn);
            }
        }
    }

    /// The time to join is up, or that to wait for more members.
    fn join_deadline(&mut self, turn: &mut Turn<'_, A>, initial: Option<Initial>) {
        match initial {
            Some(Initial { remaining_ms, newcomer: true }) if remaining_ms > 0 => {
                let delay = turn.settings.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms - delay;
                let initial = Some(Initial { remaining_ms, newcomer: false });
                self.phase = Phase::Joining { deadline: turn.now.mono + delay, initial };
            }
            Some(_) | None => self.complete(turn),
        }
    }

    /// Takes out the members whose session has ended, and the ids that nobody joined with.
    fn expire_members(&mut self, turn: &mut Turn<'_, A>) {
        let now = turn.now.mono;
        let expired = self.pending.iter().filter(|(_, deadline)| **deadline <= now);
        let expired: Vec<MemberId> = expired.map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.forget_pending(id);
        }
        let mut gone = Vec::new();
        for (id, member) in &mut self.members {
            if member.deadline > now {
                continue;
            }
            if member.waits() {
                member.restart_session(now);
            } else {
                gone.push(id.clone());
            }
        }
        self.remove_all(turn, &gone);
        self.complete_if_all_joined(turn);
    }

    /// Ends a rebalance that has nobody to wait for. The first one of a group waits for its time, unless all have left.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_, A>) {
        let Phase::Joining { initial, .. } = self.phase else {
            return;
        };
        let all_joined =
            self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if all_joined && (initial.is_none() || self.members.is_empty()) {
            self.complete(turn);
        }
    }

    /// Whoever has joined is in the next generation.
    fn complete(&mut self, turn: &mut Turn<'_, A>) {
        // Static members may be away for as long as their session lasts.
        let absent = |member: &super::Member<A>| member.joining.is_none();
        let gone = self.members.iter().filter(|(_, m)| absent(m) && m.instance.is_none());
        let gone: Vec<MemberId> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.take_out(turn, id);
        }
        if self.members.is_empty() {
            return self.complete_empty(turn);
        }
        let joined = |id: &&MemberId| self.members.get(*id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().filter(joined).is_none() {
            let Some(leader) = self.members.keys().find(joined).cloned() else {
                let deadline = turn.now.mono + self.rebalance_timeout_ms();
                self.phase = Phase::Joining { deadline, initial: None };
                return;
            };
            self.leader = Some(leader);
        }
        self.begin_generation(turn);
    }

    fn complete_empty(&mut self, turn: &mut Turn<'_, A>) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.protocol = None;
        self.leader = None;
        self.phase = Phase::Empty;
        self.since = turn.now.wall;
        self.sync_deadline = None;
        // Of a group that was never saved, nothing has to be taken back.
        if self.is_saved {
            self.save(turn);
        }
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_, A>) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.protocol = self.vote();
        self.phase = Phase::Syncing;
        self.since = turn.now.wall;
        self.sync_deadline = Some(turn.now.mono + self.rebalance_timeout_ms());
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let leads = self.leader.as_ref() == Some(&id);
            let members = if leads { self.joined_members() } else { Vec::new() };
            let joined = self.joined(&id, members);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.must_sync = true;
            if member.joining.is_some() {
                member.is_new = false;
                member.restart_session(turn.now.mono);
            }
            Self::answer_join(turn, member, Ok(joined));
        }
    }

    /// What the leader would have assigned is void.
    fn drop_assignments(&mut self, turn: &mut Turn<'_, A>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if member.syncing.is_some() {
                member.restart_session(turn.now.mono);
            }
            Self::answer_sync(turn, member, Err(GroupError::RebalanceInProgress));
        }
    }

    /// The protocol that most members like best among those that all offer; of several the first by name.
    pub(super) fn vote(&self) -> Option<String> {
        let mut offers: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            // A protocol that a member names twice is offered once.
            let names: BTreeSet<&str> = member.protocols.iter().map(|p| p.name.as_str()).collect();
            for name in names {
                *offers.entry(name).or_default() += 1;
            }
        }
        let common = |name: &str| offers.get(name).is_some_and(|&by| by >= self.members.len());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(best) = member.protocols.iter().find(|offered| common(&offered.name)) {
                *votes.entry(&best.name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        let chosen = votes.iter().find(|(_, count)| *count == most);
        chosen.map(|(name, _)| (*name).to_owned())
    }

    /// As long as the most patient member waits.
    fn rebalance_timeout_ms(&self) -> u64 {
        let patience = self.members.values().map(super::Member::rebalance_timeout_ms);
        patience.max().unwrap_or(0)
    }

    /// When members that have not synced are taken for gone.
    pub(super) fn note_synced(&mut self) {
        if !self.members.values().any(|member| member.must_sync) {
            self.sync_deadline = None;
        }
    }
}
