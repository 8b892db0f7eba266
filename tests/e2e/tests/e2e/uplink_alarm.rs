//! What stops the uplink, loudly: histories that do not fit together after a restore or a clone, a disk that changes what it
//! was given. Nothing is lost or doubled, and new readings are kept.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::{
    Client, PATIENCE, Process, Record, Site, Tool, Version, check_dense, confluent_kafka,
    read_topic, scenario, until, wait_until_delivered,
};

const ALARM: &str = "culvert_gateway_uplink_alarm";

const READINGS: usize = 20;

fn publish(site: &Site<'_>, text: &str) -> Result<()> {
    let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
    for number in 0..READINGS {
        client.publish("t", format!("{text} {number}").as_bytes())?;
    }
    Ok(())
}

/// The uplink has stopped and says so, and new readings are taken in and kept.
fn check_stopped(site: &Site<'_>, gateway: &mut Process, kept: usize) -> Result<()> {
    until("the alarm", PATIENCE, || {
        gateway.check_running()?;
        // A gateway that has just started has no figures yet.
        let alarm = site.gateway_metric(ALARM);
        Ok(alarm.is_ok_and(|alarm| alarm == 1.0).then_some(()))
    })?;
    ensure!(gateway.logged("ERROR") > 0, "no error in the log");
    publish(site, "during the alarm")?;
    until("all readings in the spool", PATIENCE, || {
        let spooled = site.gateway_metric("culvert_gateway_spool_readings")?;
        Ok((spooled == (kept + READINGS) as f64).then_some(()))
    })
}

fn end(process: &mut Process) -> Result<()> {
    process.interrupt()?;
    ensure!(process.wait(PATIENCE)?.success(), "it ended badly");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[test]
fn a_broker_that_lost_its_log_is_noticed() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        publish(&site, "delivered")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        end(&mut broker)?;
        std::fs::remove_dir_all(stage.path("broker"))?;
        publish(&site, "kept")?;
        let _broker = site.broker()?.start()?;
        check_stopped(&site, &mut gateway, READINGS)?;
        gateway.kill()?;
        gateway = site.gateway()?.start()?;
        check_stopped(&site, &mut gateway, 2 * READINGS)
    });
}

#[test]
fn a_deleted_topic_is_noticed_and_its_readings_are_kept() {
    scenario(&[Tool::ConfluentKafka, Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        publish(&site, "deleted with its topic")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        confluent_kafka(&["delete", &site.kafka().to_string(), "telemetry"], PATIENCE)?;
        // Nothing has told the gateway yet; it hears of it by the first reading that it sends.
        publish(&site, "kept")?;
        check_stopped(&site, &mut gateway, READINGS)?;
        ensure!(gateway.logged("deleted and made anew") > 0, "the log does not say what happened");
        gateway.kill()?;
        gateway = site.gateway()?.start()?;
        check_stopped(&site, &mut gateway, 2 * READINGS)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        ensure!(records.is_empty(), "the new topic has {} records", records.len());
        Ok(())
    });
}

/// A disk that gives back other bytes than it was given, in the middle of a reading: SQLite has no checksum for that.
#[test]
fn a_damaged_reading_is_noticed_and_the_others_are_kept() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let mut gateway = site.gateway()?.start()?;
        publish(&site, "rotten")?;
        end(&mut gateway)?;
        let database = stage.path("gateway").join("spool.db");
        let mut bytes = std::fs::read(&database)?;
        let at = bytes.windows(8).position(|window| window == b"rotten 7");
        bytes[at.context("the reading is in the database")?] ^= 1;
        std::fs::write(&database, bytes)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        check_stopped(&site, &mut gateway, READINGS)?;
        ensure!(gateway.logged("damaged") > 0, "the log does not say what is damaged");
        Ok(())
    });
}

#[test]
fn a_restored_spool_is_noticed() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        publish(&site, "before the copy")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        end(&mut gateway)?;
        copy(&stage.path("gateway"), &stage.path("copy"))?;

        gateway = site.gateway()?.start()?;
        publish(&site, "after the copy")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        end(&mut gateway)?;
        std::fs::remove_dir_all(stage.path("gateway"))?;
        std::fs::rename(stage.path("copy"), stage.path("gateway"))?;

        gateway = site.gateway()?.start()?;
        publish(&site, "into the copy")?;
        check_stopped(&site, &mut gateway, READINGS)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        let values: Vec<String> = records.iter().map(Record::value_text).collect();
        let expected: Vec<String> = ["before the copy", "after the copy"]
            .iter()
            .flat_map(|text| (0..READINGS).map(move |number| format!("{text} {number}")))
            .collect();
        ensure!(values == expected, "{values:?}");
        Ok(())
    });
}

#[test]
fn a_spool_is_one_process_s_and_one_gateway_s() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let mut gateway = site.gateway()?.start()?;
        let own = site.authority.gateway("plant-1")?;
        let mut second = site.other_gateway("gateway", &site.authority, &own)?.spawn()?;
        ensure!(!second.wait(PATIENCE)?.success(), "two processes have one spool");
        ensure!(second.log().contains("in use by another process"), "{}", second.log());
        end(&mut gateway)?;
        let other = site.authority.gateway("plant-2")?;
        let mut renamed = site.other_gateway("gateway", &site.authority, &other)?.spawn()?;
        ensure!(!renamed.wait(PATIENCE)?.success(), "a spool changed its gateway");
        let log = renamed.log();
        ensure!(log.contains("plant-1") && log.contains("plant-2"), "{log}");
        Ok(())
    });
}
