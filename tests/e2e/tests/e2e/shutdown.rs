//! Ctrl-C: processes end well and soon, and keep what they acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Client, DevicePlan, PATIENCE, Process, Publisher, Site, Stage, SyncShim, Tool, Version,
    check_dense, check_device, check_present, read_topic, scenario, until, up,
    wait_until_delivered,
};

const END_WITHIN: Duration = Duration::from_secs(5);

/// Sends SIGINT and checks that the process ends well and in time.
fn interrupt(process: &mut Process) -> Result<()> {
    process.interrupt()?;
    let began = Instant::now();
    let status = process.wait(PATIENCE)?;
    let took = began.elapsed();
    ensure!(status.code() == Some(0), "it ended with {status}");
    ensure!(took < END_WITHIN, "it took {took:?} to end");
    Ok(())
}

#[test]
fn up_ends_by_ctrl_c_and_keeps_what_it_acknowledged() {
    scenario(&[Tool::Mosquitto, Tool::Kcat], |stage| {
        let start = || -> Result<Process> {
            let launch = up(stage)?.flag("--gateway-id", "site-7");
            launch.start()
        };
        let mut process = start()?;
        let mqtt = process.address("mqtt")?;
        let publishers = ["5", "311"].map(|version| Publisher::start(mqtt, version, version));
        let mut client = Client::open(mqtt, Version::V5, "dev1")?;
        let mut acked = Vec::new();
        for number in 0..200 {
            let reading = format!("reading {number}");
            client.publish("t", reading.as_bytes())?;
            acked.push(reading);
        }
        interrupt(&mut process)?;
        let reports: Result<Vec<_>> = publishers.into_iter().map(Publisher::finish).collect();

        let mut process = start()?;
        wait_until_delivered(&mut process, PATIENCE)?;
        let records = read_topic(process.address("kafka")?, "telemetry")?;
        check_dense(&records)?;
        check_present(&records, "dev1", &acked)?;
        for report in reports? {
            check_present(&records, &report.client_id, &report.acked)?;
        }
        let named = records.iter().all(|record| record.header("culvert.gateway") == Some("site-7"));
        ensure!(named, "a record does not name its gateway");
        interrupt(&mut process)
    });
}

#[test]
fn gateway_and_broker_end_by_ctrl_c_under_load() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let plan = DevicePlan {
            mqtt: site.mqtt(),
            client_id: "dev1".to_owned(),
            queue: 1,
            window: 16,
            pause: Duration::from_millis(1),
        };
        let device = plan.start();
        let progress = || {
            let before = device.acked();
            until("acknowledgements", PATIENCE, || Ok((device.acked() > before + 50).then_some(())))
        };
        progress()?;
        interrupt(&mut gateway)?;
        gateway = site.gateway()?.start()?;
        progress()?;
        interrupt(&mut broker)?;
        broker = site.broker()?.start()?;
        progress()?;
        let report = device.finish()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        check_device(&records, &report)?;
        interrupt(&mut gateway)?;
        interrupt(&mut broker)
    });
}

/// A log that takes minutes to replay does not either.
#[test]
fn a_disk_that_hangs_at_the_start_does_not_hold_up_the_end() {
    scenario(&[Tool::Cc], |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        shim.delay(2 * PATIENCE)?;
        let mut broker = shim.before(site.broker()?).spawn()?;
        until("the first sync", PATIENCE, || {
            broker.check_running()?;
            Ok((shim.syncs() > 0).then_some(()))
        })?;
        interrupt(&mut broker)
    });
}

#[test]
fn idle_clients_do_not_hold_up_the_end() {
    scenario(&[], |stage| {
        let mut process = up(stage)?.start()?;
        let connect = |name| -> Result<_> {
            let address = process.address(name)?;
            Ok(std::net::TcpStream::connect(address)?)
        };
        let mut connect = connect;
        let _idle = (connect("mqtt")?, connect("kafka")?, connect("http")?);
        let _client = Client::open(process.address("mqtt")?, Version::V311, "idle")?;
        interrupt(&mut process)
    });
}

#[test]
fn a_client_of_version_5_is_told_that_the_gateway_stops() {
    scenario(&[], |stage: &Stage| {
        let mut process = up(stage)?.start()?;
        let mut client = Client::open(process.address("mqtt")?, Version::V5, "dev1")?;
        process.interrupt()?;
        let packet = client.receive(PATIENCE)?;
        let told = packet == Some(e2e::Packet::Disconnect { reason: 0x8b });
        ensure!(told, "received {packet:?}");
        ensure!(process.wait(PATIENCE)?.success(), "it ended badly");
        Ok(())
    });
}
