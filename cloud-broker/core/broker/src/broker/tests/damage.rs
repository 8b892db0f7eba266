//! What readers are told of records that are not what was written.

use broker_kafka::Request;
use broker_log::FileNo;

use super::{OK, lookups, values};
use crate::sim::{Sim, batch, fetch};

const CORRUPT: i16 = broker_kafka::ErrorCode::CorruptMessage as i16;

/// A topic whose partition 0 holds "a0", "b0" and "c0", in slots of their own, and whose partition 1 holds "a1". Nothing is
/// in memory.
fn three_and_one() -> Sim {
    let mut sim = Sim::with_topic(0, "t");
    for (partition, value, time) in [(0, "a0", 10), (0, "b0", 20), (0, "c0", 30), (1, "a1", 10)] {
        let asker = sim.produce("t", partition, batch(&[value], time));
        sim.commit();
        assert_eq!(sim.produced(asker).error_code, OK);
    }
    sim
}

/// The same in one slot, so in one run.
fn three_at_once() -> Sim {
    let mut sim = Sim::with_topic(0, "t");
    sim.begin_write();
    for (value, time) in [("a0", 10), ("b0", 20), ("c0", 30)] {
        sim.produce("t", 0, batch(&[value], time));
    }
    sim.produce("t", 1, batch(&["a1"], 10));
    sim.commit();
    sim.answers.clear();
    sim
}

/// Flips a bit of the record with this value.
fn damage(sim: &mut Sim, value: &str) {
    let mut bytes = sim.disk.bytes_mut(FileNo(0));
    let at = bytes.windows(2).position(|two| two == value.as_bytes()).unwrap();
    bytes[at] ^= 0x20;
}

/// Error and values of partition `partition` from `offset` on.
fn reads(sim: &mut Sim, partition: i32, offset: i64) -> (i16, Vec<String>) {
    let asker = sim.request(12, Request::from(fetch("t", partition, offset)));
    let response = sim.fetched(asker);
    (response.responses[0].partitions[0].error_code, values(&response))
}

#[test]
fn damage_is_told_where_it_is_and_nothing_is_skipped() {
    for mut sim in [three_and_one(), three_at_once()] {
        let all =
            |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        assert_eq!(reads(&mut sim, 0, 0), (OK, all(&["a0", "b0", "c0"])));
        damage(&mut sim, "b0");
        assert_eq!(reads(&mut sim, 0, 0), (OK, all(&["a0"])), "what is intact before it is served");
        assert_eq!(reads(&mut sim, 0, 1), (CORRUPT, all(&[])), "and then the reader hears of it");
        // Its application decides to skip.
        assert_eq!(reads(&mut sim, 0, 2), (OK, all(&["c0"])));
        assert_eq!(reads(&mut sim, 1, 0), (OK, all(&["a1"])));
    }
}

#[test]
fn other_partitions_of_a_fetch_are_served() {
    let mut sim = three_and_one();
    damage(&mut sim, "a0");
    let mut request = fetch("t", 0, 0);
    let other = fetch("t", 1, 0).topics[0].partitions[0].clone();
    request.topics[0].partitions.push(other);
    let asker = sim.request(12, Request::from(request));
    let response = sim.fetched(asker);
    let codes: Vec<i16> =
        response.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!((codes, values(&response)), (vec![CORRUPT, OK], vec!["a1".to_owned()]));
}

#[test]
fn a_time_that_lies_in_damage_is_not_found_beside_it() {
    for mut sim in [three_and_one(), three_at_once()] {
        assert_eq!(lookups::look_up(&mut sim, 10, 20).offset, 1);
        damage(&mut sim, "b0");
        let found = lookups::look_up(&mut sim, 10, 20);
        assert_eq!((found.error_code, found.offset), (CORRUPT, -1));
        assert_eq!(lookups::look_up(&mut sim, 10, 10).offset, 0);
    }
    let mut sim = three_and_one();
    damage(&mut sim, "b0");
    assert_eq!(lookups::look_up(&mut sim, 10, 30).offset, 2, "its run is another one");
    let mut sim = three_at_once();
    damage(&mut sim, "c0");
    assert_eq!(lookups::look_up(&mut sim, 10, -3).error_code, CORRUPT);
}
