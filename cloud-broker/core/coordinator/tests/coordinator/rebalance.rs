//! Members come and go.

use broker_coordinator::{Answer, GroupError, GroupId, MemberId, SyncGroup};

use crate::harness::{DELAY_MS, REBALANCE_MS, SESSION_MS, World, name, protocols};

#[test]
fn the_first_member_waits_for_more_and_leads() {
    let mut world = World::new();
    let first = world.join("g", "");
    assert_eq!(world.state(), "PreparingRebalance");
    world.wait(DELAY_MS - 1);
    assert!(world.answers.is_empty(), "others may still come");
    let second = world.join("g", "");
    world.wait(1);
    assert!(world.answers.is_empty(), "somebody came, so it waits again");
    world.wait(DELAY_MS);
    let (first, second) = (world.take_join(first).unwrap(), world.take_join(second).unwrap());
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!((&first.leader, &second.leader), (&first.member, &first.member));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "only the leader assigns");
    assert_eq!(first.members[0].metadata, "range metadata".as_bytes());
    assert_eq!(first.protocol, "range");
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn the_first_rebalance_is_put_off_no_longer_than_the_rebalance_timeout() {
    let mut world = World::new();
    let first = world.join("g", "");
    let mut waited = 0;
    while !world.answers.contains_key(&first) {
        world.join("g", "");
        world.wait(DELAY_MS / 2);
        waited += DELAY_MS / 2;
        assert!(waited <= REBALANCE_MS + DELAY_MS, "it never ends");
    }
    assert!(waited > REBALANCE_MS / 2, "it was put off for {waited} ms only");
}

#[test]
fn followers_wait_for_the_leader_s_assignments() {
    let mut world = World::new();
    let (a, b) = (world.join("g", ""), world.join("g", ""));
    world.wait(2 * DELAY_MS);
    let (a, b) = (world.take_join(a).unwrap(), world.take_join(b).unwrap());
    let follower = world.sync(&b, &[]);
    assert!(!world.answers.contains_key(&follower));
    let written = world.journal.len();
    let leader = world.sync(&a, &[(&a.member, "one"), (&b.member, "two")]);
    assert_eq!(world.journal.len(), written + 1, "the generation is saved");
    assert_eq!(world.take_sync(leader).unwrap().assignment, "one".as_bytes());
    assert_eq!(world.take_sync(follower).unwrap().assignment, "two".as_bytes());
    // Asked again, the same.
    let again = world.sync(&b, &[]);
    assert_eq!(world.take_sync(again).unwrap().assignment, "two".as_bytes());
}

#[test]
fn a_member_that_the_leader_forgets_gets_nothing() {
    let mut world = World::new();
    let (a, b) = (world.join("g", ""), world.join("g", ""));
    world.wait(2 * DELAY_MS);
    let (a, b) = (world.take_join(a).unwrap(), world.take_join(b).unwrap());
    let stranger = MemberId::from("stranger");
    world.sync(&a, &[(&a.member, "one"), (&stranger, "two")]);
    let follower = world.sync(&b, &[]);
    assert_eq!(world.take_sync(follower).unwrap().assignment, "".as_bytes());
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut world = World::new();
    let old = world.stable(2);
    let new = world.join("g", "");
    for member in &old {
        let beat = world.heartbeat(&member.member, 1);
        assert_eq!(beat, Err(GroupError::RebalanceInProgress));
    }
    let again: Vec<_> = old.iter().map(|m| world.join("g", m.member.as_str())).collect();
    let new = world.take_join(new).unwrap();
    assert_eq!((new.generation, &new.leader), (2, &old[0].member), "the leader stays");
    let mut joined: Vec<_> = again.into_iter().map(|a| world.take_join(a).unwrap()).collect();
    assert_eq!(joined[0].members.len(), 3);
    joined.push(new);
    world.sync_all(&joined);
    for member in &joined {
        assert_eq!(world.heartbeat(&member.member, 2), Ok(()));
    }
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut world = World::new();
    let old = world.stable(2);
    let new = world.join("g", "");
    let again = world.join("g", old[0].member.as_str());
    // The other one only says that it is alive.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(!world.answers.contains_key(&again));
        let _ = world.heartbeat(&old[1].member, 1);
        world.wait(5_000);
    }
    assert_eq!(world.take_join(again).unwrap().members.len(), 2);
    assert_eq!(world.take_join(new).unwrap().generation, 2);
    assert_eq!(world.heartbeat(&old[1].member, 1), Err(GroupError::UnknownMemberId));
    let late = world.join("g", old[1].member.as_str());
    assert_eq!(world.take_join(late), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut world = World::new();
    let old = world.stable(2);
    world.wait(SESSION_MS - 1);
    assert_eq!(world.heartbeat(&old[0].member, 1), Ok(()));
    assert_eq!(world.state(), "Stable");
    world.wait(1);
    assert_eq!(world.state(), "PreparingRebalance");
    let again = world.join("g", old[0].member.as_str());
    let again = world.take_join(again).unwrap();
    assert_eq!((again.generation, again.members.len()), (2, 1));
}

#[test]
fn whoever_waits_for_others_needs_no_heartbeat() {
    let mut world = World::new();
    let (a, b) = (world.join("g", ""), world.join("g", ""));
    world.wait(2 * DELAY_MS);
    let (a, b) = (world.take_join(a).unwrap(), world.take_join(b).unwrap());
    let waiting = world.sync(&b, &[]);
    // The leader takes its time, and says so.
    for _ in 0..5 {
        world.wait(SESSION_MS / 2);
        assert_eq!(world.heartbeat(&a.member, 1), Ok(()));
    }
    world.sync(&a, &[(&b.member, "b")]);
    assert_eq!(world.take_sync(waiting).unwrap().assignment, "b".as_bytes());
    assert_eq!(world.heartbeat(&b.member, 1), Ok(()), "its session began anew");
}

#[test]
fn a_leader_that_never_assigns_is_out_with_the_rebalance_timeout() {
    let mut world = World::new();
    let (a, b) = (world.join("g", ""), world.join("g", ""));
    world.wait(2 * DELAY_MS);
    let (a, b) = (world.take_join(a).unwrap(), world.take_join(b).unwrap());
    let waiting = world.sync(&b, &[]);
    for _ in 0..REBALANCE_MS / 5_000 {
        let _ = world.heartbeat(&a.member, 1);
        world.wait(5_000);
    }
    assert_eq!(world.take_sync(waiting), Err(GroupError::RebalanceInProgress));
    assert_eq!(world.heartbeat(&a.member, 1), Err(GroupError::UnknownMemberId));
    let again = world.join("g", b.member.as_str());
    assert_eq!(world.take_join(again).unwrap().leader, b.member);
}

#[test]
fn members_leave_and_the_group_becomes_empty() {
    let mut world = World::new();
    let members = world.stable(2);
    let leaves = [name(members[0].member.as_str(), None), name("nobody", None)];
    assert_eq!(world.leave(&leaves), [Ok(()), Err(GroupError::UnknownMemberId)]);
    assert_eq!(world.state(), "PreparingRebalance");
    let written = world.journal.len();
    assert_eq!(world.leave(&[name(members[1].member.as_str(), None)]), [Ok(())]);
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.journal.len(), written + 1, "that it is empty is saved");
    let next = world.join("g", "");
    world.wait(2 * DELAY_MS);
    assert_eq!(world.take_join(next).unwrap().generation, 3, "generations go on");
}

#[test]
fn a_group_that_never_was_leaves_nothing_behind() {
    let mut world = World::new();
    let mut join = world.join_request("g", "");
    join.needs_known_id = true;
    world.send_join(&join);
    assert_eq!(world.state(), "Empty");
    world.wait(SESSION_MS);
    assert_eq!(world.state(), "none", "nobody came back with the id");
    let one = world.join("g", "");
    let [Ok(())] = world.leave(&[name("m2", None)])[..] else {
        panic!("it was a member");
    };
    assert_eq!(world.take_join(one), Err(GroupError::UnknownMemberId));
    assert_eq!((world.state(), world.journal.len()), ("none", 0));
}

#[test]
fn an_id_comes_first_where_the_client_knows_of_it() {
    let mut world = World::new();
    let mut join = world.join_request("g", "");
    join.needs_known_id = true;
    let asker = world.send_join(&join);
    let id = join.fresh_id.clone();
    let refused = world.answers.remove(&asker);
    assert_eq!(refused, Some(Answer::Join(Err((GroupError::MemberIdRequired, id.clone())))));
    let known = world.join("g", id.as_str());
    world.wait(2 * DELAY_MS);
    assert_eq!(world.take_join(known).unwrap().member, id);
}

#[test]
fn a_rebalance_waits_for_ids_that_were_given_out() {
    let mut world = World::new();
    let old = world.stable(1);
    let mut join = world.join_request("g", "");
    join.needs_known_id = true;
    world.send_join(&join);
    assert_eq!(world.state(), "Stable", "an id is no member yet");
    let again = world.join("g", old[0].member.as_str());
    assert!(!world.answers.contains_key(&again));
    let new = world.join("g", join.fresh_id.as_str());
    assert_eq!(world.take_join(again).unwrap().generation, 2);
    assert_eq!(world.take_join(new).unwrap().generation, 2);
}

#[test]
fn the_protocol_is_chosen_by_vote_among_those_that_all_have() {
    // What the members offer, best first; what is chosen.
    let cases: &[(&[&[&str]], &str)] = &[
        (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky"),
        (&[&["range", "sticky"], &["sticky", "range"]], "range"),
        (&[&["own", "sticky"], &["other", "sticky"]], "sticky"),
        (&[&["a", "a", "b"], &["b", "c"]], "b"),
    ];
    for (offers, chosen) in cases {
        let mut world = World::new();
        let mut askers = Vec::new();
        for offer in *offers {
            let mut join = world.join_request("g", "");
            join.protocols = protocols(offer);
            askers.push(world.send_join(&join));
        }
        world.wait(2 * DELAY_MS);
        for asker in askers {
            assert_eq!(world.take_join(asker).unwrap().protocol, *chosen, "{offers:?}");
        }
    }
}

#[test]
fn who_has_nothing_in_common_stays_out() {
    let mut world = World::new();
    world.stable(1);
    let mut join = world.join_request("g", "");
    join.protocols = protocols(&["other"]);
    let asker = world.send_join(&join);
    assert_eq!(world.take_join(asker), Err(GroupError::InconsistentGroupProtocol));
    let mut join = world.join_request("g", "");
    join.protocol_type = "connect".to_owned();
    let asker = world.send_join(&join);
    assert_eq!(world.take_join(asker), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(world.state(), "Stable", "the group does not notice");
}

#[test]
fn a_join_whose_answer_was_lost_is_answered_again() {
    let mut world = World::new();
    let (a, b) = (world.join("g", ""), world.join("g", ""));
    world.wait(2 * DELAY_MS);
    let (a, b) = (world.take_join(a).unwrap(), world.take_join(b).unwrap());
    for (joined, members) in [(&a, 2), (&b, 0)] {
        let again = world.join("g", joined.member.as_str());
        let again = world.take_join(again).unwrap();
        assert_eq!((again.generation, again.members.len()), (1, members));
    }
    world.sync_all(&[a.clone(), b.clone()]);
    let again = world.join("g", b.member.as_str());
    assert_eq!(world.take_join(again).unwrap().generation, 1, "a follower may ask");
    let again = world.join("g", a.member.as_str());
    assert!(!world.answers.contains_key(&again), "a leader wants a rebalance");
}

#[test]
fn a_second_join_of_a_waiting_member_frees_the_first() {
    let mut world = World::new();
    let old = world.stable(2);
    let first = world.join("g", old[0].member.as_str());
    let second = world.join("g", old[0].member.as_str());
    assert_eq!(world.take_join(first), Err(GroupError::RebalanceInProgress));
    world.join("g", old[1].member.as_str());
    assert_eq!(world.take_join(second).unwrap().generation, 2);
}

#[test]
fn what_the_log_does_not_take_is_tried_again() {
    let mut world = World::new();
    let joining = world.join("g", "");
    world.wait(DELAY_MS);
    let joined = world.take_join(joining).unwrap();
    world.is_full = true;
    let refused = world.sync(&joined, &[(&joined.member, "x")]);
    assert_eq!(world.take_sync(refused), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.state(), "CompletingRebalance");
    world.is_full = false;
    let synced = world.sync(&joined, &[(&joined.member, "x")]);
    assert_eq!(world.take_sync(synced).unwrap().assignment, "x".as_bytes());
    world.is_full = true;
    let written = world.journal.len();
    world.leave(&[name(joined.member.as_str(), None)]);
    world.wait(500);
    assert_eq!((world.state(), world.journal.len()), ("Empty", written));
    world.is_full = false;
    world.wait(5_000);
    assert_eq!(world.journal.len(), written + 1, "once, and no more");
}

#[test]
fn assignments_of_a_generation_that_has_passed_are_void() {
    let mut world = World::new();
    let joining = world.join("g", "");
    world.wait(DELAY_MS);
    let joined = world.take_join(joining).unwrap();
    let sync = SyncGroup {
        group: GroupId::from("g"),
        member: name(joined.member.as_str(), None),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member.clone(), "x".into())],
    };
    let syncing = world.asker();
    world.coordinator.sync(world.now, syncing, &sync);
    // Somebody comes before the assignments are in the log.
    world.join("g", "");
    assert_eq!(world.take_sync(syncing), Err(GroupError::RebalanceInProgress));
    assert_eq!(world.state(), "PreparingRebalance");
}
