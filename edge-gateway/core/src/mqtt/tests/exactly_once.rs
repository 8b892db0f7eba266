//! QoS 2 from clients: stored once until it is released, acknowledged only when it is durable.

use super::rig::{
    Rig, V5, V311, connect_with, packet, publish0, publish1, publish2, pubrel, string,
};
use crate::mqtt::{MqttLimits, MqttVersion, RejectReason, SessionGrant, UNRELEASED_MAX};

#[test]
fn pubrec_comes_after_the_commit_and_in_order() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        let burst = [
            publish2(version, 7, "t", b"a"),
            publish1(version, 8, "t", b"b"),
            publish2(version, 9, "t", b"c"),
        ];
        assert_eq!(rig.feed(&burst.concat()), ["publish 7 t a", "publish 8 t b", "publish 9 t c"]);
        assert_eq!(rig.feed(&[0xc0, 0]), ["send PINGRESP"], "nothing before the commit");
        assert_eq!(rig.commit(1), ["send PUBREC 7 0x00"]);
        assert_eq!(rig.commit(2), ["send PUBACK 8 0x00", "send PUBREC 9 0x00"]);
        assert_eq!(rig.feed(&pubrel(7)), ["send PUBCOMP 7 0x00"]);
        assert_eq!(rig.feed(&pubrel(9)), ["send PUBCOMP 9 0x00"]);
    }
}

#[test]
fn a_publish_that_comes_again_before_its_release_is_stored_once() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        let mut again = publish2(version, 7, "t", b"a");
        assert_eq!(rig.feed(&again), ["publish 7 t a"]);
        again[0] |= 0x08;
        assert_eq!(rig.feed(&again), [""; 0], "the first one is with the store");
        assert_eq!(rig.commit(1), ["send PUBREC 7 0x00", "send PUBREC 7 0x00"]);
        assert_eq!(rig.feed(&again), ["send PUBREC 7 0x00"], "it is durable");
        again[0] &= !0x08;
        assert_eq!(rig.feed(&again), ["send PUBREC 7 0x00"], "the identifier decides, not DUP");
        assert_eq!(rig.feed(&pubrel(7)), ["send PUBCOMP 7 0x00"]);
        let gone = if version == V5 { "send PUBCOMP 7 0x92" } else { "send PUBCOMP 7 0x00" };
        assert_eq!(rig.feed(&pubrel(7)), [gone]);
        assert_eq!(rig.feed(&again), ["publish 7 t a"], "released, it is another publish");
    }
}

#[test]
fn a_copy_waits_for_its_turn() {
    let mut rig = Rig::open(V5);
    rig.feed(&publish2(V5, 7, "t", b"a"));
    rig.commit(1);
    rig.feed(&publish1(V5, 1, "t", b"b"));
    assert_eq!(rig.feed(&publish2(V5, 7, "t", b"a")), [""; 0]);
    assert_eq!(rig.commit(1), ["send PUBACK 1 0x00", "send PUBREC 7 0x00"]);
}

#[test]
fn releases_are_known_on_the_next_connection() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        rig.feed(&[publish2(version, 7, "t", b"a"), publish2(version, 8, "t", b"b")].concat());
        assert_eq!(rig.commit(1), ["send PUBREC 7 0x00"]);
        // The second one never reached the store.
        let state = rig.connection.take_session();
        let grant = SessionGrant { present: true, state, ..SessionGrant::default() };
        let mut rig = Rig::resumed(version, grant);
        assert_eq!(rig.feed(&publish2(version, 7, "t", b"a")), ["send PUBREC 7 0x00"]);
        assert_eq!(rig.feed(&publish2(version, 8, "t", b"b")), ["publish 8 t b"]);
        assert_eq!(rig.feed(&pubrel(7)), ["send PUBCOMP 7 0x00"]);
    }
}

#[test]
fn what_is_refused_is_not_received() {
    let mut rig = Rig::open(V5);
    assert_eq!(rig.feed(&publish2(V5, 7, "$x", b""))[1], "send PUBREC 7 0x90");
    assert_eq!(rig.feed(&pubrel(7)), ["send PUBCOMP 7 0x92"]);

    let mut rig = Rig::open(V5);
    rig.feed(&[publish2(V5, 7, "t", b""), publish2(V5, 8, "t", b"")].concat());
    rig.connection.rejected(RejectReason::Full);
    let words = rig.feed(&[]);
    assert_eq!(words[..2], ["send PUBREC 7 0x97", "send DISCONNECT 0x97"]);
    let state = rig.connection.take_session();
    let grant = SessionGrant { present: true, state, ..SessionGrant::default() };
    let mut rig = Rig::resumed(V5, grant);
    assert_eq!(rig.feed(&publish2(V5, 7, "t", b"")), ["publish 7 t "]);
    assert_eq!(rig.feed(&publish2(V5, 8, "t", b"")), ["publish 8 t "]);
}

fn commit_many(rig: &mut Rig, version: MqttVersion, ids: std::ops::RangeInclusive<u16>) {
    for id in ids {
        assert_eq!(rig.feed(&publish2(version, id, "t", b"")).len(), 1, "{id}");
        assert_eq!(rig.commit(1).len(), 1);
    }
}

/// v5 4.9: until its PUBCOMP a publish counts; on the next connection counting begins anew.
#[test]
fn receive_maximum_counts_until_the_release() {
    let limits = MqttLimits { receive_max: 2.try_into().unwrap(), ..MqttLimits::default() };
    let connect = super::rig::connect(V5);
    let mut rig = Rig::open_with(V5, limits, &connect);
    commit_many(&mut rig, V5, 1..=2);
    assert_eq!(rig.feed(&publish0(V5, "t", b"")).len(), 1);
    rig.commit(1);
    assert_eq!(rig.feed(&publish2(V5, 2, "t", b"")), ["send PUBREC 2 0x00"], "a copy is none more");
    rig.feed(&pubrel(1));
    commit_many(&mut rig, V5, 3..=3);
    assert_eq!(rig.feed(&publish1(V5, 4, "t", b""))[0], "send DISCONNECT 0x93");

    let state = rig.connection.take_session();
    let mut rig = Rig::with_limits(V5, limits);
    rig.grant = Some(SessionGrant { present: true, state, ..SessionGrant::default() });
    rig.feed(&connect_with(V5, 0, 0, &[], &[&string("dev/1")]));
    commit_many(&mut rig, V5, 4..=5);
    assert_eq!(rig.feed(&publish2(V5, 6, "t", b""))[0], "send DISCONNECT 0x93");
}

#[test]
fn a_client_that_never_releases_is_disconnected() {
    let mut rig = Rig::open(V311);
    commit_many(&mut rig, V311, 1..=UNRELEASED_MAX);
    assert_eq!(rig.feed(&publish1(V311, 1, "t", b"")).len(), 1, "QoS 1 needs no release");
    rig.commit(1);
    let words = rig.feed(&publish2(V311, UNRELEASED_MAX + 1, "t", b""));
    assert_eq!(words, [format!("close more than {UNRELEASED_MAX} publishes unacknowledged")]);
}

#[test]
fn a_release_without_a_publish() {
    for (version, code) in [(V311, "0x00"), (V5, "0x92")] {
        let words = Rig::open(version).feed(&packet(0x62, &[&[0, 3]]));
        assert_eq!(words, [format!("send PUBCOMP 3 {code}")]);
    }
}
