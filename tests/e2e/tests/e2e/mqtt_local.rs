//! Local delivery with clients that are not ours: what mosquitto and paho publish on a gateway reaches mosquitto and paho
//! on the same gateway.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use e2e::{PATIENCE, Process, Stage, Subscriber, Tool, publish, run_tool, scenario, up};

const VERSIONS: [&str; 2] = ["5", "311"];

/// Topic, quality of service, RETAIN and payload.
const FORMAT: &str = "%t|%q|%r|%p";

fn start(stage: &Stage) -> Result<(Process, SocketAddr)> {
    let mut process = up(stage)?.start()?;
    let mqtt = process.address("mqtt")?;
    Ok((process, mqtt))
}

fn publish_well(mqtt: SocketAddr, arguments: &[&str]) -> Result<()> {
    let output = publish(mqtt, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    Ok(())
}

#[test]
fn every_pair_of_qualities_of_service() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let mut subscribers = Vec::new();
        for version in VERSIONS {
            for qos in ["0", "1", "2"] {
                let arguments = ["-V", version, "-q", qos, "-t", "plant/+/temp"];
                subscribers.push((qos, Subscriber::start(mqtt, FORMAT, &arguments)?));
            }
        }
        let mut sent = Vec::new();
        for version in VERSIONS {
            for qos in ["0", "1", "2"] {
                let payload = format!("{version} {qos}");
                let arguments = ["-V", version, "-q", qos, "-t", "plant/a/temp", "-m", &payload];
                publish_well(mqtt, &arguments)?;
                sent.push((qos, payload));
            }
        }
        for (granted, subscriber) in &subscribers {
            let expected: Vec<String> = (sent.iter())
                .map(|(qos, payload)| format!("plant/a/temp|{}|0|{payload}", qos.min(granted)))
                .collect();
            let received = subscriber.messages(expected.len())?;
            ensure!(received == expected, "QoS {granted}: {received:?}");
        }
        process.check_running()
    });
}

#[test]
fn the_gateway_names_its_spool() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (_process, mqtt) = start(stage)?;
        let mut ids = Vec::new();
        for version in VERSIONS {
            let arguments = ["-V", version, "-q", "1", "-t", "culvert/v1/gateway"];
            let subscriber = Subscriber::start(mqtt, FORMAT, &arguments)?;
            ids.extend(subscriber.messages(1)?);
        }
        ensure!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
        let id = ids[0].strip_prefix("culvert/v1/gateway|1|1|").unwrap_or("");
        let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(id.len() == 32 && is_hex, "{ids:?}");
        Ok(())
    });
}

#[test]
fn topics_of_the_gateway_are_its_own() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let all = Subscriber::start(mqtt, FORMAT, &["-q", "1", "-t", "culvert/v1/+/batch"])?;
        let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
        for (topic, complaint) in [
            ("culvert/v1/other/batch", "Not authorized"),
            ("culvert/v1/gateway", "Topic Name invalid"),
            ("culvert", "Topic Name invalid"),
        ] {
            #[rustfmt::skip]
            let arguments = [
                "-h", &host, "-p", &port, "-V", "5", "-i", "dev1", "-q", "1", "-t", topic, "-m", "x",
            ];
            let output = run_tool("mosquitto_pub", &arguments, PATIENCE)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(said.contains(complaint), "{topic}: {said:?}");
        }
        let will = ["-V", "5", "-i", "dev1", "-t", "t", "-m", "x", "--will-topic", "culvert/x"];
        let refused = publish(mqtt, &will)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(said.contains("Topic Name invalid"), "a will: {said:?}");
        ensure!(all.received()?.is_empty(), "{:?}", all.received()?);
        process.check_running()
    });
}
