//! SIGKILL at random moments under load: what was acknowledged is in the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Chance, Device, DevicePlan, PATIENCE, Process, Publisher, Site, Stage, SyncShim, Tool,
    check_dense, check_device, check_present, read_topic, scenario, until, wait_until_delivered,
};

const TOOLS: &[Tool] = &[Tool::Mosquitto, Tool::Kcat];

/// The longest that a process lives between two kills.
const LIFE_MAX: Duration = Duration::from_millis(700);

/// The moments right after a start are the rarest, and every second kill is meant to find one of the others.
const CATCH_UP: Duration = Duration::from_secs(20);

/// A sync of a poor memory card.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// Clients that publish all the time, in several ways: fast and slow, one at a time and many, numbered and not.
struct Load {
    devices: Vec<Device>,
    publishers: Vec<Publisher>,
}

impl Load {
    fn start(site: &Site<'_>) -> Self {
        let device = |number: u64, window: usize, pause_ms: u64| {
            let plan = DevicePlan {
                mqtt: site.mqtt(),
                client_id: format!("dev-{number}"),
                queue: 1_000 + number,
                window,
                pause: Duration::from_millis(pause_ms),
            };
            plan.start()
        };
        Self {
            devices: vec![device(1, 1, 1), device(2, 16, 1), device(3, 50, 0), device(4, 8, 25)],
            publishers: vec![
                Publisher::start(site.mqtt(), "5", "mosq-5"),
                Publisher::start(site.mqtt(), "311", "mosq-311"),
            ],
        }
    }

    fn acked(&self) -> Vec<u64> {
        self.devices.iter().map(Device::acked).collect()
    }

    /// Waits until every device has got on since `before`.
    fn wait_for_progress(&self, before: &[u64]) -> Result<()> {
        until("acknowledgements for every device", CATCH_UP, || {
            let now = self.acked();
            let all = now.iter().zip(before).all(|(now, before)| now > before);
            Ok(all.then_some(()))
        })
    }

    /// Ends the load, waits for the last delivery, and holds the log against what was acknowledged.
    fn settle(self, site: &Site<'_>, gateway: &mut Process) -> Result<()> {
        let publishers: Result<Vec<_>> =
            self.publishers.into_iter().map(Publisher::finish).collect();
        let devices: Result<Vec<_>> = self.devices.into_iter().map(Device::finish).collect();
        let (publishers, devices) = (publishers?, devices?);
        wait_until_delivered(gateway, PATIENCE)?;
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        for report in &devices {
            check_device(&records, report)?;
            eprintln!(
                "{}: {} readings over {} connections, once and in order",
                report.client_id, report.acked, report.connections
            );
            ensure!(report.acked > 0, "{} had nothing acknowledged", report.client_id);
        }
        for report in &publishers {
            check_present(&records, &report.client_id, &report.acked)?;
            eprintln!(
                "{}: {} readings, none lost; {} attempts failed",
                report.client_id,
                report.acked.len(),
                report.failed
            );
            ensure!(!report.acked.is_empty(), "{} had no success", report.client_id);
        }
        Ok(())
    }
}

fn chance(stage: &Stage) -> Chance {
    eprintln!("CULVERT_SEED={}", stage.settings.seed);
    Chance::new(stage.settings.seed)
}

#[test]
fn a_killed_gateway_loses_and_doubles_nothing() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let mut chance = chance(stage);
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let load = Load::start(&site);
        for round in 0..stage.settings.kill_rounds {
            if round % 2 == 1 {
                load.wait_for_progress(&load.acked())?;
            }
            std::thread::sleep(chance.below(LIFE_MAX));
            gateway.kill().with_context(|| format!("round {round}"))?;
            gateway = site.gateway()?.start()?;
        }
        load.settle(&site, &mut gateway)
    });
}

#[test]
fn a_killed_broker_loses_and_doubles_nothing() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let mut chance = chance(stage);
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let load = Load::start(&site);
        for round in 0..stage.settings.kill_rounds {
            if round % 2 == 1 {
                wait_for_delivery(&site, &mut broker)?;
            }
            std::thread::sleep(chance.below(LIFE_MAX));
            broker.kill().with_context(|| format!("round {round}"))?;
            broker = site.broker()?.start()?;
        }
        gateway.check_running()?;
        load.settle(&site, &mut gateway)
    });
}

/// With slow syncs most kills find readings that are written and not synced, not acknowledged, and not sent.
#[test]
fn both_killed_amid_slow_syncs_lose_and_double_nothing() {
    scenario(&[Tool::Cc, Tool::Mosquitto, Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        shim.delay(SLOW_SYNC)?;
        let start_broker = || shim.before(site.broker()?).start();
        let start_gateway = || shim.before(site.gateway()?).start();
        let mut chance = chance(stage);
        let mut broker = start_broker()?;
        let mut gateway = start_gateway()?;
        let load = Load::start(&site);
        for round in 0..stage.settings.kill_rounds / 2 {
            if round % 2 == 1 {
                wait_for_delivery(&site, &mut broker)?;
            }
            std::thread::sleep(chance.below(LIFE_MAX));
            broker.kill().with_context(|| format!("round {round}"))?;
            std::thread::sleep(chance.below(LIFE_MAX / 4));
            gateway.kill().with_context(|| format!("round {round}"))?;
            // They come back in either order.
            if chance.number().is_multiple_of(2) {
                broker = start_broker()?;
                gateway = start_gateway()?;
            } else {
                gateway = start_gateway()?;
                broker = start_broker()?;
            }
        }
        broker.check_running()?;
        load.settle(&site, &mut gateway)
    });
}

/// Waits until the log takes readings again.
fn wait_for_delivery(site: &Site<'_>, broker: &mut Process) -> Result<()> {
    let delivered = || site.gateway_metric("culvert_gateway_readings_delivered_total").ok();
    let before = delivered();
    until("the broker to take readings", CATCH_UP, || {
        broker.check_running()?;
        Ok((delivered() > before).then_some(()))
    })
}
