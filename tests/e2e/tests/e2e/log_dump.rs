//! `culvert log dump` on a broker's own files: while it writes them, when it has ended, and when a bit has flipped.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, Process, Site, Stage, Tool, dump_log, run_tool, scenario, until};
use serde_json::Value;

/// Small, so that a few records make files of every kind.
const SETTINGS: &[(&str, &str)] = &[
    ("--wal-file-bytes", "262144"),
    ("--checkpoint-bytes-min", "65536"),
    ("--space-checkpoint-ms", "200"),
    ("--l0-bytes-max", "262144"),
    ("--rewrite-bytes-min", "65536"),
    ("--own-unit-bytes", "131072"),
    ("--unit-bytes", "524288"),
    ("--maintenance-ms", "50"),
    ("--disk-free-floor-bytes", "0"),
    ("--default-partitions", "12"),
];

/// Records of a kilobyte; a WAL file holds a few hundred of them.
const RECORDS: usize = 2_000;

/// The exit code and the objects that it prints.
fn dumped(stage: &Stage, flags: &[&str]) -> Result<(i32, Vec<Value>)> {
    dump_log(stage, &stage.path("broker"), flags)
}

fn broker(site: &Site<'_>) -> Result<Process> {
    let launch = site.broker()?;
    SETTINGS.iter().fold(launch, |launch, (name, value)| launch.flag(name, value)).start()
}

fn of<'a>(objects: &'a [Value], name: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["type"] == name).collect()
}

fn check_intact(stage: &Stage, when: &str) -> Result<()> {
    let (code, objects) = dumped(stage, &["--verify"])?;
    let damage = of(&objects, "damage");
    ensure!(code == 0 && damage.is_empty(), "{when}: {damage:?}");
    Ok(())
}

/// A record for each line.
fn produce_lines(site: &Site<'_>, lines: &str) -> Result<()> {
    let (broker, file) = (site.kafka().to_string(), site.stage.path("lines"));
    std::fs::write(&file, lines)?;
    let file = file.to_str().context("a path that is text")?;
    let arguments = ["-P", "-b", &broker, "-t", "plain", "-X", "acks=-1", "-l", file];
    let output = run_tool("kcat", &arguments, PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !complaint.contains("failed"), "kcat: {complaint}");
    Ok(())
}

fn flip(path: &Path, pos: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, pos)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, pos)?)
}

#[test]
fn it_reads_what_a_broker_writes_and_finds_what_a_disk_changes() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let mut running = broker(&site)?;
        let line = "x".repeat(1_000);
        for batch in 0..4 {
            produce_lines(&site, &[&*line; RECORDS / 4].join("\n"))?;
            check_intact(stage, &format!("while it runs, {batch}"))?;
        }
        until("files of every kind", PATIENCE, || {
            let (_, objects) = dumped(stage, &[])?;
            let sealed = of(&objects, "wal_end").iter().any(|end| end["sealed"] == true);
            let has = |name| !of(&objects, name).is_empty();
            Ok((sealed && has("checkpoint_end") && has("unit_end")).then_some(()))
        })?;
        // A second life, after an end that nobody announced.
        running.kill()?;
        check_intact(stage, "after a kill")?;
        let mut running = broker(&site)?;
        produce_lines(&site, "last")?;
        running.interrupt()?;
        running.wait(PATIENCE)?;
        check_intact(stage, "after an orderly end")?;

        let (code, objects) = dumped(stage, &["--records"])?;
        ensure!(code == 0, "{:?}", of(&objects, "damage"));
        let mut values: Vec<_> = of(&objects, "record");
        values.retain(|record| record["value"] == *line);
        let place = |record: &&Value| (record["partition"].as_u64(), record["offset"].as_u64());
        // A file and the unit that was made of it may both be there.
        let places: BTreeSet<_> = values.iter().map(place).collect();
        ensure!(places.len() == RECORDS, "{} of {RECORDS} records", places.len());

        let batches = of(&objects, "batch");
        let batch = batches.first().context("a batch")?;
        let (file, pos, len) = (&batch["file"], &batch["pos"], &batch["len"]);
        let file = file.as_str().context("a file")?;
        let middle = pos.as_u64().context("pos")? + len.as_u64().context("len")? / 2;
        flip(&stage.path("broker").join(file), middle)?;
        let (code, objects) = dumped(stage, &["--verify"])?;
        let damage = of(&objects, "damage");
        ensure!(code == 1 && !damage.is_empty(), "nothing found at {middle} of {file}");
        for damage in damage {
            let (from, to) = (damage["from"].as_u64(), damage["to"].as_u64());
            let is_it = from <= Some(middle) && Some(middle) < to && damage["file"] == *file;
            ensure!(is_it, "{middle} of {file} is damaged, not {damage}");
        }
        Ok(())
    });
}
