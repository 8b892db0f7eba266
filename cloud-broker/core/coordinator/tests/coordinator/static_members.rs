//! Members with a name of their own (KIP-345, KIP-814).

use broker_coordinator::{GroupError, JoinGroup, Joined};

use crate::harness::{Asker, DELAY_MS, REBALANCE_MS, SESSION_MS, World, name, protocols};

fn static_join(world: &mut World, id: &str, instance: &str) -> JoinGroup {
    let mut join = world.join_request("g", "");
    join.member = name(id, Some(instance));
    join.needs_known_id = true;
    join
}

fn join(world: &mut World, id: &str, instance: &str) -> Asker {
    let join = static_join(world, id, instance);
    world.send_join(&join)
}

/// Two static members, "i0" (the leader) and "i1".
fn stable(world: &mut World) -> Vec<Joined> {
    let askers = [join(world, "", "i0"), join(world, "", "i1")];
    world.wait(2 * DELAY_MS);
    let joined: Vec<_> = askers.into_iter().map(|asker| world.take_join(asker).unwrap()).collect();
    world.sync_all(&joined);
    joined
}

#[test]
fn one_that_comes_back_goes_on_without_a_rebalance() {
    let mut world = World::new();
    let old = stable(&mut world);
    let written = world.journal.len();
    let back = join(&mut world, "", "i1");
    let back = world.take_join(back).unwrap();
    assert_eq!((back.generation, world.state()), (1, "Stable"));
    assert_eq!(world.journal.len(), written + 1, "its new id is saved");
    assert_ne!(back.member, old[1].member);
    assert_eq!((back.members.len(), back.skip_assignment), (0, false));
    let synced = world.sync(&back, &[]);
    let assignment = world.take_sync(synced).unwrap().assignment;
    assert_eq!(assignment, old[1].member.as_str().as_bytes(), "it has what it had");
    // Its predecessor, should it still live, is fenced wherever it turns up.
    let gone = name(old[1].member.as_str(), Some("i1"));
    let heartbeat = broker_coordinator::Heartbeat {
        group: broker_coordinator::GroupId::from("g"),
        member: gone.clone(),
        generation: 1,
    };
    let beat = world.coordinator.heartbeat(world.now, &heartbeat);
    assert_eq!(beat, Err(GroupError::FencedInstanceId));
    assert_eq!(world.leave(&[gone]), [Err(GroupError::FencedInstanceId)]);
    let rejoin = join(&mut world, old[1].member.as_str(), "i1");
    assert_eq!(world.take_join(rejoin), Err(GroupError::FencedInstanceId));
}

#[test]
fn a_leader_that_comes_back_does_not_assign() {
    let mut world = World::new();
    let old = stable(&mut world);
    let back = join(&mut world, "", "i0");
    let back = world.take_join(back).unwrap();
    assert_eq!(back.leader, back.member);
    assert!(back.skip_assignment);
    assert_eq!(back.members.len(), 2);
    // A client that knows nothing of this must not find itself the leader.
    let mut plain = static_join(&mut world, "", "i0");
    plain.may_skip_assignment = false;
    let again = world.send_join(&plain);
    let again = world.take_join(again).unwrap();
    assert_eq!((&again.leader, again.skip_assignment), (&back.member, false));
    assert!(again.members.is_empty());
    assert_eq!(world.heartbeat(&old[1].member, 1), Ok(()));
}

#[test]
fn another_protocol_makes_a_rebalance() {
    let mut world = World::new();
    stable(&mut world);
    let mut changed = static_join(&mut world, "", "i1");
    changed.protocols = protocols(&["sticky"]);
    let asker = world.send_join(&changed);
    assert_eq!(world.state(), "PreparingRebalance");
    assert!(!world.answers.contains_key(&asker));
}

#[test]
fn one_that_is_away_is_kept_for_its_session() {
    let mut world = World::new();
    let mut patient = static_join(&mut world, "", "i0");
    patient.session_timeout_ms = 600_000;
    let away = world.send_join(&patient);
    let here = world.join("g", "");
    world.wait(2 * DELAY_MS);
    let away = world.take_join(away).unwrap();
    let here = world.take_join(here).unwrap();
    world.sync_all(&[away.clone(), here.clone()]);
    // A rebalance passes without it, and does not put it out.
    let mut changed = world.join_request("g", here.member.as_str());
    changed.protocols = protocols(&["range"]);
    let again = world.send_join(&changed);
    world.wait(REBALANCE_MS);
    let again = world.take_join(again).unwrap();
    assert_eq!((again.generation, again.members.len()), (2, 2));
    assert_eq!(again.leader, again.member, "somebody who is here leads");
}

#[test]
fn when_all_are_away_the_group_waits() {
    let mut world = World::new();
    let mut patient = static_join(&mut world, "", "i0");
    patient.session_timeout_ms = 600_000;
    let joining = world.send_join(&patient);
    world.wait(DELAY_MS);
    let joined = world.take_join(joining).unwrap();
    world.sync_all(std::slice::from_ref(&joined));
    let other = world.join("g", "");
    world.leave(&[name("m2", None)]);
    assert_eq!(world.take_join(other), Err(GroupError::UnknownMemberId));
    world.wait(REBALANCE_MS * 3);
    assert_eq!(world.state(), "PreparingRebalance");
    let back = join(&mut world, joined.member.as_str(), "i0");
    assert_eq!(world.take_join(back).unwrap().generation, 2);
}

#[test]
fn an_administrator_removes_one_by_its_name() {
    let mut world = World::new();
    stable(&mut world);
    let leaves = [name("", Some("i1")), name("", Some("i9"))];
    assert_eq!(world.leave(&leaves), [Ok(()), Err(GroupError::UnknownMemberId)]);
    assert_eq!(world.state(), "PreparingRebalance");
    world.wait(SESSION_MS);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_double_in_the_same_rebalance_is_fenced() {
    let mut world = World::new();
    let first = join(&mut world, "", "i0");
    let second = join(&mut world, "", "i0");
    assert_eq!(world.take_join(first), Err(GroupError::FencedInstanceId));
    world.wait(2 * DELAY_MS);
    let joined = world.take_join(second).unwrap();
    assert_eq!(joined.members.len(), 1);
    let waiting = world.sync(&joined, &[]);
    assert!(world.take_sync(waiting).is_ok());
}

#[test]
fn a_new_id_that_the_log_does_not_take_makes_a_rebalance() {
    let mut world = World::new();
    let old = stable(&mut world);
    world.is_full = true;
    let back = join(&mut world, "", "i1");
    assert_eq!(world.state(), "PreparingRebalance");
    world.is_full = false;
    join(&mut world, old[0].member.as_str(), "i0");
    assert_eq!(world.take_join(back).unwrap().generation, 2);
}
