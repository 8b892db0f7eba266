//! Workloads drawn by seeds: steps in any order, and a crash at any call to the disk.

use broker_log::sim_disk::{Death, DiskError};

use super::flips;
use super::op::draw;
use super::settings;
use super::world::{World, tiny};
use crate::batches::Rng;

/// Seeds that a change must pass, each run twice.
const SEEDS_DEFAULT: u64 = 200;

/// Lives of a world.
const LIVES: u64 = 5;

/// Bits that are flipped in what a world has left.
const FLIPS: usize = 3;

/// Steps of a life.
const STEPS: u64 = 260;

#[test]
fn every_seed_keeps_every_promise_and_repeats_itself() {
    if let Some(seed) = settings::number("CULVERT_LOG_SEED") {
        run(seed);
        return;
    }
    let from = settings::number("CULVERT_LOG_SEEDS_FROM").unwrap_or(0);
    for seed in from..from + settings::number("CULVERT_LOG_SEEDS").unwrap_or(SEEDS_DEFAULT) {
        let first = repeated_by(seed, || run(seed));
        assert_eq!(first, run(seed), "seed {seed} does not repeat itself");
    }
}

/// Says which seed it was if it fails.
fn repeated_by<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    struct OnPanic(u64);
    impl Drop for OnPanic {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}: CULVERT_LOG_TRACE=1 CULVERT_LOG_SEED={0} repeats it", self.0);
            }
        }
    }
    let _on_panic = OnPanic(seed);
    run()
}

pub(super) fn run(seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let mut world = World::new(tiny());
    world.compact_odd_topics();
    for _ in 0..LIVES {
        let ended = live(&mut world, &mut rng);
        let power = rng.below(3) > 0;
        world.note(format_args!("{ended:?}"));
        world.die();
        if power {
            world.disk.lose_power(&mut || rng.below(2) == 0);
        }
        if rng.below(5) == 0 {
            world.rot_newest_checkpoint(rng.next());
        }
    }
    while world.open().is_err() {
        world.die();
    }
    world.settle().unwrap();
    world.check_everything();
    for _ in 0..FLIPS {
        flips::flip_any(&world, &mut rng);
    }
    world.let_all_expire();
    world.settle().unwrap();
    world.check_nothing_but_keys_is_left();
    world.trace()
}

fn live(world: &mut World, rng: &mut Rng) -> Result<(), DiskError> {
    if rng.below(3) > 0 {
        let death = [Death::Killed, Death::FailedSync][rng.below(2) as usize];
        let calls = [20, 200, 600][rng.below(3) as usize];
        world.disk.die_after(rng.below(calls) as usize, death);
    }
    world.open()?;
    let busy = [5, 30, 60][rng.below(3) as usize];
    for _ in 0..STEPS {
        world.step(draw(rng, busy))?;
    }
    if rng.below(2) == 0 {
        world.stop()?;
    }
    Ok(())
}
