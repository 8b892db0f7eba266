//! OffsetDelete: what a group's members read stays.

use broker_kafka::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use super::*;

fn delete(group: &str, offsets: &[(&str, i32)]) -> OffsetDeleteRequest {
    let topics = offsets.iter().map(|&(topic, partition_index)| OffsetDeleteRequestTopic {
        name: Text::from(topic),
        partitions: vec![OffsetDeleteRequestPartition { partition_index }],
    });
    OffsetDeleteRequest { group_id: Text::from(group), topics: topics.collect() }
}

impl Sim {
    /// The error of the whole request, or of each offset.
    pub(super) fn deletes_offsets(
        &mut self,
        group: &str,
        offsets: &[(&str, i32)],
    ) -> Result<Vec<i16>, i16> {
        let asker = self.request(0, delete(group, offsets).into());
        self.commit();
        match self.group_response(asker) {
            Response::OffsetDelete(r) if r.error_code != OK => Err(r.error_code),
            Response::OffsetDelete(r) => {
                let partitions = r.topics.iter().flat_map(|topic| &topic.partitions);
                Ok(partitions.map(|partition| partition.error_code).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    /// A group with a member of this kind that has this metadata, and a committed offset.
    fn with_member(kind: &str, metadata: &'static [u8]) -> (Self, JoinGroupResponse) {
        let mut sim = Sim::with_topic(1 << 20, "t");
        sim.coordinator();
        let mut joined = JoinGroupResponse::default();
        for _ in 0..2 {
            let mut request = join(&joined.member_id);
            request.protocol_type = Text::from(kind);
            request.protocols[0].metadata = Bytes::from_static(metadata);
            let joining = sim.request(5, request.into());
            sim.wait_ms(3_000);
            joined = sim.joined(joining);
        }
        sim.request(3, sync(&joined).into());
        sim.commit();
        sim.commits(&joined.member_id, joined.generation_id, 7);
        sim.commit();
        sim.answers.clear();
        assert_eq!(sim.offset(), Ok(7));
        (sim, joined)
    }
}

/// A subscription to one topic.
const READS_T: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't'];
const READS_U: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b'u'];

#[test]
fn offsets_of_a_group_without_members_are_deleted() {
    use ErrorCode as E;
    let mut sim = Sim::with_topic(1 << 20, "t");
    assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), Err(E::NotCoordinator.into()));
    sim.coordinator();
    assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), Err(E::GroupIdNotFound.into()));
    sim.commits("", -1, 7);
    sim.commit();
    assert_eq!(sim.offset(), Ok(7));
    let unknown = i16::from(E::UnknownTopicOrPartition);
    let verdicts = sim.deletes_offsets("g", &[("t", 9), ("u", 0), ("t", 1)]);
    assert_eq!(verdicts, Ok(vec![unknown, unknown, OK]), "what is not there is deleted already");
    assert_eq!(sim.offset(), Ok(7));

    let deleting = sim.request(0, delete("g", &[("t", 0), ("t", 0)]).into());
    sim.begin_write();
    assert!(!sim.answers.contains_key(&deleting), "it is not durable");
    sim.commit();
    assert!(sim.answers.contains_key(&deleting));
    assert_eq!(sim.offset(), Ok(-1));
    sim.restart();
    assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), Err(E::CoordinatorLoadInProgress.into()));
    sim.read_groups();
    assert_eq!(sim.offset(), Ok(-1));
}

#[test]
fn what_members_read_is_kept() {
    use ErrorCode as E;
    let subscribed = i16::from(E::GroupSubscribedToTopic);
    for (kind, metadata, expected, left) in [
        ("consumer", READS_T, Ok(vec![subscribed]), 7),
        ("consumer", b"odd", Ok(vec![subscribed]), 7),
        ("consumer", READS_U, Ok(vec![OK]), -1),
        ("connect", READS_U, Err(i16::from(E::NonEmptyGroup)), 7),
    ] {
        let (mut sim, joined) = Sim::with_member(kind, metadata);
        assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), expected, "{kind} {metadata:?}");
        assert_eq!(sim.offset(), Ok(left), "{kind} {metadata:?}");
        // Once the member is gone nobody needs it.
        let leave = LeaveGroupRequest {
            group_id: Text::from("g"),
            member_id: joined.member_id.clone(),
            ..Default::default()
        };
        sim.request(1, leave.into());
        sim.commit();
        assert_eq!(sim.deletes_offsets("g", &[("t", 0)]), Ok(vec![OK]), "{kind}");
        assert_eq!(sim.offset(), Ok(-1));
    }
}
