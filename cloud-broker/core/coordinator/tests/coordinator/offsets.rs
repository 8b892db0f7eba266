//! Offsets, and groups as administrators see them.

use broker_coordinator::{
    Answer, CommitOffsets, DeleteOffsets, GroupError, GroupId, OFFSET_METADATA_BYTES_MAX,
    OffsetToDelete, Record, TopicName,
};

use crate::harness::{World, name, records_of, to_commit};

#[test]
fn what_is_committed_is_found() {
    let mut world = World::new();
    let asker = world.commit("", -1, &[(0, 5), (1, 7)]);
    assert!(world.take_commit(asker).iter().all(|verdict| verdict.outcome.is_ok()));
    world.commit("", -1, &[(1, 8)]);
    assert_eq!((world.offset(0), world.offset(1), world.offset(2)), (Some(5), Some(8), None));
    let group = GroupId::from("g");
    let all: Vec<_> = world.coordinator.offsets(&group).unwrap().collect();
    assert_eq!(all.len(), 2);
    assert_eq!(world.coordinator.offsets(&GroupId::from("other")).unwrap().count(), 0);
}

#[test]
fn an_offset_is_as_the_client_gave_it() {
    let mut world = World::new();
    let mut offset = to_commit(3, i64::MAX);
    offset.leader_epoch = 9;
    offset.metadata = "größe".to_owned();
    let commit = CommitOffsets {
        group: GroupId::from(""),
        member: name("", None),
        generation: -1,
        retention_ms: Some(60_000),
        offsets: vec![offset],
    };
    let asker = world.send_commit(commit);
    assert_eq!(world.take_commit(asker)[0].outcome, Ok(()), "a group may have no name");
    let found = world.coordinator.offset(&GroupId::from(""), "t", 3).unwrap().unwrap();
    assert_eq!((found.offset, found.metadata.as_str()), (i64::MAX, "größe"));
    assert_eq!(found.expires, Some(wire::time::UnixMs(world.now.wall.0 + 60_000)));
    let offset = CommitOffsets {
        group: GroupId::from("g"),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets: vec![broker_coordinator::OffsetToCommit { leader_epoch: 9, ..to_commit(0, 1) }],
    };
    world.send_commit(offset);
    let found = world.coordinator.offset(&GroupId::from("g"), "t", 0).unwrap().unwrap();
    assert_eq!(found.leader_epoch, 9);
}

#[test]
fn offsets_are_judged_one_by_one() {
    let mut world = World::new();
    let mut long = to_commit(1, 1);
    long.metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX + 1);
    let mut full = to_commit(2, 1);
    full.metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX);
    let mut unknown = to_commit(3, 1);
    unknown.known = Err(GroupError::UnknownTopicOrPartition);
    let commit = CommitOffsets {
        group: GroupId::from("g"),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets: vec![to_commit(0, 1), long, full, unknown],
    };
    let asker = world.send_commit(commit);
    let outcomes: Vec<_> = world.take_commit(asker).iter().map(|v| v.outcome).collect();
    let expected = [
        Ok(()),
        Err(GroupError::OffsetMetadataTooLarge),
        Ok(()),
        Err(GroupError::UnknownTopicOrPartition),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(records_of(&world.journal[0].1).len(), 2);
}

#[test]
fn a_commit_that_the_log_does_not_take_changes_nothing() {
    let mut world = World::new();
    world.commit("", -1, &[(0, 5)]);
    world.is_full = true;
    let asker = world.commit("", -1, &[(0, 6)]);
    let outcome = world.take_commit(asker)[0].outcome;
    assert_eq!(outcome, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.offset(0), Some(5));
}

#[test]
fn a_commit_is_no_larger_than_a_batch() {
    let mut world = World::new();
    let offsets = (0..3_000).map(|partition| {
        let mut offset = to_commit(partition, 1);
        offset.metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX);
        offset
    });
    let commit = CommitOffsets {
        group: GroupId::from("g"),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets: offsets.collect(),
    };
    let asker = world.send_commit(commit);
    let verdicts = world.take_commit(asker);
    let refused = Err(GroupError::InvalidCommitOffsetSize);
    assert!(verdicts.len() == 3_000 && verdicts.iter().all(|v| v.outcome == refused));
    assert!(world.journal.is_empty());
}

#[test]
fn groups_are_listed_and_described() {
    let mut world = World::new();
    world.commit("", -1, &[(0, 1)]);
    let group = GroupId::from("g");
    let simple = world.coordinator.describe(&group).unwrap();
    assert_eq!((simple.state, simple.protocol_type.as_str()), ("Empty", ""));
    let member = world.stable(1).remove(0).member;
    let stable = world.coordinator.describe(&group).unwrap();
    assert_eq!((stable.state, stable.protocol.as_str()), ("Stable", "range"));
    assert_eq!(stable.members[0].metadata, "range metadata".as_bytes());
    assert_eq!(stable.members[0].assignment, member.as_str().as_bytes());
    assert_eq!(stable.members[0].client_host, "/h");
    world.join("g", "");
    let joining = world.coordinator.describe(&group).unwrap();
    assert_eq!((joining.state, joining.members.len()), ("PreparingRebalance", 2));
    assert!(joining.members.iter().all(|m| m.assignment.is_empty() && m.metadata.is_empty()));
    let list = world.coordinator.list().unwrap();
    assert_eq!((list.len(), list[0].state, list[0].group.as_str()), (1, "PreparingRebalance", "g"));
    let none = world.coordinator.describe(&GroupId::from("other"));
    assert_eq!(none, Err(GroupError::GroupIdNotFound));
}

#[test]
fn empty_groups_are_deleted_with_their_offsets() {
    let mut world = World::new();
    let member = world.stable(1).remove(0).member;
    world.commit(member.as_str(), 1, &[(0, 1), (1, 2)]);
    let delete = |world: &mut World| {
        let asker = world.asker();
        let groups = vec![GroupId::from("g"), GroupId::from("other")];
        world.coordinator.delete(world.now, asker, groups);
        world.settle();
        match world.answers.remove(&asker) {
            Some(Answer::Delete(verdicts)) => verdicts.into_iter().map(|v| v.1).collect::<Vec<_>>(),
            other => panic!("not an answer to a deletion: {other:?}"),
        }
    };
    let not_found = Err(GroupError::GroupIdNotFound);
    assert_eq!(delete(&mut world), [Err(GroupError::NonEmptyGroup), not_found]);
    world.leave(&[name(member.as_str(), None)]);
    world.is_full = true;
    assert_eq!(delete(&mut world), [Err(GroupError::CoordinatorNotAvailable), not_found]);
    assert_eq!(world.offset(0), Some(1));
    world.is_full = false;
    let written = world.journal.len();
    assert_eq!(delete(&mut world), [Ok(()), not_found]);
    assert_eq!((world.state(), world.offset(0)), ("none", None));
    let tombstones = records_of(&world.journal[written].1);
    assert_eq!(tombstones.len(), 3);
    let gone = |record: &Record| {
        matches!(record, Record::Group { metadata: None, .. } | Record::Offset { offset: None, .. })
    };
    assert!(tombstones.iter().all(gone));
    assert_eq!(delete(&mut world), [not_found, not_found]);
}

#[test]
fn a_large_group_is_deleted_in_several_batches() {
    let mut world = World::new();
    let group = "g".repeat(1_000);
    let offsets: Vec<_> = (0..3_000).map(|partition| to_commit(partition, 1)).collect();
    let commit = CommitOffsets {
        group: GroupId::from(group.as_str()),
        member: name("", None),
        generation: -1,
        retention_ms: None,
        offsets,
    };
    world.send_commit(commit);
    assert_eq!(world.journal.len(), 1);
    let asker = world.asker();
    world.coordinator.delete(world.now, asker, vec![GroupId::from(group.as_str())]);
    world.settle();
    assert!(world.journal.len() > 3, "{} batches", world.journal.len());
    assert!(matches!(&world.answers[&asker], Answer::Delete(v) if v[0].1.is_ok()));
    assert_eq!(world.coordinator.list().unwrap(), []);
}

#[test]
fn offsets_are_deleted_once_that_is_appended() {
    let mut world = World::new();
    world.commit("", -1, &[(0, 5), (1, 7), (2, 9)]);
    let offset =
        |partition, known| OffsetToDelete { topic: TopicName::from("t"), partition, known };
    let kept = Err(GroupError::GroupSubscribedToTopic);
    let delete = DeleteOffsets {
        group: GroupId::from("g"),
        offsets: vec![offset(0, Ok(())), offset(1, kept), offset(0, Ok(())), offset(8, Ok(()))],
    };
    let send = |world: &mut World| {
        let asker = world.asker();
        world.coordinator.delete_offsets(world.now, asker, &delete);
        world.settle();
        match world.answers.remove(&asker) {
            Some(Answer::DeleteOffsets(outcome)) => {
                outcome.map(|all| all.iter().map(|v| (v.partition, v.outcome)).collect::<Vec<_>>())
            }
            other => panic!("not the answer: {other:?}"),
        }
    };
    world.is_full = true;
    assert_eq!(send(&mut world), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.offset(0), Some(5));
    world.is_full = false;
    let before = world.journal.len();
    let verdicts = vec![(0, Ok(())), (1, kept), (0, Ok(())), (8, Ok(()))];
    assert_eq!(send(&mut world), Ok(verdicts.clone()));
    assert_eq!((world.offset(0), world.offset(1), world.offset(2)), (None, Some(7), Some(9)));
    assert_eq!(records_of(&world.journal[before].1).len(), 1);
    assert_eq!((send(&mut world), world.journal.len()), (Ok(verdicts), before + 1));
}
