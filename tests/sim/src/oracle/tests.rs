use gateway_core::ledger::Ledger;
use wire::time::MonoMs;

use super::*;

fn reading(seq: u64) -> Reading {
    Reading { device: Bytes::from_static(b"dev0"), queue: 1, seq }
}

fn entry(offset: u64, seq: u64, maybe_dup: bool) -> Entry {
    let (partition, pid) = (0, ProducerId::of_lane(&gateway(), SpoolId([1; 16]), Lane::Live));
    Entry { partition, offset, pid, reading: reading(seq), maybe_dup }
}

fn publish(first: u64, count: u64) -> Publish {
    Publish { queue: 1, first, count, lost_before: 0, maybe_dup: false, batch: None }
}

fn gateway() -> GatewayId {
    GatewayId::new("gw0").unwrap()
}

#[test]
fn copies_and_disorder_in_the_log_are_found() {
    for (readings, fits) in [
        (&[(1, false), (2, false)][..], true),
        (&[(1, false), (3, false)], true),
        (&[(1, false), (1, false)], false),
        (&[(2, false), (1, false)], false),
        (&[(2, false), (1, true)], false),
    ] {
        let log = (0..).zip(readings).map(|(at, (seq, dup))| entry(at, *seq, *dup)).collect();
        let looked = Oracle::default().look(log, &[]);
        assert_eq!(looked.is_ok(), fits, "{readings:?}: {looked:?}");
    }
    let mut other = entry(1, 1, true);
    other.pid = ProducerId::UPLINK_MIN;
    assert_eq!(
        Oracle::default().look(vec![entry(0, 1, false), other], &[]),
        Ok(()),
        "a marked copy"
    );
}

#[test]
fn what_a_reader_saw_must_stay() {
    let mut oracle = Oracle::default();
    oracle.look(vec![entry(0, 1, false)], &[]).unwrap();
    oracle.look(vec![entry(0, 1, false), entry(1, 2, false)], &[]).unwrap();
    assert!(oracle.look(vec![entry(0, 1, false)], &[]).is_err());
    assert!(oracle.look(vec![entry(0, 1, false), entry(1, 3, false)], &[]).is_err());
}

#[test]
fn what_retention_dropped_from_the_front_was_there() {
    let mut oracle = Oracle::default();
    oracle.look(vec![entry(0, 1, false), entry(1, 2, false)], &[0]).unwrap();
    oracle.look(vec![entry(1, 2, false)], &[1]).unwrap();
    assert!(oracle.look(vec![], &[1]).is_err(), "more is gone than was dropped");
    oracle.acknowledged(&reading(1).device, &publish(1, 2));
    assert_eq!(oracle.last_look(), Ok(()));
    assert!(oracle.look(vec![entry(1, 2, false), entry(2, 1, false)], &[1]).is_err(), "a copy");
}

#[test]
fn an_acknowledged_reading_must_be_somewhere() {
    let mut oracle = Oracle::default();
    oracle.look(vec![entry(0, 1, false)], &[]).unwrap();
    oracle.acknowledged(&reading(1).device, &publish(1, 2));
    assert!(oracle.last_look().is_err());
    oracle.spooled(vec![reading(2)]);
    assert_eq!(oracle.last_look(), Ok(()));
    oracle.acknowledged(&reading(1).device, &publish(3, 1));
    oracle.lost_with_a_disk(vec![reading(3)]);
    assert_eq!(oracle.last_look(), Ok(()));
}

#[test]
fn a_ledger_must_say_what_the_log_says() {
    let mut oracle = Oracle::default();
    oracle.look(vec![entry(0, 1, false)], &[]).unwrap();
    let status = |received, delivered, spooled| Status {
        ledger: Ledger { received, delivered, ..Ledger::default() },
        spooled,
        window: 0,
        unanswered: 0,
        connected: true,
        progress: MonoMs(0),
        alarm: None,
    };
    let spool = SpoolId([1; 16]);
    assert_eq!(oracle.ledger(&gateway(), spool, &status(2, 1, 1)), Ok(()));
    assert!(oracle.ledger(&gateway(), spool, &status(3, 1, 1)).is_err(), "does not balance");
    assert!(oracle.ledger(&gateway(), spool, &status(2, 2, 0)).is_err(), "not in the log");
    oracle.suspect(spool);
    assert_eq!(oracle.ledger(&gateway(), spool, &status(2, 2, 0)), Ok(()));
}
