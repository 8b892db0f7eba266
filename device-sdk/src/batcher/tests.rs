use wire::batch::BatchReader;
use wire::reading::{Quality, Value, ValueKind};

use super::*;

const SENSORS: [Sensor<'static>; 2] = [
    Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
    Sensor { name: "vib", unit: "", kind: ValueKind::Float },
];
const QUEUE: QueueId = QueueId(0xfeed);

fn reading(value: i64) -> Reading {
    Reading { sensor: 0, time_ms: value, value: Value::Scaled(value), quality: Quality::Good }
}

fn limits(readings: u16, age_ms: u64) -> BatchLimits {
    BatchLimits { readings, age_ms }
}

/// First number, count, clock and values of the closed batch.
fn closed(batcher: &Batcher<'_>) -> Option<(u64, u16, ClockQuality, std::vec::Vec<i64>)> {
    let batch = batcher.closed()?;
    let reader = BatchReader::new(batch.bytes).unwrap();
    let header = *reader.header();
    assert_eq!((header.queue, header.first, header.lost_before), (QUEUE, batch.first, 0));
    let values = reader.map(|reading| match reading.unwrap().value {
        Value::Scaled(value) => value,
        Value::Float(value) => value as i64,
    });
    Some((batch.first.0, batch.count, header.clock, values.collect()))
}

#[test]
fn a_batch_is_closed_by_count() {
    let mut buf = [0; 200];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(2, 1_000)).unwrap();
    assert_eq!(batcher.add(MonoMs(0), &reading(5)), Ok(DeviceSeq(1)));
    assert_eq!((closed(&batcher), batcher.pending()), (None, 1));
    assert_eq!(batcher.add(MonoMs(0), &reading(6)), Ok(DeviceSeq(2)));
    assert_eq!(closed(&batcher), Some((1, 2, ClockQuality::Uptime, [5, 6].into())));
    assert_eq!(batcher.add(MonoMs(0), &reading(7)), Err(AddError::Closed));
    assert_eq!((batcher.pending(), batcher.due()), (2, None));
    batcher.taken();
    assert_eq!((closed(&batcher), batcher.pending()), (None, 0));
    assert_eq!(batcher.add(MonoMs(0), &reading(7)), Ok(DeviceSeq(3)));
}

#[test]
fn a_batch_is_closed_by_age_counted_from_its_first_reading() {
    let mut buf = [0; 200];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(99, 50)).unwrap();
    batcher.close_if_due(MonoMs(1_000_000));
    assert_eq!((batcher.due(), closed(&batcher)), (None, None));
    batcher.add(MonoMs(100), &reading(1)).unwrap();
    batcher.add(MonoMs(140), &reading(2)).unwrap();
    assert_eq!(batcher.due(), Some(MonoMs(150)));
    batcher.close_if_due(MonoMs(149));
    assert_eq!(closed(&batcher), None);
    batcher.close_if_due(MonoMs(150));
    assert_eq!(closed(&batcher), Some((1, 2, ClockQuality::Uptime, [1, 2].into())));
}

#[test]
fn a_batch_is_closed_by_size_and_the_reading_tried_again() {
    let mut buf = [0; 90];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(4_096, 1_000)).unwrap();
    let mut taken = 0;
    while batcher.add(MonoMs(0), &reading(i64::MAX / 2 * (taken % 2))) != Err(AddError::Closed) {
        taken += 1;
    }
    let (first, count, _, _) = closed(&batcher).unwrap();
    assert!(taken >= 1 && (first, i64::from(count)) == (1, taken));
    batcher.taken();
    let next = DeviceSeq(u64::try_from(taken).unwrap() + 1);
    assert_eq!(batcher.add(MonoMs(0), &reading(0)), Ok(next), "a number is given once");
}

#[test]
fn a_change_of_the_clock_closes_the_batch() {
    let mut buf = [0; 200];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(9, 1_000)).unwrap();
    batcher.add(MonoMs(0), &reading(1)).unwrap();
    batcher.set_clock(ClockQuality::Uptime);
    assert_eq!(closed(&batcher), None);
    batcher.set_clock(ClockQuality::Synced);
    assert_eq!(closed(&batcher), Some((1, 1, ClockQuality::Uptime, [1].into())));
    batcher.taken();
    batcher.add(MonoMs(0), &reading(2)).unwrap();
    batcher.close();
    assert_eq!(closed(&batcher), Some((2, 1, ClockQuality::Synced, [2].into())));
}

#[test]
fn a_reading_of_no_sensor_leaves_no_trace() {
    let mut buf = [0; 200];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(9, 1_000)).unwrap();
    for wrong in [
        Reading { sensor: 2, ..reading(0) },
        Reading { sensor: 255, ..reading(0) },
        Reading { sensor: 1, ..reading(0) },
        Reading { value: Value::Float(0.0), ..reading(0) },
    ] {
        assert_eq!(batcher.add(MonoMs(0), &wrong), Err(AddError::Sensor));
        batcher.close();
        assert_eq!((closed(&batcher), batcher.due()), (None, None));
    }
    assert_eq!(batcher.add(MonoMs(0), &reading(3)), Ok(DeviceSeq(1)));
    let wrong = Reading { sensor: 2, ..reading(0) };
    assert_eq!(batcher.add(MonoMs(0), &wrong), Err(AddError::Sensor));
    batcher.close();
    assert_eq!(closed(&batcher), Some((1, 1, ClockQuality::Uptime, [3].into())));
}

#[test]
fn a_skipped_number_is_a_gap() {
    let mut buf = [0; 200];
    let mut batcher = Batcher::new(QUEUE, &SENSORS, &mut buf, limits(1, 1_000)).unwrap();
    batcher = batcher.resumed_after(DeviceSeq(9));
    batcher.add(MonoMs(0), &reading(1)).unwrap();
    batcher.skip();
    batcher.skip();
    assert_eq!(batcher.closed().map(|batch| batch.last()), Some(DeviceSeq(10)));
    batcher.taken();
    assert_eq!(batcher.add(MonoMs(0), &reading(2)), Ok(DeviceSeq(13)));
}

#[test]
fn a_setup_that_could_hold_no_reading_is_refused() {
    let try_new = |sensors: &[Sensor<'_>], len: usize, readings| {
        let mut buf = std::vec![0; len];
        Batcher::new(QUEUE, sensors, &mut buf, limits(readings, 0)).map(|_| ())
    };
    let long = [Sensor { unit: &"x".repeat(33), ..SENSORS[0] }];
    assert_eq!(try_new(&[SENSORS[0]; 17], 2_000, 1), Err(SetupError::Sensors));
    assert_eq!(try_new(&long, 2_000, 1), Err(SetupError::Sensors));
    assert_eq!(try_new(&SENSORS, 2_000, 0), Err(SetupError::Readings));
    assert_eq!(try_new(&SENSORS, 2_000, 4_096), Ok(()));
    assert_eq!(try_new(&SENSORS, 2_000, 4_097), Err(SetupError::Readings));
    assert_eq!(try_new(&SENSORS, QUEUED_BYTES_MAX, 1), Ok(()));
    assert_eq!(try_new(&SENSORS, QUEUED_BYTES_MAX + 1, 1), Err(SetupError::Buffer));
    let shortest = (0..200).find(|len| try_new(&SENSORS, *len, 1).is_ok()).unwrap();
    let mut buf = std::vec![0; shortest];
    let mut batcher = Batcher::new(QueueId(u64::MAX), &SENSORS, &mut buf, limits(9, 0)).unwrap();
    batcher = batcher.resumed_after(DeviceSeq(u64::MAX - 2));
    batcher.set_clock(ClockQuality::Synced);
    let longest = Reading { time_ms: i64::MIN, ..reading(i64::MIN) };
    assert_eq!(batcher.add(MonoMs(0), &longest), Ok(DeviceSeq(u64::MAX - 1)));
}
