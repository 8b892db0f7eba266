//! Every limit, and one beyond it.

use broker_coordinator::{
    CommitOffsets, GROUP_ID_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX,
    GROUP_OFFSETS_MAX, GROUPS_MAX, GroupError, GroupId, MEMBER_METADATA_BYTES_MAX,
    MEMBER_PROTOCOLS_MAX, METADATA_BYTES_MAX, MemberId, OFFSET_METADATA_BYTES_MAX,
    OFFSETS_BYTES_MAX, Protocol,
};
use bytes::Bytes;

use crate::harness::{DELAY_MS, SESSION_MS, World, name, protocols, to_commit};

fn metadata(bytes: usize) -> Vec<Protocol> {
    vec![Protocol { name: "p".to_owned(), metadata: Bytes::from(vec![7; bytes - 1]) }]
}

#[test]
fn group_ids() {
    let mut world = World::new();
    for (length, expected) in
        [(GROUP_ID_BYTES_MAX, None), (GROUP_ID_BYTES_MAX + 1, Some(GroupError::InvalidGroupId))]
    {
        let asker = world.join("g".repeat(length).as_str(), "");
        world.wait(3_000);
        assert_eq!(world.take_join(asker).err(), expected, "{length}");
    }
}

#[test]
fn what_one_member_offers() {
    let names: Vec<String> = (0..=MEMBER_PROTOCOLS_MAX).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (offered, fits) in [
        (protocols(&names[1..]), true),
        (protocols(&names), false),
        (metadata(MEMBER_METADATA_BYTES_MAX), true),
        (metadata(MEMBER_METADATA_BYTES_MAX + 1), false),
    ] {
        let mut world = World::new();
        let mut join = world.join_request("g", "");
        join.protocols = offered;
        let asker = world.send_join(&join);
        world.wait(3_000);
        let expected = (!fits).then_some(GroupError::InvalidRequest);
        assert_eq!(world.take_join(asker).err(), expected);
    }
    let mut world = World::new();
    let mut join = world.join_request("g", "");
    join.client_id = "c".repeat(1_025);
    let asker = world.send_join(&join);
    assert_eq!(world.take_join(asker), Err(GroupError::InvalidRequest));
}

#[test]
fn members_of_a_group() {
    let mut world = World::new();
    for number in 0..GROUP_MEMBERS_MAX {
        let mut join = world.join_request("g", "");
        // Ids that were given out count as much as members.
        join.needs_known_id = number % 2 == 0;
        world.send_join(&join);
    }
    let beyond = world.join("g", "");
    assert_eq!(world.take_join(beyond), Err(GroupError::GroupMaxSizeReached));
    let known = world.join("g", "m1");
    assert!(!world.answers.contains_key(&known), "an id that was given out is good");
    let elsewhere = world.join("other", "");
    assert!(!world.answers.contains_key(&elsewhere));
}

#[test]
fn metadata_of_a_group_and_of_all() {
    let mut world = World::new();
    let per_group = GROUP_METADATA_BYTES_MAX / MEMBER_METADATA_BYTES_MAX;
    let mut join_large = |group: &str| {
        let mut join = world.join_request(group, "");
        join.protocols = metadata(MEMBER_METADATA_BYTES_MAX);
        let asker = world.send_join(&join);
        world.answers.remove(&asker).is_none()
    };
    let fitting = (0..per_group + 1).take_while(|_| join_large("g")).count();
    assert_eq!(fitting, per_group - 1, "with names, the last one does not fit");
    let groups = METADATA_BYTES_MAX / (fitting * MEMBER_METADATA_BYTES_MAX) + 1;
    let all = (0..groups).all(|group| (0..fitting).all(|_| join_large(&format!("g{group}"))));
    assert!(!all, "all groups together took more than they may");
}

#[test]
fn ids_that_were_given_out() {
    let mut world = World::new();
    let mut given = 0;
    let is_refused = (0..100).any(|group| {
        (0..GROUP_MEMBERS_MAX).any(|_| {
            let mut join = world.join_request(&format!("g{group}"), "");
            join.needs_known_id = true;
            join.client_id = "c".repeat(1_000);
            join.fresh_id = MemberId::from(format!("{}-{given}", join.client_id).as_str());
            given += 1;
            let asker = world.send_join(&join);
            world.take_join(asker) == Err(GroupError::GroupMaxSizeReached)
        })
    });
    assert!(is_refused && given * 1_000 <= METADATA_BYTES_MAX, "{given} ids");
    // They are given back when they expire.
    world.wait(SESSION_MS);
    let mut join = world.join_request("g0", "");
    join.protocols = metadata(MEMBER_METADATA_BYTES_MAX);
    let asker = world.send_join(&join);
    world.wait(DELAY_MS);
    assert!(world.take_join(asker).is_ok());
}

#[test]
fn members_of_a_full_group_join_again() {
    let mut world = World::new();
    let fill = |world: &mut World| {
        let mut join = world.join_request("g", "");
        join.protocols = metadata(MEMBER_METADATA_BYTES_MAX);
        (world.send_join(&join), join)
    };
    let mut members = Vec::new();
    loop {
        let (asker, join) = fill(&mut world);
        if world.answers.contains_key(&asker) {
            assert_eq!(world.take_join(asker), Err(GroupError::GroupMaxSizeReached));
            break;
        }
        members.push((asker, join));
    }
    world.wait(2 * DELAY_MS);
    let (asker, mut join) = members.swap_remove(0);
    let joined = world.take_join(asker).unwrap();
    join.member = name(joined.member.as_str(), None);
    join.protocols = metadata(MEMBER_METADATA_BYTES_MAX - 1);
    let again = world.send_join(&join);
    assert!(!world.answers.contains_key(&again), "it takes no more than before");
}

#[test]
fn groups() {
    let mut world = World::new();
    for number in 0..GROUPS_MAX {
        let mut join = world.join_request(&number.to_string(), "");
        join.needs_known_id = true;
        world.coordinator.join(world.now, 0, &join);
        assert!(world.coordinator.take_answer().is_some());
    }
    let beyond = world.join("beyond", "");
    assert_eq!(world.take_join(beyond), Err(GroupError::GroupMaxSizeReached));
    let known = world.join("7", "");
    assert!(!world.answers.contains_key(&known), "a group that is there goes on");
}

#[test]
fn offsets_of_a_group() {
    let mut world = World::new();
    let commit = |partitions: std::ops::Range<usize>| CommitOffsets {
        group: GroupId::from("g"),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets: partitions.map(|p| to_commit(i32::try_from(p).unwrap(), 1)).collect(),
    };
    let half = GROUP_OFFSETS_MAX / 2;
    world.send_commit(commit(0..half));
    let asker = world.send_commit(commit(half..GROUP_OFFSETS_MAX + 1));
    let verdicts = world.take_commit(asker);
    let refused: Vec<_> = verdicts.iter().filter(|verdict| verdict.outcome.is_err()).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].outcome, Err(GroupError::InvalidCommitOffsetSize));
    // What is there may move on.
    let asker = world.send_commit(commit(0..1));
    assert_eq!(world.take_commit(asker)[0].outcome, Ok(()));
}

#[test]
fn offsets_of_all_groups() {
    let mut world = World::new();
    let commit = |group: &str| CommitOffsets {
        group: GroupId::from(group),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets: (0..1_500)
            .map(|partition| {
                let mut offset = to_commit(partition, 1);
                offset.metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX);
                offset
            })
            .collect(),
    };
    let fits = |world: &mut World, group: &str| {
        let asker = world.send_commit(commit(group));
        world.journal.clear();
        world.take_commit(asker).iter().all(|verdict| verdict.outcome.is_ok())
    };
    // Again and again the same takes no more than once.
    assert!((0..5).all(|_| fits(&mut world, "0")));
    let mut groups = 1;
    while fits(&mut world, &groups.to_string()) {
        groups += 1;
        assert!(groups * 1_500 * OFFSET_METADATA_BYTES_MAX <= OFFSETS_BYTES_MAX, "{groups}");
    }
    assert!((groups + 1) * 1_500 * (OFFSET_METADATA_BYTES_MAX + 256) > OFFSETS_BYTES_MAX);
    assert!(fits(&mut world, "0"), "it still may move on");
}
