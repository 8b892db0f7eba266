//! What a served client may send, packet by packet.

use super::rig::{
    Rig, V5, V311, connect, packet, properties, publish_with, publish0, publish1, string, user,
};
use crate::mqtt::{FILTER_LEN_MAX, MqttVersion};

/// Feeds `bytes` to a served connection and compares what comes of it. An expectation that ends in `…` is a beginning.
fn check(version: MqttVersion, bytes: &[u8], expected: &[&str]) {
    let outputs = Rig::open(version).feed(bytes);
    let fits = |output: &String, expected: &str| match expected.strip_suffix('…') {
        Some(beginning) => output.starts_with(beginning),
        None => output == expected,
    };
    let all_fit = outputs.iter().zip(expected).all(|(output, expected)| fits(output, expected));
    assert!(
        outputs.len() == expected.len() && all_fit,
        "MQTT {version}, {bytes:x?}:\n got {outputs:?}\nnot {expected:?}"
    );
}

/// Wrong for both versions: MQTT 5 says DISCONNECT with this code, 3.1.1 just closes.
fn check_closed(bytes: [Vec<u8>; 2], code: &str, reason: &str) {
    let [v3, v5] = bytes;
    check(V311, &v3, &[reason]);
    check(V5, &v5, &[&format!("send DISCONNECT {code}"), reason]);
}

fn both(bytes: Vec<u8>) -> [Vec<u8>; 2] {
    [bytes.clone(), bytes]
}

fn per_version(make: impl Fn(MqttVersion) -> Vec<u8>) -> [Vec<u8>; 2] {
    [make(V311), make(V5)]
}

#[test]
fn fixed_headers() {
    let malformed = "close malformed packet: …";
    for first in [
        0x00, 0x01, 0x41, 0x51, 0x60, 0x61, 0x71, 0x80, 0x83, 0xa0, 0xa1, 0xc1, 0xcf, 0xd1, 0xe1,
        0xf1, 0x36, 0x37, 0x3e, 0x38, 0x39,
    ] {
        let body = [string("t"), vec![0, 1, 0]].concat();
        check_closed(both(packet(first, &[&body])), "0x81", malformed);
    }
    check_closed(both(vec![0xc0, 1, 0]), "0x81", malformed);
    check_closed(both(vec![0x30, 0xff, 0xff, 0xff, 0x80]), "0x81", malformed);
    check(V311, &[0xe0, 1, 0], &[malformed]);
    check(V311, &packet(0xf0, &[]), &[malformed]);
    // The shortest form of a length is a rule of MQTT 5 only.
    check(V5, &[0xc0, 0x80, 0], &["send DISCONNECT 0x81", malformed]);
    check(V311, &[0xc0, 0x80, 0], &["send PINGRESP"]);
}

#[test]
fn packets_out_of_place() {
    let error = "close protocol error: …";
    check_closed(per_version(connect), "0x82", "close protocol error: a second CONNECT");
    check_closed([packet(0x20, &[&[0, 0]]), packet(0x20, &[&[0, 0, 0]])], "0x82", error);
    // Acknowledgements that a lost session may have left behind.
    for version in [V311, V5] {
        check(version, &packet(0x40, &[&[0, 1]]), &[]);
        check(version, &packet(0x70, &[&[0, 1]]), &[]);
    }
    check(V311, &packet(0x50, &[&[0, 1]]), &["send PUBREL 1 0x00"]);
    check(V5, &packet(0x50, &[&[0, 1]]), &["send PUBREL 1 0x92"]);
    check(V5, &packet(0x50, &[&[0, 1, 0x80]]), &[]);
    check_closed([packet(0x90, &[&[0, 1, 0]]), packet(0x90, &[&[0, 1, 0, 0]])], "0x82", error);
    check_closed([packet(0xb0, &[&[0, 1]]), packet(0xb0, &[&[0, 1, 0, 0]])], "0x82", error);
    check_closed(both(packet(0xd0, &[])), "0x82", error);
    check(V5, &packet(0xf0, &[]), &["send DISCONNECT 0x82", error]);
    check(V5, &packet(0xf0, &[&[0x18, 0]]), &["send DISCONNECT 0x82", error]);
    check_closed(
        both(packet(0x40, &[&[0, 0]])),
        "0x82",
        "close protocol error: packet identifier 0",
    );
    check_closed(both(packet(0x40, &[&[0]])), "0x81", "close malformed packet: …");
}

#[test]
fn publishes() {
    let [malformed, error] = ["close malformed packet: …", "close protocol error: …"];
    check(V311, &publish1(V311, 5, "a/b", b"x"), &["publish 5 a/b x"]);
    check(V5, &publish1(V5, 0xffff, "a/b", b"x"), &["publish 65535 a/b x"]);
    check(V5, &publish0(V5, "/", b""), &["publish 0 / "]);
    check(V311, &publish0(V311, "grün/温度/🌡", b"21"), &["publish 0 grün/温度/🌡 21"]);
    check(V311, &packet(0x3b, &[&string("t"), &[0, 7], b"x"]), &["publish 7 t x"]);
    for topic in ["+", "#", "a/+/b", "a/#", "a+", "a#b"] {
        check_closed(per_version(|version| publish1(version, 1, topic, b"x")), "0x82", error);
    }
    for topic in [b"\xff".as_slice(), b"a\0b", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"] {
        let bytes = packet(0x32, &[&string(topic), &[0, 1, 0]]);
        check_closed(both(bytes), "0x81", malformed);
    }
    check_closed(per_version(|version| publish1(version, 0, "t", b"x")), "0x82", error);
    check_closed(per_version(|version| publish0(version, "", b"x")), "0x82", error);
    check_closed(both(packet(0x30, &[])), "0x81", malformed);
    check_closed(both(packet(0x30, &[b"\0"])), "0x81", malformed);
    check_closed(both(packet(0x30, &[b"\0\x02t"])), "0x81", malformed);
    check_closed(both(packet(0x32, &[b"\0\x01t\0"])), "0x81", malformed);
    check_closed(both(packet(0x38, &[b"\0\x01t\0"])), "0x81", malformed);
    check_closed(both(packet(0x36, &[b"\0\x01t\0\x01\0"])), "0x81", malformed);
    check(V311, &packet(0x34, &[b"\0\x01t\0\x05x"]), &["publish 5 t x"]);
    check(V5, &packet(0x3d, &[b"\0\x01t\0\x05\0x"]), &["publish 5 t x"]);
    check_closed(both(packet(0x34, &[b"\0\x01t\0\0\0"])), "0x82", error);
}

#[test]
fn properties_of_publishes() {
    let [malformed, error] = ["close malformed packet: …", "close protocol error: …"];
    let taken = ["publish 1 t x"];
    let nul = string("a\0");
    let wrong: [(&[u8], &str, &str); 26] = [
        (&[0x01, 2], "0x82", error),
        (&[0x01, 1, 0x01, 1], "0x82", error),
        (&[0x01], "0x81", malformed),
        (&[0x02, 0, 0, 1], "0x81", malformed),
        (&[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1], "0x82", error),
        (&[0x03, 0, 2, b'a'], "0x81", malformed),
        (&[0x03, 0, 1, 0xff], "0x81", malformed),
        (&[0x03, 0, 0, 0x03, 0, 0], "0x82", error),
        (&[0x08, 0, 1, b'+'], "0x82", error),
        (&[0x08, 0, 2, b'a', b'#'], "0x82", error),
        (&[0x08, 0, 0], "0x82", error),
        (&[0x08, 0, 1, b'a', 0x08, 0, 1, b'a'], "0x82", error),
        (&[0x09, 0, 1], "0x81", malformed),
        (&[0x09, 0, 0, 0x09, 0, 0], "0x82", error),
        (&[0x0b, 1], "0x82", error),
        (&[0x11, 0, 0, 0, 1], "0x81", malformed),
        (&[0x1f, 0, 0], "0x81", malformed),
        (&[0x00], "0x81", malformed),
        (&[0x7f], "0x81", malformed),
        (&[0xff, 0x01], "0x81", malformed),
        (&[0x23, 0], "0x81", malformed),
        (&[0x23, 0, 1, 0x23, 0, 1], "0x82", error),
        (&[0x23, 0, 0], "0x94", "close topic alias 0, …"),
        (&[0x23, 0, 17], "0x94", "close topic alias 17, …"),
        (&[0x26, 0, 1, b'a'], "0x81", malformed),
        (&[0x26, 0, 0, 0, 1, 0xff], "0x81", malformed),
    ];
    for (props, code, reason) in wrong {
        check(V5, &publish_with(1, &[props]), &[&format!("send DISCONNECT {code}"), reason]);
    }
    check(V5, &publish_with(1, &[&[0x03], &nul]), &["send DISCONNECT 0x81", malformed]);
    check(V5, &publish_with(1, &[&user("\0", "")]), &["send DISCONNECT 0x81", malformed]);
    // Length of the properties: beyond the packet, not in its shortest form, missing.
    for tail in [&[0, 1, 2, b'x'][..], &[0, 1, 0x80, 0], &[0, 1], &[0, 1, 0xff, 0xff, 0xff, 0xff]] {
        let bytes = packet(0x32, &[b"\0\x01t", tail]);
        check(V5, &bytes, &["send DISCONNECT 0x81", malformed]);
    }
    let right: [&[u8]; 7] = [
        &[0x01, 0],
        &[0x02, 0, 0, 0, 0],
        &[0x03, 0, 0],
        &[0x08, 0, 1, b'a'],
        &[0x09, 0, 1, 0],
        &[0x23, 0, 16],
        &[0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0],
    ];
    for props in right {
        check(V5, &publish_with(1, &[props]), &taken);
    }
}

#[test]
fn subscriptions() {
    let malformed = "close malformed packet: …";
    let subscribe = |version, body: &[u8]| {
        let props: &[u8] = if version == V5 { &[0] } else { &[] };
        packet(0x82, &[&[0, 9], props, body])
    };
    let two = [string("a/+"), vec![1], string("#"), vec![0]].concat();
    check(V311, &subscribe(V311, &two), &["send SUBACK [MaxLevel1, MaxLevel0]"]);
    check(V5, &subscribe(V5, &two), &["send SUBACK [1, 0]"]);
    let shared = [string("$share/g/a"), vec![1]].concat();
    check(V5, &subscribe(V5, &shared), &["send SUBACK [9e]"]);
    check(V311, &subscribe(V311, &shared), &["send SUBACK [Failure]"]);
    let mixed =
        [shared.clone(), string("a"), vec![2], string("x".repeat(FILTER_LEN_MAX + 1)), vec![0]];
    check(V5, &subscribe(V5, &mixed.concat()), &["send SUBACK [9e, 2, 8f]"]);
    let no_local = [string("$share/g/a"), vec![0b100]].concat();
    check(V5, &subscribe(V5, &no_local), &["send DISCONNECT 0x82", "close protocol error: …"]);
    check(
        V5,
        &packet(0x82, &[&[0, 9], &properties(&[&[0x0b, 0]]), &shared]),
        &["send DISCONNECT 0x82", "close protocol error: subscription identifier 0"],
    );
    check_closed(
        per_version(|version| subscribe(version, &[])),
        "0x82",
        "close protocol error: no topic filter",
    );
    for filter in ["", "a#", "#/a", "a/+b", "+a", "a\0", "++", "a/#b"] {
        let body = [string(filter), vec![0]].concat();
        check_closed(per_version(|version| subscribe(version, &body)), "0x81", malformed);
    }
    for options in [3, 0x40, 0x80, 0x30] {
        let body = [string("a"), vec![options]].concat();
        check_closed(per_version(|version| subscribe(version, &body)), "0x81", malformed);
    }
    let cut = string("a");
    check_closed(per_version(|version| subscribe(version, &cut)), "0x81", malformed);
    check_closed(
        [packet(0x82, &[&[0, 0], &two]), packet(0x82, &[&[0, 0, 0], &two])],
        "0x82",
        "close protocol error: packet identifier 0",
    );
    check(V5, &packet(0x82, &[&[0, 9, 0x80, 0], &two]), &["send DISCONNECT 0x81", malformed]);
}

#[test]
fn unsubscribing_finds_nothing() {
    let two = [string("a"), string("b/#")].concat();
    check(V311, &packet(0xa2, &[&[0, 9], &two]), &["send UNSUBACK 9"]);
    check(V5, &packet(0xa2, &[&[0, 9, 0], &two]), &["send UNSUBACK [11, 11]"]);
    let none = "close protocol error: no topic filter";
    check_closed([packet(0xa2, &[&[0, 9]]), packet(0xa2, &[&[0, 9, 0]])], "0x82", none);
    let bad = string("a#");
    let malformed = "close malformed packet: …";
    check_closed(
        [packet(0xa2, &[&[0, 9], &bad]), packet(0xa2, &[&[0, 9, 0], &bad])],
        "0x81",
        malformed,
    );
    let nul = properties(&[&user("a\0", "b")]);
    let bytes = packet(0xa2, &[&[0, 9], &nul, &two]);
    check(V5, &bytes, &["send DISCONNECT 0x81", malformed]);
}

#[test]
fn pings_releases_and_goodbyes() {
    let malformed = "close malformed packet: …";
    for version in [V311, V5] {
        check(version, &[0xc0, 0, 0xc0, 0], &["send PINGRESP", "send PINGRESP"]);
        let bye = "close the client disconnected with reason code 0x00";
        check(version, &[0xe0, 0, 0xc0, 0], &[bye]);
    }
    check(V311, &packet(0x62, &[&[0, 3]]), &["send PUBCOMP 3 0x00"]);
    check(V5, &packet(0x62, &[&[0, 3]]), &["send PUBCOMP 3 0x92"]);
    let will = "close the client disconnected with reason code 0x04";
    check(V5, &packet(0xe0, &[&[4]]), &[will]);
    check(V5, &packet(0xe0, &[&[0, 5, 0x11, 0, 0, 0, 0]]), &["close the client…"]);
    let error = "close protocol error: …";
    check(V5, &packet(0xe0, &[&[0, 5, 0x11, 0, 0, 0, 1]]), &["send DISCONNECT 0x82", error]);
    check(V5, &packet(0xe0, &[&[0x55]]), &["send DISCONNECT 0x81", malformed]);
    check(V5, &packet(0xe0, &[&[0, 0, 0]]), &["send DISCONNECT 0x81", malformed]);
    check(V5, &packet(0xe0, &[&[0, 0x80, 0]]), &["send DISCONNECT 0x81", malformed]);
    let nul = [vec![0x1f], string("a\0")].concat();
    check(V5, &packet(0xe0, &[&[0], &properties(&[&nul])]), &["send DISCONNECT 0x81", malformed]);
}
