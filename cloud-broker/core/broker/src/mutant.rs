//! Rules of the broker that the simulator breaks, to prove that it would notice (docs/simulation.md).
//!
//! Without the feature `mutants` no rule can be broken: [`is`] is constantly false.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An append is answered as stored at once (B2).
    AnswerBeforeDurable,
    /// A log that is busy refuses for ever (B3).
    BusyIsPermanent,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Every rule that can be broken here.
        pub const ALL: &[Self] = &[Self::AnswerBeforeDurable, Self::BusyIsPermanent];
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
