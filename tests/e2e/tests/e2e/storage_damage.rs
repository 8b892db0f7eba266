//! One flipped bit, anywhere in what the broker keeps: either it refuses to start and says which bytes of which file, or it
//! serves everything else and says what it cannot serve. Never is the log shorter and nobody told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Chance, LoadTopic, PATIENCE, Site, Stage, StorageLedger, StorageLoad, SyncShim, Tool,
    confluent_kafka, dump_log, metric, scenario, until,
};

const TOOLS: &[Tool] = &[Tool::ConfluentKafka];

const TOPICS: &[LoadTopic] = &[
    LoadTopic { name: "busy", partitions: 1, keys: 0, configs: &[] },
    LoadTopic { name: "many", partitions: 6, keys: 0, configs: &[] },
];

/// Bits flipped in each kind of file, each in a copy of its own.
const FLIPS_PER_KIND: usize = 3;

/// How long the broker is given to roll, seal and copy files.
const LOAD_TIME: Duration = Duration::from_secs(3);

/// What may be wrong at most: a damaged place costs those whose records lie in it.
const STUCK_MAX: usize = 2;

#[test]
fn a_flipped_bit_is_found_and_costs_no_more_than_its_place() {
    scenario(TOOLS, |stage| {
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let site = Site::new(stage)?;
        let mut chance = Chance::new(stage.settings.seed);
        for stop in [Stop::Orderly, Stop::Killed] {
            let whole = stage.path(&format!("whole-{stop:?}"));
            let ledger = fill(&site, &whole, stop)?;
            for (kind, files) in kinds(&whole)? {
                for _ in 0..FLIPS_PER_KIND {
                    let index = usize::try_from(chance.number() % files.len() as u64)?;
                    let flip = Flip::somewhere(&files[index], &mut chance)?;
                    let outcome = try_with(&site, stage, &whole, &flip, &ledger);
                    let outcome = outcome.with_context(|| format!("{stop:?}, {kind}, {flip:?}"))?;
                    eprintln!("{stop:?}, {kind}, byte {}: {outcome}", flip.pos);
                }
            }
        }
        Ok(())
    });
}

/// What a job writes is not yet relied on: a disk that fails there costs time, and no record.
#[test]
fn jobs_that_cannot_write_are_tried_again() {
    scenario(&[Tool::Cc, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let shim = SyncShim::new(stage)?;
        let data = stage.path("broker");
        for part in ["/unit/", "/ckpt/"] {
            shim.fail_in(part)?;
            let mut broker = shim.before(site.small_storage_broker()?).start()?;
            let load = StorageLoad::start(stage, site.kafka(), TOPICS)?;
            broker.wait_for_log("it is tried again later")?;
            // It goes on taking records meanwhile.
            let before = load.progress();
            until("more acknowledgements", PATIENCE, || {
                broker.check_running()?;
                Ok((load.progress() > before + 10_000).then_some(()))
            })?;
            let stored = kinds(&data)?;
            let kind = if part == "/unit/" { "unit" } else { "checkpoint" };
            ensure!(stored.get(kind).is_none_or(Vec::is_empty), "{part} was written: {stored:?}");
            shim.pass()?;
            until("what could not be written before", PATIENCE, || {
                broker.check_running()?;
                Ok(kinds(&data)?.get(kind).map(|_| ()))
            })?;
            let ledger = load.finish()?;
            broker.kill()?;
            let mut broker = site.small_storage_broker()?.start()?;
            ledger.check_drained(TOPICS, &drain(&site)?)?;
            broker.kill()?;
            std::fs::remove_dir_all(&data)?;
        }
        Ok(())
    });
}

/// How the broker ended before its files were damaged.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Orderly,
    Killed,
}

/// A bit of a file, by its path below the data folder.
#[derive(Debug)]
struct Flip {
    file: PathBuf,
    pos: u64,
    bit: u8,
}

impl Flip {
    /// A bit of a byte that means something: long stretches of zeros are room for what comes.
    fn somewhere(file: &Path, chance: &mut Chance) -> Result<Self> {
        let bytes = std::fs::read(file)?;
        let used: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i).collect();
        ensure!(!used.is_empty(), "{} is empty", file.display());
        let pos = used[usize::try_from(chance.number() % used.len() as u64)?];
        let bit = u8::try_from(chance.number() % 8)?;
        Ok(Self { file: file.to_owned(), pos: pos as u64, bit })
    }

    fn carry_out(&self, whole: &Path, damaged: &Path) -> Result<()> {
        let file = damaged.join(self.file.strip_prefix(whole)?);
        let mut bytes = std::fs::read(&file)?;
        bytes[usize::try_from(self.pos)?] ^= 1 << self.bit;
        Ok(std::fs::write(file, bytes)?)
    }
}

/// A data folder with files of every kind, kept as `whole`.
fn fill(site: &Site<'_>, whole: &Path, stop: Stop) -> Result<StorageLedger> {
    let stage = site.stage;
    let data = stage.path("broker");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let mut broker = site.small_storage_broker()?.start()?;
    let load = StorageLoad::start(stage, site.kafka(), TOPICS)?;
    std::thread::sleep(LOAD_TIME);
    let ledger = load.finish()?;
    until("a unit and two checkpoints", PATIENCE, || {
        broker.check_running()?;
        let there = kinds(&data)?;
        let count = |kind: &str| there.get(kind).map_or(0, Vec::len);
        Ok((count("unit") >= 1 && count("checkpoint") >= 2).then_some(()))
    })?;
    match stop {
        Stop::Orderly => {
            broker.interrupt()?;
            broker.wait(PATIENCE)?;
        }
        Stop::Killed => {
            wait_for_marker(stage, &data)?;
            broker.kill()?;
        }
    }
    copy(&data, whole)?;
    Ok(ledger)
}

/// What was written last is known to be whole once something stands behind it: the slot without records that comes when a
/// broker has had nothing to write for a second.
fn wait_for_marker(stage: &Stage, data: &Path) -> Result<()> {
    until("a slot behind the last records", PATIENCE, || {
        let (_, objects) = dump_log(stage, &data.join("wal"), &[])?;
        let last = objects.iter().rfind(|object| object["type"] == "slot");
        Ok(last.is_some_and(|slot| slot["kind"] == "data" && slot["runs"] == 0).then_some(()))
    })
}

/// Starts a broker on a copy with one bit flipped, and says what became of it.
fn try_with(
    site: &Site<'_>,
    stage: &Stage,
    whole: &Path,
    flip: &Flip,
    ledger: &StorageLedger,
) -> Result<String> {
    let data = stage.path("broker");
    std::fs::remove_dir_all(&data)?;
    copy(whole, &data)?;
    flip.carry_out(whole, &data)?;
    let mut broker = site.small_storage_broker()?.spawn()?;
    if broker.address("kafka").is_err() {
        let status = broker.wait(PATIENCE)?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        let log = broker.log();
        let file = flip.file.file_name().unwrap_or_default().to_string_lossy();
        let names = |line: &str| line.contains("damaged") || line.contains(&*file);
        let named = log.lines().any(|line| line.contains("ERROR") && names(line));
        ensure!(named, "it ended without saying what is damaged:\n{log}");
        return Ok("refused to start".to_owned());
    }
    broker.address("http")?;
    let told = drain(site)?;
    broker.check_running()?;
    let stuck = ledger.check_drained(TOPICS, &told)?;
    ensure!(stuck <= STUCK_MAX, "{stuck} partitions cannot be read to their end");
    if stuck > 0 {
        let found = metric(site.broker_http(), "culvert_broker_damage_total")?;
        let named = broker.log().lines().any(|line| line.contains("damaged"));
        ensure!(found > 0.0 && named, "the broker does not say what is damaged");
        return Ok(format!("{stuck} partitions stop at the damage, which is reported"));
    }
    Ok("everything is served".to_owned())
}

/// Reads all topics as far as they can be read.
fn drain(site: &Site<'_>) -> Result<String> {
    let kafka = site.kafka().to_string();
    let names = TOPICS.iter().map(|topic| topic.name);
    let arguments: Vec<&str> = ["drain", &kafka].into_iter().chain(names).collect();
    confluent_kafka(&arguments, 2 * PATIENCE)
}

/// The files of a data folder by kind.
fn kinds(data: &Path) -> Result<BTreeMap<&'static str, Vec<PathBuf>>> {
    let mut kinds: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for path in files(data)? {
        let text = path.to_string_lossy().into_owned();
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wal") => "WAL file",
            Some("unit") => "unit",
            _ if text.contains("/ckpt/") => "checkpoint",
            _ if text.ends_with("/ctl/cluster") => "metadata",
            _ => continue,
        };
        kinds.entry(kind).or_default().push(path);
    }
    for paths in kinds.values_mut() {
        paths.sort();
    }
    Ok(kinds)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(&file, &target)?;
    }
    Ok(())
}
