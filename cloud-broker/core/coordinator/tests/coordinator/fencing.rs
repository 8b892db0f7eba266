//! Who is turned away from a group, by what it says it is.

use broker_coordinator::{GroupError, GroupId, Heartbeat, JoinGroup, SyncGroup};

use crate::harness::{World, name};

/// What is wrong, how a good request is spoiled, and what it gets.
type Case<T> = (&'static str, fn(&mut T), GroupError);

#[test]
fn joins_that_cannot_be() {
    use GroupError as E;
    let cases: &[Case<JoinGroup>] = &[
        ("no group id", |j| j.group = GroupId::from(""), E::InvalidGroupId),
        ("session too short", |j| j.session_timeout_ms = 5_999, E::InvalidSessionTimeout),
        ("session too long", |j| j.session_timeout_ms = 1_800_001, E::InvalidSessionTimeout),
        ("session below zero", |j| j.session_timeout_ms = -1, E::InvalidSessionTimeout),
        ("no protocol", |j| j.protocols.clear(), E::InconsistentGroupProtocol),
        ("no protocol type", |j| j.protocol_type.clear(), E::InconsistentGroupProtocol),
        ("an id in a group that is not there", |j| j.member = name("m9", None), E::UnknownMemberId),
    ];
    for (what, spoil, error) in cases {
        let mut world = World::new();
        let mut join = world.join_request("g", "");
        spoil(&mut join);
        let asker = world.send_join(&join);
        assert_eq!(world.take_join(asker), Err(*error), "{what}");
        assert_eq!(world.state(), "none", "{what}");
    }
}

#[test]
fn syncs_that_do_not_fit() {
    use GroupError as E;
    let cases: &[Case<SyncGroup>] = &[
        ("no group id", |s| s.group = GroupId::from(""), E::InvalidGroupId),
        ("another group", |s| s.group = GroupId::from("other"), E::UnknownMemberId),
        ("another member", |s| s.member = name("m9", None), E::UnknownMemberId),
        ("an older generation", |s| s.generation = 0, E::IllegalGeneration),
        ("a later generation", |s| s.generation = 2, E::IllegalGeneration),
        ("another type", |s| s.protocol_type = Some("x".into()), E::InconsistentGroupProtocol),
        ("another protocol", |s| s.protocol = Some("x".into()), E::InconsistentGroupProtocol),
    ];
    let mut world = World::new();
    let member = world.stable(1).remove(0);
    let good = SyncGroup {
        group: GroupId::from("g"),
        member: name(member.member.as_str(), None),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    for (what, spoil, error) in cases {
        let mut sync = good.clone();
        spoil(&mut sync);
        let asker = world.send_sync(&sync);
        assert_eq!(world.take_sync(asker), Err(*error), "{what}");
    }
    let asker = world.send_sync(&good);
    assert!(world.take_sync(asker).is_ok());
    world.join("g", "");
    let asker = world.send_sync(&good);
    assert_eq!(world.take_sync(asker), Err(E::RebalanceInProgress));
}

#[test]
fn heartbeats_that_do_not_fit() {
    use GroupError as E;
    let mut world = World::new();
    let member = world.stable(1).remove(0).member;
    for (group, id, generation, expected) in [
        ("g", member.as_str(), 1, Ok(())),
        ("g", member.as_str(), 0, Err(E::IllegalGeneration)),
        ("g", member.as_str(), -1, Err(E::IllegalGeneration)),
        ("g", "m9", 1, Err(E::UnknownMemberId)),
        ("g", "", 1, Err(E::UnknownMemberId)),
        ("other", member.as_str(), 1, Err(E::UnknownMemberId)),
        ("", member.as_str(), 1, Err(E::InvalidGroupId)),
    ] {
        let member = name(id, None);
        let heartbeat = Heartbeat { group: GroupId::from(group), member, generation };
        let found = world.coordinator.heartbeat(world.now, &heartbeat);
        assert_eq!(found, expected, "{group:?} {id:?} {generation}");
    }
}

#[test]
fn who_may_commit() {
    use GroupError as E;
    let mut world = World::new();
    // Without a group, whoever manages its own partitions.
    assert_eq!(world.commit_one("", -1), Ok(()));
    assert_eq!(world.commit_one("m1", 3), Err(E::IllegalGeneration));
    let members = world.stable(1);
    let member = members[0].member.as_str();
    for (id, generation, expected) in [
        (member, 1, Ok(())),
        (member, 0, Err(E::IllegalGeneration)),
        (member, 2, Err(E::IllegalGeneration)),
        (member, -1, Err(E::IllegalGeneration)),
        ("m9", 1, Err(E::UnknownMemberId)),
        ("", -1, Err(E::UnknownMemberId)),
    ] {
        assert_eq!(world.commit_one(id, generation), expected, "{id:?} {generation}");
    }
    // While it joins, a member still commits what it has read.
    let new = world.join("g", "");
    assert_eq!(world.commit_one(member, 1), Ok(()));
    world.join("g", member);
    let new = world.take_join(new).unwrap();
    assert_eq!(world.commit_one(member, 1), Err(E::IllegalGeneration));
    assert_eq!(world.commit_one(new.member.as_str(), 2), Err(E::RebalanceInProgress));
    let ids = [name(member, None), name(new.member.as_str(), None)];
    world.leave(&ids);
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.commit_one("", -1), Ok(()), "an administrator may move an empty group");
    assert_eq!(world.commit_one(member, 2), Err(E::UnknownMemberId));
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut world = World::new();
    let member = world.stable(1).remove(0).member;
    for _ in 0..4 {
        world.wait(crate::harness::SESSION_MS - 1);
        assert_eq!(world.commit_one(member.as_str(), 1), Ok(()));
    }
    assert_eq!(world.state(), "Stable");
}

#[test]
fn nothing_is_served_before_it_is_loaded() {
    use broker_coordinator::{Coordinator, GroupSettings, partition_of};
    let now = crate::harness::start();
    let mut coordinator: Coordinator<u32> = Coordinator::new(GroupSettings::default(), 3, now.mono);
    let (one, other) = (GroupId::from("a"), GroupId::from("b"));
    let (at, elsewhere) = (partition_of("a", 3), partition_of("b", 3));
    assert_ne!(at, elsewhere);
    coordinator.loaded(at, now);
    assert_eq!(coordinator.offset(&one, "t", 0), Ok(None));
    assert_eq!(coordinator.offset(&other, "t", 0), Err(GroupError::LoadInProgress));
    assert_eq!(coordinator.describe(&other), Err(GroupError::LoadInProgress));
    assert_eq!(coordinator.list(), Err(GroupError::LoadInProgress));
    assert_eq!(coordinator.leave(now, &other, &[]), Err(GroupError::LoadInProgress));
}
