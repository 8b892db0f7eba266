//! The simulated disk, which everything else is believed on.

use super::*;
use crate::ids::{UnitId, UnitNo};
use crate::store::{UnitSource, UnitStore, UnitWrite, conformance};

const UNIT: UnitNo = UnitNo(1);

fn write_unit(disk: &mut SimDisk) -> Result<(), DiskError> {
    let mut writer = disk.create(UNIT)?;
    writer.append(&[1; 3 * SECTOR])?;
    writer.finish()
}

#[test]
fn the_disk_passes_the_conformance_suite() {
    // With everything lost that is not durable, and with nothing lost.
    for survives in [false, true] {
        let reopen = |mut disk: SimDisk| {
            disk.lose_power(&mut || survives);
            disk.heal();
            disk.open().unwrap();
            disk
        };
        conformance::check(SimDisk::new, reopen);
    }
}

#[test]
fn a_unit_is_whole_or_not_there_wherever_the_process_dies() {
    let mut disk = SimDisk::new();
    write_unit(&mut disk).unwrap();
    let mut outcomes = [0; 2];
    for calls in 0..disk.calls() {
        for survivors in 0..64_u32 {
            let mut disk = SimDisk::new();
            disk.die_after(calls, Death::Killed);
            assert_eq!(write_unit(&mut disk), Err(DiskError::Died));
            assert_eq!(disk.read_at(UnitId::Unit(UNIT), 0, 1), Err(DiskError::Died));
            let mut nth = 0;
            disk.lose_power(&mut || {
                nth += 1;
                survivors >> (nth % 6) & 1 == 1
            });
            disk.heal();
            disk.open().unwrap();
            let is_there = disk.content(FileName::Unit(UNIT));
            assert!(is_there.as_ref().is_none_or(|bytes| *bytes == [1; 3 * SECTOR]));
            outcomes[usize::from(is_there.is_some())] += 1;
            assert!(disk.names().iter().all(|name| *name == FileName::Unit(UNIT)));
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both happen: {outcomes:?}");
}

#[test]
fn what_was_not_synced_survives_in_parts() {
    let name = FileName::Unit(UNIT);
    let mut outcomes = std::collections::BTreeSet::new();
    for survivors in 0..16_u32 {
        let mut disk = SimDisk::new();
        disk.put(name, vec![1; 3 * SECTOR]);
        disk.state.borrow_mut().write(name, 0, &[2; 4 * SECTOR]).unwrap();
        let mut nth = 0;
        disk.lose_power(&mut || {
            nth += 1;
            survivors >> (nth % 4) & 1 == 1
        });
        outcomes.insert(disk.content(name).unwrap());
    }
    assert!(outcomes.len() > 8, "{} of them", outcomes.len());
    assert!(outcomes.contains(&vec![1; 3 * SECTOR]) && outcomes.contains(&vec![2; 4 * SECTOR]));
}

#[test]
fn a_failed_sync_leaves_pages_that_no_later_sync_writes() {
    let name = FileName::Unit(UNIT);
    let mut disk = SimDisk::new();
    disk.put(name, vec![1; SECTOR]);
    disk.state.borrow_mut().write(name, 0, &[2; SECTOR]).unwrap();
    disk.fail_after(0, Trouble::Io);
    let sync = |disk: &mut SimDisk| disk.state.borrow_mut().sync(name);
    assert_eq!(sync(&mut disk), Err(DiskError::Io));
    assert_eq!(sync(&mut disk), Ok(()));
    assert_eq!(disk.content(name).unwrap(), [2; SECTOR], "it reads back");
    disk.lose_power(&mut || true);
    assert_eq!(disk.content(name).unwrap(), [1; SECTOR], "and was never there");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let mut disk = SimDisk::new();
    disk.set_space(Some(3 * SECTOR as u64));
    write_unit(&mut disk).unwrap();
    assert_eq!(disk.prepare(1, 1), Ok(0));
    let mut writer = disk.create(UnitNo(2)).unwrap();
    assert_eq!(writer.append(&[0]), Err(DiskError::Full));
    drop(writer);
    disk.free(UnitId::Unit(UNIT)).unwrap();
    assert_eq!(disk.used(), 0);
    assert_eq!(disk.prepare(3, SECTOR as u32), Ok(3));
}
