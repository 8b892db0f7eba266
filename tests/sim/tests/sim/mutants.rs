//! Every broken rule is noticed within a bounded number of seeds.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use sim::Broken;

/// Seeds within which a broken rule must be noticed.
const SEEDS_MAX: u64 = 1_000;

#[test]
fn every_broken_rule_is_caught() {
    // A lock, because the threads take turns at the list of work; nothing is done while it is held.
    let work = Mutex::new(VecDeque::from(Broken::all()));
    let survivors = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(broken) = work.lock().unwrap().pop_front() else {
                        break;
                    };
                    if !is_caught(broken) {
                        survivors.lock().unwrap().push(broken);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert_eq!(survivors, [], "not caught within {SEEDS_MAX} seeds");
}

fn is_caught(broken: Broken) -> bool {
    for seed in 0..SEEDS_MAX {
        if let Some(found) = broken.caught_at(seed) {
            eprintln!("{broken:?}: caught at seed {seed}: {found}");
            return true;
        }
    }
    false
}
