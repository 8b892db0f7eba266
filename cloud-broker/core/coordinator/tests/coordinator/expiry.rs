//! Offsets that nobody comes back for.

use broker_coordinator::{CommitOffsets, GroupId, GroupSettings, TopicName};

use crate::harness::{World, name, to_commit};

const MINUTE_MS: u64 = 60_000;

/// How long a search may be away.
const SEARCH_MS: u64 = 11 * MINUTE_MS;

fn retention_ms() -> u64 {
    GroupSettings::default().offsets_retention_ms
}

#[test]
fn offsets_without_a_group_expire_after_their_commit() {
    let mut world = World::new();
    world.commit("", -1, &[(0, 1)]);
    world.wait(retention_ms() / 2);
    world.commit("", -1, &[(1, 1)]);
    world.wait(retention_ms() / 2 + SEARCH_MS);
    assert_eq!((world.offset(0), world.offset(1)), (None, Some(1)));
    world.wait(retention_ms());
    assert_eq!((world.offset(1), world.state()), (None, "none"));
}

#[test]
fn a_group_s_offsets_stay_while_it_has_members_and_then_for_the_retention() {
    let mut world = World::new();
    let mut join = world.join_request("g", "");
    join.session_timeout_ms = 1_800_000;
    let asker = world.send_join(&join);
    world.wait(3_000);
    let joined = world.take_join(asker).unwrap();
    world.sync_all(std::slice::from_ref(&joined));
    world.commit(joined.member.as_str(), 1, &[(0, 1)]);
    for _ in 0..2 * retention_ms() / (20 * MINUTE_MS) {
        world.wait(20 * MINUTE_MS);
        assert_eq!(world.heartbeat(&joined.member, 1), Ok(()));
    }
    assert_eq!(world.offset(0), Some(1));
    world.leave(&[name(joined.member.as_str(), None)]);
    world.wait(retention_ms() - MINUTE_MS);
    assert_eq!(world.offset(0), Some(1), "the retention begins when the group is empty");
    world.wait(SEARCH_MS + MINUTE_MS);
    assert_eq!((world.offset(0), world.state()), (None, "none"));
    let replayed = World::replayed(world.journal.clone(), world.now);
    assert_eq!(replayed.coordinator.committed(), world.coordinator.committed());
    assert_eq!(replayed.state(), "none", "its tombstones are in the log");
}

#[test]
fn a_time_of_their_own_goes_first() {
    let mut world = World::new();
    let commit = CommitOffsets {
        group: GroupId::from("g"),
        member: name("", None),
        generation: -1,
        retention_ms: Some(MINUTE_MS),
        offsets: vec![to_commit(0, 1)],
    };
    world.send_commit(commit);
    world.wait(SEARCH_MS);
    assert_eq!(world.offset(0), None);
}

#[test]
fn a_search_takes_many_groups_in_steps() {
    let mut world = World::new();
    for number in 0..1_000 {
        let commit = CommitOffsets {
            group: GroupId::from(format!("g{number}").as_str()),
            member: name("", None),
            generation: -1,
            retention_ms: Some(1),
            offsets: vec![to_commit(0, 1)],
        };
        world.send_commit(commit);
    }
    world.now.mono = world.coordinator.next_deadline().unwrap();
    world.now.wall.0 += 700_000;
    world.coordinator.handle_deadlines(world.now);
    world.settle();
    let left = world.coordinator.list().unwrap().len();
    assert!((1..1_000).contains(&left), "{left} are left after one step");
    world.wait(1_000);
    assert_eq!(world.coordinator.list().unwrap().len(), 0);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut world = World::new();
    let member = world.stable(1).remove(0).member;
    let commit = |group: &str, member: &str, generation, partitions: i32| {
        let mut offsets: Vec<_> = (0..partitions).map(|p| to_commit(p, 1)).collect();
        let topic = TopicName::from("other");
        offsets.push(broker_coordinator::OffsetToCommit { topic, ..to_commit(0, 2) });
        CommitOffsets {
            group: GroupId::from(group),
            member: name(member, None),
            generation,
            retention_ms: None,
            offsets,
        }
    };
    world.send_commit(commit("g", member.as_str(), 1, 2));
    world.send_commit(commit("large", "", -1, 9_000));
    world.coordinator.forget_topics(world.now.wall, |topic| topic == "t");
    world.settle();
    assert_eq!((world.offset(0), world.state()), (None, "Stable"));
    for group in ["g", "large"] {
        let left: Vec<_> = world.coordinator.offsets(&GroupId::from(group)).unwrap().collect();
        assert_eq!(left.len(), 1, "{group}");
        assert_eq!(left[0].0.as_str(), "other");
    }
    let replayed = World::replayed(world.journal.clone(), world.now);
    assert_eq!(replayed.coordinator.committed(), world.coordinator.committed());
}
