//! The network that QEMU gives a board (`-nic user`): fixed addresses, and the host among them.

use core::fmt;

use embassy_executor::{SpawnError, Spawner};
use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use static_cell::StaticCell;

use crate::interrupts;
use crate::lan9118::{Lan9118, StartError};

/// The host, which listens for the board on its loopback address.
pub const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

const BOARD: Ipv4Cidr = Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 15), 24);

/// Locally administered.
const HARDWARE_ADDRESS: [u8; 6] = [0x02, 0x00, 0x00, 0x00, 0x03, 0x85];

/// One connection; one more may still be closing.
const SOCKETS_MAX: usize = 2;

/// Why there is no network.
#[derive(Debug)]
pub enum NetworkError {
    /// The controller does not start.
    Controller(StartError),
    /// It was started already.
    Task(SpawnError),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(StartError::Busy) => write!(formatter, "the controller stays busy"),
            Self::Controller(StartError::NotThere(word)) => {
                write!(formatter, "{word:#010x} is where the controller should be")
            }
            Self::Task(error) => write!(formatter, "{error:?}"),
        }
    }
}

/// Starts the controller, the TCP/IP stack, and the task that runs both. `seed` makes port and sequence numbers.
///
/// # Errors
/// If the controller does not start, or this was called before.
pub fn start(spawner: Spawner, seed: u64) -> Result<Stack<'static>, NetworkError> {
    static RESOURCES: StaticCell<StackResources<SOCKETS_MAX>> = StaticCell::new();
    let controller = Lan9118::start(HARDWARE_ADDRESS).map_err(NetworkError::Controller)?;
    let config = Config::ipv4_static(StaticConfigV4 {
        address: BOARD,
        gateway: Some(HOST),
        dns_servers: Default::default(),
    });
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(controller, config, resources, seed);
    spawner.spawn(run(runner).map_err(NetworkError::Task)?);
    interrupts::enable();
    Ok(stack)
}

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}
