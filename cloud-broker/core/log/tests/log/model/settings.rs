//! What whoever runs the tests may ask for.

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "the tests' own settings, not the log's")]
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}
