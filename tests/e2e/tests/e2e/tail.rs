//! `culvert tail`: what its user sees, whatever happens to the broker.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    DevicePlan, Launch, PATIENCE, Process, Site, Stage, Tested, Tool, produce, publish, read_topic,
    scenario, until, wait_until_delivered,
};

const TOOLS: &[Tool] = &[Tool::Mosquitto, Tool::Kcat];

fn tail(stage: &Stage, topic: &str) -> Result<Launch> {
    let bootstrap = stage.address(Stage::KAFKA_PORT).to_string();
    let launch = Launch::new(stage, Tested::Culvert)?.arg("tail").arg(topic);
    Ok(launch.flag("--bootstrap", bootstrap))
}

fn wait_for_output(tail: &mut Process, text: &str) -> Result<()> {
    until(&format!("{text:?} in {:?} | {}", tail.output(), tail.log()), PATIENCE, || {
        tail.check_running()?;
        Ok(tail.output().contains(text).then_some(()))
    })
}

fn check_success(tail: &mut Process) -> Result<()> {
    let status = tail.wait(PATIENCE)?;
    ensure!(status.success(), "it ended with {status}: {}", tail.log());
    Ok(())
}

#[test]
fn it_waits_for_the_topic_and_follows_through_a_killed_broker() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut tail = tail(stage, "late")?.arg("--json").spawn()?;
        tail.wait_for_log("trying again")?;
        let mut broker = site.broker()?.start()?;
        tail.wait_for_log("topic late does not exist; waiting for it")?;
        // What waited for the topic sees its first record too.
        produce(site.kafka(), "late", "one", PATIENCE)?;
        wait_for_output(&mut tail, r#""value":"one""#)?;
        tail.wait_for_log("following late, 1 partition")?;

        broker.kill()?;
        tail.wait_for_log("connection lost")?;
        let _broker = site.broker()?.start()?;
        produce(site.kafka(), "late", "two", PATIENCE)?;
        wait_for_output(&mut tail, r#""value":"two""#)?;
        tail.interrupt()?;
        check_success(&mut tail)?;
        let output = tail.output();
        let lines: Vec<&str> = output.lines().collect();
        ensure!(lines.len() == 2, "each record once: {output}");
        for (offset, line) in lines.iter().enumerate() {
            let place = format!(r#"{{"topic":"late","partition":0,"offset":{offset},"timestamp":"#);
            ensure!(line.starts_with(&place), "{line}");
        }
        ensure!(!tail.log().contains("not in the log"), "{}", tail.log());
        Ok(())
    });
}

#[test]
fn it_shows_what_other_clients_read() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let start = |number| {
            let plan = DevicePlan {
                mqtt: site.mqtt(),
                client_id: format!("dev-{number}"),
                queue: number,
                window: 64,
                pause: Duration::ZERO,
            };
            plan.start()
        };
        let devices: Vec<_> = (1..=8).map(start).collect();
        until("some readings of each device", PATIENCE, || {
            Ok(devices.iter().all(|device| device.acked() > 300).then_some(()))
        })?;
        for device in devices {
            device.finish()?;
        }
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let expected = read_topic(site.kafka(), "telemetry")?;
        let count = expected.len().to_string();

        let tail = tail(stage, "telemetry")?.arg("--json").flag("--from", "start");
        let mut tail = tail.flag("--count", count).spawn()?;
        check_success(&mut tail)?;
        let mut expected: Vec<_> = expected
            .iter()
            .map(|record| {
                let headers = record.headers.iter();
                let headers = headers.map(|(name, value)| format!(r#"["{name}","{value}"]"#));
                format!(
                    r#"{{"topic":"telemetry","partition":{},"offset":{},"timestamp":{},"key":"{}","headers":[{}],"value":"{}"}}"#,
                    record.partition,
                    record.offset,
                    record.timestamp,
                    record.key_text(),
                    headers.collect::<Vec<_>>().join(","),
                    record.value_text(),
                )
            })
            .collect();
        let output = tail.output();
        let mut found: Vec<&str> = output.lines().collect();
        expected.sort_unstable();
        found.sort_unstable();
        ensure!(found.len() == expected.len(), "{} of {} records", found.len(), expected.len());
        let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        ensure!(wrong.is_none(), "{wrong:?}");
        Ok(())
    });
}

#[test]
fn people_read_device_topic_and_value() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let _gateway = site.gateway()?.start()?;
        let tail = tail(stage, "telemetry")?.flag("--from", "start");
        let mut tail = tail.flag("--count", "1").spawn()?;
        publish(site.mqtt(), &["-i", "dev1", "-q", "1", "-t", "plant/1/temp", "-m", "21.5"])?;
        check_success(&mut tail)?;
        let output = tail.output();
        ensure!(output.ends_with("Z  dev1  plant/1/temp  21.5\n"), "{output}");
        Ok(())
    });
}

#[test]
fn it_ends_well_when_its_reader_has_seen_enough() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        produce(site.kafka(), "t", "one", PATIENCE)?;
        let mut tail = Command::new(Tested::Culvert.path()?)
            .args(["tail", "t", "--from", "start", "--bootstrap", &site.kafka().to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // The reader goes away before it has read anything.
        drop(tail.stdout.take());
        let output = tail.wait_with_output().context("it did not end")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {complaint}", output.status);
        ensure!(!complaint.contains("panicked"), "{complaint}");
        Ok(())
    });
}

#[test]
fn what_cannot_be_is_refused() {
    scenario(&[], |stage| {
        for (arguments, complaint) in [
            (&["a topic"][..], "cannot be the name of a topic"),
            (&["t", "--count", "0"], "--count"),
            (&["t", "--from", "middle"], "--from"),
        ] {
            let mut tail = Launch::new(stage, Tested::Culvert)?.arg("tail");
            for argument in arguments {
                tail = tail.arg(argument);
            }
            let mut tail = tail.spawn()?;
            ensure!(!tail.wait(PATIENCE)?.success(), "{arguments:?}");
            ensure!(tail.log().contains(complaint), "{arguments:?}: {}", tail.log());
        }
        Ok(())
    });
}
