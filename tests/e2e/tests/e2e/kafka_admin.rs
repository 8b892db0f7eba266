//! What administrators do with the tools that Kafka's users have: records and topics go, configs change, and space comes back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Client, Launch, PATIENCE, Record, Settings, Site, Stage, Tool, Version, check_dense,
    kafka_tool, read_topic, run_tool, scenario, until, used, wait_until_delivered,
};

const TOPIC: &str = "orders";

/// What confluent-kafka's administrator is driven by.
const ADMIN_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/admin_client.py");

/// A JVM on a busy machine takes its time to start.
const JVM_PATIENCE: Duration = Duration::from_secs(180);

/// Small files, so that a few megabytes are many of them.
const WAL_FILE_BYTES: u64 = 1 << 20;

/// Files that are empty and kept ready, and the one that is written to: they are not given back.
const FILES_KEPT_MAX: u64 = 8;

/// How much a test stores before it takes it away.
const STORED_BYTES: u64 = 24 << 20;

const VALUE_BYTES: usize = 16 << 10;

const SPACE_PATIENCE: Duration = Duration::from_secs(180);

fn broker(site: &Site<'_>) -> Result<Launch> {
    let launch = site.broker()?.flag("--wal-file-bytes", WAL_FILE_BYTES.to_string());
    Ok(launch.flag("--maintenance-ms", "200").flag("--space-checkpoint-ms", "200"))
}

/// Runs a class of Kafka's tools and returns what it printed.
fn java(site: &Site<'_>, class: &str, arguments: &[&str]) -> Result<String> {
    let kafka = site.kafka().to_string();
    let fixed = kafka_tool(&format!("org.apache.kafka.tools.{class}"))?;
    let fixed = fixed.iter().map(String::as_str).chain(["--bootstrap-server", &kafka]);
    let all: Vec<&str> = fixed.chain(arguments.iter().copied()).collect();
    let output = run_tool("java", &all, JVM_PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{class} {arguments:?}: {printed}{complaint}");
    Ok(printed)
}

/// Runs confluent-kafka's administrator and returns what it printed.
fn admin(site: &Site<'_>, command: &str, arguments: &[&str]) -> Result<String> {
    let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
    let kafka = site.kafka().to_string();
    let all = [&[ADMIN_CLIENT, command, &kafka], arguments].concat();
    let output = run_tool(python, &all, PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command} {arguments:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn done(site: &Site<'_>, command: &str, arguments: &[&str]) -> Result<()> {
    let told = admin(site, command, arguments)?;
    ensure!(told.lines().next() == Some("done"), "{command} {arguments:?}: {told}");
    Ok(())
}

/// Produces these lines to partition 0 of a topic.
fn produce(stage: &Stage, site: &Site<'_>, topic: &str, lines: &[String]) -> Result<()> {
    let file = stage.path("lines");
    std::fs::write(&file, lines.join("\n"))?;
    let (kafka, file) = (site.kafka().to_string(), file.to_string_lossy());
    #[rustfmt::skip]
    let arguments = [
        "-P", "-b", &kafka, "-t", topic, "-p", "0", "-l", &file, "-X", "batch.size=65536",
    ];
    let output = run_tool("kcat", &arguments, PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaint.is_empty(), "kcat: {complaint}");
    Ok(())
}

/// Produces about so many bytes.
fn fill(stage: &Stage, site: &Site<'_>, topic: &str, bytes: u64) -> Result<()> {
    let count = usize::try_from(bytes)? / VALUE_BYTES;
    let lines = (0..count).map(|number| format!("{number:0>VALUE_BYTES$}"));
    produce(stage, site, topic, &lines.collect::<Vec<_>>())
}

fn wait_for_space(stage: &Stage, bytes_max: u64) -> Result<()> {
    let mut last = 0;
    let outcome = until("space to come back", SPACE_PATIENCE, || {
        last = used(&stage.path("broker"))?;
        Ok((last <= bytes_max).then_some(()))
    });
    outcome.with_context(|| format!("{last} bytes are taken, {bytes_max} would be enough"))
}

/// The offset that Kafka's tool finds for a time.
fn offset_at(site: &Site<'_>, time: &str) -> Result<String> {
    let arguments = ["--topic", TOPIC, "--partitions", "0", "--time", time];
    Ok(java(site, "GetOffsetShell", &arguments)?.trim().to_owned())
}

#[test]
fn records_that_kafka_s_tool_deletes_do_not_come_back_with_a_kill() {
    scenario(&[Tool::Kcat, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let lines: Vec<String> = (0..10).map(|number| format!("order-{number}")).collect();
        produce(stage, &site, TOPIC, &lines)?;
        let file = stage.path("offsets.json");
        let partition = format!("{{\"topic\":\"{TOPIC}\",\"partition\":0,\"offset\":4}}");
        std::fs::write(&file, format!("{{\"partitions\":[{partition}],\"version\":1}}"))?;
        let file = file.to_string_lossy().into_owned();
        let told = java(&site, "DeleteRecordsCommand", &["--offset-json-file", &file])?;
        ensure!(told.contains("low_watermark: 4"), "{told}");
        // The answer has come, so a crash changes nothing.
        process.kill()?;
        process = broker(&site)?.start()?;
        ensure!(offset_at(&site, "-2")? == format!("{TOPIC}:0:4"));
        ensure!(offset_at(&site, "-1")? == format!("{TOPIC}:0:10"));
        let found: Vec<String> =
            read_topic(site.kafka(), TOPIC)?.iter().map(Record::value_text).collect();
        ensure!(found == lines[4..], "{found:?}");
        // Who was at an offset that is gone goes on from the new beginning.
        let kafka = site.kafka().to_string();
        #[rustfmt::skip]
        let behind = [
            "-C", "-b", &kafka, "-t", TOPIC, "-p", "0", "-o", "1", "-c", "1", "-q",
            "-X", "auto.offset.reset=earliest",
        ];
        let output = run_tool("kcat", &behind, PATIENCE)?;
        let first = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(first == "order-4", "{first:?}");
        let dirs = java(&site, "LogDirsCommand", &["--describe", "--topic-list", TOPIC])?;
        let place = stage.path("broker").to_string_lossy().into_owned();
        for text in [&place, "\"partition\":\"orders-0\"", "\"offsetLag\":0"] {
            ensure!(dirs.contains(text), "{text} is not in {dirs}");
        }
        process.check_running()
    });
}

#[test]
fn what_is_deleted_expires_or_is_too_much_gives_its_space_back() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let empty = FILES_KEPT_MAX * WAL_FILE_BYTES;
        // By size.
        let size = format!("retention.bytes={}", 2 << 20);
        done(&site, "create", &["small", "1", &size])?;
        fill(stage, &site, "small", STORED_BYTES)?;
        wait_for_space(stage, empty + (3 << 20))?;
        let left = read_topic(site.kafka(), "small")?;
        let bytes = left.len() * VALUE_BYTES;
        ensure!((2 << 20..4 << 20).contains(&bytes), "{bytes} bytes are left");
        // By time, which is set when the records are there.
        done(&site, "create", &["brief", "1"])?;
        fill(stage, &site, "brief", STORED_BYTES)?;
        ensure!(used(&stage.path("broker"))? > STORED_BYTES);
        done(&site, "set", &["brief", "retention.ms=1"])?;
        ensure!(admin(&site, "describe", &["brief", "retention.ms"])? == "1");
        wait_for_space(stage, empty + (3 << 20))?;
        ensure!(read_topic(site.kafka(), "brief")?.is_empty());
        // By hand.
        done(&site, "create", &["emptied", "1"])?;
        fill(stage, &site, "emptied", STORED_BYTES)?;
        let told = admin(&site, "delete-records", &["emptied", "0", "-1"])?;
        let all = STORED_BYTES / VALUE_BYTES as u64;
        ensure!(told == format!("done\n{all}"), "{told}");
        wait_for_space(stage, empty + (3 << 20))?;
        // With their topic.
        done(&site, "create", &["gone", "1"])?;
        fill(stage, &site, "gone", STORED_BYTES)?;
        ensure!(used(&stage.path("broker"))? > STORED_BYTES);
        let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
        let kafka = site.kafka().to_string();
        let output =
            run_tool(python, &[e2e::CONFLUENT_KAFKA_CLIENT, "delete", &kafka, "gone"], PATIENCE)?;
        ensure!(output.status.success());
        wait_for_space(stage, empty + (3 << 20))?;
        // What others have stored is all there, also after a crash.
        process.kill()?;
        process = broker(&site)?.start()?;
        ensure!(read_topic(site.kafka(), "small")? == left);
        process.check_running()
    });
}

#[test]
fn configs_and_partitions_change_while_clients_go_on() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        done(&site, "create", &[TOPIC, "1"])?;
        let described = |names: &[&str]| admin(&site, "describe", &[&[TOPIC], names].concat());
        ensure!(described(&["retention.ms", "cleanup.policy"])? == "604800000\ndelete");
        done(&site, "set", &[TOPIC, "retention.ms=1000000", "max.message.bytes=500"])?;
        ensure!(described(&["retention.ms", "max.message.bytes"])? == "1000000\n500");
        ensure!(admin(&site, "set", &[TOPIC, "retention.ms=soon"])? == "INVALID_CONFIG");
        ensure!(admin(&site, "set", &["none", "retention.ms=1"])? == "UNKNOWN_TOPIC_OR_PART");
        java(&site, "TopicCommand", &["--alter", "--topic", TOPIC, "--partitions", "3"])?;
        ensure!(admin(&site, "partitions", &[TOPIC, "2"])? == "INVALID_PARTITIONS");
        let told = java(&site, "TopicCommand", &["--describe", "--topic", TOPIC])?;
        for text in ["PartitionCount: 3", "retention.ms=1000000", "max.message.bytes=500"] {
            ensure!(told.contains(text), "{text} is not in {told}");
        }
        process.kill()?;
        process = broker(&site)?.start()?;
        ensure!(described(&["retention.ms", "max.message.bytes"])? == "1000000\n500");
        // A compacted topic takes only records with keys.
        done(&site, "set", &[TOPIC, "cleanup.policy=compact"])?;
        let file = stage.path("keyless");
        std::fs::write(&file, "value")?;
        let (kafka, file) = (site.kafka().to_string(), file.to_string_lossy());
        let keyless = ["-P", "-b", &kafka, "-t", TOPIC, "-l", &file];
        let output = run_tool("kcat", &keyless, PATIENCE)?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(complaint.contains("Delivery failed"), "kcat: {complaint}");
        let keyed = [&keyless[..], &["-K", "u"]].concat();
        let output = run_tool("kcat", &keyed, PATIENCE)?;
        ensure!(output.status.success());
        ensure!(read_topic(site.kafka(), TOPIC)?.len() == 1);
        process.check_running()
    });
}

#[test]
fn a_topic_grows_under_a_gateway_and_loses_and_doubles_nothing() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let ids: Vec<String> = (0..30).map(|number| format!("device-{number}")).collect();
        let mut devices = Vec::new();
        for id in &ids {
            devices.push(Client::open(site.mqtt(), Version::V5, id)?);
        }
        for round in ["1", "2", "3", "4"] {
            for device in &mut devices {
                device.publish("t", round.as_bytes())?;
            }
            match round {
                "1" => done(&site, "partitions", &["telemetry", "24"])?,
                // Perhaps with readings on their way, which stay where they were assigned to, and then without.
                "2" | "3" => {
                    if round == "3" {
                        wait_until_delivered(&mut gateway, PATIENCE)?;
                    }
                    let sessions = gateway.logged("session open");
                    process.kill()?;
                    process = broker(&site)?.start()?;
                    until("another session", PATIENCE, || {
                        Ok((gateway.logged("session open") > sessions).then_some(()))
                    })?;
                }
                _ => wait_until_delivered(&mut gateway, PATIENCE)?,
            }
        }
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        ensure!(records.len() == 4 * ids.len(), "{} records", records.len());
        for id in &ids {
            let own: Vec<&Record> = records.iter().filter(|r| r.key_text() == *id).collect();
            let mut values: Vec<String> = own.iter().map(|r| r.value_text()).collect();
            values.sort();
            ensure!(values == ["1", "2", "3", "4"], "{id}: {values:?}");
        }
        let last = records.iter().filter(|record| record.value_text() == "4");
        let behind = last.filter(|record| record.partition >= 12).count();
        ensure!((5..25).contains(&behind), "{behind} of 30 devices are in the new partitions");
        process.check_running()
    });
}

#[test]
fn offsets_of_a_group_are_deleted_by_kafka_s_tool() {
    scenario(&[Tool::Kcat, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        produce(stage, &site, TOPIC, &["a".to_owned(), "b".to_owned()])?;
        let of_group = ["--group", "billing", "--topic", TOPIC];
        let reset = ["--reset-offsets", "--to-latest", "--execute"];
        java(&site, "consumer.group.ConsumerGroupCommand", &[&of_group[..], &reset].concat())?;
        let told = java(
            &site,
            "consumer.group.ConsumerGroupCommand",
            &[&of_group[..], &["--delete-offsets"]].concat(),
        )?;
        ensure!(told.contains("Request succeed"), "{told}");
        let described = java(
            &site,
            "consumer.group.ConsumerGroupCommand",
            &["--group", "billing", "--describe", "--offsets"],
        )?;
        ensure!(!described.contains(TOPIC), "{described}");
        process.check_running()
    });
}

/// Flips a bit in the only place of the log's folder that holds this text.
fn damage(folder: &Path, text: &str) -> Result<()> {
    let mut found = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path)?;
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes)?;
            found += 1;
        }
    }
    ensure!(found == 1, "{text:?} is in {found} files");
    Ok(())
}

#[test]
fn clients_tell_their_users_of_damage_and_skip_nothing() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let lines: Vec<String> = (0..10).map(|number| format!("order-{number}")).collect();
        for line in &lines {
            // Each in a batch of its own.
            produce(stage, &site, TOPIC, std::slice::from_ref(line))?;
        }
        // What a start replays it checks itself, and refuses to start.
        process.interrupt()?;
        process.wait(PATIENCE)?;
        damage(&stage.path("broker").join("wal"), "order-5")?;
        process = broker(&site)?.start()?;
        let kafka = site.kafka().to_string();
        let intact = lines[..5].join("\n");
        // kcat ends with the error.
        let read = ["-C", "-b", &kafka, "-t", TOPIC, "-p", "0", "-q", "-o"];
        let output = run_tool("kcat", &[&read[..], &["beginning"]].concat(), PATIENCE)?;
        let (printed, complaint) = (
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        ensure!(printed == intact, "{printed}");
        ensure!(
            !output.status.success() && complaint.contains("Invalid message"),
            "kcat: {complaint}"
        );
        // So does Kafka's own consumer.
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let fixed = kafka_tool(class)?;
        let all = fixed.iter().map(String::as_str);
        #[rustfmt::skip]
        let arguments = [
            "--bootstrap-server", &kafka, "--topic", TOPIC, "--partition", "0",
            "--offset", "earliest", "--timeout-ms", "600000",
        ];
        let all: Vec<&str> = all.chain(arguments).collect();
        let output = run_tool("java", &all, JVM_PATIENCE)?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(printed == intact, "{printed}\n{complaint}");
        // It would wait ten minutes for more if it had not been told; what it says goes to a log that is not set up here.
        ensure!(complaint.contains("Processed a total of 5 messages"), "{complaint}");
        // Who decides to go on behind it can.
        let behind = [&read[..], &["6", "-e"]].concat();
        let output = run_tool("kcat", &behind, PATIENCE)?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(printed == lines[6..].join("\n"), "{printed}");
        process.check_running()
    });
}
