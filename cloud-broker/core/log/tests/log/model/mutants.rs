//! Every rule of the log that can be broken is noticed by these tests: a model that never fails proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use broker_log::mutant::{Mutant, set};

use crate::life::the_older_checkpoint_stays_good_through_a_start;

use super::{crash_points, flips, seeds, space};

/// Seeds within which a broken rule must be noticed, unless something else does.
const SEEDS_MAX: u64 = 40;

#[test]
fn every_broken_rule_is_caught() {
    // What panics here is meant to: nobody wants to read it.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let outcomes: Vec<_> = Mutant::ALL.iter().map(|mutant| (*mutant, caught_by(*mutant))).collect();
    set_hook(hook);
    for (mutant, by) in &outcomes {
        println!("{mutant:?}: {by:?}");
    }
    assert!(outcomes.iter().all(|(_, by)| by.is_some()), "a broken rule goes unnoticed");
}

/// What notices that the rule is broken, and what it says.
fn caught_by(mutant: Mutant) -> Option<String> {
    set(Some(mutant));
    let seeds = (0..SEEDS_MAX).find_map(|seed| {
        let found = complaint(|| {
            seeds::run(seed);
        })?;
        Some(format!("seed {seed}: {found}"))
    });
    let by = seeds
        .or_else(|| complaint(space::a_full_disk_turns_appends_away_and_serves_what_it_has))
        .or_else(|| complaint(space::what_somebody_reads_stays_until_it_is_read))
        .or_else(|| complaint(space::what_is_deleted_gives_its_space_back))
        .or_else(|| complaint(the_older_checkpoint_stays_good_through_a_start))
        .or_else(|| complaint(flips::a_flipped_bit_is_found_or_changes_nothing))
        .or_else(|| complaint(crash_points::nothing_is_lost_wherever_the_process_dies));
    set(None);
    by
}

fn complaint(test: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(test)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(text.unwrap_or_default().replace('\n', " "))
}
