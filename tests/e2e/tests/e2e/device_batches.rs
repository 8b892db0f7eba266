//! Batches of devices: published by MQTT, read as one JSON record per reading.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::{
    BatchReading, BatchValue, Chance, Client, DeviceBatch, PATIENCE, Packet, Publish, Record, Site,
    Tool, Version, check_dense, publish_packet, read_topic, scenario, wait_until_delivered,
};

const SENSORS: &[(&str, &str, Option<u8>)] =
    &[("temp", "Cel", Some(1)), ("vib \"x\"", "m/s²", None), ("count", "", Some(0))];

const QUEUE: u64 = u64::MAX;

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn batch(first: u64, readings: Vec<BatchReading>) -> DeviceBatch<'static> {
    let base_time_ms = readings.first().map_or(0, |reading| reading.time_ms);
    let (queue, sensors) = (QUEUE, SENSORS);
    DeviceBatch { queue, first, lost_before: 0, uptime: false, base_time_ms, sensors, readings }
}

/// Readings whose values are their numbers.
fn counted(first: u64, count: u64, time_ms: i64) -> Vec<u8> {
    let reading = |seq: u64| {
        let value = BatchValue::Scaled(seq.cast_signed());
        BatchReading { sensor: 2, quality: 0, time_ms, value }
    };
    batch(first, (first..first + count).map(reading).collect()).encode()
}

fn topic(device: &str) -> String {
    format!("culvert/v1/{device}/batch")
}

/// Device, number and value of a record of [`counted`].
fn number(record: &Record) -> Result<(u64, u64)> {
    let seq = record.header("culvert.seq").context("no sequence")?.parse()?;
    let text = record.value_text();
    let (_, value) = text.split_once("\"value\":").context("no value")?;
    let (value, _) = value.split_once(',').context("no end of the value")?;
    Ok((seq, value.parse()?))
}

/// Publishes a batch of four readings measured around `measured`, the same again, and one of a device without a clock.
fn publish_readings(site: &Site<'_>, measured: i64) -> Result<()> {
    let mut client = Client::open(site.mqtt(), Version::V5, "dev-1")?;
    let reading =
        |sensor, quality, time_ms, value| BatchReading { sensor, quality, time_ms, value };
    let first = vec![
        reading(0, 0, measured, BatchValue::Scaled(-215)),
        reading(1, 1, measured - 20, BatchValue::Float(0.1)),
        reading(1, 2, measured + 7, BatchValue::Float(f32::NAN)),
        // Before devices of this kind were made.
        reading(2, 0, 1_000, BatchValue::Scaled(i64::MIN)),
    ];
    let (topic, payload) = (topic("dev-1"), batch(41, first).encode());
    client.publish(&topic, &payload)?;
    // As after a lost acknowledgement.
    client.publish(&topic, &payload)?;
    let uptime = vec![reading(0, 0, 61_000, BatchValue::Scaled(5))];
    let payload = DeviceBatch { uptime: true, lost_before: 5, ..batch(50, uptime) }.encode();
    let properties = &[("site", "north"), ("cv-maybe-dup", "1")];
    let publish = Publish { topic: &topic, payload: &payload, qos: 1, packet_id: 9, properties };
    client.send(&publish_packet(Version::V5, &publish))?;
    let packet = client.receive(PATIENCE)?;
    ensure!(packet == Some(Packet::Puback { packet_id: 9, reason: 0 }), "{packet:?}");
    Ok(())
}

fn check_record(record: &Record, seq: u64, time: i64, value: &str) -> Result<()> {
    let value = format!("{{\"sensor\":{}}}", value.replace('T', &time.to_string()));
    ensure!((record.value_text(), record.timestamp) == (value, time), "{record:?}");
    ensure!(record.key_text() == "dev-1", "{record:?}");
    for (name, value) in [
        ("mqtt.topic", topic("dev-1")),
        ("culvert.gateway", Site::GATEWAY.to_owned()),
        ("culvert.queue", QUEUE.to_string()),
        ("culvert.seq", seq.to_string()),
    ] {
        ensure!(record.header(name) == Some(&value), "{name} of {record:?}");
    }
    Ok(())
}

#[test]
fn every_reading_of_a_batch_is_a_record() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let before = now_ms()?;
        let measured = before - 3_600_000;
        publish_readings(&site, measured)?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        ensure!(records.len() == 5, "{records:?}");
        let (received, later) = (records[3].timestamp, records[4].timestamp);
        ensure!(before <= received && received <= later && later <= now_ms()?, "{records:?}");
        #[rustfmt::skip]
        let expected = [
            (41, measured, r#""temp","time":T,"value":-21.5,"unit":"Cel","quality":"good""#),
            (42, measured - 20, r#""vib \"x\"","time":T,"value":0.1,"unit":"m/s²","quality":"uncertain""#),
            (43, measured + 7, r#""vib \"x\"","time":T,"value":null,"unit":"m/s²","quality":"bad""#),
            (44, received, r#""count","time":T,"value":-9223372036854775808,"unit":"","quality":"good""#),
            (50, later, r#""temp","time":T,"value":0.5,"unit":"Cel","quality":"good""#),
        ];
        for (record, (seq, time, value)) in records.iter().zip(expected) {
            check_record(record, seq, time, value)?;
        }
        let extra = ["culvert.device_time", "culvert.clock", "culvert.maybe_dup", "site"];
        let all = [Some("61000"), Some("uptime"), Some("true"), Some("north")];
        let implausible = [Some("1000"), None, None, None];
        for (record, expected) in
            records.iter().zip([[None; 4]; 3].iter().chain([&implausible, &all]))
        {
            ensure!(extra.map(|name| record.header(name)) == *expected, "{record:?}");
        }
        for (name, value) in
            [("received", 9.0), ("deduplicated", 4.0), ("delivered", 5.0), ("lost_by_devices", 5.0)]
        {
            let metric = format!("culvert_gateway_readings_{name}_total");
            let found = site.gateway_metric(&metric)?;
            ensure!(found == value, "{metric} is {found}");
        }
        Ok(())
    });
}

#[test]
fn what_is_no_batch_of_this_device_is_refused_and_leaves_nothing() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let time = now_ms()?;
        Client::open(site.mqtt(), Version::V5, "dev-1")?
            .publish(&topic("dev-1"), &counted(1, 3, time))?;
        let good = counted(4, 3, time);
        for (device, payload, reason) in [
            ("dev-1", &b"{\"temp\":21.5}"[..], 0x99),
            ("dev-1", &good[..good.len() - 1], 0x99),
            ("dev-1", &counted(4, 0, time), 0x99),
            ("dev-1", &counted(3, 2, time), 0x83),
            ("dev-2", &good, 0x87),
        ] {
            let mut client = Client::open(site.mqtt(), Version::V5, "dev-1")?;
            let packet_id = client.publish_only(&topic(device), payload)?;
            // Behind a refused one it must not be taken in its place.
            client.publish_only(&topic("dev-1"), &good)?;
            let packet = client.receive(PATIENCE)?;
            ensure!(packet == Some(Packet::Puback { packet_id, reason }), "{packet:?}");
            let packet = client.receive(PATIENCE)?;
            ensure!(packet == Some(Packet::Disconnect { reason }), "{packet:?}");
            ensure!(client.receive(PATIENCE)?.is_none(), "it went on");
        }
        let mut client = Client::open(site.mqtt(), Version::V311, "dev-1")?;
        client.publish_only(&topic("dev-1"), b"no batch")?;
        ensure!(client.receive(PATIENCE)?.is_none(), "3.1.1 knows no refusal");
        Client::open(site.mqtt(), Version::V311, "dev-1")?.publish(&topic("dev-1"), &good)?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        let numbers: Result<Vec<_>> = records.iter().map(number).collect();
        let expected: Vec<_> = (1..=6).map(|seq| (seq, seq)).collect();
        ensure!(numbers? == expected, "{records:?}");
        Ok(())
    });
}

/// A device keeps a batch until it is acknowledged and sends the same bytes again. Here half of the acknowledgements never
/// reach it, because the gateway is killed or because it does not listen.
#[test]
fn batches_sent_again_after_kill_9_are_in_the_log_once_and_in_order() {
    scenario(&[Tool::Kcat], |stage| {
        const BATCHES: u64 = 8;
        const READINGS: u64 = 25;
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let mut chance = Chance::new(stage.settings.seed);
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let time = now_ms()?;
        let send = |client: &mut Client, at: u64| {
            client.publish_only(&topic("dev-1"), &counted(1 + at * READINGS, READINGS, time))
        };
        let mut acked = 0;
        for round in 0..stage.settings.kill_rounds {
            let mut client = Client::open(site.mqtt(), Version::V5, "dev-1")?;
            for at in acked..acked + BATCHES {
                send(&mut client, at)?;
            }
            for _ in 0..chance.number() % BATCHES {
                let packet = client.receive(PATIENCE)?;
                ensure!(matches!(packet, Some(Packet::Puback { reason: 0, .. })), "{packet:?}");
                acked += 1;
            }
            gateway.kill().with_context(|| format!("round {round}"))?;
            gateway = site.gateway()?.start()?;
        }
        // This one is certainly stored, and sent once more.
        let mut client = Client::open(site.mqtt(), Version::V5, "dev-1")?;
        for at in acked..acked + BATCHES {
            send(&mut client, at)?;
            let packet = client.receive(PATIENCE)?;
            ensure!(matches!(packet, Some(Packet::Puback { reason: 0, .. })), "{packet:?}");
        }
        gateway.kill()?;
        gateway = site.gateway()?.start()?;
        let copies = "culvert_gateway_readings_deduplicated_total";
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let before = site.gateway_metric(copies)?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev-1")?;
        client.publish(&topic("dev-1"), &counted(1 + acked * READINGS, READINGS, time))?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let after = site.gateway_metric(copies)?;
        ensure!(after == before + READINGS as f64, "{before} copies, then {after}");
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        let numbers: Result<Vec<_>> = records.iter().map(number).collect();
        let last = (acked + BATCHES) * READINGS;
        let expected: Vec<_> = (1..=last).map(|seq| (seq, seq)).collect();
        ensure!(numbers? == expected, "{} records for {last} readings", records.len());
        eprintln!("{last} readings once and in order, {after} copies");
        Ok(())
    });
}
