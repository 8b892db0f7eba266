//! CONNECT: who is let in, who is turned away, and in which words.

use bytes::Bytes;

use super::rig::{ENTROPY, Rig, V5, V311, connect, connect_with, packet, properties, string, user};
use crate::mqtt::{
    CLIENT_ID_LEN_MAX, CloseReason, ConnectRefusal, ConnectRequest, MqttLimits, MqttVersion,
    Output, SessionGrant,
};

fn request(version: MqttVersion, bytes: &[u8]) -> ConnectRequest {
    let mut rig = Rig::new(version);
    match rig.feed_raw(bytes).swap_remove(0) {
        Output::Connect(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_connect_says_reaches_the_shell() {
    let fields = [string("a/b c"), string("me"), string("\0secret")].concat();
    let v5 = connect_with(V5, 0b1100_0000, 60, &[&[0x11, 0, 0, 0, 9]], &[&fields]);
    let v3 = connect_with(V311, 0b1100_0010, 60, &[], &[&fields]);
    for (version, bytes, clean_start, session_expiry_s) in [(V5, v5, false, 9), (V311, v3, true, 0)]
    {
        let expected = ConnectRequest {
            client_id: "a/b c".into(),
            client_id_assigned: false,
            version,
            username: Some("me".into()),
            password: Some(Bytes::from_static(b"\0secret")),
            clean_start,
            keep_alive_s: 60,
            session_expiry_s,
            will: None,
        };
        let got = request(version, &bytes);
        assert_eq!(got, expected);
        assert!(!format!("{got:?}").contains("secret"), "secrets stay out of logs");
    }
}

#[test]
fn a_client_without_identifier_gets_one() {
    let v3 = request(V311, &connect_with(V311, 0b10, 0, &[], &[&string("")]));
    let v5 = request(V5, &connect_with(V5, 0, 0, &[], &[&string("")]));
    let expected = format!("auto-{ENTROPY:032x}");
    for request in [v3, v5] {
        assert_eq!((&*request.client_id, request.client_id_assigned), (expected.as_str(), true));
    }
}

/// The CONNACK, byte for byte: session present 0, receive maximum 1,024, maximum packet size 1 MiB, topic alias maximum
/// 16, no shared subscriptions; the identifier where one was made. What is not named is available.
#[test]
fn connacks_of_success_are_golden() {
    let limits = b"\x21\x04\x00\x27\x00\x10\x00\x00";
    let alias = b"\x22\x00\x10\x2a\x00";
    let assigned = [vec![0x12], string(format!("auto-{ENTROPY:032x}"))].concat();
    let expiry: &[u8] = &[0x11, 0, 0, 0, 9];
    let connack5 = |parts: &[&[u8]]| packet(0x20, &[&[0, 0], &properties(parts)]);
    let table = [
        (V311, connect(V311), vec![0x20, 2, 0, 0]),
        (V311, connect_with(V311, 0, 0, &[], &[&string("x")]), vec![0x20, 2, 0, 0]),
        (V5, connect(V5), connack5(&[limits, alias])),
        (V5, connect_with(V5, 0, 0, &[expiry], &[&string("x")]), connack5(&[limits, alias])),
        (V5, connect_with(V5, 0b10, 0, &[], &[&string("")]), connack5(&[limits, &assigned, alias])),
    ];
    for (version, bytes, expected) in table {
        let outputs = Rig::new(version).feed_raw(&bytes);
        assert_eq!(outputs[1..], [Output::Send(expected.into())], "{bytes:x?}");
    }
}

/// A CONNECT, the code of the CONNACK that answers it if there is one, and a part of the reason.
type Row<'a> = (MqttVersion, Vec<u8>, Option<&'a str>, &'a str);

fn check_refused(table: Vec<Row<'_>>) {
    for (version, bytes, connack, reason) in table {
        let outputs = Rig::new(version).feed(&bytes);
        let (last, before) = outputs.split_last().unwrap();
        let answer = connack.map(|code| format!("send CONNACK {code}"));
        assert_eq!(before, answer.as_slice(), "{reason}: {outputs:?}");
        assert!(last.starts_with("close ") && last.contains(reason), "{reason}: {outputs:?}");
    }
}

#[test]
fn foreign_and_unsupported_protocols() {
    let id = string("x");
    let mqisdp = packet(0x10, &[b"\0\x06MQIsdp\x03\x02\0\0", &id]);
    let level = |level: u8| packet(0x10, &[b"\0\x04MQTT", &[level, 2, 0, 0], &id]);
    check_refused(vec![
        (V311, mqisdp, Some("0x01"), "level 3"),
        (V311, level(3), Some("0x01"), "level 3"),
        (V311, level(0), Some("0x01"), "level 0"),
        (V311, level(0x84), Some("0x01"), "level 132"),
        (V5, level(6), Some("0x84"), "level 6"),
        (V5, level(0xff), Some("0x84"), "level 255"),
        (V311, packet(0x10, &[b"\0\x04mqtt\x04\x02\0\0", &id]), None, "protocol name"),
        (V311, packet(0x10, &[b"\0\x04MQ"]), None, "protocol name"),
        (V311, packet(0x10, &[]), None, "protocol name"),
        (V311, b"GET / HTTP/1.1\r\n\r\n".to_vec(), None, "not a CONNECT"),
        (V311, packet(0xc0, &[]), None, "not a CONNECT"),
        (V311, packet(0x11, &[b"\0\x04MQTT\x04\x02\0\0", &id]), None, "not a CONNECT"),
        (V311, vec![0x10, 0xff, 0xff, 0xff, 0xff], None, "four bytes"),
    ]);
}

#[test]
fn what_this_server_does_not_offer() {
    let id = string("x");
    let will3 = [string("x"), string("$SYS"), string("bye")].concat();
    let will5 = [string("x"), vec![0], string("culvert/v1/x/batch"), string("bye")].concat();
    let long = string("x".repeat(CLIENT_ID_LEN_MAX + 1));
    let method: &[u8] = &[&[0x15], string("SCRAM").as_slice()].concat();
    check_refused(vec![
        (V311, connect_with(V311, 0b0000_0110, 0, &[], &[&will3]), Some("0x05"), "a will"),
        (V5, connect_with(V5, 0b0010_1110, 0, &[], &[&will5]), Some("0x90"), "a will"),
        (V311, connect_with(V311, 0, 0, &[], &[&string("")]), Some("0x02"), "identifier"),
        (V311, connect_with(V311, 2, 0, &[], &[&long]), Some("0x02"), "identifier"),
        (V5, connect_with(V5, 2, 0, &[], &[&long]), Some("0x85"), "identifier"),
        (V5, connect_with(V5, 2, 0, &[method], &[&id]), Some("0x8c"), "enhanced"),
    ]);
}

#[test]
fn connects_that_break_the_rules() {
    let [id, nul] = [string("x"), string("a\0")];
    let will3 = [string("x"), string("t"), string("bye")].concat();
    let will5 = [string("x"), vec![0], string("t"), string("bye")].concat();
    // (version, flags, payload, code of the CONNACK if there is one, part of the reason)
    type Flags<'a> = (MqttVersion, u8, &'a [&'a [u8]], Option<&'a str>, &'a str);
    let table: [Flags<'_>; 14] = [
        (V311, 0b0000_0010, &[&nul], None, "U+0000"),
        (V5, 0b0000_0010, &[&nul], Some("0x81"), "U+0000"),
        (V5, 0b1000_0010, &[&id, &nul], Some("0x81"), "U+0000"),
        (V311, 0b0000_0010, &[b"\0\x01\xff"], None, "UTF-8"),
        (V5, 0b0000_0010, &[b"\0\x03\xed\xa0\x80"], Some("0x81"), "UTF-8"),
        (V311, 0b0000_0011, &[&id], None, "reserved flag"),
        (V5, 0b0000_0011, &[&id], Some("0x81"), "reserved flag"),
        (V311, 0b0010_0010, &[&id], None, "without a will"),
        (V5, 0b0000_1010, &[&id], Some("0x81"), "without a will"),
        (V311, 0b0001_1110, &[&will3], None, "above 2"),
        (V5, 0b0001_1110, &[&will5], Some("0x81"), "above 2"),
        (V311, 0b0100_0010, &[&id, &id], None, "without a user"),
        (V311, 0b0000_0010, &[&id, b"!"], None, "after the last"),
        (V5, 0b0000_0010, &[&id, b"!"], Some("0x81"), "after the last"),
    ];
    let row = |(version, flags, payload, code, reason): Flags<'_>| {
        check_refused(vec![(version, connect_with(version, flags, 0, &[], payload), code, reason)]);
    };
    table.into_iter().for_each(row);

    let long_way = [b"\x10\x8e\0\0\x04MQTT\x05\x02\0\0\0".as_slice(), &id].concat();
    let long_properties = packet(0x10, &[b"\0\x04MQTT\x05\x02\0\0\x80\0", &id]);
    check_refused(vec![
        (V311, connect_with(V311, 0b1000_0010, 0, &[], &[&id]), None, "cut short"),
        (V5, packet(0x10, &[b"\0\x04MQTT\x05"]), Some("0x81"), "without flags"),
        (V5, long_properties, Some("0x81"), "needs"),
        (V5, long_way, Some("0x81"), "needs"),
    ]);
}

#[test]
fn properties_of_connects() {
    let data: &[u8] = &[&[0x16], string("x").as_slice()].concat();
    let nul: &[u8] = &user("a", "\0");
    let table: [(&[u8], &str, &str); 8] = [
        (data, "0x82", "without a method"),
        (&[0x21, 0, 0], "0x82", "Receive Maximum 0"),
        (&[0x27, 0, 0, 0, 0], "0x82", "Packet Size 0"),
        (&[0x17, 2], "0x82", "neither 0 nor 1"),
        (&[0x21, 0, 1, 0x21, 0, 1], "0x82", "twice"),
        (&[0x23, 0, 1], "0x81", "does not have"),
        (&[0x7f], "0x81", "does not have"),
        (nul, "0x81", "U+0000"),
    ];
    let row = |(props, code, reason)| {
        (V5, connect_with(V5, 2, 0, &[props], &[&string("x")]), Some(code), reason)
    };
    check_refused(table.map(row).into());
}

#[test]
fn an_mqtt_5_password_needs_no_user_name() {
    let bytes = connect_with(V5, 0b0100_0010, 0, &[], &[&string("x"), &string("token")]);
    assert_eq!(request(V5, &bytes).password, Some(Bytes::from_static(b"token")));
}

#[test]
fn refusals_have_their_codes_in_both_versions() {
    let table = [
        (ConnectRefusal::BadCredentials, "0x04", "0x86", true),
        (ConnectRefusal::ClientIdInvalid, "0x02", "0x85", true),
        (ConnectRefusal::NotAuthorized, "0x05", "0x87", true),
        (ConnectRefusal::QuotaExceeded, "0x03", "0x97", false),
        (ConnectRefusal::ServerBusy, "0x03", "0x89", false),
        (ConnectRefusal::ServerUnavailable, "0x03", "0x88", false),
    ];
    for (refusal, v3, v5, peer_fault) in table {
        for (version, code) in [(V311, v3), (V5, v5)] {
            let mut rig = Rig::new(version);
            rig.buf.extend_from_slice(&connect(version));
            rig.connection.handle_input(rig.now, &mut rig.buf);
            assert!(matches!(rig.connection.poll_output(), Some(Output::Connect(_))));
            rig.connection.refuse_connect(refusal);
            rig.connection.refuse_connect(refusal);
            let words =
                [format!("send CONNACK {code}"), format!("close connect refused: {refusal}")];
            assert_eq!(rig.feed(b"more"), words);
            assert!(rig.buf.is_empty());
        }
        assert_eq!(CloseReason::ConnectRefused(refusal).is_peer_fault(), peer_fault);
    }
}

#[test]
fn nothing_is_read_before_the_decision() {
    let mut rig = Rig::new(V5);
    rig.buf.extend_from_slice(&connect(V5));
    rig.buf.extend_from_slice(&[0xc0, 0]);
    for _ in 0..2 {
        rig.connection.handle_input(rig.now, &mut rig.buf);
    }
    assert!(!rig.connection.wants_input());
    assert!(matches!(rig.connection.poll_output(), Some(Output::Connect(_))));
    assert_eq!(rig.connection.poll_output(), None);
    rig.connection.accept_connect(rig.now, SessionGrant::default());
    assert_eq!(rig.feed(&[]), ["send CONNACK 0x00", "send PINGRESP"]);
    rig.connection.accept_connect(rig.now, SessionGrant::default());
    assert_eq!(rig.feed(&[]), [""; 0], "there is nothing to accept any more");
}

#[test]
fn a_client_that_cannot_take_a_connack_is_closed() {
    let tiny = connect_with(V5, 2, 0, &[&[0x27, 0, 0, 0, 17]], &[&string("x")]);
    let outputs = Rig::new(V5).feed(&tiny);
    assert_eq!(
        outputs[1..],
        ["close protocol error: Maximum Packet Size has no room for a CONNACK"]
    );
    let enough = connect_with(V5, 2, 0, &[&[0x27, 0, 0, 0, 18]], &[&string("x")]);
    Rig::open_with(V5, MqttLimits::default(), &enough);
}
