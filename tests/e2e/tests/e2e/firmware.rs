//! A microcontroller with the device SDK, as QEMU emulates it, over a bad line to a gateway that is killed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::{
    Board, BoardPlan, Chance, Cut, PATIENCE, Proxy, Record, Site, Tool, check_dense, read_topic,
    scenario, until, wait_until_delivered,
};

const TOOLS: &[Tool] = &[Tool::Firmware, Tool::Kcat, Tool::Qemu];

const READINGS: u32 = 1_000;
const CUTS: u32 = 5;

/// After so many cuts the gateway is killed.
const CUTS_BEFORE_KILL: u32 = 2;

/// Between two readings.
const PAUSE: Duration = Duration::from_millis(5);

/// The gateway dies at most so long after the cut before it.
const LIFE_MAX: Duration = Duration::from_millis(300);

/// The fewest bytes after which a connection is cut, and how many more it may be. All connections together carry more
/// than the cuts need.
const CUT_AFTER_MIN: u64 = 60;
const CUT_AFTER_SPREAD: u64 = 1_000;

/// The board learns the time in whole seconds.
const CLOCK_ERROR_MS_MAX: i64 = 1_000;

/// Beyond what the board has itself, which is tens of times what it takes: the emulator shares the machine.
const BOARD_PATIENCE: Duration = Duration::from_secs(150);

#[test]
fn a_board_s_readings_arrive_once_and_in_order_over_a_bad_line_and_a_killed_gateway() {
    scenario(TOOLS, |stage| {
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let mut chance = Chance::new(stage.settings.seed);
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        let proxy = Proxy::start(site.mqtt(), planned_cuts(&mut chance))?;
        let plan = BoardPlan {
            port: proxy.address.port(),
            device: "board-1".to_owned(),
            readings: READINGS,
            pause: PAUSE,
            seed: chance.number(),
        };
        let began = unix_ms()? - CLOCK_ERROR_MS_MAX;
        let mut board = plan.start(stage)?;

        until("the cuts before the kill", PATIENCE, || {
            board.check_running()?;
            Ok((proxy.cuts() >= CUTS_BEFORE_KILL).then_some(()))
        })?;
        std::thread::sleep(chance.below(LIFE_MAX));
        board.check_running()?;
        gateway.kill()?;
        let mut gateway = site.gateway()?.start()?;
        board.check_running()?;

        eprintln!("{}", board.finish(BOARD_PATIENCE)?.trim_end());
        ensure!(proxy.cuts() == CUTS, "only {} cuts", proxy.cuts());
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let copies = site.gateway_metric("culvert_gateway_readings_deduplicated_total")?;
        eprintln!("{CUTS} cuts and a kill made {copies} copies");
        let records = read_topic(site.kafka(), "telemetry")?;
        check_dense(&records)?;
        check_board(&records, &plan, began..=unix_ms()?)
    });
}

#[test]
fn a_board_whose_gateway_never_answers_gives_up() {
    scenario(&[Tool::Firmware, Tool::Qemu], |stage| {
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = silent.local_addr()?.port();
        let words =
            [format!("port={port}"), "device=b".into(), "seed=1".into(), "patience=1".into()];
        let printed = Board::boot(stage, &words)?.fail(PATIENCE)?;
        ensure!(printed.contains("not enough time: "), "{printed}");
        ensure!(printed.contains(" 0 acknowledged"), "{printed}");
        Ok(())
    });
}

#[test]
fn a_board_says_what_is_wrong_with_its_command_line() {
    scenario(&[Tool::Firmware, Tool::Qemu], |stage| {
        let long = "x".repeat(300);
        for (words, complaint) in [
            (&["port=1", "seed=1"][..], "device= is missing"),
            (&["port=65536", "seed=1", "device=b"], "port=65536: "),
            (&["port=1", "seed=", "device=b"], "seed=: "),
            (&["port=1", "seed=1", "device=b", "colour=red"], "colour=red: "),
            (&["port"], "port: "),
            (&[&long], "too long"),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let printed = Board::boot(stage, &words)?.fail(PATIENCE)?;
            ensure!(printed.contains(complaint), "{words:?}: {printed}");
        }
        Ok(())
    });
}

/// Cuts of both kinds, each after a random number of bytes on its connection.
fn planned_cuts(chance: &mut Chance) -> Vec<(u64, Cut)> {
    let mut planned = Vec::new();
    for number in 0..CUTS {
        let bytes = CUT_AFTER_MIN + chance.number() % CUT_AFTER_SPREAD;
        planned.push((bytes, if number % 2 == 0 { Cut::Reset } else { Cut::Fin }));
    }
    planned
}

/// All readings once, in order, under one queue, each with the value that it had on the board and a time within
/// `lifetime`.
fn check_board(
    records: &[Record],
    plan: &BoardPlan,
    lifetime: std::ops::RangeInclusive<i64>,
) -> Result<()> {
    let mut queues = BTreeSet::new();
    let mut time_before = i64::MIN;
    let own = records.iter().filter(|record| record.key_text() == plan.device);
    let mut numbers = 1..=plan.readings;
    for (record, number) in own.zip(&mut numbers) {
        let header = |name| record.header(name).with_context(|| format!("no {name} in {record:?}"));
        ensure!(
            header("culvert.seq")? == number.to_string(),
            "where reading {number} is due stands {record:?}"
        );
        queues.insert(header("culvert.queue")?.to_owned());
        ensure!(
            header("mqtt.topic")? == format!("culvert/v1/{}/batch", plan.device)
                && header("culvert.gateway")? == Site::GATEWAY
                && record.header("culvert.maybe_dup").is_none(),
            "reading {number} is {record:?}"
        );
        ensure!(
            lifetime.contains(&record.timestamp) && record.timestamp >= time_before,
            "reading {number} is from {}, after {time_before}, in {lifetime:?}",
            record.timestamp
        );
        time_before = record.timestamp;
        check_value(&record.value_text(), number, record.timestamp)?;
    }
    ensure!(numbers.is_empty(), "the log ends before reading {numbers:?}");
    let count = records.iter().filter(|record| record.key_text() == plan.device).count();
    ensure!(count == plan.readings as usize, "{count} readings in the log");
    ensure!(queues.len() == 1, "under several queues: {queues:?}");
    Ok(())
}

/// The two sensors take turns.
fn check_value(value: &str, number: u32, time: i64) -> Result<()> {
    let (sensor, unit, expected) = if number.is_multiple_of(2) {
        ("vibration", "mm/s", vibration(number))
    } else {
        ("temp", "Cel", temperature(number))
    };
    let quality = if number.is_multiple_of(100) { "uncertain" } else { "good" };
    let (start, rest) = value
        .split_once(",\"value\":")
        .with_context(|| format!("reading {number}: no value in {value}"))?;
    let (read, end) = rest.split_once(',').with_context(|| format!("reading {number}: {value}"))?;
    ensure!(
        start == format!("{{\"sensor\":\"{sensor}\",\"time\":{time}")
            && end == format!("\"unit\":\"{unit}\",\"quality\":\"{quality}\"}}")
            && read.parse() == Ok(expected),
        "reading {number} is {value}, expected {expected}"
    );
    Ok(())
}

/// What the board measures (`firmware-examples/mps2-an385/src/signal.rs`): the nearest number to a decimal one with two
/// places, as a parser reads it.
fn temperature(number: u32) -> f64 {
    let place = i64::from(number) % 500;
    let arc = |x: i64| 2_400 * x * (250 - x) / 62_500;
    let swing = if place < 250 { arc(place) } else { -arc(place - 250) };
    (2_150 + swing + i64::from(noise(number) % 7) - 3) as f64 / 100.0
}

fn vibration(number: u32) -> f64 {
    f64::from(128 + noise(number) % 64) / 64.0
}

fn noise(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b9) >> 16
}

fn unix_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}
