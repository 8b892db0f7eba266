use super::*;

fn row(i: u64, payload: usize) -> Row {
    Row {
        received: UnixMs(1_700_000_000_000 + i as i64),
        device: Bytes::from(format!("dev{i}")),
        topic: Bytes::from_static("plänt/1/täp".as_bytes()),
        sequence: i.is_multiple_of(2).then_some((QueueId(i << 40), DeviceSeq(i * 1000))),
        device_time: match i % 4 {
            0 => None,
            1 => Some(DeviceTime::Measured(UnixMs(1_600_000_000_000 - i as i64))),
            2 => Some(DeviceTime::Implausible(i64::MIN)),
            _ => Some(DeviceTime::Uptime(i as i64)),
        },
        maybe_dup: i.is_multiple_of(3),
        properties: vec![(Bytes::from_static(b"site"), Bytes::from_static(b"north")); 2],
        payload: Bytes::from(vec![i as u8; payload]),
    }
}

fn write(rows: &[Row]) -> Vec<Segment> {
    let mut writer = SegmentWriter::new(Lane::Live, RowNo(10));
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(writer.push(row), RowNo(10 + i as u64));
    }
    let (segments, end) = writer.finish();
    assert_eq!(end, RowNo(10 + rows.len() as u64));
    segments
}

#[test]
fn rows_read_back_in_dense_segments() {
    let rows: Vec<_> = (0..40).map(|i| row(i, if i == 20 { 1 << 20 } else { 20_000 })).collect();
    let segments = write(&rows);
    assert!(segments.len() > 2);
    let mut next = RowNo(10);
    let mut back = Vec::new();
    for segment in &segments {
        assert_eq!(segment.first, next);
        next = segment.end();
        back.extend(segment.read().unwrap());
    }
    assert_eq!(back, rows);
}

fn golden_rows() -> Vec<Row> {
    let plain = Row {
        received: UnixMs(1_700_000_000_000),
        device: Bytes::from_static(b"dev1"),
        topic: Bytes::from_static("plänt/1/temp".as_bytes()),
        sequence: None,
        device_time: None,
        maybe_dup: false,
        properties: vec![(Bytes::from_static(b"site"), Bytes::from_static(b"north"))],
        payload: Bytes::from_static(b"21.5"),
    };
    let numbered = Row {
        received: UnixMs(1_700_000_000_001),
        device: Bytes::from_static(b"dev2"),
        topic: Bytes::from_static(b"t"),
        sequence: Some((QueueId(u64::MAX), DeviceSeq(300))),
        maybe_dup: true,
        properties: Vec::new(),
        payload: Bytes::from(vec![b'x'; 130]),
        ..plain.clone()
    };
    let times = [
        DeviceTime::Measured(UnixMs(1_699_999_999_995)),
        DeviceTime::Implausible(i64::MIN),
        DeviceTime::Uptime(61_000),
    ];
    let opened = (8..).zip(times).map(|(seq, time)| Row {
        received: UnixMs(1_700_000_000_002),
        device: Bytes::from_static(b"dev3"),
        topic: Bytes::from_static(b"culvert/v1/dev3/batch"),
        sequence: Some((QueueId(7), DeviceSeq(seq))),
        device_time: Some(time),
        properties: Vec::new(),
        payload: Bytes::from_static(b"{}"),
        ..plain.clone()
    });
    [plain.clone(), numbered].into_iter().chain(opened).collect()
}

/// What lies on disks in the field: other bytes need another format number.
#[test]
fn rows_have_their_golden_bytes_and_those_of_format_1_are_read() {
    let rows = golden_rows();
    let segment = write(&rows).remove(0);
    assert_eq!(segment.data[..], include_bytes!("../golden/rows-2.bin")[..]);
    let data = Bytes::from_static(include_bytes!("../golden/rows-1.bin"));
    let crc = checksum(RowNo(10), Lane::Live, 2, &data);
    let old = Segment { first: RowNo(10), lane: Lane::Live, rows: 2, crc, data };
    assert_eq!(old.read().unwrap(), rows[..2]);
}

#[test]
fn a_row_takes_no_more_than_it_says() {
    let long = Row {
        sequence: Some((QueueId(u64::MAX), DeviceSeq(u64::MAX))),
        device: Bytes::from(vec![b'd'; 512]),
        topic: Bytes::from(vec![b't'; 4_096]),
        properties: vec![(Bytes::new(), Bytes::from(vec![0; 16_384])); 64],
        payload: Bytes::from(vec![0; 4 << 20]),
        ..golden_rows().remove(3)
    };
    for row in golden_rows().into_iter().chain([long]) {
        let mut writer = SegmentWriter::new(Lane::Live, RowNo::FIRST);
        writer.push(&row);
        assert!(writer.bytes() <= row.bytes_max(), "{} bytes", writer.bytes());
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let segment = write(&[row(1, 9), row(2, 0)]).remove(0);
    for at in 0..segment.data.len() {
        let mut data = segment.data.to_vec();
        data[at] ^= 4;
        let bad = Segment { data: data.into(), ..segment.clone() };
        assert_eq!(bad.read(), Err(SegmentError::Crc(RowNo(10))), "byte {at}");
    }
    for bad in [
        Segment { first: RowNo(11), ..segment.clone() },
        Segment { lane: Lane::Control, ..segment.clone() },
        Segment { rows: 1, ..segment.clone() },
    ] {
        assert!(bad.read().is_err());
    }
}

#[test]
fn cut_data_with_a_right_checksum_is_malformed() {
    let segment = write(&[row(2, 3)]).remove(0);
    assert!(segment.read().is_ok());
    for len in 0..segment.data.len() {
        let data = segment.data.slice(..len);
        let crc = checksum(segment.first, segment.lane, segment.rows, &data);
        let bad = Segment { data, crc, ..segment.clone() };
        assert_eq!(bad.read(), Err(SegmentError::Malformed(RowNo(10))), "cut to {len}");
    }
}
