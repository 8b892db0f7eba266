//! The system's random numbers.

/// 64 random bits.
///
/// # Panics
/// If the system has none: nothing here may go on with numbers that could repeat.
pub fn random() -> u64 {
    getrandom::u64().expect("the system gives random numbers")
}

/// 128 random bits.
///
/// # Panics
/// As [`random`].
pub fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system gives random numbers");
    id
}
