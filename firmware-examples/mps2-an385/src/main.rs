//! Firmware for the MPS2+ board with application note AN385 (Arm Cortex-M3, LAN9118 Ethernet), which QEMU emulates:
//! takes readings, sends them to a gateway on the host with the device SDK, and ends when all are acknowledged.
#![no_std]
#![no_main]

mod executor;
mod host;
mod interrupts;
mod lan9118;
mod network;
mod plan;
mod signal;
mod stack;
mod tick;

use core::panic::PanicInfo;

use cortex_m_semihosting::hprintln;
use embassy_executor::Spawner;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_time::Instant;

use network::NetworkError;
use plan::Plan;

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

/// Why the firmware gives up.
#[derive(Debug)]
enum Failure {
    Connect(ConnectError),
    Network(NetworkError),
}

#[embassy_executor::task]
async fn main(spawner: Spawner) {
    let mut line = [0; host::COMMAND_LINE_LEN_MAX];
    let Some(line) = host::command_line(&mut line) else {
        hprintln!("the command line is too long");
        host::exit(false)
    };
    let plan = match Plan::parse(line) {
        Ok(plan) => plan,
        Err(error) => {
            hprintln!("{}", error);
            host::exit(false)
        }
    };
    if let Some(core) = cortex_m::Peripherals::take() {
        tick::start(core.SYST);
    }
    match run(spawner, &plan).await {
        Ok(()) => {
            let (peak, size) = stack::peak();
            hprintln!("done after {} ms", Instant::now().as_millis());
            hprintln!("stack: {} of {} bytes used", peak, size);
            host::exit(true)
        }
        Err(error) => {
            hprintln!("failed after {} ms: {:?}", Instant::now().as_millis(), error);
            host::exit(false)
        }
    }
}

async fn run(spawner: Spawner, plan: &Plan<'_>) -> Result<(), Failure> {
    let stack = network::start(spawner, plan.seed).map_err(Failure::Network)?;
    let (mut rx, mut tx) = ([0; 1_024], [0; 1_024]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    socket.connect((network::HOST, plan.port)).await.map_err(Failure::Connect)
}
