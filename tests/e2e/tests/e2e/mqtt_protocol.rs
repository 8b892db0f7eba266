//! MQTT with clients that are not ours: what works, and how what does not work yet is refused.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use e2e::{
    Client, Connect, PATIENCE, Packet, Publish, Settings, Tool, Version, check_dense,
    connect_packet, publish, publish_packet, read_topic, run_tool, scenario, up,
    wait_until_delivered,
};

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

fn qos2_publish(version: Version) -> Vec<u8> {
    let publish = Publish { topic: "t", payload: b"1", qos: 2, packet_id: 1, properties: &[] };
    publish_packet(version, &publish)
}

#[test]
fn qos_2_is_refused() {
    scenario(&[Tool::Mosquitto, Tool::Kcat], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        let mut client = Client::open(mqtt, Version::V5, "dev1")?;
        client.send(&qos2_publish(Version::V5))?;
        let packet = client.receive(PATIENCE)?;
        let refused = packet == Some(Packet::Disconnect { reason: 0x9b });
        ensure!(refused, "QoS 2 was answered {packet:?}");
        let mut client = Client::open(mqtt, Version::V311, "dev1")?;
        client.send(&qos2_publish(Version::V311))?;
        let packet = client.receive(PATIENCE)?;
        ensure!(packet.is_none(), "QoS 2 was answered {packet:?}");
        for (version, complaint) in
            [("5", "QoS not supported on broker"), ("311", "connection was lost")]
        {
            let arguments = ["-V", version, "-i", "dev2", "-q", "2", "-t", "t", "-m", "1"];
            check_complaint(mqtt, "mosquitto_pub", &arguments, complaint)?;
        }
        let kafka = process.address("kafka")?;
        let records = read_topic(kafka, "telemetry")?;
        ensure!(records.is_empty(), "QoS 2 was stored: {records:?}");
        process.check_running()
    });
}

#[test]
fn subscriptions_are_refused() {
    scenario(&[Tool::Mosquitto], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        for version in ["5", "311"] {
            let arguments = ["-V", version, "-i", "sub", "-t", "#"];
            let complaint = "All subscription requests were denied";
            check_complaint(mqtt, "mosquitto_sub", &arguments, complaint)?;
        }
        process.check_running()
    });
}

#[test]
fn wills_are_refused() {
    scenario(&[Tool::Mosquitto], |stage| {
        let mut process = up(stage)?.start()?;
        let mqtt = process.address("mqtt")?;
        for version in VERSIONS {
            let connect = Connect { version, client_id: "dev1", will_topic: Some("gone") };
            let mut client = Client::open_raw(mqtt, version)?;
            client.send(&connect_packet(&connect))?;
            let packet = client.receive(PATIENCE)?;
            let refused = matches!(packet, Some(Packet::Connack { reason }) if reason != 0);
            ensure!(refused, "a will was answered {packet:?}");
            ensure!(client.receive(PATIENCE)?.is_none(), "it went on");
        }
        for (version, complaint) in
            [("5", "Implementation specific error"), ("311", "broker unavailable")]
        {
            #[rustfmt::skip]
            let arguments = [
                "-V", version, "-i", "dev2", "-t", "t", "-m", "1", "--will-topic", "gone",
            ];
            check_complaint(mqtt, "mosquitto_pub", &arguments, complaint)?;
        }
        process.check_running()
    });
}

/// Runs a client of mosquitto, which must say `complaint`. Its exit code says nothing: a publish that the server's
/// announced limits forbid ends with 0.
fn check_complaint(
    mqtt: SocketAddr,
    program: &str,
    arguments: &[&str],
    complaint: &str,
) -> Result<()> {
    let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
    let mut all = vec!["-h", &host, "-p", &port];
    all.extend(arguments);
    let output = run_tool(program, &all, PATIENCE)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains(complaint), "{program} {arguments:?} said {said:?}");
    Ok(())
}

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
