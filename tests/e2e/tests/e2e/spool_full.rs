//! A spool that is full: publishes are refused by the protocol's means, and nothing that was acknowledged gives way.

use anyhow::{Result, bail, ensure};
use e2e::{
    Chance, Client, PATIENCE, Packet, Site, Tool, Version, check_dense, read_topic, scenario,
    until, wait_until_delivered,
};

/// The smallest spool that may be set.
const SPOOL_BYTES: &str = "33554432";

const READING_BYTES: usize = 128 << 10;

/// More than the spool can hold.
const READINGS_MAX: u64 = 1_000;

const QUOTA_EXCEEDED: u8 = 0x97;

/// A reading that cannot be compressed and can be made again.
fn reading(number: u64) -> Vec<u8> {
    Chance::new(number).bytes(READING_BYTES)
}

/// Publishes until something else than a PUBACK comes; returns that and the number of the refused reading.
fn fill(client: &mut Client, first: u64) -> Result<(u64, Option<Packet>)> {
    for number in first..READINGS_MAX {
        let packet_id = client.publish_only("t", &reading(number))?;
        match client.receive(PATIENCE)? {
            Some(Packet::Puback { packet_id: id, reason: 0 }) if id == packet_id => {}
            other => return Ok((number, other)),
        }
    }
    bail!("{READINGS_MAX} readings of {READING_BYTES} bytes fit into {SPOOL_BYTES}")
}

#[test]
fn a_full_spool_refuses_and_takes_again_once_drained() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let launch = site.gateway()?.flag("--spool-bytes-max", SPOOL_BYTES);
        let mut gateway = launch.start()?;

        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        let (acked, refusal) = fill(&mut client, 0)?;
        ensure!(acked > 100, "only {acked} readings fit");
        let refused = matches!(refusal, Some(Packet::Puback { reason: QUOTA_EXCEEDED, .. }));
        ensure!(refused, "a full spool answered {refusal:?}");
        let then = client.receive(PATIENCE)?;
        ensure!(then == Some(Packet::Disconnect { reason: QUOTA_EXCEEDED }), "then came {then:?}");
        ensure!(client.receive(PATIENCE)?.is_none(), "it went on");

        let mut old = Client::open(site.mqtt(), Version::V311, "dev1")?;
        let (acked, refusal) = fill(&mut old, acked)?;
        ensure!(refusal.is_none(), "3.1.1 was answered {refusal:?}");
        let refusals = site.gateway_metric("culvert_gateway_mqtt_publishes_refused_total")?;
        ensure!(refusals >= 2.0, "{refusals} refusals counted");
        gateway.check_running()?;

        let _broker = site.broker()?.start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        until("publishes to be taken again", PATIENCE, || {
            Ok(client.publish("t", &reading(acked)).ok())
        })?;
        wait_until_delivered(&mut gateway, PATIENCE)?;

        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        ensure!(
            records.len() as u64 == acked + 1,
            "{} acknowledged, {} in the log",
            acked + 1,
            records.len()
        );
        for (number, record) in (0..).zip(&records) {
            ensure!(
                record.value.as_deref() == Some(&reading(number)[..]),
                "reading {number} is another"
            );
        }
        Ok(())
    });
}

#[test]
fn a_full_spool_survives_a_restart_and_drains() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let launch =
            || Ok::<_, anyhow::Error>(site.gateway()?.flag("--spool-bytes-max", SPOOL_BYTES));
        let mut gateway = launch()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        let (acked, _) = fill(&mut client, 0)?;
        gateway.kill()?;
        let mut gateway = launch()?.start()?;
        let _broker = site.broker()?.start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        let found = records.len() as u64;
        ensure!(found == acked, "{acked} acknowledged, {found} in the log");
        Ok(())
    });
}
