//! Clients that say whatever comes to their mind: nothing panics, nobody is forgotten, and the journal stays true.

use broker_coordinator::{
    Answer, CommitOffsets, GroupId, Heartbeat, InstanceId, MemberId, MemberName,
    SESSION_TIMEOUT_MS_MAX, SyncGroup,
};

use crate::harness::{Asker, Dice, World, protocols, to_commit};

const GROUPS: &[&str] = &["g", "h", ""];
const INSTANCES: &[Option<&str>] = &[None, None, Some("i0"), Some("i1")];
const PROTOCOLS: &[&[&str]] = &[&["range"], &["range", "sticky"], &["sticky"], &["x", "x"], &[]];
const SESSIONS: &[i32] = &[i32::MIN, -1, 5_999, 6_000, 10_000, 30_000, 60_000, i32::MAX];
const REBALANCES: &[i32] = &[i32::MIN, -1, 0, 1, 5_000, 60_000, 300_000];

struct Strangers {
    world: World,
    dice: Dice,
    /// Ids that the coordinator has given out, some of them long gone.
    ids: Vec<MemberId>,
    /// Who asked what is answered later.
    asked: Vec<Asker>,
    /// Joins that were not answered when last looked at: group and name.
    joining: Vec<(Asker, GroupId, Option<InstanceId>)>,
    /// Who was in a generation, and in which.
    joined: Vec<(GroupId, MemberName, i32)>,
}

impl Strangers {
    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.dice.below(of.len())]
    }

    fn name(&mut self) -> MemberName {
        let recent = self.ids.len().min(8);
        let id = match self.dice.below(4) {
            0 => MemberId::from(""),
            1 | 2 if recent > 0 => self.ids[self.ids.len() - 1 - self.dice.below(recent)].clone(),
            _ => MemberId::from("nobody"),
        };
        let instance = self.one_of(INSTANCES).map(InstanceId::from);
        MemberName { id, instance }
    }

    fn generation(&mut self) -> i32 {
        let near = i32::try_from(self.dice.below(6)).unwrap();
        self.one_of(&[-1, near, near, near, i32::MAX, i32::MIN])
    }

    /// Somebody who knows where it is, or somebody who has no idea.
    fn somebody(&mut self) -> (GroupId, MemberName, i32) {
        let recent = self.joined.len().min(4);
        if recent > 0 && self.dice.below(3) > 0 {
            return self.joined[self.joined.len() - 1 - self.dice.below(recent)].clone();
        }
        let group = GroupId::from(self.one_of(GROUPS));
        (group, self.name(), self.generation())
    }

    fn look_at_joins(&mut self) {
        let Self { world, joining, joined, .. } = self;
        joining.retain(|(asker, group, instance)| match world.answers.get(asker) {
            None => true,
            Some(Answer::Join(Ok(found))) => {
                let name = MemberName { id: found.member.clone(), instance: instance.clone() };
                joined.push((group.clone(), name, found.generation));
                false
            }
            Some(_) => false,
        });
    }

    fn step(&mut self) {
        self.look_at_joins();
        self.world.is_full = self.dice.below(10) == 0;
        let (group, member, generation) = self.somebody();
        match self.dice.below(9) {
            0..=2 => {
                let mut join = self.world.join_request("", "");
                join.group = group;
                join.member = if self.dice.below(2) == 0 { member } else { self.name() };
                let instance = join.member.instance.clone();
                join.needs_known_id = self.dice.below(2) == 0;
                join.may_skip_assignment = self.dice.below(2) == 0;
                join.session_timeout_ms = self.one_of(SESSIONS);
                join.rebalance_timeout_ms = self.one_of(REBALANCES);
                join.protocols = protocols(self.one_of(PROTOCOLS));
                self.ids.push(join.fresh_id.clone());
                let asker = self.world.send_join(&join);
                self.asked.push(asker);
                self.joining.push((asker, join.group, instance));
            }
            3 | 4 => {
                let to = self.one_of(&[0, 1]);
                let to = if to == 0 { member.id.clone() } else { self.name().id };
                let sync = SyncGroup {
                    group,
                    member,
                    generation,
                    protocol_type: None,
                    protocol: self.one_of(&[None, Some("range")]).map(str::to_owned),
                    assignments: vec![(to.clone(), "a".into()), (to, "b".into())],
                };
                let asker = self.world.send_sync(&sync);
                self.asked.push(asker);
            }
            5 => {
                let commit = CommitOffsets {
                    group,
                    member,
                    generation,
                    retention_ms: self.one_of(&[None, Some(0), Some(u64::MAX)]),
                    offsets: vec![to_commit(self.generation(), -1), to_commit(0, i64::MAX)],
                };
                let asker = self.world.send_commit(commit);
                self.asked.push(asker);
            }
            6 => {
                let names = [member, self.name()];
                let now = self.world.now;
                let _ = self.world.coordinator.leave(now, &group, &names);
                self.world.settle();
            }
            7 => {
                let heartbeat = Heartbeat { group, member, generation };
                let _ = self.world.coordinator.heartbeat(self.world.now, &heartbeat);
                let asker = self.world.asker();
                if self.dice.below(10) == 0 {
                    let group = GroupId::from(self.one_of(GROUPS));
                    self.world.coordinator.delete(self.world.now, asker, vec![group]);
                    self.asked.push(asker);
                }
                self.world.settle();
            }
            _ => {
                let ms = self.one_of(&[1, 500, 3_000, 6_000, 60_000]);
                self.world.wait(ms);
            }
        }
    }
}

#[test]
fn everybody_is_answered_in_the_end() {
    let (mut answered, mut synced, mut written) = (0, 0, 0);
    for seed in 0..100 {
        let mut strangers = Strangers {
            world: World::new(),
            dice: Dice(seed),
            ids: Vec::new(),
            asked: Vec::new(),
            joining: Vec::new(),
            joined: Vec::new(),
        };
        for _ in 0..400 {
            strangers.step();
        }
        let Strangers { mut world, asked, .. } = strangers;
        world.is_full = false;
        let again = World::replayed(world.journal.clone(), world.now);
        assert_eq!(again.coordinator.committed(), world.coordinator.committed(), "seed {seed}");
        // Longer than any session and any rebalance.
        world.wait(2 * u64::try_from(SESSION_TIMEOUT_MS_MAX).unwrap());
        for asker in &asked {
            assert!(world.answers.contains_key(asker), "seed {seed}: {asker} waits for ever");
        }
        let groups = world.coordinator.list().unwrap();
        assert!(groups.iter().all(|group| group.state == "Empty"), "seed {seed}: {groups:?}");
        answered += asked.len();
        let answers = world.answers.values();
        synced += answers.filter(|answer| matches!(answer, Answer::Sync(Ok(_)))).count();
        written += world.journal.len();
    }
    assert!(answered > 20_000 && written > 1_000, "{answered} answers, {written} writes");
    assert!(synced > 100, "{synced} got an assignment");
}
