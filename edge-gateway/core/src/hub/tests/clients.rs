//! Who is let in, who has to go, and which sessions are there to come back to.

use super::desk::{Desk, GOODBYE, LOST};
use crate::hub::{OFFLINE_SESSIONS_MAX, SESSION_EXPIRY_MAX_S};
use crate::mqtt::{Departure, DropReason, Qos, SessionState};

#[test]
fn a_second_connection_waits_until_the_first_is_off() {
    let mut desk = Desk::new();
    let first = desk.enter("dev1");
    desk.enter("dev2");
    let second = desk.ask("dev1", true, 0, None);
    assert_eq!(desk.words(), [format!("evict {}", first.0)]);
    assert_eq!(desk.leave(first, LOST), [format!("admit {}, expiry 0", second.0)]);
    assert_eq!(desk.hub.status().sessions, 2);
}

#[test]
fn a_third_connection_takes_the_place_of_the_waiting_one() {
    let mut desk = Desk::new();
    let first = desk.enter("dev1");
    let second = desk.ask("dev1", true, 0, None);
    desk.words();
    let third = desk.ask("dev1", true, 0, None);
    assert_eq!(desk.words(), [format!("turn away {}", second.0)], "the first was asked already");
    assert_eq!(desk.leave(first, LOST), [format!("admit {}, expiry 0", third.0)]);
}

#[test]
fn whoever_gives_up_waiting_frees_the_place() {
    let mut desk = Desk::new();
    let first = desk.enter("dev1");
    let second = desk.ask("dev1", true, 0, None);
    desk.words();
    desk.leave(first, LOST);
    // Its shell finds nobody to admit.
    desk.leave(second, GOODBYE);
    desk.enter("dev1");
    // A place that nobody has any more.
    desk.hub.leave(desk.now, first, SessionState::default(), Vec::new(), LOST);
    assert_eq!(desk.words(), [""; 0]);
}

#[test]
fn table_of_sessions() {
    // (expiry of the first connection, seconds away, clean start of the second) → session present
    let table = [
        ((0, 0, false), false),
        ((10, 0, false), true),
        ((10, 0, true), false),
        ((10, 9, false), true),
        ((10, 10, false), false),
        ((10, 11, true), false),
        ((u32::MAX, u64::from(SESSION_EXPIRY_MAX_S) - 1, false), true),
        ((u32::MAX, u64::from(SESSION_EXPIRY_MAX_S), false), false),
    ];
    for ((expiry_s, away_s, clean_start), present) in table {
        let row = format!("{expiry_s} {away_s} {clean_start}");
        let mut desk = Desk::new();
        let first = desk.ask("dev1", true, expiry_s, None);
        let expiry = expiry_s.min(SESSION_EXPIRY_MAX_S);
        assert_eq!(desk.words(), [format!("admit {}, expiry {expiry}", first.0)], "{row}");
        desk.subscribe(first, "a/#", Qos::AtLeastOnce);
        desk.leave(first, LOST);
        desk.pass(away_s * 1_000);
        let subscriptions = desk.hub.status().subscriptions;
        assert!(subscriptions == 1 || !present, "{row}");
        let second = desk.ask("dev1", clean_start, 0, None);
        let session = if present { " with session" } else { "" };
        assert_eq!(desk.words(), [format!("admit {}{session}, expiry 0", second.0)], "{row}");
        assert_eq!(desk.hub.status().subscriptions, usize::from(present), "{row}");
        assert_eq!(desk.say("a/b", "x").len(), usize::from(present), "{row}");
        desk.leave(second, LOST);
        assert_eq!(desk.hub.status().sessions, 0, "{row}: its own expiry counts from now on");
        assert!(!desk.hub.has_subscribers(), "{row}");
    }
}

#[test]
fn a_goodbye_may_change_the_expiry() {
    for (expiry_s, left) in [(Some(0), 0), (Some(9), 1), (None, 1)] {
        let mut desk = Desk::new();
        let place = desk.enter_kept("dev1");
        desk.words();
        desk.leave(place, Departure { with_will: false, session_expiry_s: expiry_s });
        assert_eq!(desk.hub.status().sessions, left);
        desk.pass(9_000);
        assert_eq!(desk.hub.status().sessions, usize::from(expiry_s.is_none()));
    }
}

#[test]
fn too_many_sessions_without_a_connection() {
    let mut desk = Desk::new();
    for number in 0..=OFFLINE_SESSIONS_MAX {
        // The second one is kept for the shortest time.
        let expiry_s = if number == 1 { 60 } else { 3_600 };
        let place = desk.ask(&format!("dev{number}"), false, expiry_s, None);
        desk.words();
        if number == 1 {
            desk.subscribe(place, "a", Qos::AtLeastOnce);
        }
        desk.leave(place, LOST);
        if number == 1 {
            desk.say("a", "x");
        }
    }
    let status = desk.hub.status();
    assert_eq!((status.sessions, status.counters.sessions_discarded), (OFFLINE_SESSIONS_MAX, 1));
    assert_eq!((status.queued, status.queued_bytes, status.subscriptions), (0, 0, 0));
    assert_eq!(status.counters.dropped[&DropReason::Ended], 1);
    let back = desk.enter_kept("dev0");
    assert_eq!(desk.words(), [format!("admit {} with session, expiry 3600", back.0)]);
}
