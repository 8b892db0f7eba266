//! Firmware for the MPS2+ board with application note AN385 (Arm Cortex-M3, LAN9118 Ethernet), which QEMU emulates:
//! takes readings, sends them to a gateway on the host with the device SDK, and ends when all are acknowledged.
#![no_std]
#![no_main]

mod device;
mod executor;
mod host;
mod interrupts;
mod lan9118;
mod network;
mod plan;
mod random;
mod signal;
mod stack;
mod tick;

use core::fmt::Display;
use core::panic::PanicInfo;

use cortex_m_semihosting::hprintln;
use embassy_executor::Spawner;
use embassy_time::Instant;

use plan::Plan;
use random::Random;

#[cortex_m_rt::entry]
fn start() -> ! {
    executor::run(|spawner| match main(spawner) {
        Ok(task) => spawner.spawn(task),
        Err(error) => panic!("{error:?}"),
    })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    host::exit(false)
}

#[embassy_executor::task]
async fn main(spawner: Spawner) {
    let mut line = [0; host::COMMAND_LINE_LEN_MAX];
    let Some(line) = host::command_line(&mut line) else { give_up("the command line is too long") };
    let plan = Plan::parse(line).unwrap_or_else(|error| give_up(error));
    let mut random = Random::new(plan.seed);
    let Some(core) = cortex_m::Peripherals::take() else { give_up("started twice") };
    tick::start(core.SYST);
    let stack = network::start(spawner, random.number()).unwrap_or_else(|error| give_up(error));
    let report = device::run(stack, &plan, &mut random).await;
    let report = report.unwrap_or_else(|failure| give_up(failure));
    let (peak, size) = stack::peak();
    hprintln!(
        "{} in {} ms, {} of {} bytes of stack",
        report,
        Instant::now().as_millis(),
        peak,
        size
    );
    host::exit(true)
}

fn give_up(reason: impl Display) -> ! {
    hprintln!("{}", reason);
    host::exit(false)
}
