//! Rules of the device that the simulator breaks, to prove that it would notice (docs/simulation.md).
//!
//! Without the feature `mutants` no rule can be broken: [`is`] is constantly false.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// After a reconnect the second batch is sent first.
    BeginWithSecond,
    /// That another spool may have some readings is forgotten over a reboot (D4).
    ForgetDoubt,
    /// What is on its way leaves the queue with the connection (nothing leaves before its PUBACK).
    ForgetInFlight,
    /// Losses are not declared by the batch behind them (D2).
    LossNotDeclared,
    /// Another spool is not noticed, so nothing is flagged (D4).
    SpoolNotCompared,
}

#[cfg(feature = "mutants")]
mod switch {
    use core::cell::Cell;

    use super::Mutant;

    std::thread_local! {
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Every rule that can be broken here.
        pub const ALL: &[Self] = &[
            Self::BeginWithSecond,
            Self::ForgetDoubt,
            Self::ForgetInFlight,
            Self::LossNotDeclared,
            Self::SpoolNotCompared,
        ];
    }

    /// Breaks a rule on this thread, or mends it.
    pub fn set(broken: Option<Mutant>) {
        BROKEN.set(broken);
    }

    /// Whether this rule is broken.
    pub(crate) fn is(mutant: Mutant) -> bool {
        BROKEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use switch::is;
#[cfg(feature = "mutants")]
pub use switch::set;

/// Whether this rule is broken.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
