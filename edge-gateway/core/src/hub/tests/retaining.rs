//! Retained messages.

use wire::time::MonoMs;

use super::desk::{Desk, message, options};
use crate::hub::{Hub, RETAINED_BYTES_MAX, RETAINED_MAX};
use crate::mqtt::{Message, Qos, RetainHandling, SubscriptionOptions};

#[test]
fn set_replaced_and_deleted() {
    let mut desk = Desk::new();
    desk.retain("a/b", "1");
    desk.retain("a/b", "2");
    desk.retain("a/c", "3");
    let place = desk.enter("dev1");
    let words = desk.subscribe(place, "a/+", Qos::ExactlyOnce);
    let expected = ["1 subscribed 2", "1 gets a/b 2 qos 1 retained", "1 gets a/c 3 qos 1 retained"];
    assert_eq!(words, expected);
    assert_eq!(desk.retain("a/b", ""), ["1 gets a/b  qos 1"], "an empty message is a message");
    assert_eq!(desk.subscribe(place, "a/+", Qos::AtMostOnce)[1..], ["1 gets a/c 3 qos 0 retained"]);
    desk.retain("a/c", "");
    let status = desk.hub.status();
    assert_eq!((status.retained, status.retained_bytes), (0, 0));
}

#[test]
fn a_subscription_gets_what_matches() {
    let mut desk = Desk::new();
    for topic in ["a", "a/b", "a/b/c", "ab", "b", "$x/a", "/a"] {
        desk.retain(topic, "x");
    }
    let place = desk.enter("dev1");
    let table: [(&str, &[&str]); 8] = [
        ("a/#", &["a", "a/b", "a/b/c"]),
        ("#", &["/a", "a", "a/b", "a/b/c", "ab", "b"]),
        ("+", &["a", "ab", "b"]),
        ("a/b", &["a/b"]),
        ("a/", &[]),
        ("$x/#", &["$x/a"]),
        ("+/a", &["/a"]),
        ("c", &[]),
    ];
    for (filter, topics) in table {
        let words = desk.subscribe(place, filter, Qos::AtMostOnce);
        let expected: Vec<String> =
            topics.iter().map(|topic| format!("1 gets {topic} x qos 0 retained")).collect();
        assert_eq!(words[1..], expected, "{filter}");
    }
}

#[test]
fn retain_handling() {
    let mut desk = Desk::new();
    desk.retain("a", "x");
    let place = desk.enter("dev1");
    for (handling, first, again) in [
        (RetainHandling::Always, 2, 2),
        (RetainHandling::IfNew, 2, 1),
        (RetainHandling::Never, 1, 1),
    ] {
        let options = SubscriptionOptions { retain_handling: handling, ..options(Qos::AtMostOnce) };
        assert_eq!(desk.subscribe_with(place, "a", options).len(), first, "{handling:?}");
        assert_eq!(desk.subscribe_with(place, "a", options).len(), again, "{handling:?}");
        desk.unsubscribe(place, "a");
    }
}

#[test]
fn what_expired_is_not_delivered() {
    let mut desk = Desk::new();
    let expiring = Message {
        retain: true,
        expires_at: Some(MonoMs(5_000)),
        ..message("a", "x", Qos::AtMostOnce)
    };
    desk.publish(expiring);
    let place = desk.enter("dev1");
    desk.now = MonoMs(4_999);
    assert_eq!(desk.subscribe(place, "a", Qos::AtMostOnce).len(), 2);
    desk.now = MonoMs(5_000);
    assert_eq!(desk.subscribe(place, "a", Qos::AtMostOnce).len(), 1);
}

#[test]
fn limits_of_what_is_retained() {
    let mut desk = Desk::new();
    for number in 0..RETAINED_MAX {
        let message = message(&number.to_string(), "x", Qos::AtMostOnce);
        let expires_at = (number == 7).then_some(MonoMs(2_000));
        desk.publish(Message { retain: true, expires_at, ..message });
    }
    desk.retain("one more", "x");
    assert_eq!(desk.hub.status().counters.retained_refused, 1);
    desk.retain("8", "replaced");
    assert_eq!(desk.hub.status().counters.retained_refused, 1);
    desk.now = MonoMs(2_000);
    desk.retain("one more", "x");
    assert_eq!(desk.hub.status().counters.retained_refused, 1, "what expired makes room");
    assert_eq!(desk.hub.status().retained, RETAINED_MAX);

    let mut desk = Desk::new();
    let large = "x".repeat(RETAINED_BYTES_MAX / 2 - 1_000);
    desk.retain("a", &large);
    desk.retain("b", &large);
    desk.retain("a", &large);
    assert_eq!(desk.hub.status().counters.retained_refused, 0);
    desk.retain("b", &format!("{large}{}", "x".repeat(2_000)));
    let status = desk.hub.status();
    assert_eq!(
        (status.counters.retained_refused, status.retained),
        (1, 1),
        "the old one is outdated"
    );
    assert!(status.retained_bytes <= RETAINED_BYTES_MAX);
}

#[test]
fn the_gateways_own() {
    let own = Message::of_gateway("culvert/v1/gateway", "id".into()).unwrap();
    let mut desk = Desk::new();
    desk.hub = Hub::new(vec![own]);
    assert!(!desk.hub.has_subscribers());
    let place = desk.enter("dev1");
    let words = desk.subscribe(place, "culvert/#", Qos::ExactlyOnce);
    assert_eq!(words[1..], ["1 gets culvert/v1/gateway id qos 1 retained"]);
    assert!(desk.hub.has_subscribers());
}
