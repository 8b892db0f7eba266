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

    let (ticket, made) = metadata.stored(2);
    assert_eq!((ticket, made.len()), (Ticket(1), 1));
    let a = metadata.image().by_name("a").unwrap();
    assert_eq!((a.id, a.no, a.partitions), (TopicId([1; 16]), 1, 3));
    assert_eq!(metadata.image().by_id(TopicId([1; 16])), Some(a));
    assert_eq!(metadata.ensure(new("a", 9, 1)), Ok(Wish::Exists));

    let write = metadata.poll_write().unwrap();
    assert_eq!(write.expected_version, 2);
    let (_, made) = metadata.stored(3);
    assert_eq!(made[0].no, 2);
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
    newer[4] = 2;
    assert_eq!(Image::load(1, &newer), Err(StoredError::Newer(2)));
}

#[test]
fn the_stored_form_is_held_still() {
    let mut metadata = empty();
    metadata.ensure(new("telemetry", 1, 12)).unwrap();
    metadata.ensure(new("culvert.gateways", 2, 1)).unwrap();
    let bytes = metadata.poll_write().unwrap().bytes;
    assert_eq!(bytes, include_bytes!("../../tests/golden/cluster-v1.bin"));
}
