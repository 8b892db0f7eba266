//! What is published when a client is gone, and when.

use super::desk::{Desk, GOODBYE, LOST, will};
use crate::hub::Place;
use crate::mqtt::{Departure, Qos};

/// A listener, and a client with a will.
fn desk(expiry_s: u32, delay_s: u32) -> (Desk, Place) {
    let mut desk = Desk::new();
    let listener = desk.enter("listener");
    desk.subscribe(listener, "will", Qos::AtLeastOnce);
    let dying = desk.ask("dying", false, expiry_s, will("will", "gone", delay_s));
    desk.words();
    (desk, dying)
}

const STORE: &str = "store will of dying: gone";
const HEARD: &str = "1 gets will gone qos 1";

#[test]
fn a_will_is_delivered_after_it_is_stored() {
    let (mut desk, dying) = desk(0, 0);
    assert_eq!(desk.leave(dying, LOST), [STORE]);
    assert_eq!(desk.store_will(), [HEARD]);
    assert_eq!((desk.hub.status().sessions, desk.hub.status().counters.wills), (1, 1));
}

#[test]
fn a_refused_will_is_not_delivered_and_frees_its_place() {
    let (mut desk, dying) = desk(0, 0);
    desk.leave(dying, LOST);
    let next = desk.ask("dying", true, 0, None);
    let (client, _) = desk.wills.remove(0);
    desk.hub.will_refused(desk.now, client);
    assert_eq!(desk.words(), [format!("admit {}, expiry 0", next.0)]);
}

#[test]
fn no_will_after_a_goodbye_or_without_one() {
    let (mut desk, dying) = desk(10, 5);
    assert_eq!(desk.leave(dying, GOODBYE), [""; 0]);
    let again = desk.enter_kept("dying");
    desk.words();
    assert_eq!(desk.leave(again, LOST), [""; 0], "the second connection had no will");
    assert_eq!(desk.pass(4_000_000), [""; 0]);
}

/// The last words of one connection must not overtake the first of the next: a device that says "offline" by its will
/// and "online" when it connects would be offline.
#[test]
fn the_next_connection_waits_for_the_will() {
    let (mut desk, dying) = desk(0, 0);
    let next = desk.ask("dying", false, 0, None);
    assert_eq!(desk.words(), [format!("evict {}", dying.0)]);
    assert_eq!(desk.leave(dying, LOST), [STORE]);
    assert_eq!(desk.store_will(), [HEARD.into(), format!("admit {}, expiry 0", next.0)]);
}

#[test]
fn table_of_delays() {
    // (expiry, delay) → when it is published, in seconds
    for ((expiry_s, delay_s), expected) in [((0, 9), 0), ((9, 5), 5), ((5, 9), 5), ((9, 0), 0)] {
        let (mut desk, dying) = desk(expiry_s, delay_s);
        let at_once = desk.leave(dying, LOST);
        if expected == 0 {
            assert_eq!(at_once, [STORE]);
            continue;
        }
        assert_eq!(at_once, [""; 0]);
        assert_eq!(desk.pass(expected * 1_000 - 1), [""; 0]);
        assert_eq!(desk.pass(1), [STORE]);
        assert_eq!(desk.store_will(), [HEARD]);
        assert_eq!(desk.pass(3_600_000), [""; 0]);
        assert_eq!(desk.hub.status().sessions, 1);
    }
}

#[test]
fn a_delayed_will_is_forgotten_when_the_client_comes_back() {
    let (mut desk, dying) = desk(60, 5);
    desk.leave(dying, LOST);
    desk.pass(4_999);
    let back = desk.enter_kept("dying");
    assert_eq!(desk.words(), [format!("admit {} with session, expiry 3600", back.0)]);
    assert_eq!(desk.pass(10_000), [""; 0]);
}

/// [MQTT-3.1.4-3]: a clean start ends the session that the will waited for.
#[test]
fn a_clean_start_publishes_the_delayed_will() {
    let (mut desk, dying) = desk(60, 5);
    desk.leave(dying, LOST);
    let new = desk.ask("dying", true, 0, None);
    assert_eq!(desk.words(), [STORE]);
    assert_eq!(desk.store_will(), [HEARD.into(), format!("admit {}, expiry 0", new.0)]);
}

#[test]
fn a_goodbye_with_will_and_another_expiry() {
    let (mut desk, dying) = desk(60, 30);
    let departure = Departure { with_will: true, session_expiry_s: Some(0) };
    assert_eq!(desk.leave(dying, departure), [STORE], "the session is over");
}
