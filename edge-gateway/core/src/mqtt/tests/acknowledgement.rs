//! Promise 1 at the boundary: no PUBACK before the commit, and then in order.

use wire::seq::DeviceSeq;

use super::rig::{Rig, V5, V311, connect_with, publish_with, publish0, publish1, string, user};
use crate::device_batch::BatchFault;
use crate::mqtt::{CloseReason, MqttLimits, Output, RejectReason};

#[test]
fn acknowledgements_come_after_the_commit_and_in_order() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        let burst = [
            publish1(version, 30, "t", b"a"),
            publish0(version, "t", b"b"),
            publish1(version, 10, "t", b"c"),
            publish1(version, 20, "t", b"d"),
        ];
        let handed_out = rig.feed(&burst.concat());
        assert_eq!(
            handed_out,
            ["publish 30 t a", "publish 0 t b", "publish 10 t c", "publish 20 t d"]
        );
        assert_eq!(rig.feed(&[0xc0, 0]), ["send PINGRESP"], "no acknowledgement before its commit");
        assert_eq!(rig.commit(0), [""; 0]);
        assert_eq!(rig.commit(2), ["send PUBACK 30 0x00"]);
        assert_eq!(rig.commit(2), ["send PUBACK 10 0x00", "send PUBACK 20 0x00"]);
    }
}

#[test]
fn the_acknowledgement_is_four_bytes_in_both_versions() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        rig.feed(&[publish1(version, 1, "t", b""), publish1(version, 0x1234, "t", b"")].concat());
        rig.connection.committed(rig.now, 2);
        let expected = &b"\x40\x02\x00\x01\x40\x02\x12\x34"[..];
        assert_eq!(rig.connection.poll_output(), Some(Output::Send(expected.into())));
    }
}

#[test]
fn a_refusal_waits_for_its_turn() {
    let mut rig = Rig::open(V5);
    let burst = [
        publish1(V5, 1, "t", b""),
        publish1(V5, 2, "$SYS", b""),
        publish0(V5, "t", b""),
        publish1(V5, 3, "$SYS", b""),
        publish1(V5, 4, "t", b""),
    ];
    let sent: Vec<_> =
        rig.feed(&burst.concat()).into_iter().filter(|word| word.starts_with("send")).collect();
    assert_eq!(sent, [""; 0]);
    assert_eq!(rig.commit(1), ["send PUBACK 1 0x00", "send PUBACK 2 0x90"]);
    assert_eq!(rig.commit(1), ["send PUBACK 3 0x90"]);
    assert_eq!(rig.commit(1), ["send PUBACK 4 0x00"]);
}

#[test]
fn what_the_store_refuses_is_refused_and_closes() {
    let sequence = RejectReason::DeviceSequence { expected: DeviceSeq(5), first: DeviceSeq(9) };
    for (reason, code, peer_fault) in [
        (RejectReason::Batch(BatchFault::Empty), "0x99", true),
        (RejectReason::Full, "0x97", false),
        (RejectReason::NotAuthorized, "0x87", true),
        (sequence, "0x83", true),
    ] {
        let mut rig = Rig::open(V5);
        rig.feed(
            &[publish1(V5, 1, "t", b""), publish1(V5, 2, "t", b""), publish1(V5, 3, "t", b"")]
                .concat(),
        );
        rig.connection.committed(rig.now, 1);
        rig.connection.rejected(reason);
        let words = [
            "send PUBACK 1 0x00".to_owned(),
            format!("send PUBACK 2 {code}"),
            format!("send DISCONNECT {code}"),
            format!("close publish refused: {reason}"),
        ];
        assert_eq!(rig.feed(&[]), words);
        assert_eq!(rig.commit(1), [""; 0], "nothing after the close");
        assert_eq!(CloseReason::Rejected(reason).is_peer_fault(), peer_fault);

        let mut rig = Rig::open(V311);
        rig.feed(&[publish1(V311, 1, "t", b""), publish1(V311, 2, "t", b"")].concat());
        rig.connection.committed(rig.now, 1);
        rig.connection.rejected(reason);
        assert_eq!(rig.feed(&[]), ["send PUBACK 1 0x00", &words[3]]);

        let mut rig = Rig::open(V5);
        rig.feed(&publish0(V5, "t", b""));
        rig.connection.rejected(reason);
        assert_eq!(rig.feed(&[]), words[2..]);
    }
}

#[test]
fn a_rejection_while_a_bad_numbering_waits() {
    let mut rig = Rig::open(V5);
    rig.feed(&[publish1(V5, 1, "t", b""), publish_with(2, &[&user("cv-seq", "1")])].concat());
    rig.connection.rejected(RejectReason::Full);
    let words = rig.feed(&[]);
    assert_eq!(words[..2], ["send PUBACK 1 0x97", "send DISCONNECT 0x97"]);
    assert_eq!(words.len(), 3);
}

#[test]
fn answers_without_a_question_do_nothing() {
    let mut rig = Rig::open(V5);
    rig.connection.rejected(RejectReason::Full);
    assert_eq!(rig.commit(0), [""; 0]);
    assert_eq!(rig.feed(&[0xc0, 0]), ["send PINGRESP"]);
}

#[test]
fn publishes_before_a_goodbye_are_still_handed_out() {
    let mut rig = Rig::open(V311);
    let words = rig.feed(&[publish1(V311, 1, "t", b"x"), vec![0xe0, 0]].concat());
    assert_eq!(words[0], "publish 1 t x");
    assert!(words[1].starts_with("close "));
    assert_eq!(rig.commit(1), [""; 0]);
}

#[test]
fn takeover_and_shutdown() {
    for (version, taken_over, shutdown) in
        [(V311, None, None), (V5, Some("send DISCONNECT 0x8e"), Some("send DISCONNECT 0x8b"))]
    {
        let mut rig = Rig::open(version);
        rig.feed(&publish1(version, 1, "t", b""));
        rig.connection.taken_over();
        rig.connection.shutdown();
        assert_eq!(rig.feed(&publish1(version, 2, "t", b"")), [""; 0], "nothing more is read");
        let words = rig.commit(1);
        assert_eq!(words.len(), 2 + taken_over.iter().len(), "{words:?}");
        assert_eq!(words[0], "send PUBACK 1 0x00");
        assert!(taken_over.is_none_or(|word| words[1] == word));
        assert!(words[words.len() - 1].contains("taken over"), "{words:?}");

        let mut rig = Rig::open(version);
        rig.connection.shutdown();
        let words = rig.feed(&[]);
        assert!(shutdown.is_none_or(|word| words[0] == word));
        assert!(words[words.len() - 1].contains("shutting down"), "{words:?}");
    }
    assert!(!CloseReason::TakenOver.is_peer_fault() && !CloseReason::ShuttingDown.is_peer_fault());
}

#[test]
fn shutdown_before_the_connack_sends_no_disconnect() {
    for (version, code) in [(V311, "0x03"), (V5, "0x88")] {
        let mut rig = Rig::new(version);
        rig.connection.shutdown();
        assert_eq!(rig.feed(&[]), ["close the gateway is shutting down"]);

        let mut rig = Rig::new(version);
        rig.buf.extend_from_slice(&super::rig::connect(version));
        rig.connection.handle_input(rig.now, &mut rig.buf);
        assert!(matches!(rig.connection.poll_output(), Some(Output::Connect(_))));
        rig.connection.shutdown();
        let words = [format!("send CONNACK {code}"), "close the gateway is shutting down".into()];
        assert_eq!(rig.feed(&[]), words);
    }
}

/// The first packet sent after what is fed, byte for byte.
fn first_sent(connect: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut rig = Rig::open_with(V5, MqttLimits::default(), connect);
    let sent = rig.feed_raw(bytes).into_iter().find_map(|output| match output {
        Output::Send(bytes) => Some(bytes.to_vec()),
        _ => None,
    });
    sent.unwrap()
}

/// v5 3.1.2.11.7 and 3.1.2.11.4: a client that wants no explanations, or has no room for them, gets none.
#[test]
fn reason_strings_only_where_the_client_takes_them() {
    let connect = |props: &[u8]| connect_with(V5, 2, 0, &[props], &[&string("x")]);
    let bare = [0x40, 3, 0, 1, 0x90];
    let refused = publish1(V5, 1, "$x", b"");
    let explained = first_sent(&connect(&[]), &refused);
    assert_eq!(explained[2..5], bare[2..]);
    assert!(String::from_utf8_lossy(&explained).contains("begin with $"));
    assert_eq!(first_sent(&connect(&[0x17, 1]), &refused), explained);
    assert_eq!(first_sent(&connect(&[0x17, 0]), &refused), bare);
    let len = u8::try_from(explained.len()).unwrap();
    assert_eq!(first_sent(&connect(&[0x27, 0, 0, 0, len]), &refused), explained);
    assert_eq!(first_sent(&connect(&[0x27, 0, 0, 0, len - 1]), &refused), bare);

    // DISCONNECT may explain itself to everybody who has room.
    let wrong = publish1(V5, 0, "t", b"");
    let goodbye = first_sent(&connect(&[0x17, 0]), &wrong);
    assert!(String::from_utf8_lossy(&goodbye).contains("packet identifier 0"));
    assert_eq!(first_sent(&connect(&[0x27, 0, 0, 0, 20]), &wrong), [0xe0, 1, 0x82]);
}
