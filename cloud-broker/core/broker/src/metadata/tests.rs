use super::*;

fn new(name: &str, byte: u8, partitions: u32) -> NewTopic {
    NewTopic { name: name.to_owned(), id: TopicId([byte; 16]), partitions }
}

fn empty() -> Metadata {
    Metadata::new(Image::load(1, &Image::first([7; 16])).unwrap())
}

#[test]
fn a_topic_is_visible_only_when_it_is_stored() {
    let mut metadata = empty();
    let wish = metadata.ensure(new("a", 1, 3)).unwrap();
    assert_eq!(wish, Wish::Staged(Ticket(1)));
    let write = metadata.poll_write().unwrap();
    assert_eq!(write.expected_version, 1);
    assert_eq!(metadata.image().by_name("a"), None);
    // What comes while a write is in flight goes into the next one; what is in flight is not staged twice.
    assert_eq!(metadata.ensure(new("a", 9, 1)), Ok(Wish::Staged(Ticket(1))));
    assert_eq!(metadata.ensure(new("b", 2, 1)), Ok(Wish::Staged(Ticket(2))));
    assert_eq!(metadata.ensure(new("b", 3, 1)), Ok(Wish::Staged(Ticket(2))));
    assert_eq!(metadata.poll_write(), None);

    let changes = metadata.stored(2);
    assert_eq!((changes.ticket, changes.made.len()), (Ticket(1), 1));
    assert!(changes.deleted.is_empty() && changes.producer_ids.is_empty());
    let a = metadata.image().by_name("a").unwrap();
    assert_eq!((a.id, a.no, a.partitions), (TopicId([1; 16]), 1, 3));
    assert_eq!(metadata.image().by_id(TopicId([1; 16])), Some(a));
    assert_eq!(metadata.ensure(new("a", 9, 1)), Ok(Wish::Exists));

    let write = metadata.poll_write().unwrap();
    assert_eq!(write.expected_version, 2);
    assert_eq!(metadata.stored(3).made[0].no, 2);
    assert_eq!(
        Image::load(3, &write.bytes).as_ref(),
        Ok(metadata.image()),
        "what was written reads back as what is served"
    );
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let mut metadata = empty();
    metadata.ensure(new("a", 1, 1)).unwrap();
    metadata.poll_write().unwrap();
    assert_eq!(metadata.not_stored(), Ticket(1));
    assert_eq!(metadata.image().by_name("a"), None);
    assert_eq!(metadata.poll_write(), None);
    assert_eq!(metadata.ensure(new("a", 2, 1)), Ok(Wish::Staged(Ticket(2))));
}

#[test]
fn names_and_sizes_are_held_to_their_limits() {
    let mut metadata = empty();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "ü", &long] {
        let refused = metadata.ensure(new(name, 1, 1));
        assert_eq!(refused, Err(TopicRefused::Name), "{name:?}");
    }
    for partitions in [0, TOPIC_PARTITIONS_MAX + 1] {
        let refused = metadata.ensure(new("a", 1, partitions));
        assert_eq!(refused, Err(TopicRefused::Partitions));
    }
    for i in 0..PARTITIONS_MAX / u64::from(TOPIC_PARTITIONS_MAX) {
        let name = format!("big{i}");
        metadata.ensure(new(&name, i as u8, TOPIC_PARTITIONS_MAX)).unwrap();
    }
    assert_eq!(metadata.ensure(new("a", 99, 1)), Err(TopicRefused::Full));
    metadata.poll_write().unwrap();
    assert_eq!(metadata.ensure(new("a", 99, 1)), Err(TopicRefused::Full));
    metadata.stored(2);
    assert_eq!(metadata.ensure(new("a", 99, 1)), Err(TopicRefused::Full));
}

#[test]
fn damaged_and_newer_content_is_not_read() {
    let mut metadata = empty();
    metadata.ensure(new("telemetry", 1, 12)).unwrap();
    let good = metadata.poll_write().unwrap().bytes;
    for at in (0..good.len()).filter(|at| !(4..6).contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert_eq!(Image::load(1, &bad), Err(StoredError::Damaged), "byte {at}");
        let cut = Image::load(1, &good[..at]);
        assert_eq!(cut, Err(StoredError::Damaged), "cut at {at}");
    }
    let mut newer = good;
    newer[4] = 3;
    assert_eq!(Image::load(1, &newer), Err(StoredError::Newer(3)));
}

/// Carries out the next write.
fn store(metadata: &mut Metadata) -> Changes {
    let write = metadata.poll_write().unwrap();
    metadata.stored(write.expected_version + 1)
}

#[test]
fn a_deleted_topic_leaves_its_id_and_its_number_is_not_used_again() {
    let mut metadata = empty();
    metadata.ensure(new("a", 1, 3)).unwrap();
    store(&mut metadata);
    let id = TopicId([1; 16]);
    assert_eq!(metadata.delete(id), Ticket(2));
    assert_eq!(metadata.delete(id), Ticket(2), "it is staged");
    assert!(metadata.image().by_id(id).is_some(), "not stored yet");
    let write = metadata.poll_write().unwrap();
    assert_eq!(metadata.delete(id), Ticket(2), "it is in flight");
    // A topic of the same name may be made behind the deletion.
    let again = metadata.create(new("a", 2, 1), TopicConfigs::default());
    assert_eq!(again, Ok(Ticket(3)));
    let changes = metadata.stored(write.expected_version + 1);
    assert_eq!((changes.ticket, &changes.deleted[0].name[..]), (Ticket(2), "a"));
    assert!(metadata.image().is_empty() && metadata.image().was_deleted(id));
    let changes = store(&mut metadata);
    assert_eq!((changes.made[0].no, changes.deleted.len()), (2, 0));
    let image = metadata.image();
    assert_eq!((image.by_name("a").unwrap().id, image.partitions()), (TopicId([2; 16]), 1));
    assert!(image.was_deleted(id), "as long as anybody may ask");
    assert_eq!(image.next_topic_no(), 3);
}

#[test]
fn a_topic_is_made_once() {
    let mut metadata = empty();
    let create =
        |metadata: &mut Metadata, id| metadata.create(new("a", id, 1), TopicConfigs::default());
    assert_eq!(create(&mut metadata, 1), Ok(Ticket(1)));
    assert_eq!(create(&mut metadata, 2), Err(TopicRefused::Exists), "staged");
    let write = metadata.poll_write().unwrap();
    assert_eq!(create(&mut metadata, 3), Err(TopicRefused::Exists), "in flight");
    metadata.stored(write.expected_version + 1);
    assert_eq!(create(&mut metadata, 4), Err(TopicRefused::Exists), "there");
    assert_eq!(metadata.poll_write(), None);
}

#[test]
fn the_oldest_deletions_are_forgotten() {
    let mut image = Image::load(1, &Image::first([7; 16])).unwrap();
    let topics = u32::try_from(DELETED_TOPICS_MAX).unwrap() + 2;
    let id = |no: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&no.to_le_bytes());
        TopicId(id)
    };
    for no in 0..topics {
        let configs = TopicConfigs::default();
        image.insert(Topic { name: "t".to_owned(), id: id(no), no, partitions: 1, configs });
        image.delete(id(no));
    }
    assert_eq!(
        [0, 1, 2, topics - 1].map(|no| image.was_deleted(id(no))),
        [false, false, true, true]
    );
    assert_eq!(image.bytes_max(), stored::BYTES_WITHOUT_TOPICS_MAX + 16 * DELETED_TOPICS_MAX);
    assert!(Image::load(1, &stored::encode(&image)).is_ok());
}

#[test]
fn the_stored_form_is_bounded() {
    let mut metadata = empty();
    let value = "x".repeat(crate::topic_config::CONFIG_VALUE_BYTES_MAX);
    let name = "leader.replication.throttled.replicas";
    let configs = TopicConfigs::parse([(name, Some(&value[..]))]).unwrap();
    let mut made = 0;
    let refused = loop {
        let topic = new(&format!("{:0>200}", made), 1, 1);
        let topic = NewTopic { id: TopicId(u128::to_le_bytes(made)), ..topic };
        match metadata.create(topic, configs.clone()) {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, TopicRefused::Full);
    assert!(made < TOPICS_MAX as u128, "{made}");
    let bytes = metadata.poll_write().unwrap().bytes.len();
    assert!(bytes <= IMAGE_BYTES_MAX && bytes > IMAGE_BYTES_MAX / 10 * 9, "{bytes}");
}

#[test]
fn producer_ids_are_given_out_only_when_their_reservation_is_stored() {
    let mut metadata = empty();
    assert_eq!(metadata.reserve_producer_ids(), Some(Ticket(1)));
    assert_eq!(metadata.reserve_producer_ids(), Some(Ticket(1)), "one reservation for all");
    let write = metadata.poll_write().unwrap();
    assert_eq!(metadata.reserve_producer_ids(), Some(Ticket(1)), "it is in flight");
    let changes = metadata.stored(write.expected_version + 1);
    assert_eq!(changes.producer_ids, 0..1_000);
    // The next life begins behind them, whether they were used or not.
    let mut next = Metadata::new(Image::load(2, &write.bytes).unwrap());
    assert_eq!(next.reserve_producer_ids(), Some(Ticket(1)));
    assert_eq!(store(&mut next).producer_ids, 1_000..2_000);
    // A reservation that was not stored is made again, with the same ids: nobody has them.
    next.reserve_producer_ids();
    next.poll_write().unwrap();
    next.not_stored();
    assert_eq!(next.reserve_producer_ids(), Some(Ticket(3)));
    assert_eq!(store(&mut next).producer_ids, 2_000..3_000);
}

#[test]
fn the_uplinks_producer_ids_are_never_reserved() {
    let mut image = Image::load(1, &Image::first([7; 16])).unwrap();
    image.next_pid = (1 << 62) - 1_000;
    let mut metadata = Metadata::new(image);
    assert!(metadata.reserve_producer_ids().is_some());
    assert_eq!(store(&mut metadata).producer_ids.end, 1 << 62);
    assert_eq!(metadata.reserve_producer_ids(), None);
    assert!(metadata.image().next_pid <= 1 << 62);
}

#[test]
fn what_was_staged_behind_a_failed_write_goes_with_it() {
    let mut metadata = empty();
    metadata.ensure(new("a", 1, 1)).unwrap();
    metadata.poll_write().unwrap();
    assert_eq!(metadata.ensure(new("b", 2, 1)), Ok(Wish::Staged(Ticket(2))));
    assert_eq!(metadata.not_stored(), Ticket(2));
    assert_eq!(metadata.poll_write(), None);
    assert_eq!(metadata.ensure(new("b", 2, 1)), Ok(Wish::Staged(Ticket(3))));
    assert_eq!(store(&mut metadata).made[0].no, 1);
}

#[test]
fn the_stored_form_is_held_still() {
    let golden = include_bytes!("../../tests/golden/cluster-v2.bin");
    let mut metadata = empty();
    metadata.ensure(new("telemetry", 1, 12)).unwrap();
    metadata.ensure(new("gone", 2, 1)).unwrap();
    let set = [("max.message.bytes", Some("1000")), ("cleanup.policy", Some("compact"))];
    let configs = TopicConfigs::parse(set).unwrap();
    metadata.create(new("compacted", 3, 200), configs).unwrap();
    metadata.ensure(new("also-gone", 4, 1)).unwrap();
    metadata.reserve_producer_ids().unwrap();
    store(&mut metadata);
    metadata.reserve_producer_ids().unwrap();
    metadata.delete(TopicId([2; 16]));
    metadata.delete(TopicId([4; 16]));
    let bytes = metadata.poll_write().unwrap().bytes;
    assert_eq!(bytes, golden);
    metadata.stored(3);
    assert_eq!(Image::load(3, golden).as_ref(), Ok(metadata.image()));
}

#[test]
fn the_first_format_is_read() {
    let image = Image::load(1, include_bytes!("../../tests/golden/cluster-v1.bin")).unwrap();
    let mut metadata = empty();
    metadata.ensure(new("telemetry", 1, 12)).unwrap();
    metadata.ensure(new("culvert.gateways", 2, 1)).unwrap();
    metadata.poll_write().unwrap();
    metadata.stored(1);
    assert_eq!(&image, metadata.image());
}

#[test]
fn the_coordinator_s_topic_of_an_earlier_release_is_compacted_too() {
    let mut metadata = empty();
    let configs = |metadata: &Metadata, name: &str| {
        let topic = metadata.image().by_name(name).unwrap();
        topic.configs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    for name in ["__consumer_offsets", "orders"] {
        metadata.create(new(name, name.len() as u8, 1), TopicConfigs::default()).unwrap();
    }
    let write = metadata.poll_write().unwrap();
    metadata.stored(2);
    assert!(configs(&metadata, "__consumer_offsets").is_empty());
    let read = Metadata::new(Image::load(2, &write.bytes).unwrap());
    assert_eq!(configs(&read, "__consumer_offsets"), ["cleanup.policy=compact"]);
    assert!(configs(&read, "orders").is_empty());
}

#[test]
fn changes_of_topics_are_told_once_and_only_for_those_that_stay() {
    let mut metadata = empty();
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        metadata.ensure(new(name, byte, 1)).unwrap();
    }
    store(&mut metadata);
    let id = |byte| TopicId([byte; 16]);
    let set = |value| TopicConfigs::parse([("retention.ms", Some(value))]).unwrap();
    metadata.alter(id(1), set("1")).unwrap();
    metadata.grow(id(2), 5).unwrap();
    metadata.alter(id(3), set("3")).unwrap();
    metadata.delete(id(3));
    metadata.ensure(new("d", 4, 1)).unwrap();
    metadata.grow(id(4), 2).unwrap();
    let changes = store(&mut metadata);
    let names = |topics: &[Topic]| topics.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&changes.changed), ["a", "b"]);
    assert_eq!(
        (names(&changes.deleted), names(&changes.made)),
        (vec!["c".into()], vec!["d".into()])
    );
    assert_eq!((changes.made[0].partitions, metadata.image().partitions()), (2, 1 + 5 + 2));
    // What is gone cannot be changed, and that harms nobody.
    metadata.alter(id(3), set("4")).unwrap();
    assert!(store(&mut metadata).changed.is_empty());
}

#[test]
fn configs_have_room_or_are_refused() {
    let mut metadata = empty();
    let long = "x".repeat(1_000);
    let list = "leader.replication.throttled.replicas";
    let mut refused = None;
    for number in 0..TOPICS_MAX {
        let (byte, high) = ((number % 256) as u8, (number / 256) as u8);
        let mut id = [byte; 16];
        id[0] = high;
        id[1] = 1;
        let name = format!("t{number}");
        let topic = NewTopic { name, id: TopicId(id), partitions: 1 };
        metadata.create(topic, TopicConfigs::default()).unwrap();
        let configs = [(list, &long), ("follower.replication.throttled.replicas", &long)];
        let configs = configs.map(|(name, value)| (name, Some(value.as_str())));
        let altered = metadata.alter(TopicId(id), TopicConfigs::parse(configs).unwrap());
        if altered.is_err() {
            refused = Some((number, altered));
            break;
        }
    }
    let (number, altered) = refused.unwrap();
    assert_eq!(altered, Err(TopicRefused::Full));
    assert!(number > 5_000, "{number} topics with 2 kB each");
}
