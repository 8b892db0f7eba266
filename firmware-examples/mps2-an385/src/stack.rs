//! How deep the stack has been. The start-up code fills it with a pattern, and the peak is where the pattern ends.
#![allow(unsafe_code)]

use core::ptr;

/// What cortex-m-rt fills the stack with (its feature `paint-stack`).
const PAINT: u32 = 0xcccc_cccc;

unsafe extern "C" {
    /// The address right above the stack.
    static _stack_start: u32;
    /// The lowest address that the stack may come to: right above the statics.
    static _stack_end: u32;
}

/// Bytes of the stack that were used so far, and bytes that it may use.
pub fn peak() -> (usize, usize) {
    let start = &raw const _stack_start as usize;
    let end = &raw const _stack_end as usize;
    let is_untouched = |address: &usize| {
        // SAFETY: a word between the two symbols, which are aligned, lies in RAM and belongs to the stack or to nobody.
        // It is only compared, and may change meanwhile.
        let word = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(*address)) };
        word == PAINT
    };
    let untouched = (end..start).step_by(4).take_while(is_untouched).count() * 4;
    (start - end - untouched, start - end)
}
