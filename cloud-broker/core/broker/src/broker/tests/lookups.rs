//! ListOffsets.

use broker_kafka::ErrorCode;
use broker_kafka::generated::Request;
use broker_kafka::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use broker_kafka::runtime::Text;

use super::{OK, changed};
use crate::sim::{Sim, batch};

pub(super) fn list(timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Text::from("t"),
            partitions: vec![ListOffsetsPartition {
                current_leader_epoch: -1,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    }
}

pub(super) fn look_up(sim: &mut Sim, version: i16, timestamp: i64) -> ListOffsetsPartitionResponse {
    let asking = sim.request(version, Request::from(list(timestamp)));
    sim.looked_up(asking).topics.remove(0).partitions.remove(0)
}

#[test]
fn offsets_are_found_by_time_to_the_record() {
    for tail_bytes in [0, 1 << 20] {
        let mut sim = Sim::with_topic(tail_bytes, "t");
        // Late data: the second batch is older than the first. Its header says more than its records hold.
        sim.produce("t", 0, batch(&["a", "b", "c"], 100));
        sim.commit();
        let lying = changed(&batch(&["d", "e"], 50), |b| {
            b[35..43].copy_from_slice(&300_i64.to_be_bytes());
        });
        sim.produce("t", 0, lying);
        sim.commit();
        sim.produce("t", 0, batch(&["f", "g"], 200));
        sim.produce("t", 0, batch(&["h"], 201));
        sim.commit();
        // Timestamp asked for; offset and timestamp expected.
        for (asked, offset, timestamp) in [
            (-2, 0, -1),
            (-1, 8, -1),
            (-4, 0, -1),
            (-5, -1, -1),
            (0, 0, 100),
            (101, 1, 101),
            (102, 2, 102),
            (103, 5, 200),
            (201, 6, 201),
            (202, -1, -1),
            (301, -1, -1),
            (-3, 6, 201),
        ] {
            let found = look_up(&mut sim, 10, asked);
            assert_eq!(
                (found.error_code, found.offset, found.timestamp),
                (OK, offset, timestamp),
                "asked for {asked}, tail {tail_bytes}"
            );
        }
    }
}

#[test]
fn the_greatest_timestamp_of_an_honest_log() {
    let mut sim = Sim::with_topic(0, "t");
    let nothing = look_up(&mut sim, 10, -3);
    assert_eq!((nothing.error_code, nothing.offset), (OK, -1));
    sim.produce("t", 0, batch(&["a", "b"], 100));
    sim.produce("t", 0, batch(&["c"], 50));
    sim.commit();
    let found = look_up(&mut sim, 10, -3);
    assert_eq!((found.offset, found.timestamp), (1, 101));
}

#[test]
fn what_a_lookup_is_refused() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5)] {
        let code = look_up(&mut sim, version, timestamp).error_code;
        assert_eq!(code, i16::from(ErrorCode::UnsupportedVersion));
        assert_eq!(look_up(&mut sim, version + 1, timestamp).error_code, OK);
    }
    for timestamp in [-6, i64::MIN] {
        let found = look_up(&mut sim, 10, timestamp);
        let unsupported = i16::from(ErrorCode::UnsupportedVersion);
        assert_eq!((found.error_code, found.offset), (unsupported, -1), "{timestamp}");
    }
    let mut twice = list(-1);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let asking = sim.request(10, Request::from(twice));
    let response = sim.looked_up(asking);
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [i16::from(ErrorCode::InvalidRequest); 2]);
    let mut elsewhere = list(-1);
    elsewhere.topics[0].partitions[0].partition_index = 2;
    let asking = sim.request(10, Request::from(elsewhere));
    let response = sim.looked_up(asking);
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(response.topics[0].partitions[0].error_code, unknown);
}
