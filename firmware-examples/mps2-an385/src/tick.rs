//! Time for embassy: the processor's own timer, a thousand times a second.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use embassy_time_queue_utils::Queue;

/// The processor's clock (Application Note AN385, chapter 3.6).
const CLOCK_HZ: u32 = 25_000_000;

const RELOAD: u32 = CLOCK_HZ / TICK_HZ as u32 - 1;

// The timer counts in 24 bits.
const _: () = assert!(RELOAD < 1 << 24);

struct Ticks {
    now: Mutex<Cell<u64>>,
    alarms: Mutex<RefCell<Queue>>,
}

time_driver_impl!(static TICKS: Ticks = Ticks {
    now: Mutex::new(Cell::new(0)),
    alarms: Mutex::new(RefCell::new(Queue::new())),
});

impl Driver for Ticks {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.now.borrow(section).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        // Every tick looks at the alarms: there is no timer to be set to an earlier time.
        critical_section::with(|section| {
            self.alarms.borrow_ref_mut(section).schedule_wake(at, waker);
        });
    }
}

/// Starts the time.
pub fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(RELOAD);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let now = TICKS.now.borrow(section);
        now.set(now.get() + 1);
        TICKS.alarms.borrow_ref_mut(section).next_expiration(now.get());
    });
}
