//! The course of a demonstration.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use process::{Clock, watch_signals};
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use wire::limits::DEFAULT_TOPIC;

use super::display::{Display, Snapshot, UplinkState};
use super::fleet::{Fleet, READINGS_PER_SECOND, Tallies};
use super::ledger::{Audit, Finding};
use super::plan::Plan;
use super::site::Site;
use crate::kafka::{Start, TopicReader};
use crate::parts::Part;

/// Between two looks at how it stands.
const TICK: Duration = Duration::from_millis(100);

/// How long the gateway may take to reach the broker for the first time.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take until everything published has arrived, once the devices have stopped.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);

/// How long reading the log back may take.
const READ_PATIENCE: Duration = Duration::from_secs(120);

/// Plays `plan` with all data in `folder`.
///
/// # Errors
/// If it could not be played to its end. A ledger that does not balance is no error here: see [`Finding::complaints`].
pub async fn play(plan: &Plan, folder: &Path, display: &mut Display) -> Result<Finding> {
    let signals = Part::new();
    watch_signals(signals.trigger.clone());
    let clock = Clock::start();
    let site = Site::start(folder, clock).await?;
    let outcome = tokio::select! {
        () = signals.shutdown.requested() => Err(anyhow::anyhow!("interrupted")),
        error = site.failed() => Err(error),
        outcome = course(plan, &site, clock, display) => outcome,
    };
    site.stop().await;
    let finding = outcome?;
    display.conclude(plan.devices, &finding);
    Ok(finding)
}

async fn course(plan: &Plan, site: &Site, clock: Clock, display: &mut Display) -> Result<Finding> {
    let mut watch = Watch::new(site, display);
    let connected = watch.until(CONNECT_PATIENCE, |now| now.uplink == UplinkState::Connected);
    ensure!(connected.await?, "the gateway did not reach the broker");

    let fleet = Fleet::start(plan, site.mqtt(), clock).context("cannot start the devices")?;
    watch.begin(fleet.tallies.clone());
    let count = plan.devices;
    watch
        .announce(&format!("{count} devices publish {READINGS_PER_SECOND} readings a second each"));
    watch.until(plan.cut_at, never).await?;
    if plan.has_outage {
        site.relay.cut();
        watch.announce("uplink cut: readings now stay on the gateway's disk");
        watch.until(plan.restored_at, never).await?;
        watch.restore();
        watch.announce("uplink restored: the gateway sends what waited");
        ensure!(site.relay.dropped() > 0, "the cut had no effect");
    }
    watch.until(plan.publishing, never).await?;
    watch.announce("the devices stop; waiting until everything is in the log");
    let is_over = |now: &Snapshot| fleet.is_finished() && now.spooled == 0;
    if !watch.until(plan.publishing + DRAIN_PATIENCE, is_over).await? {
        watch.announce("not everything has arrived in time");
    }
    let reports = fleet.finish().await?;

    watch.announce("reading the log back through the Kafka port");
    let mut audit = Audit::new(&reports);
    let mut reader = TopicReader::new(site.kafka().to_string(), DEFAULT_TOPIC, Start::Beginning)?;
    timeout(READ_PATIENCE, reader.read_to_end(|record| audit.take(&record)))
        .await
        .context("the log cannot be read back in time")??;
    Ok(audit.finish(watch.spooled_most))
}

fn never(_: &Snapshot) -> bool {
    false
}

/// Looks at how it stands, again and again, and shows it.
struct Watch<'a> {
    site: &'a Site,
    tallies: Option<Tallies>,
    display: &'a mut Display,
    ticks: Interval,
    began: Instant,
    spooled_most: u64,
    /// What was delivered when the line was restored, until more is.
    resumes_after: Option<u64>,
}

impl<'a> Watch<'a> {
    fn new(site: &'a Site, display: &'a mut Display) -> Self {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        Self { site, tallies: None, display, ticks, began, spooled_most: 0, resumes_after: None }
    }

    /// Time is counted from now on, and this is what the devices do.
    fn begin(&mut self, tallies: Tallies) {
        self.tallies = Some(tallies);
        self.began = Instant::now();
    }

    /// Restores the line. A gateway that has not noticed its loss still calls itself connected: what counts is that
    /// readings flow.
    fn restore(&mut self) {
        self.resumes_after = Some(self.site.status.borrow().ledger.delivered);
        self.site.relay.restore();
    }

    fn announce(&mut self, what: &str) {
        self.display.announce(self.began.elapsed(), what);
    }

    /// Watches until `is_over` says so, or until this long after the beginning; whether the former.
    async fn until(&mut self, at: Duration, is_over: impl Fn(&Snapshot) -> bool) -> Result<bool> {
        let mut status = self.site.status.clone();
        let deadline = self.began + at;
        loop {
            let is_tick = tokio::select! {
                _ = self.ticks.tick() => true,
                changed = status.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => bail!("the gateway has ended"),
                },
                () = tokio::time::sleep_until(deadline) => return Ok(false),
            };
            // Between two ticks only the most that waited is followed.
            let now = self.snapshot();
            if is_tick && self.tallies.is_some() {
                self.display.show(&now);
            }
            if is_over(&now) {
                return Ok(true);
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let status = self.site.status.borrow().clone();
        self.spooled_most = self.spooled_most.max(status.spooled);
        let delivered = status.ledger.delivered;
        self.resumes_after = self.resumes_after.filter(|before| delivered <= *before);
        let flows = status.connected && self.resumes_after.is_none();
        let uplink = match (self.site.relay.is_cut(), flows) {
            (true, _) => UplinkState::Cut,
            (false, true) => UplinkState::Connected,
            (false, false) => UplinkState::Reconnecting,
        };
        Snapshot {
            elapsed: self.began.elapsed(),
            published: self.tallies.as_ref().map_or(0, Tallies::published),
            acknowledged: self.tallies.as_ref().map_or(0, Tallies::acknowledged),
            spooled: status.spooled,
            spooled_most: self.spooled_most,
            delivered,
            uplink,
        }
    }
}
