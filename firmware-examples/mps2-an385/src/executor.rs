//! Runs the tasks, and halts the processor while none has anything to do.
//!
//! Embassy's own executor for this processor halts with WFE, which QEMU does not emulate: the machine that runs the
//! emulator would be kept busy. This one halts with WFI.
#![allow(unsafe_code)]

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::asm::wfi;
use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use static_cell::StaticCell;

/// Whether a task was woken since the tasks were last run.
static WOKEN: AtomicBool = AtomicBool::new(false);

/// Called by the executor whenever a task is woken.
// SAFETY: this is the one definition of the symbol, with the signature that embassy-executor asks for.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    WOKEN.store(true, Ordering::SeqCst);
}

/// Calls `start`, and runs the tasks that it spawns, for ever.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    let executor: &'static Executor = EXECUTOR.init(Executor::new(ptr::null_mut()));
    start(executor.spawner());
    loop {
        // SAFETY: only here, and this function cannot be entered twice, as the cell can be filled only once.
        unsafe { executor.poll() };
        // A task that an interrupt wakes right before the halt must not wait for the next one: masked interrupts do not
        // run, and end the halt all the same.
        cortex_m::interrupt::free(|_| {
            if !WOKEN.swap(false, Ordering::SeqCst) {
                wfi();
            }
        });
    }
}
