//! The journal says everything that must survive; whatever was answered is in it.

use std::collections::BTreeMap;

use broker_coordinator::{
    Answer, Coordinator, GroupError, GroupId, GroupMetadata, GroupSettings, Joined, MemberId, Now,
    Record, SavedMember,
};
use bytes::Bytes;

use crate::harness::{Asker, DELAY_MS, Dice, REBALANCE_MS, SESSION_MS, World, name, start};

#[test]
fn members_go_on_after_a_restart() {
    let mut world = World::new();
    let members = world.stable(3);
    world.commit(members[1].member.as_str(), 1, &[(0, 42)]);
    world.now.mono = world.now.mono + 5 * SESSION_MS;
    let mut silent = World::replayed(world.journal.clone(), world.now);
    silent.wait(SESSION_MS - 1);
    assert_eq!(silent.state(), "Stable", "they have a whole session to come back");
    let mut again = World::replayed(world.journal.clone(), world.now);
    assert_eq!((again.state(), again.offset(0)), ("Stable", Some(42)));
    for member in &members {
        assert_eq!(again.heartbeat(&member.member, 1), Ok(()));
        let synced = again.sync(member, &[]);
        let synced = again.take_sync(synced).unwrap();
        assert_eq!(synced.assignment, member.member.as_str().as_bytes());
    }
    assert_eq!(again.commit_one(members[2].member.as_str(), 1), Ok(()));
    // Sessions began at the restart: who does not come back is out after one.
    again.wait(SESSION_MS - 1);
    assert_eq!(again.heartbeat(&members[0].member, 1), Ok(()));
    again.wait(1);
    assert_eq!(again.state(), "PreparingRebalance");
}

#[test]
fn a_generation_that_was_not_saved_is_joined_again() {
    let mut world = World::new();
    let old = world.stable(1);
    let new = world.join("g", "");
    world.join("g", old[0].member.as_str());
    assert_eq!(world.take_join(new).unwrap().generation, 2);
    // The leader has not synced: the journal ends with generation 1.
    let mut again = World::replayed(world.journal.clone(), world.now);
    let beat = again.heartbeat(&old[0].member, 2);
    assert_eq!(beat, Err(GroupError::IllegalGeneration));
    let rejoin = again.join("g", old[0].member.as_str());
    assert_eq!(again.take_join(rejoin).unwrap().generation, 2);
}

#[test]
fn a_save_that_had_no_room_does_not_save_a_generation_without_assignments() {
    let mut world = World::new();
    let old = world.stable(1);
    world.is_full = true;
    world.leave(&[name(old[0].member.as_str(), None)]);
    let joining = world.join("g", "");
    world.wait(DELAY_MS);
    // It leads generation 3 and has not synced: nothing of that generation may come back.
    let joined = world.take_join(joining).unwrap();
    world.is_full = false;
    world.wait(DELAY_MS);
    let mut again = World::replayed(world.journal.clone(), world.now);
    let synced = again.sync(&joined, &[(&joined.member, "all")]);
    assert!(again.take_sync(synced).is_err(), "it got what nobody assigned");
}

/// After a long outage nobody comes back, and all sessions end in one moment. The engine does nothing else meanwhile: this
/// takes a fraction of a second, and minutes if each group looks at all the others.
#[test]
fn many_groups_end_at_once() {
    let mut coordinator = Coordinator::<Asker>::new(GroupSettings::default(), 1, start().mono);
    let groups = 50_000;
    for number in 0..groups {
        coordinator.replay(&saved_group(&format!("group-of-somebody-{number}")));
    }
    coordinator.loaded(0, start());
    let now = Now { mono: start().mono + SESSION_MS, ..start() };
    coordinator.handle_deadlines(now);
    let mut saved = 0;
    while let Some(write) = coordinator.take_write() {
        coordinator.appended(now, write);
        saved += 1;
    }
    assert_eq!(saved, groups);
}

fn saved_group(group: &str) -> Record {
    let member = SavedMember {
        id: MemberId::from("m"),
        instance: None,
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        rebalance_timeout_ms: REBALANCE_MS as i32,
        session_timeout_ms: SESSION_MS as i32,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let metadata = GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation: 1,
        protocol: Some("range".to_owned()),
        leader: Some(member.id.clone()),
        since: start().wall,
        members: vec![member],
    };
    Record::Group { group: GroupId::from(group), metadata: Some(metadata) }
}

/// Clients that join, sync, commit, leave and fall silent at random.
struct Crowd {
    world: World,
    joining: Vec<Asker>,
    members: Vec<Joined>,
    /// Commits under way: who asked, and what for.
    commits: BTreeMap<Asker, (i32, i64)>,
    next_offset: i64,
}

impl Crowd {
    fn step(&mut self, dice: &mut Dice) {
        let world = &mut self.world;
        world.is_full = dice.below(12) == 0;
        match dice.below(10) {
            0 if self.members.len() + self.joining.len() < 6 => {
                let asker = world.join("g", "");
                self.joining.push(asker);
            }
            1 if !self.members.is_empty() => {
                let gone = self.members.swap_remove(dice.below(self.members.len()));
                world.leave(&[name(gone.member.as_str(), None)]);
            }
            2 => world.wait([10, 3_000, SESSION_MS / 2, REBALANCE_MS][dice.below(4)]),
            3 if !self.members.is_empty() => {
                let again = self.members.swap_remove(dice.below(self.members.len()));
                let asker = world.join("g", again.member.as_str());
                self.joining.push(asker);
            }
            4 | 5 if !self.members.is_empty() => {
                let joined = &self.members[dice.below(self.members.len())];
                let ids: Vec<MemberId> = joined.members.iter().map(|m| m.id.clone()).collect();
                let assignments: Vec<_> = ids.iter().map(|id| (id, id.as_str())).collect();
                world.sync(joined, &assignments);
            }
            6 | 7 if !self.members.is_empty() => {
                let joined = &self.members[dice.below(self.members.len())];
                self.next_offset += 1;
                let partition = i32::try_from(dice.below(4)).unwrap();
                let offset = (partition, self.next_offset);
                let asker = world.commit(joined.member.as_str(), joined.generation, &[offset]);
                self.commits.insert(asker, offset);
            }
            8 => {
                let asker = world.commit("", -1, &[(9, self.next_offset)]);
                self.commits.insert(asker, (9, self.next_offset));
            }
            _ => {
                for joined in &self.members {
                    let _ = world.heartbeat(&joined.member, joined.generation);
                }
            }
        }
        self.take_joins();
    }

    fn take_joins(&mut self) {
        let world = &mut self.world;
        let (answered, waiting): (Vec<Asker>, Vec<Asker>) =
            self.joining.iter().partition(|asker| world.answers.contains_key(asker));
        self.joining = waiting;
        for asker in answered {
            if let Ok(joined) = world.take_join(asker) {
                self.members.retain(|member| member.member != joined.member);
                self.members.push(joined);
            }
        }
    }
}

fn run(seed: u64, steps: usize) -> Crowd {
    let mut dice = Dice(seed);
    let mut crowd = Crowd {
        world: World::new(),
        joining: Vec::new(),
        members: Vec::new(),
        commits: BTreeMap::new(),
        next_offset: 0,
    };
    for _ in 0..steps {
        crowd.step(&mut dice);
    }
    crowd
}

#[test]
fn state_after_a_replay_is_the_state_before() {
    let (mut appends, mut generations) = (0, 0);
    for seed in 0..200 {
        let crowd = run(seed, 300);
        let world = crowd.world;
        let again = World::replayed(world.journal.clone(), world.now);
        assert_eq!(again.coordinator.committed(), world.coordinator.committed(), "seed {seed}");
        if world.state() == "Stable" || world.state() == "none" {
            let group = broker_coordinator::GroupId::from("g");
            let (before, after) =
                (world.coordinator.describe(&group), again.coordinator.describe(&group));
            assert_eq!(after, before, "seed {seed}");
        }
        appends += world.journal.len();
        generations += crowd.members.iter().map(|m| m.generation).max().unwrap_or(0);
    }
    assert!(appends > 4_000 && generations > 1_000, "{appends} appends, {generations} generations");
}

#[test]
fn the_same_run_twice_is_the_same() {
    let (a, b) = (run(7, 2_000), run(7, 2_000));
    assert_eq!(a.world.journal, b.world.journal);
    assert_eq!(a.world.answers, b.world.answers);
}

/// The broker dies when only a part of the journal is durable. An answer has left only if all that was appended before it
/// was given is durable: then what it says must be there.
#[test]
fn what_was_answered_survives_a_crash_at_any_append() {
    let (mut commits, mut syncs) = (0, 0);
    for seed in 0..40 {
        let crowd = run(seed, 200);
        let world = &crowd.world;
        for durable in 0..=world.journal.len() {
            let again = World::replayed(world.journal[..durable].to_vec(), world.now);
            for (asker, &(partition, offset)) in &crowd.commits {
                let Some(Answer::Commit(verdicts)) = world.answers.get(asker) else {
                    continue;
                };
                if verdicts[0].outcome.is_err() || world.given_at[asker] > durable {
                    continue;
                }
                commits += 1;
                let found = again.offset(partition);
                assert!(found >= Some(offset), "seed {seed}, {durable}: {found:?} < {offset}");
            }
            for (asker, answer) in &world.answers {
                let Answer::Sync(Ok(synced)) = answer else { continue };
                let id = String::from_utf8_lossy(&synced.assignment).into_owned();
                if id.is_empty() || world.given_at[asker] > durable {
                    continue;
                }
                syncs += 1;
                let saved = world.journal[..durable].iter().any(|(_, batch)| {
                    batch.windows(id.len()).any(|window| window == id.as_bytes())
                });
                assert!(saved, "seed {seed}: the assignment of {id} is not in the journal");
            }
        }
    }
    assert!(commits > 1_000 && syncs > 1_000, "{commits} commits, {syncs} syncs were checked");
}
