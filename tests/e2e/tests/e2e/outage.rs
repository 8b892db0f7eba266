//! A broker that is away: devices do not notice, and what they published arrives when it is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Device, DevicePlan, PATIENCE, Process, Site, Tool, check_dense, check_device, read_topic,
    scenario, until, wait_until_delivered,
};

/// Memory that a gateway may take however long the outage: its backlog is on the disk.
const GATEWAY_RESIDENT_BYTES_MAX: u64 = 150 << 20;

/// A restarted broker answers with a stateless reset, so gateways need not wait out QUIC's idle timeout of 60 s. What this
/// takes is printed; the bound leaves room for the backoff of a connection attempt that met nobody.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// An acknowledgement that takes longer is one that a publisher notices.
const ACK_TIME_MAX: Duration = Duration::from_secs(5);

const SESSION_OPEN: &str = "uplink: session open";

fn start_devices(site: &Site<'_>, count: u64) -> Vec<Device> {
    let start = |number| {
        let plan = DevicePlan {
            mqtt: site.mqtt(),
            client_id: format!("dev-{number}"),
            queue: number,
            window: 16,
            // The first publishes as fast as it can.
            pause: Duration::from_millis(number - 1),
        };
        plan.start()
    };
    (1..=count).map(start).collect()
}

fn acked(devices: &[Device]) -> u64 {
    devices.iter().map(Device::acked).sum()
}

fn wait_until_connected(gateway: &Process, sessions: usize) -> Result<()> {
    until("a session with the broker", PATIENCE, || {
        Ok((gateway.logged(SESSION_OPEN) > sessions).then_some(()))
    })
}

#[test]
fn publishers_do_not_notice_an_outage_and_the_backlog_drains_by_itself() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        wait_until_connected(&gateway, 0)?;
        let devices = start_devices(&site, 4);
        until("the first deliveries", PATIENCE, || {
            let delivered = site.gateway_metric("culvert_gateway_readings_delivered_total")?;
            Ok((delivered > 0.0).then_some(()))
        })?;

        broker.kill()?;
        let away_since = Instant::now();
        let mut resident_max = 0;
        while away_since.elapsed() < stage.settings.outage {
            let before = acked(&devices);
            std::thread::sleep(Duration::from_secs(1));
            gateway.check_running()?;
            resident_max = resident_max.max(gateway.resident_bytes()?);
            ensure!(acked(&devices) > before, "no acknowledgement for a second");
        }
        let reports: Result<Vec<_>> = devices.into_iter().map(Device::finish).collect();
        let reports = reports?;
        for report in &reports {
            ensure!(report.connections == 1, "it reconnected: {report:?}");
            ensure!(report.ack_time_max < ACK_TIME_MAX, "it waited: {report:?}");
        }
        let backlog = site.gateway_metric("culvert_gateway_spool_readings")?;
        ensure!(backlog > 0.0, "nothing was kept");

        let sessions = gateway.logged(SESSION_OPEN);
        let mut broker = site.broker()?.start()?;
        let back_since = Instant::now();
        wait_until_connected(&gateway, sessions)?;
        let noticed = back_since.elapsed();
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let drained = back_since.elapsed();
        resident_max = resident_max.max(gateway.resident_bytes()?);
        eprintln!(
            "away for {} s: {backlog} readings kept; back: noticed after {} ms, drained after {} ms; gateway {} MiB at most",
            stage.settings.outage.as_secs(),
            noticed.as_millis(),
            drained.as_millis(),
            resident_max >> 20
        );
        ensure!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
        ensure!(resident_max < GATEWAY_RESIDENT_BYTES_MAX, "the gateway took {resident_max} bytes");
        broker.check_running()?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        reports.iter().try_for_each(|report| check_device(&records, report))
    });
}

#[test]
fn a_restarted_broker_is_noticed_at_once() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        wait_until_connected(&gateway, 0)?;
        let devices = start_devices(&site, 2);
        for _ in 0..3 {
            let before = acked(&devices);
            until("frames in flight", PATIENCE, || {
                Ok((acked(&devices) > before + 100).then_some(()))
            })?;
            let sessions = gateway.logged(SESSION_OPEN);
            broker.kill()?;
            broker = site.broker()?.start()?;
            let back_since = Instant::now();
            wait_until_connected(&gateway, sessions)?;
            let noticed = back_since.elapsed();
            eprintln!("a restarted broker was noticed after {} ms", noticed.as_millis());
            ensure!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
        }
        let reports: Result<Vec<_>> = devices.into_iter().map(Device::finish).collect();
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        reports?.iter().try_for_each(|report| check_device(&records, report))
    });
}
