//! What whoever runs the tests may ask for.

/// Seeds that a change must pass.
const SEEDS_DEFAULT: u64 = 500;

/// How many seeds: `CULVERT_SIM_SEEDS`.
pub fn seeds() -> u64 {
    number("CULVERT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT)
}

/// One seed, whose trace is to be shown: `CULVERT_SIM_SEED`.
pub fn seed() -> Option<u64> {
    number("CULVERT_SIM_SEED")
}

#[expect(clippy::disallowed_methods, reason = "the tests' own settings, not the simulation's")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the setting is a number"))
}
