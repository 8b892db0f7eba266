//! Groups while the disk is full: they read, and what has to be written is refused for now.

use super::*;

#[test]
fn what_groups_write_is_refused_while_the_disk_is_full() {
    let unavailable = i16::from(ErrorCode::CoordinatorNotAvailable);
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let joined = sim.alone();
    sim.commits(&joined.member_id, joined.generation_id, 7);
    sim.commit();
    sim.answers.clear();
    sim.set_room(3, true);
    let committing = sim.commits(&joined.member_id, joined.generation_id, 8);
    let Response::OffsetCommit(response) = sim.group_response(committing) else {
        panic!("not the answer");
    };
    assert_eq!(response.topics[0].partitions[0].error_code, unavailable);
    assert_eq!(sim.offset(), Ok(7), "what is durable is told");
    assert_eq!(sim.heartbeat(&joined), OK, "the member stays");
    assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), Ok(vec![86]));

    sim.set_room(3, false);
    let committing = sim.commits(&joined.member_id, joined.generation_id, 8);
    sim.commit();
    sim.group_response(committing);
    assert_eq!(sim.offset(), Ok(8));
}
