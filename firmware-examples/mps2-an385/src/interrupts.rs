//! The board's interrupts.
#![allow(unsafe_code)]

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;

use crate::lan9118;

/// An interrupt of the board, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interrupt(u16);

// SAFETY: the one value that is made, below, is a constant and one of the board's interrupts.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// Lets the interrupts through.
pub fn enable() {
    // SAFETY: no critical section is built on interrupts being masked one by one.
    unsafe { NVIC::unmask(Interrupt(lan9118::INTERRUPT)) }
}

/// Every interrupt comes here, as there is no table of the board's own.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == lan9118::INTERRUPT as i16 {
        lan9118::handle_interrupt();
    } else {
        panic!("interrupt {number}, which nobody enabled");
    }
}
