use std::vec;

use proptest::prelude::*;

use super::*;

const SENSORS: [Sensor<'static>; 2] = [
    Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
    Sensor { name: "vib", unit: "m/s2", kind: ValueKind::Float },
];

fn header() -> BatchHeader {
    BatchHeader {
        queue: QueueId(0x0123_4567_89ab_cdef),
        first: DeviceSeq(7),
        lost_before: 2,
        clock: ClockQuality::Synced,
        base_time_ms: 1_700_000_000_000,
    }
}

fn reading(sensor: u8, time_ms: i64, value: i64) -> Reading {
    let value = if sensor == 0 { Value::Scaled(value) } else { Value::Float(value as f32) };
    Reading { sensor, time_ms, value, quality: Quality::Good }
}

/// The layout is a contract with devices in the field: other bytes need another schema key.
#[test]
fn a_batch_has_its_golden_bytes() {
    let mut buf = [0; 128];
    let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
    encoder.push(&reading(0, 1_700_000_000_010, 2150)).unwrap();
    encoder.push(&reading(0, 1_700_000_001_010, 2151)).unwrap();
    encoder.push(&reading(1, 1_700_000_001_010, -3)).unwrap();
    let payload = encoder.finish();
    assert_eq!(payload, include_bytes!("../../tests/golden/device-batch-1.bin"));
    let mut reader = BatchReader::new(payload).unwrap();
    assert_eq!(*reader.header(), header());
    assert_eq!(reader.sensor(1), Some(&SENSORS[1]));
    assert_eq!(reader.sensor(2), None);
    assert_eq!(reader.next(), Some(Ok(reading(0, 1_700_000_000_010, 2150))));
    assert_eq!(reader.by_ref().count(), 2);
}

#[test]
fn thirty_two_scaled_readings_take_about_a_hundred_bytes() {
    let mut buf = [0; 256];
    let empty = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap().finish().len();
    let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
    for i in 0..32 {
        encoder.push(&reading(0, 1_700_000_000_000 + i * 60, 2150 + i % 3)).unwrap();
    }
    let readings = encoder.finish().len() - empty;
    assert!(readings <= 32 * 3 + 4, "{readings} bytes for 32 readings");
}

#[test]
fn a_full_buffer_keeps_what_was_written() {
    let mut buf = [0; 96];
    let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
    let mut taken = 0;
    while encoder.push(&reading(1, taken, taken)).is_ok() {
        taken += 1;
    }
    assert!(taken > 0);
    assert_eq!(encoder.count(), usize::try_from(taken).unwrap());
    let reader = BatchReader::new(encoder.finish()).unwrap();
    assert!(reader.clone().all(|r| r.is_ok()));
    assert_eq!(reader.count(), usize::try_from(taken).unwrap());
}

#[test]
fn misuse_is_refused() {
    let mut buf = [0; 96];
    let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
    assert_eq!(encoder.push(&reading(2, 0, 0)), Err(BatchError::Sensor));
    assert_eq!(encoder.push(&reading(255, 0, 0)), Err(BatchError::Sensor));
    let wrong = Reading { value: Value::Float(1.0), ..reading(0, 0, 0) };
    assert_eq!(encoder.push(&wrong), Err(BatchError::Sensor));
    assert_eq!(encoder.count(), 0);
    assert_eq!(
        BatchEncoder::new(&mut [0; 999], &header(), &[SENSORS[0]; 17]).err(),
        Some(BatchError::Limit)
    );
    for (name, unit, fits) in [(64, 32, true), (65, 32, false), (64, 33, false)] {
        let text = "x".repeat(65);
        let table = [Sensor { name: &text[..name], unit: &text[..unit], ..SENSORS[0] }];
        let mut buf = [0; 256];
        let encoder = BatchEncoder::new(&mut buf, &header(), &table);
        assert_eq!(encoder.is_ok(), fits, "{name} and {unit}");
        // What no encoder of ours writes.
        let fields = (BATCH_SCHEMA, header(), table.as_slice());
        let payload = postcard::to_slice(&fields, &mut buf).unwrap();
        let expected = if fits { None } else { Some(BatchError::Limit) };
        assert_eq!(BatchReader::new(payload).err(), expected, "{name} and {unit}");
    }
    assert_eq!(BatchReader::new(b"").err(), Some(BatchError::Length));
    assert_eq!(BatchReader::new(&[1; 40]).err(), Some(BatchError::Schema));
}

#[test]
fn losses_are_written_anew_and_nothing_else_changes() {
    let golden = include_bytes!("../../tests/golden/device-batch-1.bin");
    let mut out = [0; 128];
    let len = with_lost_before(golden, header().lost_before, &mut out).unwrap();
    assert_eq!(out[..len], golden[..]);
    for lost_before in [0, 1, u64::MAX] {
        let len = with_lost_before(golden, lost_before, &mut out).unwrap();
        assert!(len <= golden.len() + LOST_BEFORE_GROWTH_MAX);
        let reader = BatchReader::new(&out[..len]).unwrap();
        assert_eq!(*reader.header(), BatchHeader { lost_before, ..header() });
        assert!(reader.eq(BatchReader::new(golden).unwrap()));
        for short in 0..len {
            let written = with_lost_before(golden, lost_before, &mut vec![0; short]);
            assert_eq!(written, Err(BatchError::Length), "{short} of {len} bytes");
        }
    }
    assert_eq!(with_lost_before(&[1; 40], 0, &mut out), Err(BatchError::Schema));
    assert_eq!(with_lost_before(&golden[..12], 0, &mut out), Err(BatchError::Length));
}

#[test]
fn the_longest_reading_has_its_length() {
    let mut buf = [0; 256];
    let empty = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap().finish().len();
    let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
    let far = header().base_time_ms.wrapping_add(i64::MIN);
    encoder.push(&reading(0, far, i64::MIN)).unwrap();
    assert_eq!(encoder.finish().len() - empty, READING_BYTES_MAX);
}

proptest! {
    #[test]
    fn any_readings_round_trip(
        readings in prop::collection::vec((0..2_u8, any::<i64>(), any::<i32>()), 0..50),
    ) {
        let mut buf = [0; 2048];
        let mut encoder = BatchEncoder::new(&mut buf, &header(), &SENSORS).unwrap();
        for (sensor, time, value) in &readings {
            encoder.push(&reading(*sensor, *time, i64::from(*value))).unwrap();
        }
        let mut reader = BatchReader::new(encoder.finish()).unwrap();
        for (sensor, time, value) in &readings {
            prop_assert_eq!(reader.next(), Some(Ok(reading(*sensor, *time, i64::from(*value)))));
        }
        prop_assert_eq!(reader.next(), None);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        keyed: bool,
    ) {
        if keyed && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&BATCH_SCHEMA.0);
        }
        if let Ok(reader) = BatchReader::new(&bytes) {
            prop_assert!(reader.count() <= bytes.len());
        }
    }
}
