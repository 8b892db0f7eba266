//! Many seeds, each twice: every promise is kept, and a seed repeats itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::{Keep, command, run};

use crate::settings;

/// Seeds that have found something. What they run changes with the simulator, so what they found has a test of its own, or
/// a broken rule that must be noticed.
const KEPT: &[(u64, &str)] = &[
    (86, "an answer that another one had overtaken was taken for a regression of the log"),
    (4251, "a device forgot over a reboot that another spool may have its readings"),
];

#[test]
fn every_seed_keeps_every_promise_and_repeats_itself() {
    if let Some(seed) = settings::seed() {
        let outcome = run(seed, Keep::Lines);
        println!("{}", outcome.trace.unwrap());
        assert_eq!(outcome.result, Ok(()), "seed {seed}");
        return;
    }
    let count = settings::seeds();
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    check(seed);
                }
            });
        }
    });
}

#[test]
fn seeds_that_found_something_stay() {
    for (seed, found) in KEPT {
        assert_eq!(run(*seed, Keep::Hash).result, Ok(()), "seed {seed}: {found}");
    }
}

fn check(seed: u64) {
    let first = run(seed, Keep::Hash);
    assert_eq!(first.result, Ok(()), "seed {seed}; repeat it: {}", command(seed));
    let second = run(seed, Keep::Hash);
    assert_eq!(first.hash, second.hash, "seed {seed} does not repeat itself: {}", command(seed));
}
