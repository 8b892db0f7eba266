//! `culvert up`, from `mosquitto_pub` to `kcat`.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use e2e::{
    Chance, PATIENCE, Process, Record, Stage, Tool, check_dense, publish, read_topic, scenario, up,
    wait_until_delivered,
};

const TOOLS: &[Tool] = &[Tool::Mosquitto, Tool::Kcat];

/// `mosquitto_pub` with these arguments, which must end well.
fn publish_well(mqtt: SocketAddr, arguments: &[&str]) -> Result<()> {
    let output = publish(mqtt, arguments)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(())
}

/// What is in the topic, once the gateway has delivered everything.
fn delivered(process: &mut Process) -> Result<Vec<Record>> {
    wait_until_delivered(process, PATIENCE)?;
    let records = read_topic(process.address("kafka")?, "telemetry")?;
    check_dense(&records)?;
    Ok(records)
}

fn start(stage: &Stage) -> Result<(Process, SocketAddr)> {
    let mut process = up(stage)?.start()?;
    let mqtt = process.address("mqtt")?;
    Ok((process, mqtt))
}

#[test]
fn a_reading_from_mosquitto_pub_arrives_at_kcat() {
    scenario(TOOLS, |stage| {
        let (mut process, mqtt) = start(stage)?;
        // A reading that comes before the session does is backfill.
        wait_until_delivered(&mut process, PATIENCE)?;
        for (version, value) in [("5", "21.5"), ("311", "21.6")] {
            let id = format!("dev{version}");
            publish_well(mqtt, &["-V", version, "-i", &id, "-t", "plant/1/temp", "-m", value])?;
        }
        let records = delivered(&mut process)?;
        ensure!(records.len() == 2, "{records:?}");
        for (key, value) in [("dev5", "21.5"), ("dev311", "21.6")] {
            let record = records.iter().find(|record| record.key_text() == key);
            let Some(record) = record else { anyhow::bail!("no record of {key} in {records:?}") };
            ensure!(record.value_text() == value, "{record:?}");
            ensure!(record.header("mqtt.topic") == Some("plant/1/temp"));
            ensure!(record.header("culvert.gateway") == Some("gateway"));
            // What applies only to numbered or late readings is not there.
            ensure!(record.headers.len() == 2, "{record:?}");
        }
        Ok(())
    });
}

#[test]
fn topics_and_payloads_arrive_byte_for_byte() {
    scenario(TOOLS, |stage| {
        let (mut process, mqtt) = start(stage)?;
        let large = Chance::new(stage.settings.seed).bytes(256 << 10);
        let file = stage.path("large");
        std::fs::write(&file, &large)?;
        let file = file.to_string_lossy();
        let topic = "anlage/größe/温度/🌡";
        for version in ["5", "311"] {
            let id = |kind: &str| format!("{kind}-{version}");
            publish_well(mqtt, &["-V", version, "-i", &id("empty"), "-t", topic, "-n"])?;
            publish_well(mqtt, &["-V", version, "-i", &id("large"), "-t", topic, "-f", &file])?;
            publish_well(mqtt, &["-V", version, "-i", &id("größe"), "-t", topic, "-m", "21,5 °C"])?;
        }
        let records = delivered(&mut process)?;
        ensure!(records.len() == 6, "{} records", records.len());
        for version in ["5", "311"] {
            for (kind, value) in
                [("empty", &b""[..]), ("large", &large), ("größe", "21,5 °C".as_bytes())]
            {
                let key = format!("{kind}-{version}");
                let record = records.iter().find(|record| record.key_text() == key);
                let value_found = record.and_then(|record| record.value.as_deref());
                ensure!(value_found == Some(value), "{key} is another");
                let topic_found = record.and_then(|record| record.header("mqtt.topic"));
                ensure!(topic_found == Some(topic), "{key}: {topic_found:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn user_properties_become_headers() {
    scenario(TOOLS, |stage| {
        let (mut process, mqtt) = start(stage)?;
        #[rustfmt::skip]
        publish_well(mqtt, &[
            "-V", "5", "-i", "dev1", "-t", "t", "-m", "1",
            "-D", "publish", "user-property", "line", "7",
            "-D", "publish", "user-property", "größe", "groß",
        ])?;
        #[rustfmt::skip]
        let numbered = [
            "-V", "5", "-i", "dev2", "-t", "t", "-m", "2",
            "-D", "publish", "user-property", "cv-queue", "77",
            "-D", "publish", "user-property", "cv-seq", "1",
        ];
        // The second is a copy: acknowledged, and not stored again.
        publish_well(mqtt, &numbered)?;
        publish_well(mqtt, &numbered)?;
        let records = delivered(&mut process)?;
        ensure!(records.len() == 2, "{records:?}");
        for (key, name, value) in [
            ("dev1", "line", "7"),
            ("dev1", "größe", "groß"),
            ("dev2", "culvert.queue", "77"),
            ("dev2", "culvert.seq", "1"),
        ] {
            let record = records.iter().find(|record| record.key_text() == key);
            let found = record.and_then(|record| record.header(name));
            ensure!(found == Some(value), "{key}: {name} in {record:?}");
        }
        Ok(())
    });
}
