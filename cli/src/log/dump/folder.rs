//! The files of a log together: each by itself, and what they say of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use broker_log::{CheckpointHead, FileNo, UnitId, UnitMeta, UnitNo};

use super::damage::Damage;
use super::file::LogFile;
use super::find::{Files, Kind};
use super::output::Output;
use super::wal::WalFacts;
use super::{Wanted, checkpoint, unit, wal};

/// Prints or checks one file.
pub fn dump_one(path: &Path, wanted: &Wanted, output: &mut Output<impl Write>) -> Result<()> {
    let cannot_read = || format!("cannot read {}", path.display());
    let file = LogFile::open(path).with_context(cannot_read)?;
    output.begin(&path.display().to_string());
    match Kind::of(&file, path).with_context(cannot_read)? {
        Some(Kind::Checkpoint) => {
            guard(checkpoint::dump(&file, wanted, output), &file, output)?;
        }
        Some(Kind::Unit) => {
            guard(unit::dump(&file, None, wanted, output), &file, output)?;
        }
        Some(Kind::Wal) => {
            let facts = guard(wal::dump(&file, None, wanted, output), &file, output)?.flatten();
            if let Some(facts) = facts {
                facts.check_reaches(facts.sealed_end, output);
            }
        }
        None => bail!("{} is not a WAL file, a unit or a checkpoint", path.display()),
    }
    output.report()?;
    Ok(())
}

/// Prints or checks the files of a log.
pub fn dump_all(files: &Files, wanted: &Wanted, output: &mut Output<impl Write>) -> Result<()> {
    let newest = dump_checkpoints(files, wanted, output)?;
    let named: BTreeMap<UnitId, &UnitMeta> =
        newest.iter().flat_map(|(_, head)| &head.units).map(|meta| (meta.id, meta)).collect();
    let mut seen = BTreeSet::new();
    let mut facts = Vec::new();
    for path in &files.wal {
        let Some(file) = open(files, path, output)? else { continue };
        let number = file.number();
        let id = UnitId::Wal(FileNo(number.unwrap_or(u64::MAX)));
        seen.insert(id);
        let found = wal::dump(&file, named.get(&id).copied(), wanted, output);
        let found = guard(found, &file, output)?.flatten();
        // What was found damaged in a file that the broker has given back, or uses again, was no longer its file.
        if !file.is_still_there() {
            output.forget();
            continue;
        }
        output.report()?;
        facts.extend(found.map(|found| (found, path.clone())));
    }
    for path in &files.units {
        let Some(file) = open(files, path, output)? else { continue };
        let id = UnitId::Unit(UnitNo(file.number().unwrap_or(u64::MAX)));
        seen.insert(id);
        guard(unit::dump(&file, named.get(&id).copied(), wanted, output), &file, output)?;
        output.report()?;
    }
    check_chain(files, &facts, newest.as_ref().map(|(_, head)| head), output)?;
    if let Some((path, head)) = &newest {
        output.back_to(&shown(files, path));
        check_named(head, &seen, output);
        // A broker that is running may have written the next one, and given back what this one names.
        if !path.exists() {
            output.forget();
        }
        output.report()?;
    }
    Ok(())
}

/// The newest checkpoint that is intact, and its file.
fn dump_checkpoints(
    files: &Files,
    wanted: &Wanted,
    output: &mut Output<impl Write>,
) -> Result<Option<(PathBuf, CheckpointHead)>> {
    let mut newest: Option<(PathBuf, CheckpointHead)> = None;
    for path in &files.checkpoints {
        let Some(file) = open(files, path, output)? else { continue };
        let found = guard(checkpoint::dump(&file, wanted, output), &file, output)?.flatten();
        output.report()?;
        if let Some(head) = found
            && newest.as_ref().is_none_or(|(_, newest)| newest.id.n < head.id.n)
        {
            newest = Some((path.clone(), head));
        }
    }
    Ok(newest)
}

/// Opens a file; `None` if the broker has given it back since the folder was listed.
fn open(files: &Files, path: &Path, output: &mut Output<impl Write>) -> Result<Option<LogFile>> {
    match LogFile::open(path) {
        Ok(file) => {
            output.begin(&shown(files, path));
            Ok(Some(file))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A file's name as it is printed: within the folder that was asked for.
fn shown(files: &Files, path: &Path) -> String {
    path.strip_prefix(&files.root).unwrap_or(path).display().to_string()
}

/// Takes a read that failed for damage: a sector that cannot be read is one that is not what was written. Output that
/// cannot be written is the caller's.
fn guard<T>(
    result: io::Result<T>,
    file: &LogFile,
    output: &mut Output<impl Write>,
) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error),
        Err(error) => {
            output.damage(Damage::new(0, file.len(), format!("cannot be read: {error}")));
            Ok(None)
        }
    }
}

/// Holds the WAL files against each other and against the checkpoint: each has to reach as far as the others say, and the
/// next one has to go on from there.
fn check_chain(
    files: &Files,
    facts: &[(WalFacts, PathBuf)],
    head: Option<&CheckpointHead>,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let unsealed = head.map_or(&[][..], |head| &head.unsealed);
    for (at, (file, path)) in facts.iter().enumerate() {
        let after = facts.get(at + 1).map(|(after, _)| after);
        let after = after.filter(|after| after.file_no == file.file_no.next());
        let covered = unsealed.iter().find(|covered| covered.file_no == file.file_no);
        let ends = [
            after.and_then(|after| after.end_of_file_before(file)),
            covered.map(|covered| covered.end_slot),
            file.sealed_end,
        ];
        output.back_to(&shown(files, path));
        file.check_reaches(ends.into_iter().flatten().max(), output);
        if after.is_some_and(|after| after.breaks_chain_of(file)) {
            let last = file.next_slot.0.saturating_sub(1);
            let what = format!("the next file does not follow slot {last}");
            output.damage(Damage::new(file.slots_end, file.size, what));
        }
        output.report()?;
    }
    Ok(())
}

/// Whether every file that a checkpoint names is there.
fn check_named(head: &CheckpointHead, seen: &BTreeSet<UnitId>, output: &mut Output<impl Write>) {
    let unsealed = head.unsealed.iter().map(|file| (UnitId::Wal(file.file_no), file.size));
    let units = head.units.iter().map(|meta| (meta.id, meta.len));
    for (id, len) in units.chain(unsealed).filter(|(id, _)| !seen.contains(id)) {
        output.damage(Damage::new(
            0,
            len,
            format!("{id}, which this checkpoint names, is missing"),
        ));
    }
}
