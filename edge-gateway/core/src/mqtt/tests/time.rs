//! Deadlines.

use std::num::NonZeroU16;

use wire::time::MonoMs;

use super::rig::{Rig, V5, V311, connect, connect_with, publish0, publish1, string};
use crate::mqtt::{CONNECT_DEADLINE_MS, MqttLimits, MqttVersion};

const START: u64 = 1_000;

fn open(version: MqttVersion, keep_alive_s: u16, limits: MqttLimits) -> Rig {
    Rig::open_with(version, limits, &connect_with(version, 2, keep_alive_s, &[], &[&string("x")]))
}

fn timeout_at(rig: &mut Rig, at: u64) -> Vec<String> {
    rig.now = MonoMs(at);
    rig.connection.handle_timeout(rig.now);
    rig.feed(&[])
}

#[test]
fn a_connect_must_come_in_time() {
    let mut rig = Rig::new(V5);
    let deadline = START + CONNECT_DEADLINE_MS;
    assert_eq!(rig.connection.next_deadline(), Some(MonoMs(deadline)));
    // Half a CONNECT does not move it.
    rig.now = MonoMs(deadline - 1);
    assert_eq!(rig.feed(&connect(V5)[..8]), [""; 0]);
    assert_eq!(timeout_at(&mut rig, deadline - 1), [""; 0]);
    assert_eq!(timeout_at(&mut rig, deadline), ["close no CONNECT within 10 seconds"]);
    assert_eq!(rig.connection.next_deadline(), None);
    assert_eq!(timeout_at(&mut rig, deadline + 1), [""; 0]);
}

#[test]
fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    for version in [V311, V5] {
        let mut rig = open(version, 10, MqttLimits::default());
        assert_eq!(rig.connection.next_deadline(), Some(MonoMs(START + 15_000)));
        rig.now = MonoMs(START + 14_000);
        assert_eq!(rig.feed(&[0xc0, 0]), ["send PINGRESP"]);
        assert_eq!(timeout_at(&mut rig, START + 28_999), [""; 0]);
        let words = timeout_at(&mut rig, START + 29_000);
        let close =
            "close nothing received within one and a half times the keep-alive time of 10 s";
        match version {
            V311 => assert_eq!(words, [close]),
            V5 => assert_eq!(words, ["send DISCONNECT 0x8d", close]),
        }
    }
}

#[test]
fn keep_alive_0_is_none_and_the_longest_fits() {
    let mut rig = open(V311, 0, MqttLimits::default());
    assert_eq!(rig.connection.next_deadline(), None);
    assert_eq!(timeout_at(&mut rig, u64::MAX), [""; 0]);
    let rig = open(V311, u16::MAX, MqttLimits::default());
    assert_eq!(rig.connection.next_deadline(), Some(MonoMs(START + 98_302_500)));
}

/// A client that is not read cannot be blamed for its silence.
#[test]
fn no_keep_alive_while_the_client_is_not_read() {
    let limits = MqttLimits { receive_max: NonZeroU16::new(1).unwrap(), ..MqttLimits::default() };
    let mut rig = open(V311, 10, limits);
    rig.feed(&[publish0(V311, "t", b""), publish0(V311, "t", b"")].concat());
    assert_eq!(rig.connection.next_deadline(), None);
    assert_eq!(timeout_at(&mut rig, START + 60_000), [""; 0]);
    rig.commit(1);
    assert_eq!(rig.connection.next_deadline(), Some(MonoMs(START + 75_000)));
}

/// On a slow link a large packet may take longer than the keep-alive time; a trickle is no sign of life.
#[test]
fn progress_of_a_large_packet_counts() {
    let mut rig = open(V5, 10, MqttLimits::default());
    let large = publish1(V5, 1, "t", &[7; 8_000]);
    let mut deadlines = Vec::new();
    let pieces =
        [&large[..1_000], &large[1_000..1_023], &large[1_023..1_024], &large[1_024..2_047]];
    for (at, piece) in (1..).zip(pieces) {
        rig.now = MonoMs(START + at * 1_000);
        assert_eq!(rig.feed(piece), [""; 0]);
        deadlines.push(rig.connection.next_deadline().unwrap().0 - 15_000 - START);
    }
    assert_eq!(deadlines, [0, 0, 3_000, 3_000]);
    rig.now = MonoMs(START + 9_000);
    assert_eq!(rig.feed(&large[2_047..]).len(), 1);
    assert_eq!(rig.connection.next_deadline(), Some(MonoMs(START + 24_000)));
}
