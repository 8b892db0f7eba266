//! The log as Kafka's clients see it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    Client, PATIENCE, Site, Tool, Version, check_dense, read_topic, run_tool, scenario,
    wait_until_delivered,
};

/// Runs kcat with these arguments and returns what it printed.
fn kcat(site: &Site<'_>, arguments: &[&str]) -> Result<String> {
    let broker = site.kafka().to_string();
    let mut all = vec!["-b", &broker, "-q"];
    all.extend(arguments);
    let output = run_tool("kcat", &all, PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat {arguments:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn topics_have_the_partitions_that_the_contract_says() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let list = kcat(&site, &["-L"])?;
        for line in [
            "topic \"telemetry\" with 12 partitions",
            "topic \"culvert.gateways\" with 1 partitions",
            &site.kafka().to_string(),
        ] {
            ensure!(list.contains(line), "{line:?} is not in:\n{list}");
        }
        let records = read_topic(site.kafka(), "culvert.gateways")?;
        let first = records.first().context("no session record")?;
        ensure!(first.key_text() == Site::GATEWAY, "{first:?}");
        Ok(())
    });
}

#[test]
fn a_device_s_partition_is_the_one_that_kafka_s_clients_choose() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let ids: Vec<String> = (0..30).map(|number| format!("größe-{number}")).collect();
        let mut lines = String::new();
        for id in &ids {
            Client::open(site.mqtt(), Version::V5, id)?.publish("t", b"from the gateway")?;
            lines.push_str(&format!("{id}:from kcat\n"));
        }
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let file = stage.path("lines");
        std::fs::write(&file, lines)?;
        let file = file.to_string_lossy();
        let topic = ["-t", "telemetry", "-P", "-K", ":", "-l", &file];
        let partitioner = ["-X", "topic.partitioner=murmur2_random", "-z", "lz4"];
        kcat(&site, &[&topic[..], &partitioner[..]].concat())?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        ensure!(records.len() == 2 * ids.len(), "{} records", records.len());
        for id in &ids {
            let own = records.iter().filter(|record| record.key_text() == *id);
            let places: Vec<u32> = own.map(|record| record.partition).collect();
            ensure!(places.len() == 2 && places[0] == places[1], "{id}: {places:?}");
        }
        Ok(())
    });
}

#[test]
fn offsets_are_found_by_time() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        for _ in 0..5 {
            client.publish("t", b"1")?;
            // Two readings need two milliseconds to differ by their times.
            std::thread::sleep(Duration::from_millis(3));
        }
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        ensure!(records.len() == 5, "{records:?}");
        for record in &records {
            let partition = record.partition;
            let query = format!("telemetry:{partition}:{}", record.timestamp);
            let found = kcat(&site, &["-Q", "-t", &query])?;
            let expected = format!("telemetry [{partition}] offset {}", record.offset);
            ensure!(found.trim() == expected, "{found:?} where {expected:?} is due");
        }
        Ok(())
    });
}

#[test]
fn a_waiting_consumer_gets_a_reading_at_once() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        client.publish("t", b"old")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        let partition = records.first().context("no record")?.partition.to_string();
        let consumer = std::thread::scope(|scope| {
            // The consumer would wait for a minute at the broker if nothing woke it.
            #[rustfmt::skip]
            let arguments = [
                "-C", "-t", "telemetry", "-p", &partition, "-o", "beginning", "-c", "2", "-f", "%s ",
                "-X", "fetch.wait.max.ms=60000", "-X", "socket.timeout.ms=70000",
            ];
            let site = &site;
            let consumer = scope.spawn(move || kcat(site, &arguments));
            e2e::until("a parked fetch", PATIENCE, || {
                let parked = e2e::metric(site.broker_http(), "culvert_broker_parked_fetches");
                Ok(parked.is_ok_and(|parked| parked >= 1.0).then_some(()))
            })?;
            let began = Instant::now();
            client.publish("t", b"new")?;
            let printed = consumer.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            Ok::<_, anyhow::Error>((printed, began.elapsed()))
        });
        let (printed, took) = consumer?;
        ensure!(printed.trim() == "old new", "{printed:?}");
        ensure!(took < Duration::from_secs(10), "it took {took:?}");
        Ok(())
    });
}
