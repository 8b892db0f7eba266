mod full_disk;
mod offset_delete;

use broker_coordinator::OFFSETS_TOPIC;
use broker_kafka::frame::encode_response;
use broker_kafka::generated::Request;
use broker_kafka::generated::delete_groups::DeleteGroupsRequest;
use broker_kafka::generated::describe_groups::DescribeGroupsRequest;
use broker_kafka::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use broker_kafka::generated::heartbeat::HeartbeatRequest;
use broker_kafka::generated::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use broker_kafka::generated::leave_group::{LeaveGroupRequest, MemberIdentity};
use broker_kafka::generated::list_groups::ListGroupsRequest;
use broker_kafka::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use broker_kafka::generated::offset_delete::OffsetDeleteRequest;
use broker_kafka::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use broker_kafka::generated::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use broker_kafka::runtime::Text;
use broker_kafka::versions::ADVERTISED;
use broker_kafka::{ApiKey, ErrorCode, Response};
use bytes::Bytes;

use crate::event::{Answer, Asker};
use crate::handlers::PieceLost;
use crate::sim::{Sim, batch};

const OK: i16 = 0;

impl Sim {
    fn group_response(&mut self, asker: Asker) -> Response {
        match self.answers.remove(&asker) {
            Some(Answer::Group(response)) => *response,
            other => panic!("not an answer of the group APIs: {other:?}"),
        }
    }

    fn coordinator(&mut self) -> FindCoordinatorResponse {
        let asker = self.request(3, find(0, "g").into());
        if !self.writes.is_empty() {
            self.store_control();
        }
        match self.group_response(asker) {
            Response::FindCoordinator(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, member: &str) -> Asker {
        self.request(5, join(member).into())
    }

    fn joined(&mut self, asker: Asker) -> JoinGroupResponse {
        match self.group_response(asker) {
            Response::JoinGroup(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// A member that is alone in its group, with the assignment "mine".
    fn alone(&mut self) -> JoinGroupResponse {
        let required = self.join("");
        let member = self.joined(required).member_id;
        let joining = self.join(&member);
        self.wait_ms(3_000);
        let joined = self.joined(joining);
        assert_eq!((joined.error_code, joined.members.len()), (OK, 1));
        let syncing = self.request(3, sync(&joined).into());
        self.commit();
        assert_eq!(assignment(self.group_response(syncing)), Ok("mine".into()));
        joined
    }

    fn commits(&mut self, member: &str, generation: i32, offset: i64) -> Asker {
        self.request(8, commit(member, generation, offset).into())
    }

    fn offset(&mut self) -> Result<i64, i16> {
        let asker = self.request(5, offsets().into());
        self.commit();
        match self.group_response(asker) {
            Response::OffsetFetch(r) if r.error_code != OK => Err(r.error_code),
            Response::OffsetFetch(r) => Ok(r.topics[0].partitions[0].committed_offset),
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, joined: &JoinGroupResponse) -> i16 {
        let asker = self.request(3, heartbeat(joined).into());
        self.commit();
        match self.group_response(asker) {
            Response::Heartbeat(response) => response.error_code,
            other => panic!("{other:?}"),
        }
    }
}

fn find(key_type: i8, key: &str) -> FindCoordinatorRequest {
    FindCoordinatorRequest { key_type, key: Text::from(key), ..Default::default() }
}

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Text::from("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: Text::from(member),
        protocol_type: Text::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Text::from("range"),
            metadata: Bytes::from_static(b"topics"),
        }],
        ..Default::default()
    }
}

fn sync(joined: &JoinGroupResponse) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: Text::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"mine"),
        }],
        ..Default::default()
    }
}

fn heartbeat(joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: Text::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    }
}

fn commit(member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: Text::from("g"),
        generation_id_or_member_epoch: generation,
        member_id: Text::from(member),
        topics: vec![OffsetCommitRequestTopic {
            name: Text::from("t"),
            partitions: vec![partition(0), partition(2)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn offsets() -> OffsetFetchRequest {
    OffsetFetchRequest {
        group_id: Text::from("g"),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: Text::from("t"),
            partition_indexes: vec![0, 1],
        }]),
        ..Default::default()
    }
}

fn assignment(response: Response) -> Result<Bytes, i16> {
    match response {
        Response::SyncGroup(r) if r.error_code != OK => Err(r.error_code),
        Response::SyncGroup(r) => Ok(r.assignment),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_question_makes_the_topic() {
    let mut sim = Sim::new(1 << 20);
    let early = sim.join("");
    let not_coordinator = i16::from(ErrorCode::NotCoordinator);
    assert_eq!(sim.joined(early).error_code, not_coordinator);
    let waiting = sim.request(3, find(0, "g").into());
    assert!(!sim.answers.contains_key(&waiting), "nothing is said before it is stored");
    sim.store_control();
    let Response::FindCoordinator(found) = sim.group_response(waiting) else {
        panic!("not a FindCoordinator response");
    };
    assert_eq!((found.error_code, found.node_id, found.port), (OK, 1, 9092));
    let described = sim.metadata(13, &[OFFSETS_TOPIC]);
    let described = sim.metadata_answer(described);
    assert!(described.topics[0].is_internal);
    assert_eq!(described.topics[0].partitions.len(), 3);
    assert!(sim.writes.is_empty());
}

#[test]
fn a_topic_that_cannot_be_stored_is_no_coordinator() {
    let mut sim = Sim::new(1 << 20);
    let waiting = sim.request(3, find(0, "g").into());
    sim.writes.clear();
    sim.handle(crate::Event::ControlNotStored);
    let Response::FindCoordinator(found) = sim.group_response(waiting) else {
        panic!("not a FindCoordinator response");
    };
    assert_eq!(found.error_code, i16::from(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(sim.coordinator().error_code, OK, "asked again, it is made");
}

#[test]
fn coordinators_of_other_things_are_refused_for_good() {
    let mut sim = Sim::new(1 << 20);
    for key_type in [1, 2, 7] {
        let asker = sim.request(3, find(key_type, "x").into());
        let Response::FindCoordinator(found) = sim.group_response(asker) else {
            panic!("not a FindCoordinator response");
        };
        assert_eq!(found.error_code, i16::from(ErrorCode::InvalidRequest), "{key_type}");
        assert!(found.error_message.is_some());
    }
    assert!(sim.writes.is_empty(), "nothing is made for them");
}

#[test]
fn a_key_that_is_named_again_and_again_is_answered_once() {
    let mut sim = Sim::new(1 << 20);
    sim.coordinator();
    let coordinator_keys = ["b", "a", "b", "", "b", ""].map(Text::from).into();
    let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    let asker = sim.request(4, request.into());
    let Response::FindCoordinator(found) = sim.group_response(asker) else {
        panic!("not a FindCoordinator response");
    };
    let keys: Vec<&str> = found.coordinators.iter().map(|found| &*found.key).collect();
    assert_eq!(keys, ["b", "a", ""]);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    sim.commits("", -1, 7);
    sim.commit();
    for (states, types, listed) in [
        (&[][..], &[][..], 1),
        (&["EMPTY", "Stable"], &["Classic"], 1),
        (&["empty"], &["consumer"], 0),
        (&["stable", "Empt"], &[], 0),
    ] {
        let texts = |names: &[&str]| names.iter().map(|&name| Text::from(name)).collect();
        let request =
            ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) };
        let asker = sim.request(5, request.into());
        let Response::ListGroups(found) = sim.group_response(asker) else {
            panic!("not a ListGroups response");
        };
        assert_eq!(found.groups.len(), listed, "{states:?} {types:?}");
    }
}

#[test]
fn clients_do_not_write_to_the_topic() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let producing = sim.produce(OFFSETS_TOPIC, 0, batch(&["x"], 1));
    let code = sim.produced(producing).error_code;
    assert_eq!(code, i16::from(ErrorCode::InvalidTopicException));
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let required = sim.join("");
    let member = sim.joined(required).member_id;
    assert!(member.starts_with('-'), "no client id, and 36 characters: {member:?}");
    let joining = sim.join(&member);
    sim.wait_ms(3_000);
    let joined = sim.joined(joining);
    let syncing = sim.request(3, sync(&joined).into());
    sim.begin_write();
    let beating = sim.request(3, heartbeat(&joined).into());
    let committing = sim.commits(&member, 1, 7);
    assert!(sim.answers.is_empty(), "the assignment is not durable");
    sim.end_write();
    assert_eq!(assignment(sim.group_response(syncing)), Ok("mine".into()));
    let Response::OffsetCommit(_) = ({
        // What an offset is, is not said before it is durable either.
        let fetching = sim.request(5, offsets().into());
        assert!(!sim.answers.contains_key(&fetching) && !sim.answers.contains_key(&committing));
        sim.commit();
        let Response::OffsetFetch(found) = sim.group_response(fetching) else {
            panic!("not an OffsetFetch response");
        };
        assert_eq!(found.topics[0].partitions[0].committed_offset, 7);
        assert_eq!(found.topics[0].partitions[1].committed_offset, -1);
        sim.group_response(committing)
    }) else {
        panic!("not an OffsetCommit response");
    };
    let Response::Heartbeat(beat) = sim.group_response(beating) else {
        panic!("not a Heartbeat response");
    };
    assert_eq!(beat.error_code, OK);
    assert_eq!(sim.broker.stats().parked_answers, 0);
}

#[test]
fn offsets_of_missing_partitions_are_refused() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let committing = sim.commits("", -1, 7);
    sim.commit();
    let Response::OffsetCommit(response) = sim.group_response(committing) else {
        panic!("not an OffsetCommit response");
    };
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [OK, i16::from(ErrorCode::UnknownTopicOrPartition)]);
}

/// A request names a partition with four bytes, and a whole group with one.
#[test]
fn a_small_question_has_no_endless_answer() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let mut request = commit("", -1, 7);
    let metadata = Text::from("x".repeat(4_096).as_str());
    request.topics[0].partitions[0].committed_metadata = Some(metadata);
    sim.request(8, request.into());
    sim.commit();
    let named = |times: usize| {
        let topic = OffsetFetchRequestTopics {
            name: Text::from("t"),
            partition_indexes: vec![0; times],
            ..Default::default()
        };
        vec![OffsetFetchRequestGroup {
            group_id: Text::from("g"),
            topics: Some(vec![topic]),
            ..Default::default()
        }]
    };
    let whole =
        OffsetFetchRequestGroup { group_id: Text::from("g"), topics: None, ..Default::default() };
    let whole = |times: usize| vec![whole.clone(); times];
    for (groups, fits) in
        [(named(1_000), true), (named(9_000), false), (whole(1_000), true), (whole(9_000), false)]
    {
        let request = OffsetFetchRequest { groups, ..Default::default() };
        let asker = sim.request(8, request.into());
        let Response::OffsetFetch(response) = sim.group_response(asker) else {
            panic!("not an OffsetFetch response");
        };
        let last = response.groups.last().unwrap();
        let refused = i16::from(ErrorCode::InvalidRequest);
        assert_eq!(last.error_code, if fits { OK } else { refused });
    }
}

#[test]
fn a_group_goes_on_after_a_restart() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let joined = sim.alone();
    let committing = sim.commits(&joined.member_id, 1, 7);
    sim.commit();
    sim.group_response(committing);
    sim.restart();
    let loading = i16::from(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(sim.heartbeat(&joined), loading);
    assert_eq!(sim.offset(), Err(loading));
    assert!(sim.read_groups() > 0);
    assert_eq!(sim.heartbeat(&joined), OK);
    assert_eq!(sim.offset(), Ok(7));
    let syncing = sim.request(3, sync(&joined).into());
    assert_eq!(assignment(sim.group_response(syncing)), Ok("mine".into()));
}

#[test]
fn what_is_not_durable_is_lost_and_was_never_told() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    let joined = sim.alone();
    for offset in 1..=40 {
        let asker = sim.commits(&joined.member_id, 1, offset);
        let dies_at = offset % 4;
        if dies_at > 0 {
            sim.begin_write();
        }
        if dies_at > 1 {
            sim.end_write();
        }
        let was_told = sim.answers.contains_key(&asker);
        assert_eq!(was_told, dies_at > 1);
        sim.restart();
        sim.read_groups();
        let found = sim.offset().unwrap();
        assert!(if was_told { found == offset } else { found < offset }, "{offset}: {found}");
        assert_eq!(sim.heartbeat(&joined), OK, "life {offset}");
    }
}

#[test]
fn a_long_topic_is_read_in_pieces() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    for offset in 0..3_000 {
        let mut request = commit("", -1, offset);
        let metadata = Text::from("x".repeat(1_000).as_str());
        request.topics[0].partitions[0].committed_metadata = Some(metadata);
        sim.request(8, request.into());
        sim.commit();
    }
    sim.answers.clear();
    sim.restart();
    let reads = sim.read_groups();
    assert!(reads >= 3, "3 MB of records in {reads} reads");
    assert_eq!(sim.offset(), Ok(2_999));
}

#[test]
fn a_read_that_fails_is_made_again() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    sim.commits("", -1, 7);
    sim.commit();
    sim.restart();
    sim.wait_ms(0);
    let read = sim.reads.pop().unwrap();
    let (chunk, _) = read.run(&mut |_| Err(PieceLost::Unreadable));
    assert!(chunk.failed());
    sim.handle(crate::Event::GroupsRead(chunk));
    sim.wait_ms(crate::groups::GROUPS_READ_RETRY_MS - 1);
    assert!(sim.reads.is_empty() && sim.offset().is_err());
    let retry = sim.broker.next_deadline().unwrap();
    assert_eq!(retry, sim.now + 1);
    sim.wait_ms(1);
    sim.read_groups();
    assert_eq!(sim.offset(), Ok(7));
}

#[test]
fn damaged_records_are_not_taken_for_none() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    sim.commits("", -1, 7);
    sim.commit();
    sim.restart();
    sim.wait_ms(0);
    let read = sim.reads.pop().unwrap();
    let mut bytes = batch(&["x"], 1).to_vec();
    let value = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
    bytes[value] ^= 1;
    let damaged = Bytes::from(bytes);
    assert!(read.run(&mut |_| Ok(damaged.clone().into())).0.failed());
    // Intact, but of no kind that is known: skipped, and said.
    sim.restart();
    sim.wait_ms(0);
    let read = sim.reads.pop().unwrap();
    let (chunk, skipped) = read.run(&mut |_| Ok(batch(&["x", "y"], 1).into()));
    assert_eq!((chunk.failed(), skipped), (false, 2));
}

#[test]
fn offsets_go_with_their_topic() {
    use broker_kafka::generated::delete_topics::DeleteTopicsRequest;
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    sim.commits("", -1, 7);
    sim.commit();
    assert_eq!(sim.offset(), Ok(7));
    let request = DeleteTopicsRequest { topic_names: vec![Text::from("t")], ..Default::default() };
    sim.request(5, request.into());
    sim.store_control();
    assert_eq!(sim.offset(), Ok(-1));
}

#[test]
fn offsets_go_with_their_topic_over_a_crash() {
    use broker_kafka::generated::delete_topics::DeleteTopicsRequest;
    let request = || DeleteTopicsRequest {
        topic_names: vec![Text::from("t")],
        ..DeleteTopicsRequest::default()
    };
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.coordinator();
    for is_loading in [false, true] {
        sim.commits("", -1, 7);
        sim.commit();
        assert_eq!(sim.offset(), Ok(7));
        if is_loading {
            sim.restart();
        }
        sim.request(5, request().into());
        sim.store_control();
        // What the deletion has written is lost, or it could not write anything yet.
        if !is_loading {
            sim.restart();
        }
        sim.read_groups();
        sim.metadata(13, &["t"]);
        sim.store_control();
        assert_eq!(sim.offset(), Ok(-1), "another topic of that name begins anew: {is_loading}");
    }
}

/// One request of each API, in a form that all versions carry.
pub(in crate::broker) fn requests(joined: &JoinGroupResponse, version: i16) -> Vec<Request> {
    let members = vec![MemberIdentity {
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        reason: None,
    }];
    let leave = if version < 3 {
        LeaveGroupRequest { member_id: joined.member_id.clone(), ..Default::default() }
    } else {
        LeaveGroupRequest { members, ..Default::default() }
    };
    let groups = vec![OffsetFetchRequestGroup {
        group_id: Text::from("g"),
        topics: Some(vec![OffsetFetchRequestTopics {
            name: Text::from("t"),
            partition_indexes: vec![0],
            ..Default::default()
        }]),
        ..Default::default()
    }];
    let fetch =
        if version < 8 { offsets() } else { OffsetFetchRequest { groups, ..Default::default() } };
    let keys = vec![Text::from("g"), Text::from("h")];
    let find = if version < 4 {
        find(0, "g")
    } else {
        FindCoordinatorRequest { coordinator_keys: keys.clone(), ..Default::default() }
    };
    vec![
        find.into(),
        join("").into(),
        join(&joined.member_id).into(),
        join("stranger").into(),
        sync(joined).into(),
        heartbeat(joined).into(),
        commit(&joined.member_id, 1, 7).into(),
        fetch.into(),
        DescribeGroupsRequest { groups: keys.clone(), ..Default::default() }.into(),
        ListGroupsRequest::default().into(),
        LeaveGroupRequest { group_id: Text::from("g"), ..leave }.into(),
        OffsetDeleteRequest { group_id: Text::from("g"), ..Default::default() }.into(),
        DeleteGroupsRequest { groups_names: keys }.into(),
    ]
}

#[test]
fn every_version_carries_every_answer() {
    let is_of_groups = |api: ApiKey| {
        let request = requests(&JoinGroupResponse::default(), 0);
        request.iter().any(|request| request.api() == api)
    };
    let mut encoded = 0;
    for range in ADVERTISED.iter().filter(|range| is_of_groups(range.api)) {
        for version in range.first..=range.last {
            for is_there in [false, true] {
                let mut sim = Sim::with_topic(1 << 20, "t");
                let joined = if is_there {
                    sim.coordinator();
                    sim.alone()
                } else {
                    JoinGroupResponse::default()
                };
                for request in requests(&joined, version) {
                    if request.api() != range.api {
                        continue;
                    }
                    let asker = sim.request(version, request);
                    if !sim.writes.is_empty() {
                        sim.store_control();
                    }
                    sim.wait_ms(70_000);
                    sim.commit();
                    let response = sim.group_response(asker);
                    let bytes = encode_response(1, version, &response);
                    assert!(bytes.is_ok(), "{:?} v{version}: {response:?}", range.api);
                    encoded += 1;
                }
            }
        }
    }
    assert!(encoded > 120, "{encoded} answers");
}
