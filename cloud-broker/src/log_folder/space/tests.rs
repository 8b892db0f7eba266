use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const FILE_BYTES: u32 = 256 << 10;
const SETTINGS: SpaceSettings = SpaceSettings { file_bytes: FILE_BYTES, ready_files: 2, floor: 0 };

/// Anything that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

fn space(root: &TempDir, settings: SpaceSettings) -> SharedSpace {
    let folders = Folders::new(root.path());
    fs::create_dir_all(&folders.wal).unwrap();
    let space = Space::new(&folders, settings);
    space.adopt().unwrap();
    Arc::new(space)
}

fn keep(space: &SharedSpace) -> (SpaceKeeper, Receiver<SpaceReport>) {
    let (sender, reports) = channel();
    let keeper = SpaceKeeper::spawn(Arc::clone(space), move |report| {
        // Whoever does not listen any more has seen enough.
        let _ = sender.send(report);
    });
    (keeper.unwrap(), reports)
}

/// A keeper on a disk that has room for so many bytes of WAL files.
fn keep_on(space: &SharedSpace, bytes: u64) -> (SpaceKeeper, Receiver<SpaceReport>) {
    let (sender, reports) = channel();
    let disk_of = move |folder: &Path| {
        let used: u64 = entries(folder, |_, len| Some(len))?.iter().sum();
        Ok(DiskSpace { total: bytes, free: bytes.saturating_sub(used) })
    };
    let keeper = SpaceKeeper::spawn_on(Arc::clone(space), disk_of, move |report| {
        // Whoever does not listen any more has seen enough.
        let _ = sender.send(report);
    });
    (keeper.unwrap(), reports)
}

/// Waits until the state is as wanted.
fn wait_until(space: &Space, mut is_so: impl FnMut(&State) -> bool) {
    let mut state = space.lock();
    while !is_so(&state) {
        let (woken, timeout) = space.changed.wait_timeout(state, PATIENCE).unwrap();
        assert!(!timeout.timed_out(), "{woken:?}");
        state = woken;
    }
}

/// Waits for a report of so many files that were made and can be made, below the floor or not. What is free changes as it
/// likes.
fn wait_for(reports: &Receiver<SpaceReport>, expected: (u64, u64, bool)) {
    loop {
        let report = reports.recv_timeout(PATIENCE).unwrap();
        if (report.made, report.files, report.below_floor) == expected {
            break;
        }
    }
}

fn all_written(state: &State) -> bool {
    state.ready.len() == 2 && state.ready.iter().all(|file| file.is_written)
}

#[test]
fn nothing_is_prepared_before_it_is_wanted() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SETTINGS);
    let (_keeper, reports) = keep(&space);
    reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(fs::read_dir(&space.folder).unwrap().count(), 0);
    assert_eq!(space.take(FILE_BYTES), None);
    space.want();
    wait_until(&space, all_written);
    for file in &space.lock().ready {
        assert_eq!(fs::read(&file.path).unwrap(), vec![0; FILE_BYTES as usize]);
    }
    assert_eq!(space.take(FILE_BYTES + 1), None);
    assert!(space.take(FILE_BYTES).is_some());
    wait_until(&space, all_written);
}

#[test]
fn a_file_that_is_being_zeroed_is_handed_over_and_not_written_any_more() {
    let root = TempDir::new().unwrap();
    // 256 pieces take eight seconds.
    let file_bytes = 256 << 20;
    let space = space(&root, SpaceSettings { file_bytes, ready_files: 1, floor: 0 });
    let (keeper, _reports) = keep(&space);
    space.want();
    wait_until(&space, |state| state.is_zeroing);
    let path = space.take(file_bytes).unwrap();
    assert_eq!(path.extension().unwrap(), RESERVED_EXTENSION, "not all of it was waited for");
    fs::write(&path, b"slots").unwrap();
    wait_until(&space, |state| !state.ready.is_empty() || state.is_zeroing);
    drop(keeper);
    assert_eq!(fs::read(&path).unwrap(), b"slots");
    let left = space.take(file_bytes).unwrap();
    assert!(left != path && left.extension().unwrap() == RESERVED_EXTENSION, "{left:?}");
}

#[test]
fn what_is_ready_is_adopted_by_the_next_process() {
    let root = TempDir::new().unwrap();
    let first = space(&root, SETTINGS);
    let name = |name: &str| first.folder.join(name);
    let whole = vec![1; FILE_BYTES as usize];
    fs::write(name("spare"), &whole).unwrap();
    fs::write(name("0000000000000007.ready"), &whole).unwrap();
    fs::write(name("0000000000000009.reserved"), &whole).unwrap();
    fs::write(name("0000000000000003.ready"), b"of another size").unwrap();
    let sparse = File::create(name("0000000000000004.ready")).unwrap();
    sparse.set_len(u64::from(FILE_BYTES)).unwrap();
    fs::write(name("0000000000000003.wal"), &whole).unwrap();
    let next = space(&root, SETTINGS);
    assert!(!name("0000000000000003.ready").exists());
    assert!(!name("0000000000000004.ready").exists(), "it has a hole");
    {
        let state = next.lock();
        let written = state.ready.iter().filter(|file| file.is_written).count();
        assert_eq!((state.ready.len(), written, state.next_name), (3, 2, 10));
    }
    let written = |path: PathBuf| path == name("spare") || path == name("0000000000000007.ready");
    assert!(written(next.take(FILE_BYTES).unwrap()));
    assert!(written(next.take(FILE_BYTES).unwrap()));
    assert_eq!(next.take(FILE_BYTES), Some(name("0000000000000009.reserved")));
    assert_eq!(next.take(FILE_BYTES), None);
}

#[test]
fn a_few_files_are_recycled_and_the_others_are_left() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SETTINGS);
    let file = |n: usize, len: usize| {
        let path = space.folder.join(format!("{n:016x}.wal"));
        fs::write(&path, vec![7; len]).unwrap();
        path
    };
    assert!(!space.recycle(&file(0, 5)).unwrap(), "cut short");
    assert!(!space.recycle(&space.folder.join("none")).unwrap());
    let sparse = file(0, 5);
    File::options().write(true).open(&sparse).unwrap().set_len(u64::from(FILE_BYTES)).unwrap();
    assert!(!space.recycle(&sparse).unwrap(), "it has a hole");
    for n in 1..=4 {
        let path = file(n, FILE_BYTES as usize);
        assert!(space.recycle(&path).unwrap() && !path.exists());
    }
    assert!(!space.recycle(&file(5, FILE_BYTES as usize)).unwrap(), "there are enough");
    space.take(FILE_BYTES).unwrap();
    space.take(FILE_BYTES).unwrap();
    space.lock().below_floor = true;
    assert!(!space.recycle(&file(5, FILE_BYTES as usize)).unwrap(), "the disk is short of space");
}

#[test]
fn reports_say_what_still_fits() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SETTINGS);
    let (_keeper, reports) = keep(&space);
    wait_for(&reports, (0, 64, false));
    space.made();
    wait_for(&reports, (1, 64, false));
}

#[test]
fn below_the_floor_only_what_is_ready_counts() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SpaceSettings { floor: u64::MAX, ..SETTINGS });
    let (_keeper, reports) = keep(&space);
    wait_for(&reports, (0, 0, true));
    let path = space.folder.join("0000000000000000.wal");
    fs::write(&path, vec![7; FILE_BYTES as usize]).unwrap();
    assert!(space.recycle(&path).unwrap());
    wait_for(&reports, (0, 1, true));
    space.want();
    // It does not prepare more: the rest of the disk is for giving space back.
    space.made();
    wait_for(&reports, (1, 1, true));
    assert_eq!(space.lock().ready.len(), 1);
}

#[test]
fn files_are_prepared_out_of_what_is_free_above_the_floor_and_counted_once() {
    let root = TempDir::new().unwrap();
    let file = u64::from(FILE_BYTES);
    let space = space(&root, SpaceSettings { ready_files: 4, floor: 10 * file, ..SETTINGS });
    let (keeper, reports) = keep_on(&space, 12 * file + file / 2);
    wait_for(&reports, (0, 2, false));
    space.want();
    wait_until(&space, all_written);
    // It looks again, and has nothing more to do.
    space.made();
    wait_for(&reports, (1, 2, false));
    drop(keeper);
    assert_eq!(space.lock().ready.len(), 2);
    let counted: Vec<u64> = reports.iter().map(|report| report.files).collect();
    assert!(counted.iter().all(|files| *files == 2), "{counted:?}");
}

#[test]
fn a_disk_that_refused_a_file_has_no_room_until_it_takes_one() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SpaceSettings { ready_files: 0, ..SETTINGS });
    // As with a quota, of which the disk says nothing.
    space.lock().no_space = true;
    let (_keeper, reports) = keep_on(&space, 100 * u64::from(FILE_BYTES));
    wait_for(&reports, (0, 0, false));
    space.made();
    wait_for(&reports, (1, 0, false));
    space.want();
    wait_for(&reports, (1, 64, false));
    assert_eq!(space.lock().prepared(), 1, "one, to find out");
}

#[test]
fn files_have_the_size_that_the_engine_asks_for() {
    let root = TempDir::new().unwrap();
    let space = space(&root, SpaceSettings { file_bytes: FILE_BYTES + 5, ..SETTINGS });
    let (_keeper, _reports) = keep(&space);
    space.want();
    wait_until(&space, all_written);
    assert!(space.take(FILE_BYTES).is_some());
}
