//! What waits for a client, within limits.

use super::desk::{Desk, GOODBYE, LOST, message};
use crate::hub::{QUEUE_BYTES_MAX, QUEUE_MAX, QUEUES_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_MAX};
use crate::mqtt::{DropReason, Forward, Qos, SessionState};

fn dropped(desk: &Desk, reason: DropReason) -> u64 {
    desk.hub.status().counters.dropped.get(&reason).copied().unwrap_or(0)
}

#[test]
fn a_client_that_is_away_finds_its_messages_in_order() {
    let mut desk = Desk::new();
    let first = desk.enter_kept("dev1");
    desk.words();
    desk.subscribe(first, "#", Qos::ExactlyOnce);
    desk.leave(first, GOODBYE);
    for (number, qos) in
        [Qos::ExactlyOnce, Qos::AtMostOnce, Qos::AtLeastOnce].into_iter().enumerate()
    {
        assert_eq!(desk.publish(message("t", &number.to_string(), qos)), [""; 0]);
    }
    assert_eq!(desk.hub.status().queued, 2);
    assert_eq!(dropped(&desk, DropReason::Offline), 1);
    let second = desk.enter_kept("dev1");
    let words = desk.words();
    assert_eq!(
        words,
        ["admit 2 with session, expiry 3600", "2 gets t 0 qos 2", "2 gets t 2 qos 1"]
    );
    assert_eq!((desk.hub.status().queued, desk.hub.status().queued_bytes), (0, 0));
    // What did not reach it comes back, before what is new.
    let undelivered: Vec<Forward> = [Qos::ExactlyOnce, Qos::AtMostOnce, Qos::AtLeastOnce]
        .into_iter()
        .map(|qos| Forward {
            message: message("t", "back", qos).into(),
            qos,
            retain: false,
            subscription_ids: Vec::new(),
        })
        .collect();
    desk.hub.leave(desk.now, second, SessionState::default(), undelivered, LOST);
    desk.say("t", "new");
    assert_eq!(dropped(&desk, DropReason::Offline), 2);
    desk.enter_kept("dev1");
    let words = desk.words();
    assert_eq!(words[1..], ["3 gets t back qos 2", "3 gets t back qos 1", "3 gets t new qos 2"]);
    assert_eq!(desk.hub.status().counters.forwarded, 5);
}

#[test]
fn a_connection_gets_no_more_than_its_window() {
    let mut desk = Desk::new();
    let place = desk.enter("dev1");
    desk.subscribe(place, "t", Qos::AtMostOnce);
    let mut given = 0;
    for _ in 0..WINDOW_MAX + 10 {
        given += desk.say("t", "x").len();
    }
    assert_eq!((given, desk.hub.status().queued), (WINDOW_MAX, 10));
    let bytes = message("t", "x", Qos::AtMostOnce).memory_bytes();
    assert_eq!(desk.credit(place, 3, 3 * bytes).len(), 3);
    assert_eq!(desk.credit(place, 0, 0).len(), 0);
    assert_eq!(desk.credit(place, WINDOW_MAX, WINDOW_MAX * bytes).len(), 7);

    let large = "x".repeat(WINDOW_BYTES_MAX - 1);
    let mut desk = Desk::new();
    let place = desk.enter("dev1");
    desk.subscribe(place, "t", Qos::AtMostOnce);
    assert_eq!(desk.say("t", &large).len() + desk.say("t", &large).len(), 1, "one may overshoot");
    let bytes = message("t", &large, Qos::AtMostOnce).memory_bytes();
    assert_eq!(desk.credit(place, 1, bytes).len(), 1);
}

/// A slow subscriber loses its own messages, and nobody else any.
#[test]
fn a_full_queue_drops_the_newest() {
    let mut desk = Desk::new();
    let (slow, quick) = (desk.enter("slow"), desk.enter("quick"));
    desk.subscribe(slow, "t", Qos::AtLeastOnce);
    desk.subscribe(quick, "t", Qos::AtLeastOnce);
    let bytes = message("t", "x", Qos::AtLeastOnce).memory_bytes();
    let mut got = 0;
    for number in 0..WINDOW_MAX + QUEUE_MAX + 5 {
        got += desk.say("t", "x").iter().filter(|word| word.starts_with("2 gets")).count();
        desk.credit(quick, 1, bytes);
        assert_eq!(got, number + 1);
    }
    assert_eq!(desk.hub.status().queued, QUEUE_MAX);
    assert_eq!(dropped(&desk, DropReason::Full), 5);

    let mut desk = Desk::new();
    let place = desk.enter_kept("dev1");
    desk.words();
    desk.subscribe(place, "t", Qos::AtLeastOnce);
    desk.leave(place, LOST);
    let large = "x".repeat(1 << 20);
    for _ in 0..10 {
        desk.say("t", &large);
    }
    let status = desk.hub.status();
    assert_eq!(status.queued, QUEUE_BYTES_MAX / (1 << 20) - 1, "each takes a little more");
    assert!(status.queued_bytes <= QUEUE_BYTES_MAX);
    assert_eq!(dropped(&desk, DropReason::Full), 3);
}

#[test]
fn all_queues_together_have_a_limit() {
    let mut desk = Desk::new();
    let clients = QUEUES_BYTES_MAX / QUEUE_BYTES_MAX + 8;
    for number in 0..clients {
        let place = desk.enter_kept(&number.to_string());
        desk.words();
        desk.subscribe(place, "t", Qos::AtLeastOnce);
        desk.leave(place, LOST);
    }
    let large = "x".repeat(1 << 20);
    for _ in 0..8 {
        desk.say("t", &large);
    }
    let status = desk.hub.status();
    assert!(status.queued_bytes <= QUEUES_BYTES_MAX);
    assert_eq!(status.queued, QUEUES_BYTES_MAX / (1 << 20) - 1);
    let lost = (clients * 8 - status.queued) as u64;
    assert_eq!(dropped(&desk, DropReason::Memory) + dropped(&desk, DropReason::Full), lost);
    assert!(dropped(&desk, DropReason::Memory) > 0);
}

/// A device learns the spool's id by a retained message, and publishes nothing without it: sessions that nobody comes back
/// to must not keep it from those that wait for nothing.
#[test]
fn full_queues_of_others_take_nothing_from_a_client_that_keeps_up() {
    let mut desk = Desk::new();
    desk.retain("id", "1");
    for number in 0..QUEUES_BYTES_MAX / QUEUE_BYTES_MAX + 8 {
        let place = desk.enter_kept(&number.to_string());
        desk.words();
        desk.subscribe(place, "t", Qos::AtLeastOnce);
        desk.leave(place, LOST);
    }
    let large = "x".repeat(1 << 20);
    let (small, least) = (&large[..1 << 10], &large[..1]);
    for (payload, times) in [(&large[..], 8), (small, 30), (least, 10)] {
        (0..times).for_each(|_| drop(desk.say("t", payload)));
    }
    let room = QUEUES_BYTES_MAX - desk.hub.status().queued_bytes;
    assert!(room < message("id", "1", Qos::AtMostOnce).memory_bytes(), "all queues are full");
    let queued = desk.hub.status().queued;

    let place = desk.enter("dev1");
    let words = desk.subscribe(place, "id", Qos::AtMostOnce);
    assert_eq!(words[1..], [format!("{} gets id 1 qos 0 retained", place.0)]);
    desk.subscribe(place, "t", Qos::AtLeastOnce);
    let bytes = message("t", &large, Qos::AtLeastOnce).memory_bytes();
    for _ in 0..3 {
        assert_eq!(desk.say("t", &large).len(), 1);
        desk.credit(place, 2, 2 * bytes);
    }
    // What it does not take at once waits, and for that there is no room.
    let got = (0..WINDOW_MAX).map(|_| desk.say("t", &large).len()).sum::<usize>();
    assert_eq!((got, desk.hub.status().queued), (1, queued));
}
