use super::*;

fn offset(expires: Option<UnixMs>) -> Record {
    Record::Offset {
        group: GroupId::from("g"),
        topic: TopicName::from("t"),
        partition: 7,
        offset: Some(CommittedOffset {
            offset: 258,
            leader_epoch: if expires.is_some() { -1 } else { 3 },
            metadata: "m".to_owned(),
            committed: UnixMs(1_000),
            expires,
        }),
    }
}

fn group() -> Record {
    let member = |id: &str, instance: Option<&str>| SavedMember {
        id: MemberId::from(id),
        instance: instance.map(InstanceId::from),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        rebalance_timeout_ms: 5,
        session_timeout_ms: 6,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::from_static(b"as"),
    };
    Record::Group {
        group: GroupId::from("g"),
        metadata: Some(GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 4,
            protocol: Some("range".to_owned()),
            leader: Some(MemberId::from("a")),
            since: UnixMs(9),
            members: vec![member("a", None), member("b", Some("i"))],
        }),
    }
}

/// Laid out by hand from Kafka's definitions.
#[test]
fn bytes_are_those_of_kafka_s_definitions() {
    let (key, value) = offset(None).encode();
    assert_eq!(key, b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
    assert_eq!(value.unwrap(), b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x03\0\x01m\0\0\0\0\0\0\x03\xe8");
    let (_, value) = offset(Some(UnixMs(2_000))).encode();
    let expected = b"\0\x01\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x07\xd0";
    assert_eq!(value.unwrap(), expected);
    let (key, value) = group().encode();
    assert_eq!(key, b"\0\x02\0\x01g");
    let expected = [
        &b"\0\x03\0\x08consumer\0\0\0\x04\0\x05range\0\x01a\0\0\0\0\0\0\0\x09\0\0\0\x02"[..],
        b"\0\x01a\xff\xff\0\x01c\0\x02/h\0\0\0\x05\0\0\0\x06\0\0\0\x01s\0\0\0\x02as",
        b"\0\x01b\0\x01i\0\x01c\0\x02/h\0\0\0\x05\0\0\0\x06\0\0\0\x01s\0\0\0\x02as",
    ];
    assert_eq!(value.unwrap(), expected.concat());
}

#[test]
fn what_is_written_reads_back() {
    let gone = |record: Record| match record {
        Record::Group { group, .. } => Record::Group { group, metadata: None },
        Record::Offset { group, topic, partition, .. } => {
            Record::Offset { group, topic, partition, offset: None }
        }
    };
    for record in
        [offset(None), offset(Some(UnixMs(5))), group(), gone(offset(None)), gone(group())]
    {
        let (key, value) = record.encode();
        assert_eq!(Record::decode(&key, value.as_deref()), Ok(record));
    }
}

#[test]
fn other_versions_are_read() {
    let decode = |value: &[u8]| match Record::decode(b"\0\0\0\x01g\0\x01t\0\0\0\x07", Some(value)) {
        Ok(Record::Offset { offset, .. }) => offset.map(|o| (o.offset, o.leader_epoch, o.expires)),
        other => panic!("{other:?}"),
    };
    for version in [0, 2] {
        let value = [&[0, version][..], b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\x01"].concat();
        assert_eq!(decode(&value), Some((5, -1, None)), "{version}");
    }
    // Version 4: a compact text, and a tagged field that holds the topic id.
    let tagged = [&b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x02\x02m\0\0\0\0\0\0\0\x01"[..], b"\x01\0\x10"];
    let value = [&tagged.concat()[..], &[9; 16]].concat();
    assert_eq!(decode(&value), Some((5, 2, None)));

    let group = |value: &[u8]| match Record::decode(b"\0\x02\0\x01g", Some(value)) {
        Ok(Record::Group { metadata: Some(metadata), .. }) => metadata,
        other => panic!("{other:?}"),
    };
    let old =
        b"\0\0\0\x01c\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0";
    let old = group(old);
    assert_eq!((old.generation, old.since, old.protocol), (2, UnixMs(-1), None));
    assert_eq!((old.members[0].rebalance_timeout_ms, old.members[0].session_timeout_ms), (-1, 6));
    let new = b"\0\x04\x02c\0\0\0\x02\x02p\x02a\0\0\0\0\0\0\0\x01\x02\
                \x02a\x02i\x01\x01\0\0\0\x05\0\0\0\x06\x01\x02x\0\0";
    let new = group(new);
    assert_eq!(new.members[0].instance, Some(InstanceId::from("i")));
    assert_eq!(new.members[0].assignment, Bytes::from_static(b"x"));
}

#[test]
fn cut_and_foreign_records_are_refused() {
    for record in [offset(None), offset(Some(UnixMs(5))), group()] {
        let (key, value) = record.encode();
        let value = value.unwrap();
        for len in 0..key.len() {
            assert_eq!(Record::decode(&key[..len], None), Err(RecordError::Malformed));
        }
        for len in 0..value.len() {
            assert_eq!(Record::decode(&key, Some(&value[..len])), Err(RecordError::Malformed));
        }
        for at in 0..value.len() {
            let mut odd = value.clone();
            odd[at] ^= 0xff;
            // Whatever it is taken for, nothing panics.
            let _ = Record::decode(&key, Some(&odd));
        }
        let newer = [&[0, 5][..], &value[2..]].concat();
        assert_eq!(Record::decode(&key, Some(&newer)), Err(RecordError::Unknown(5)));
    }
    // A member's key of the newer protocol (KIP-848).
    assert_eq!(Record::decode(b"\0\x05\0\x01g\0\x01m", None), Err(RecordError::Unknown(5)));
}

#[test]
fn a_batch_holds_no_more_than_the_log_takes() {
    let tombstone = Record::Offset {
        group: GroupId::from("g".repeat(1_000).as_str()),
        topic: TopicName::from("t"),
        partition: 0,
        offset: None,
    };
    let batch = encode_batch(&vec![tombstone.clone(); 8_000], UnixMs(1)).unwrap();
    assert!(batch.len() <= RECORD_BATCH_BYTES_MAX);
    assert_eq!(encode_batch(&vec![tombstone; 9_000], UnixMs(1)), Err(TooLarge));
    assert_eq!(encode_batch(&[], UnixMs(1)), Err(TooLarge), "a batch has a record");
}
