//! Disks that are slow or broken: an acknowledgement waits for the sync, and never comes without it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Client, PATIENCE, Packet, Process, Site, Subscriber, SyncShim, Tool, Version, check_dense,
    check_present, produce, read_topic, scenario, until, wait_until_delivered,
};

const TOOLS: &[Tool] = &[Tool::Cc, Tool::Kcat];

const DELAY: Duration = Duration::from_millis(500);

const DELIVERED: &str = "culvert_gateway_readings_delivered_total";

/// No answer within this time is none: far longer than a commit, shorter than a client's keep-alive.
const SILENCE: Duration = Duration::from_secs(3);

/// Far longer than anything here waits.
const HANG: Duration = Duration::from_secs(120);

/// A process whose disk has failed ends by itself, with an error that names the part.
fn check_fatal_end(process: &mut Process, part: &str) -> Result<()> {
    let status = process.wait(PATIENCE)?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    let log = process.log();
    let named = log.lines().any(|line| line.contains("ERROR") && line.contains(part));
    ensure!(named, "no error of the {part} in the log:\n{log}");
    Ok(())
}

#[test]
fn no_puback_comes_before_the_sync() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let _gateway = shim.before(site.gateway()?).start()?;
        for version in [Version::V5, Version::V311] {
            let mut client = Client::open(site.mqtt(), version, "dev1")?;
            client.publish("t", b"fast")?;
            let syncs = shim.syncs();
            shim.delay(DELAY)?;
            for _ in 0..3 {
                let took = client.publish("t", b"slow")?;
                ensure!(took >= DELAY, "a PUBACK came after {took:?}");
            }
            ensure!(shim.syncs() >= syncs + 3, "a publish was not synced");
            check_pipelined(&mut client)?;
            shim.pass()?;
        }
        Ok(())
    });
}

/// Many publishes at a time: none is acknowledged early, because another one's sync ends.
fn check_pipelined(client: &mut Client) -> Result<()> {
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push((client.publish_only("t", b"pipelined")?, Instant::now()));
        if number % 5 == 4 {
            std::thread::sleep(DELAY / 5);
        }
    }
    for (expected, sent_at) in sent {
        let packet = client.receive(PATIENCE)?;
        let took = sent_at.elapsed();
        ensure!(
            packet == Some(Packet::Puback { packet_id: expected, reason: 0 }),
            "{packet:?} where PUBACK {expected} is due"
        );
        ensure!(took >= DELAY, "PUBACK {expected} came after {took:?}");
    }
    Ok(())
}

#[test]
fn no_puback_comes_when_the_sync_fails() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let mut acked = Vec::new();
        for version in [Version::V5, Version::V311] {
            shim.pass()?;
            let mut gateway = shim.before(site.gateway()?).start()?;
            let mut client = Client::open(site.mqtt(), version, "dev1")?;
            for number in 0..5 {
                let reading = format!("{version:?} {number}");
                client.publish("t", reading.as_bytes())?;
                acked.push(reading);
            }
            shim.fail()?;
            client.publish_only("t", b"never acknowledged")?;
            let answer = client.receive(SILENCE);
            ensure!(
                !matches!(answer, Ok(Some(Packet::Puback { .. }))),
                "a failed sync was acknowledged"
            );
            check_fatal_end(&mut gateway, "spool")?;
        }
        shim.pass()?;
        let _broker = site.broker()?.start()?;
        let mut gateway = shim.before(site.gateway()?).start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        check_present(&records, "dev1", &acked)
    });
}

/// A local subscriber must not see what a crash could undo.
#[test]
fn subscribers_get_nothing_before_the_sync_and_nothing_without_it() {
    scenario(&[Tool::Cc, Tool::Mosquitto], |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let mut gateway = shim.before(site.gateway()?).start()?;
        let subscriber = Subscriber::start(site.mqtt(), "%p", &["-t", "t"])?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        shim.delay(DELAY)?;
        let sent_at = Instant::now();
        client.publish_only("t", b"slow")?;
        subscriber.messages(1)?;
        ensure!(sent_at.elapsed() >= DELAY, "it came after {:?}", sent_at.elapsed());
        shim.fail()?;
        client.publish_only("t", b"never stored")?;
        check_fatal_end(&mut gateway, "spool")?;
        ensure!(subscriber.received()? == ["slow"], "{:?}", subscriber.received()?);
        Ok(())
    });
}

#[test]
fn the_broker_acknowledges_nothing_before_the_sync() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let mut broker = shim.before(site.broker()?).start()?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        client.publish("t", b"0")?;
        produce(site.kafka(), "produced", "0", PATIENCE)?;
        wait_until_delivered(&mut gateway, PATIENCE)?;

        shim.delay(DELAY)?;
        let began = Instant::now();
        produce(site.kafka(), "produced", "1", PATIENCE)?;
        let took = began.elapsed();
        ensure!(took >= DELAY, "a Produce was acknowledged after {took:?}");

        let before = site.gateway_metric(DELIVERED)?;
        let began = Instant::now();
        client.publish("t", b"1")?;
        until("the reading to be delivered", PATIENCE, || {
            Ok((site.gateway_metric(DELIVERED)? > before).then_some(()))
        })?;
        let took = began.elapsed();
        ensure!(took >= DELAY, "an APPEND was acknowledged after {took:?}");
        broker.check_running()
    });
}

#[test]
fn the_broker_acknowledges_nothing_when_the_sync_fails() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        let mut acked = Vec::new();
        for producing in [false, true] {
            shim.pass()?;
            let mut broker = shim.before(site.broker()?).start()?;
            produce(site.kafka(), "produced", "0", PATIENCE)?;
            wait_until_delivered(&mut gateway, PATIENCE)?;
            let before = site.gateway_metric(DELIVERED)?;
            shim.fail()?;
            if producing {
                let outcome = produce(site.kafka(), "produced", "1", SILENCE);
                ensure!(outcome.is_err(), "a failed sync was acknowledged to kcat");
            }
            let reading = format!("while failing {producing}");
            client.publish("t", reading.as_bytes())?;
            acked.push(reading);
            check_fatal_end(&mut broker, "wal")?;
            let after = site.gateway_metric(DELIVERED)?;
            ensure!(before == after, "{before} delivered, then {after}");
        }
        shim.pass()?;
        let _broker = shim.before(site.broker()?).start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        ensure!(records.len() == acked.len(), "{records:?}");
        check_present(&records, "dev1", &acked)
    });
}

/// A disk that hangs says nothing, so the broker has to: it is not ready, and after a while it gives the disk up although a
/// thread of it still waits.
#[test]
fn the_broker_gives_a_disk_up_that_hangs() {
    scenario(&[Tool::Cc, Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let launch = || Ok::<_, anyhow::Error>(site.broker()?.flag("--sync-timeout-ms", "2000"));
        let mut broker = shim.before(launch()?).start()?;
        produce(site.kafka(), "produced", "0", PATIENCE)?;
        shim.delay(HANG)?;
        let outcome = produce(site.kafka(), "produced", "1", SILENCE);
        ensure!(outcome.is_err(), "a sync that hangs was acknowledged");
        let began = Instant::now();
        check_fatal_end(&mut broker, "has not finished a sync for 2000 ms")?;
        ensure!(began.elapsed() < HANG / 2, "it has waited for the disk");
        shim.pass()?;
        let _broker = launch()?.start()?;
        let records = read_topic(site.kafka(), "produced")?;
        check_dense(&records)?;
        ensure!(!records.is_empty(), "what was acknowledged is lost");
        Ok(())
    });
}
