use proptest::prelude::*;
use wire::batch::{BATCH_READINGS_MAX, BATCH_SENSORS_MAX, BatchEncoder, BatchHeader};
use wire::reading::{Quality, Reading, Sensor, Value, ValueKind};

use super::*;

const RECEIVED: UnixMs = UnixMs(1_700_000_000_000);

const SENSORS: [Sensor<'static>; 2] = [
    Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
    Sensor { name: "vib \"x\"", unit: "m/s2", kind: ValueKind::Float },
];

fn header(clock: ClockQuality) -> BatchHeader {
    BatchHeader {
        queue: QueueId(7),
        first: DeviceSeq(41),
        lost_before: 3,
        clock,
        base_time_ms: RECEIVED.0,
    }
}

fn encode(header: &BatchHeader, sensors: &[Sensor<'_>], readings: &[Reading]) -> Vec<u8> {
    let mut buf = vec![0; 2_048 + 32 * readings.len()];
    let mut encoder = BatchEncoder::new(&mut buf, header, sensors).unwrap();
    for reading in readings {
        encoder.push(reading).unwrap();
    }
    encoder.finish().to_vec()
}

fn like() -> Row {
    Row {
        received: RECEIVED,
        device: Bytes::from_static(b"dev1"),
        topic: Bytes::from_static(b"culvert/v1/dev1/batch"),
        sequence: None,
        device_time: None,
        maybe_dup: true,
        properties: vec![(Bytes::from_static(b"site"), Bytes::from_static(b"north"))],
        payload: Bytes::from_static(b"not used"),
    }
}

fn open(payload: &[u8]) -> Vec<Row> {
    DeviceBatch::read(payload).unwrap().rows(&like()).unwrap()
}

fn reading(sensor: u8, time_ms: i64, value: Value) -> Reading {
    Reading { sensor, time_ms, value, quality: Quality::Good }
}

#[test]
fn every_field_of_a_row_is_as_the_batch_says() {
    let bad =
        Reading { quality: Quality::Bad, ..reading(1, RECEIVED.0 - 5, Value::Float(f32::NAN)) };
    let readings = [reading(0, RECEIVED.0 - 9, Value::Scaled(-2_150)), bad];
    let payload = encode(&header(ClockQuality::Synced), &SENSORS, &readings);
    let batch = DeviceBatch::read(&payload).unwrap();
    let numbered = Numbered { first: DeviceSeq(41), count: 2, lost_before: 3 };
    assert_eq!(batch.sequence(), (QueueId(7), numbered));
    let row = |seq, time, json: &'static str| Row {
        sequence: Some((QueueId(7), DeviceSeq(seq))),
        device_time: Some(DeviceTime::Measured(UnixMs(time))),
        payload: Bytes::from(json),
        ..like()
    };
    let expected = [
        row(
            41,
            RECEIVED.0 - 9,
            r#"{"sensor":"temp","time":1699999999991,"value":-21.50,"unit":"Cel","quality":"good"}"#,
        ),
        row(
            42,
            RECEIVED.0 - 5,
            r#"{"sensor":"vib \"x\"","time":1699999999995,"value":null,"unit":"m/s2","quality":"bad"}"#,
        ),
    ];
    assert_eq!(batch.rows(&like()).unwrap(), expected);
}

#[test]
fn a_device_is_believed_within_limits() {
    let (earliest, latest) = (MEASURED_MIN.0, RECEIVED.0 + MEASURED_AHEAD_MS_MAX);
    let measured = |ms| DeviceTime::Measured(UnixMs(ms));
    for (clock, time, expected) in [
        (ClockQuality::Synced, RECEIVED.0, measured(RECEIVED.0)),
        (ClockQuality::Synced, earliest, measured(earliest)),
        (ClockQuality::Synced, earliest - 1, DeviceTime::Implausible(earliest - 1)),
        (ClockQuality::Synced, latest, measured(latest)),
        (ClockQuality::Synced, latest + 1, DeviceTime::Implausible(latest + 1)),
        (ClockQuality::Synced, 0, DeviceTime::Implausible(0)),
        (ClockQuality::Synced, i64::MIN, DeviceTime::Implausible(i64::MIN)),
        (ClockQuality::Synced, i64::MAX, DeviceTime::Implausible(i64::MAX)),
        (ClockQuality::Uptime, RECEIVED.0, DeviceTime::Uptime(RECEIVED.0)),
        (ClockQuality::Uptime, 61_000, DeviceTime::Uptime(61_000)),
        (ClockQuality::Uptime, -1, DeviceTime::Uptime(-1)),
    ] {
        let payload = encode(&header(clock), &SENSORS, &[reading(0, time, Value::Scaled(0))]);
        let row = open(&payload).remove(0);
        assert_eq!(row.device_time, Some(expected), "{clock:?} {time}");
        let text = std::str::from_utf8(&row.payload).unwrap();
        let stamp = format!("\"time\":{},", row.timestamp().0);
        assert!(text.contains(&stamp), "{text} of {}", row.timestamp().0);
        let believed = matches!(expected, DeviceTime::Measured(_));
        assert_eq!(row.timestamp().0, if believed { time } else { RECEIVED.0 });
    }
}

/// A gateway without a clock of its own starts in 1970 or beyond all time: nothing overflows.
#[test]
fn any_time_of_receipt_will_do() {
    let readings = [reading(0, RECEIVED.0, Value::Scaled(0))];
    let payload = encode(&header(ClockQuality::Synced), &SENSORS, &readings);
    for (received, believed) in [(0, false), (i64::MIN, false), (i64::MAX, true)] {
        let like = Row { received: UnixMs(received), ..like() };
        let row = DeviceBatch::read(&payload).unwrap().rows(&like).unwrap().remove(0);
        let expected = if believed { RECEIVED.0 } else { received };
        assert_eq!(row.timestamp(), UnixMs(expected));
    }
}

#[test]
fn what_is_no_batch_is_refused() {
    let readings = [reading(0, RECEIVED.0, Value::Scaled(1)); 2];
    let good = header(ClockQuality::Synced);
    let with = |header: BatchHeader| encode(&header, &SENSORS, &readings);
    let table = [
        (encode(&good, &SENSORS, &[]), BatchFault::Empty),
        (with(BatchHeader { first: DeviceSeq(0), lost_before: 0, ..good }), BatchFault::Numbering),
        (with(BatchHeader { lost_before: 41, ..good }), BatchFault::Numbering),
        (with(BatchHeader { first: DeviceSeq(u64::MAX), ..good }), BatchFault::Numbering),
        (Vec::new(), BatchFault::Unreadable(BatchError::Length)),
        (b"21.5 degrees".to_vec(), BatchFault::Unreadable(BatchError::Schema)),
    ];
    for (payload, fault) in table {
        assert_eq!(DeviceBatch::read(&payload).err(), Some(fault));
    }
    assert!(DeviceBatch::read(&with(BatchHeader { lost_before: 40, ..good })).is_ok());
    let last = BatchHeader { first: DeviceSeq(u64::MAX - 1), ..good };
    assert_eq!(open(&with(last))[1].sequence, Some((QueueId(7), DeviceSeq(u64::MAX))));

    let whole = with(good);
    let name = whole.windows(4).position(|bytes| bytes == b"temp").unwrap();
    let mut spoiled = whole.clone();
    // Not UTF-8.
    spoiled[name] = 0xff;
    let fault = BatchFault::Unreadable(BatchError::Malformed);
    assert_eq!(DeviceBatch::read(&spoiled).err(), Some(fault));
    let mut third_sensor = whole;
    third_sensor.extend([2, 0, 0]);
    let fault = BatchFault::Unreadable(BatchError::Sensor);
    assert_eq!(DeviceBatch::read(&third_sensor).err(), Some(fault));
}

#[test]
fn the_largest_batch_is_opened_and_one_reading_more_is_refused() {
    let sensors = [SENSORS[0]; BATCH_SENSORS_MAX];
    let readings = vec![reading(15, RECEIVED.0, Value::Scaled(1)); BATCH_READINGS_MAX];
    let mut payload = encode(&header(ClockQuality::Synced), &sensors, &readings);
    assert_eq!(open(&payload).len(), BATCH_READINGS_MAX);
    payload.extend([15, 0, 0]);
    let fault = BatchFault::Unreadable(BatchError::Limit);
    assert_eq!(DeviceBatch::read(&payload).err(), Some(fault));
}

#[test]
fn memory_is_bounded_by_what_the_rows_take() {
    let readings = vec![reading(0, RECEIVED.0, Value::Scaled(1)); BATCH_READINGS_MAX];
    let payload = encode(&header(ClockQuality::Synced), &SENSORS, &readings);
    let batch = DeviceBatch::read(&payload).unwrap();
    let taken = |property: usize| {
        let properties = vec![(Bytes::new(), Bytes::from(vec![0; property]))];
        let rows = batch.rows(&Row { properties, ..like() })?;
        Ok(rows.iter().map(Row::bytes_max).sum::<usize>())
    };
    // 2,048 bytes for each of 4,096 readings.
    let fixed = taken(0).unwrap() / BATCH_READINGS_MAX;
    let most = taken(2_048 - fixed).unwrap();
    assert!(most > OPENED_BYTES_MAX - BATCH_READINGS_MAX && most <= OPENED_BYTES_MAX, "{most}");
    assert_eq!(taken(2_049 - fixed), Err(BatchFault::TooLarge));
    // The longest names, all to be escaped, fit.
    let name = "\0".repeat(wire::batch::SENSOR_NAME_BYTES_MAX);
    let unit = "\0".repeat(wire::batch::SENSOR_UNIT_BYTES_MAX);
    let sensors = [Sensor { name: &name, unit: &unit, ..SENSORS[0] }];
    let payload = encode(&header(ClockQuality::Synced), &sensors, &readings);
    assert_eq!(open(&payload).len(), BATCH_READINGS_MAX);
}

#[test]
fn topics_are_told_apart() {
    for (topic, device, is_batch, reserved) in [
        ("culvert/v1/dev1/batch", "dev1", true, true),
        ("culvert/v1/a/b/batch", "a/b", true, true),
        ("culvert/v1/batch/batch", "batch", true, true),
        ("culvert/v1/dev1/batch", "dev2", false, true),
        ("culvert/v1/dev1/batch", "", false, true),
        ("culvert/v1//batch", "", false, true),
        ("culvert/v1/batch", "", false, true),
        ("culvert/v1/dev1/batches", "dev1", false, true),
        ("culvert/v1/gateway", "gateway", false, true),
        ("culvert/", "dev1", false, true),
        ("culvert", "dev1", false, false),
        ("culverts/v1/dev1/batch", "dev1", false, false),
        ("/culvert/v1/dev1/batch", "dev1", false, false),
    ] {
        let (topic, device) = (topic.as_bytes(), device.as_bytes());
        assert_eq!(is_batch_topic(topic, device), is_batch, "{topic:?} of {device:?}");
        assert_eq!(is_reserved(topic), reserved, "{topic:?}");
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let value = prop_oneof![
        any::<i64>().prop_map(|value| (0, Value::Scaled(value))),
        any::<f32>().prop_map(|value| (1, Value::Float(value))),
    ];
    let quality = prop_oneof![Just(Quality::Good), Just(Quality::Uncertain), Just(Quality::Bad)];
    let time = prop_oneof![any::<i64>(), MEASURED_MIN.0..RECEIVED.0];
    (value, quality, time).prop_map(|((sensor, value), quality, time_ms)| Reading {
        sensor,
        time_ms,
        value,
        quality,
    })
}

proptest! {
    #[test]
    fn what_a_device_encodes_is_what_is_opened(
        readings in prop::collection::vec(any_reading(), 1..40),
        name in ".{0,16}",
        decimals: u8,
        uptime: bool,
    ) {
        let clock = if uptime { ClockQuality::Uptime } else { ClockQuality::Synced };
        let mut sensors = SENSORS;
        sensors[0] = Sensor { name: &name, unit: "", kind: ValueKind::Scaled { decimals } };
        let rows = open(&encode(&header(clock), &sensors, &readings));
        prop_assert_eq!(rows.len(), readings.len());
        for ((seq, row), reading) in (41..).zip(rows).zip(&readings) {
            prop_assert_eq!(row.sequence, Some((QueueId(7), DeviceSeq(seq))));
            let time = match row.device_time {
                Some(DeviceTime::Measured(UnixMs(ms))) => { prop_assert!(!uptime); ms }
                Some(DeviceTime::Implausible(ms)) => { prop_assert!(!uptime); ms }
                Some(DeviceTime::Uptime(ms)) => { prop_assert!(uptime); ms }
                None => i64::MIN,
            };
            prop_assert_eq!(time, reading.time_ms);
            let mut json = String::new();
            let sensor = &sensors[usize::from(reading.sensor)];
            json::push_reading(&mut json, row.timestamp(), sensor, reading);
            prop_assert_eq!(&row.payload[..], json.as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_opened_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        keyed: bool,
    ) {
        if keyed && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&wire::batch::BATCH_SCHEMA.0);
        }
        if let Ok(batch) = DeviceBatch::read(&bytes) {
            let rows = batch.rows(&like()).unwrap();
            prop_assert_eq!(rows.len() as u64, batch.sequence().1.count);
        }
    }

    #[test]
    fn a_spoiled_batch_is_opened_or_refused(at in 0..120_usize, mask in 1..=u8::MAX) {
        let readings: Vec<_> = (0..20).map(|i| reading(0, RECEIVED.0 + i, Value::Scaled(i))).collect();
        let mut payload = encode(&header(ClockQuality::Synced), &SENSORS, &readings);
        let at = at % payload.len();
        payload[at] ^= mask;
        if let Ok(batch) = DeviceBatch::read(&payload) {
            prop_assert!(batch.rows(&like()).is_ok());
        }
    }
}
