//! Subscriptions and what they match.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::desk::{Desk, LOST, message, options};
use crate::hub::sessions::ClientNo;
use crate::hub::subscriptions::SubscriptionTree;
use crate::hub::{SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_PER_CLIENT_MAX};
use crate::mqtt::{Filter, Message, Qos, SubscribeRequest, SubscriptionOptions};

const LEVELS: [&str; 5] = ["a", "b", "", "$x", "+"];

/// Every filter and topic of up to three levels: the tree agrees with what a filter says by itself.
#[test]
fn the_tree_matches_as_the_filters_do() {
    let mut names: Vec<String> = LEVELS.iter().map(|level| (*level).to_owned()).collect();
    for depth in 0..2 {
        let deeper: Vec<String> = names
            .iter()
            .filter(|name| name.matches('/').count() == depth)
            .flat_map(|name| LEVELS.iter().map(move |level| format!("{name}/{level}")))
            .collect();
        names.extend(deeper);
    }
    let mut filters: Vec<String> = names.clone();
    filters.extend(names.iter().map(|name| format!("{name}/#")));
    filters.push("#".into());
    let filters: Vec<Filter> = filters.iter().filter_map(|text| Filter::new(text).ok()).collect();
    let topics = names.iter().filter(|name| !name.is_empty() && !name.contains('+'));
    let mut tree = SubscriptionTree::default();
    for (number, filter) in (0..).zip(&filters) {
        assert!(tree.insert(ClientNo(number), filter, options(Qos::AtMostOnce)));
    }
    assert_eq!(tree.len(), filters.len());
    let mut compared = 0;
    for topic in topics {
        let found: Vec<u64> = tree.matches(topic, &|_, _| true).keys().map(|no| no.0).collect();
        let expected = (0..).zip(&filters).filter(|(_, filter)| filter.matches(topic));
        let expected: Vec<u64> = expected.map(|(number, _)| number).collect();
        assert_eq!(found, expected, "{topic:?}");
        compared += found.len();
    }
    assert!(compared > 500, "{compared}");
    for (number, filter) in (0..).zip(&filters) {
        assert!(!tree.remove(ClientNo(number + 1), filter));
        assert!(tree.remove(ClientNo(number), filter));
        assert!(!tree.remove(ClientNo(number), filter));
    }
    assert_eq!(format!("{tree:?}"), format!("{:?}", SubscriptionTree::default()), "all pruned");
}

#[test]
fn overlapping_subscriptions_deliver_once_with_the_highest_quality() {
    let mut desk = Desk::new();
    let place = desk.enter("dev1");
    let with_id = |qos, id| SubscriptionOptions { id: Some(id), ..options(qos) };
    desk.subscribe_with(place, "a/#", with_id(Qos::AtMostOnce, 3));
    desk.subscribe_with(place, "a/+", with_id(Qos::ExactlyOnce, 1));
    desk.subscribe_with(place, "a/b", options(Qos::AtLeastOnce));
    assert_eq!(desk.say("a/b", "x"), ["1 gets a/b x qos 2 by [3, 1]"]);
    assert_eq!(desk.say("a/b/c", "x"), ["1 gets a/b/c x qos 0 by [3]"]);
    let lower = message("a/b", "x", Qos::AtLeastOnce);
    assert_eq!(desk.publish(lower), ["1 gets a/b x qos 1 by [3, 1]"], "never above the publish");
    // The same filter again replaces what it was.
    desk.subscribe_with(place, "a/+", with_id(Qos::AtMostOnce, 9));
    assert_eq!(desk.say("a/b", "x"), ["1 gets a/b x qos 1 by [3, 9]"]);
    assert_eq!(desk.hub.status().subscriptions, 3);
    assert_eq!(desk.unsubscribe(place, "a/+"), ["1 unsubscribed removed"]);
    assert_eq!(desk.unsubscribe(place, "a/+"), ["1 unsubscribed nothing"]);
    assert_eq!(desk.unsubscribe(place, "a+"), ["1 unsubscribed nothing"]);
    desk.unsubscribe(place, "a/b");
    assert_eq!(desk.say("a/b", "x"), ["1 gets a/b x qos 0 by [3]"]);
}

#[test]
fn no_local_and_retain_as_published() {
    let mut desk = Desk::new();
    let (own, other) = (desk.enter("own"), desk.enter("other"));
    let no_local = SubscriptionOptions { no_local: true, ..options(Qos::AtMostOnce) };
    desk.subscribe_with(own, "a", no_local);
    desk.subscribe_with(other, "a", no_local);
    let published = |payload: &str, retain| Message {
        publisher: Some(Arc::from("own")),
        retain,
        ..message("a", payload, Qos::AtMostOnce)
    };
    assert_eq!(desk.publish(published("x", false)), ["2 gets a x qos 0"]);
    assert_eq!(
        desk.publish(published("x", true)),
        ["2 gets a x qos 0"],
        "no flag for a subscriber"
    );
    assert_eq!(desk.subscribe_with(own, "a", no_local), ["1 subscribed 0"], "nor what is retained");
    desk.subscribe_with(own, "+", options(Qos::AtMostOnce));
    assert_eq!(desk.publish(published("x", false)).len(), 2, "another subscription of its own");
    let as_published = SubscriptionOptions { retain_as_published: true, ..no_local };
    desk.subscribe_with(other, "a", as_published);
    assert_eq!(desk.publish(published("y", true))[1], "2 gets a y qos 0 retained");
    assert_eq!(desk.publish(published("z", false))[1], "2 gets a z qos 0");
}

#[test]
fn limits_of_subscriptions() {
    let mut desk = Desk::new();
    let place = desk.enter("dev1");
    for number in 0..SUBSCRIPTIONS_PER_CLIENT_MAX {
        let words = desk.subscribe(place, &format!("a/{number}"), Qos::AtLeastOnce);
        assert_eq!(words, ["1 subscribed 1"]);
    }
    assert_eq!(desk.subscribe(place, "b", Qos::AtLeastOnce), ["1 subscribed quota"]);
    assert_eq!(desk.subscribe(place, "a/0", Qos::AtMostOnce), ["1 subscribed 0"], "it is no more");
    desk.unsubscribe(place, "a/0");
    assert_eq!(desk.subscribe(place, "b", Qos::AtLeastOnce), ["1 subscribed 1"]);
    for (filter, word) in [("$share/g/a", "Shared"), ("a#", "Malformed")] {
        assert_eq!(
            desk.subscribe(place, filter, Qos::AtMostOnce),
            [format!("1 subscribed {word}")]
        );
    }
    for client in 2..=SUBSCRIPTIONS_MAX / SUBSCRIPTIONS_PER_CLIENT_MAX {
        let place = desk.enter(&format!("dev{client}"));
        for number in 0..SUBSCRIPTIONS_PER_CLIENT_MAX {
            desk.subscribe(place, &number.to_string(), Qos::AtMostOnce);
        }
    }
    assert_eq!(desk.hub.status().subscriptions, SUBSCRIPTIONS_MAX);
    let late = desk.enter("late");
    assert!(desk.subscribe(late, "a", Qos::AtMostOnce)[0].ends_with("quota"));
    desk.leave(place, LOST);
    assert!(desk.subscribe(late, "a", Qos::AtMostOnce)[0].ends_with("subscribed 0"));
}

/// One packet has room for sixty thousand times `#`, and each would send everything that is retained.
#[test]
fn a_packet_has_no_more_filters_than_a_client() {
    let mut desk = Desk::new();
    desk.retain("a", "x");
    let place = desk.enter("dev1");
    let filter = || ("#".into(), options(Qos::AtMostOnce));
    let filters = std::iter::repeat_with(filter).take(SUBSCRIPTIONS_PER_CLIENT_MAX + 2).collect();
    let request = SubscribeRequest { packet_id: NonZeroU16::MIN, filters };
    desk.hub.subscribe(desk.now, place, request);
    let words = desk.words();
    assert!(words[0].ends_with(" 0 0 quota quota"), "{}", words[0]);
    let given = words.len() - 1 + desk.hub.status().queued;
    assert_eq!(given, SUBSCRIPTIONS_PER_CLIENT_MAX);
}
