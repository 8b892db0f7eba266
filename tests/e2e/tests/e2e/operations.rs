//! What an operator's tools see: metrics and probes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Client, PATIENCE, Site, Tool, Version, get, metric, produce, request, scenario, until, up,
    wait_until_delivered,
};

/// Longer than anything that the broker does from time to time.
const QUIET: Duration = Duration::from_secs(12);

/// Checks that everything served under `/metrics` begins with one of `prefixes`, and that each has some.
fn check_names(http: SocketAddr, prefixes: &[&str]) -> Result<()> {
    let answer = get(http, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(answer.headers.contains("content-type: text/plain"), "{}", answer.headers);
    let samples: Vec<&str> =
        answer.body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for sample in &samples {
        let named = prefixes.iter().any(|prefix| sample.starts_with(prefix));
        ensure!(named, "{sample} does not begin with any of {prefixes:?}");
    }
    for prefix in prefixes {
        let some = samples.iter().any(|sample| sample.starts_with(prefix));
        ensure!(some, "nothing begins with {prefix} in:\n{}", answer.body);
    }
    Ok(())
}

fn check_probes(http: SocketAddr) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let answer = get(http, path)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    ensure!(get(http, "/nothing")?.status == 404, "an unknown path");
    ensure!(request(http, "POST", "/metrics")?.status == 405, "a POST");
    Ok(())
}

/// Whoever collects what is logged may end, or start anew, at any time.
#[test]
fn processes_whose_log_nobody_reads_go_on() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.unread()?.start()?;
        let mut gateway = site.gateway()?.unread()?.start()?;
        Client::open(site.mqtt(), Version::V5, "dev1")?.publish("t", b"1")?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        for process in [&mut gateway, &mut broker] {
            process.interrupt()?;
            let status = process.wait(PATIENCE)?;
            ensure!(status.success(), "it ended with {status}");
        }
        let mut up = up(stage)?.unread()?.start()?;
        up.interrupt()?;
        ensure!(up.wait(PATIENCE)?.success(), "up ended badly");
        Ok(())
    });
}

#[test]
fn both_processes_have_metrics_and_probes() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        for _ in 0..10 {
            client.publish("t", b"1")?;
        }
        wait_until_delivered(&mut gateway, PATIENCE)?;
        check_names(site.gateway_http(), &["culvert_gateway_"])?;
        check_names(site.broker_http(), &["culvert_broker_"])?;
        check_probes(site.gateway_http())?;
        check_probes(site.broker_http())?;
        for (name, value) in [
            ("culvert_gateway_readings_received_total", 10.0),
            ("culvert_gateway_readings_delivered_total", 10.0),
            ("culvert_gateway_spool_readings", 0.0),
            ("culvert_gateway_mqtt_connections", 1.0),
            ("culvert_gateway_uplink_connected", 1.0),
            ("culvert_gateway_uplink_alarm", 0.0),
        ] {
            until(&format!("{name} to be {value}"), PATIENCE, || {
                Ok((site.gateway_metric(name)? == value).then_some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn up_serves_both_parts_on_one_listener() {
    scenario(&[], |stage| {
        let mut process = up(stage)?.start()?;
        let http = process.address("http")?;
        until("the uplink", PATIENCE, || {
            let connected = metric(http, "culvert_gateway_uplink_connected");
            Ok(connected.is_ok_and(|value| value == 1.0).then_some(()))
        })?;
        check_names(http, &["culvert_gateway_", "culvert_broker_"])?;
        check_probes(http)
    });
}

#[test]
fn a_gateway_without_a_broker_is_alive() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let mut gateway = site.gateway()?.start()?;
        let mut client = Client::open(site.mqtt(), Version::V5, "dev1")?;
        client.publish("t", b"1")?;
        ensure!(get(site.gateway_http(), "/healthz")?.status == 200);
        until("one reading in the spool", PATIENCE, || {
            let spooled = site.gateway_metric("culvert_gateway_spool_readings")?;
            Ok((spooled == 1.0).then_some(()))
        })?;
        ensure!(site.gateway_metric("culvert_gateway_uplink_connected")? == 0.0);
        gateway.check_running()
    });
}

/// Disks of small machines wear out by what is written for nothing.
#[test]
fn a_broker_that_nobody_writes_to_writes_nothing() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let broker = site.broker()?.start()?;
        for value in ["a", "b", "c"] {
            produce(site.kafka(), "t", value, PATIENCE)?;
        }
        let mut last = (broker.written_bytes()?, Instant::now());
        until("quiet", PATIENCE, || {
            let written = broker.written_bytes()?;
            if written != last.0 {
                last = (written, Instant::now());
            }
            Ok((last.1.elapsed() >= QUIET).then_some(()))
        })
    });
}
