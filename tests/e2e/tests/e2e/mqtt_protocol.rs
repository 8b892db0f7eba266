//! MQTT with clients that are not ours: readings on their way to the log.

use anyhow::{Context, ensure};
use e2e::{
    Client, PATIENCE, Packet, Settings, Tool, Version, check_dense, publish, read_topic, run_tool,
    scenario, up, wait_until_delivered,
};

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

#[test]
fn a_client_id_belongs_to_the_newest_connection() {
    scenario(&[Tool::Kcat], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        for version in VERSIONS {
            let mut first = Client::open(mqtt, version, "dev1")?;
            first.publish("t", b"first")?;
            let mut second = Client::open(mqtt, version, "dev1")?;
            let told = match version {
                Version::V5 => Some(Packet::Disconnect { reason: 0x8e }),
                Version::V311 => None,
            };
            let packet = first.receive(PATIENCE)?;
            ensure!(packet == told, "{version:?}: {packet:?}");
            second.publish("t", b"second")?;
        }
        wait_until_delivered(&mut process, PATIENCE)?;
        let records = read_topic(process.address("kafka")?, "telemetry")?;
        let values: Vec<String> = records.iter().map(e2e::Record::value_text).collect();
        ensure!(values == ["first", "second", "first", "second"], "{values:?}");
        Ok(())
    });
}

#[test]
fn readings_without_acknowledgement_arrive_too() {
    scenario(&[Tool::Mosquitto, Tool::Kcat], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        for version in ["5", "311"] {
            // The last -q counts.
            let arguments = ["-V", version, "-i", version, "-q", "0", "-t", "t", "-m", "1"];
            ensure!(publish(mqtt, &arguments)?.status.success());
        }
        let kafka = process.address("kafka")?;
        let records = e2e::until("both readings", PATIENCE, || {
            let records = read_topic(kafka, "telemetry").unwrap_or_default();
            Ok((records.len() == 2).then_some(records))
        })?;
        check_dense(&records)
    });
}

/// Publishes 1,000 readings by QoS 1 and waits for every acknowledgement; the server may have 100 open at a time.
const PAHO_PROGRAM: &str = r#"
import sys
import paho.mqtt.client as mqtt
host, port, version = sys.argv[1], int(sys.argv[2]), sys.argv[3]
protocol = mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-" + version, protocol=protocol)
client.max_inflight_messages_set(100)
client.connect(host, port)
client.loop_start()
messages = [client.publish("paho/größe", str(number), qos=1) for number in range(1000)]
for message in messages:
    message.wait_for_publish(30)
acknowledged = sum(message.is_published() for message in messages)
client.disconnect()
client.loop_stop()
print(acknowledged)
"#;

#[test]
fn paho_gets_every_publish_acknowledged() {
    scenario(&[Tool::Paho, Tool::Kcat], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        let python = Settings::python().context("no Python")?;
        for version in ["5", "311"] {
            let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
            let arguments = ["-c", PAHO_PROGRAM, &host, &port, version];
            let output = run_tool(&python, &arguments, PATIENCE)?;
            let printed = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(printed.trim() == "1000", "{printed} {complaint}");
        }
        wait_until_delivered(&mut process, PATIENCE)?;
        let records = read_topic(process.address("kafka")?, "telemetry")?;
        check_dense(&records)?;
        for key in ["paho-5", "paho-311"] {
            let own = records.iter().filter(|record| record.key_text() == key);
            let values: Vec<String> = own.map(e2e::Record::value_text).collect();
            let expected: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
            ensure!(values == expected, "{key}: {} readings", values.len());
        }
        Ok(())
    });
}
