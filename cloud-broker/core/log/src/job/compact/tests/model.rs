//! Passes at random, each held against everything that was ever appended.

use std::collections::BTreeMap;

use wire::time::UnixMs;

use super::super::Ages;
use super::world::{Found, Outcome, SECOND, Said, World};

/// `SplitMix64`.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// When the tombstones that were found in the cleaned part may go.
type Horizons = BTreeMap<i64, i64>;

fn append(world: &mut World, rng: &mut Rng) {
    let mut batches = Vec::new();
    for _ in 0..=rng.below(4) {
        let mut records = Vec::new();
        for _ in 0..=rng.below(5) {
            let key = (rng.below(12) > 0).then(|| format!("key {}", rng.below(9)));
            let value = (rng.below(4) > 0).then(|| format!("value {}", rng.below(1 << 40)));
            records.push((key, value));
        }
        batches.push(records);
    }
    let built = batches.iter().map(|records| {
        let records: Vec<_> = records.iter().map(|(k, v)| (k.as_deref(), v.as_deref())).collect();
        world.batch(&records)
    });
    let built: Vec<_> = built.collect();
    if rng.below(2) == 0 {
        world.append_built(&built);
    } else {
        world.append_sealed(&built);
    }
}

/// Everything that must be so after a pass.
fn check(world: &mut World, outcome: &Outcome, horizons: &mut Horizons) {
    let found: Vec<Found> = world.read();
    let said: Vec<&Said> = found.iter().map(|(said, _)| said).collect();
    assert!(said.windows(2).all(|pair| pair[0].offset < pair[1].offset), "order");
    for said in &said {
        assert_eq!(**said, world.appended[said.offset as usize], "nothing is changed");
    }
    assert_eq!(World::table(said.iter().copied()), world.expected_table(), "the table of keys");

    let end = world.extents.last().map_or(world.log_start, |(extent, _)| extent.last.0 + 1);
    assert_eq!(end, world.next().max(world.log_start), "readers come to the end");
    let (start, cleaned) = (world.log_start, outcome.cleaned);
    let untouched = (start.max(cleaned)..end).collect::<Vec<_>>();
    let above = said.iter().map(|said| said.offset).filter(|offset| *offset >= cleaned);
    assert_eq!(above.collect::<Vec<_>>(), untouched, "above the cleaned part all is there");

    // Below, one record of each key is there: the last one.
    let mut last = BTreeMap::new();
    for said in &world.appended[start.min(cleaned) as usize..cleaned as usize] {
        if said.offset >= start {
            last.insert(said.key.clone(), said.offset);
        }
    }
    for said in said.iter().filter(|said| said.offset < cleaned) {
        let is_the_last = said.key.is_some() && last[&said.key] == said.offset;
        assert!(
            is_the_last || said.offset == end - 1 || is_last_of_pass(outcome, said),
            "{said:?}"
        );
    }
    check_tombstones(world, outcome, &found, &last, horizons);
}

/// Whether the record is what is left of the last batch of the pass.
fn is_last_of_pass(outcome: &Outcome, said: &Said) -> bool {
    outcome.made.extents.last().is_some_and(|(_, extent)| extent.last.0 - said.offset < 6)
}

/// Tombstones go neither too early nor, unless they are the last, too late.
fn check_tombstones(
    world: &World,
    outcome: &Outcome,
    found: &[Found],
    last: &BTreeMap<Option<Vec<u8>>, i64>,
    horizons: &mut Horizons,
) {
    let there: BTreeMap<i64, Option<UnixMs>> =
        found.iter().map(|(said, horizon)| (said.offset, *horizon)).collect();
    let mut waits = None;
    for (key, offset) in last {
        let is_tombstone = world.appended[*offset as usize].value.is_none();
        if key.is_none() || !is_tombstone || *offset < world.log_start {
            continue;
        }
        match (there.get(offset), horizons.get(offset)) {
            (None, due) => {
                // What the pass did not clean whole may supersede all the same.
                let above = &world.appended[outcome.cleaned as usize..];
                let is_superseded = above.iter().any(|said| said.key == *key);
                let is_over = due.is_some_and(|due| *due <= world.now);
                assert!(is_over || is_superseded, "{offset} went early");
            }
            (Some(None), due) => {
                assert_eq!(due, None, "only where its batch was not cleaned whole")
            }
            (Some(Some(horizon)), due) => {
                let new = world.now + world.policy.delete_retention_ms as i64;
                assert!(due.is_some_and(|due| *due == horizon.0) || horizon.0 == new);
                let is_new = due.is_none();
                horizons.insert(*offset, horizon.0);
                let batch_is_last = outcome.made.extents.last();
                let is_end = batch_is_last.is_some_and(|(_, extent)| extent.last.0 - offset < 6);
                assert!(horizon.0 > world.now || is_new || is_end, "{offset} stays for ever");
                if horizon.0 > world.now || is_new {
                    waits = [waits, Some(*horizon)].into_iter().flatten().min();
                }
            }
        }
    }
    assert_eq!(outcome.next_horizon, waits);
}

fn run(seed: u64) -> (Vec<i64>, usize) {
    let mut rng = Rng(seed);
    let mut world = World::new();
    let mut horizons = Horizons::new();
    let mut gone = 0;
    for _ in 0..25 {
        match rng.below(8) {
            0..4 => append(&mut world, &mut rng),
            4 => world.now += rng.below(80) as i64 * SECOND,
            5 if rng.below(3) == 0 => {
                let above = world.next() - world.log_start;
                world.log_start += rng.below(above as u64 / 2 + 1) as i64;
                let start = world.log_start;
                world.extents.retain(|(extent, _)| extent.last.0 >= start);
            }
            _ => {
                world.limits.map_bytes = 24 * (8 + rng.below(20)) as usize;
                world.limits.unit_bytes = 1 + rng.below(2_000);
                world.policy.min_lag_ms = rng.below(2) * 10 * SECOND as u64;
                world.ages = [Ages::Forgotten, Ages::Kept][rng.below(2) as usize];
                let before = world.offsets();
                let outcome = world.compact();
                check(&mut world, &outcome, &mut horizons);
                gone += before.len() - world.offsets().len();
                let from = rng.below(world.next() as u64 + 1) as i64;
                let mut expected = world.read();
                expected.retain(|(said, _)| said.offset >= from);
                let from = from.max(world.log_start);
                assert_eq!(world.read_from(from).unwrap(), expected, "from {from}");
            }
        }
    }
    world.limits.map_bytes = usize::MAX;
    world.policy.min_lag_ms = 0;
    for _ in 0..2 {
        world.now += 1_000 * SECOND;
        let outcome = world.compact();
        check(&mut world, &outcome, &mut horizons);
    }
    let table = world.expected_table();
    let left = world.offsets();
    assert!(left.len() <= table.len() + 5, "{} for {} keys", left.len(), table.len());
    (left, gone)
}

#[test]
fn whatever_was_compacted_the_table_of_keys_is_the_same() {
    let mut gone = 0;
    for seed in 0..400 {
        let outcome = run(seed);
        if seed % 50 == 0 {
            assert_eq!(run(seed), outcome, "seed {seed} again");
        }
        gone += outcome.1;
    }
    assert!(gone > 3_000, "{gone} records went");
}
