//! Driver for the board's Ethernet controller, an SMSC LAN9118: frames go through FIFOs, a word at a time, without DMA.
//!
//! The interrupt only wakes the network task. It masks itself, and the task unmasks it when it has found nothing left to
//! receive: a frame that comes in between is still pending then and interrupts at once.

mod registers;

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;

pub use registers::StayedBusy;
use registers::{MacRegister, PhyRegister, Register, read, wait, write};

/// Its interrupt (Application Note AN385, table 3-7).
pub const INTERRUPT: u16 = 13;

/// An Ethernet frame without its checksum, which the controller adds to what it sends.
const FRAME_LEN_MAX: usize = 1_514;

/// The checksum of what it receives is left behind the frame.
const CHECKSUM_LEN: usize = 4;

/// A received frame in whole words.
const BUFFER_LEN: usize = (FRAME_LEN_MAX + CHECKSUM_LEN).next_multiple_of(4);

/// Room for a frame to send, with the two command words before it.
const TX_ROOM: u32 = 8 + BUFFER_LEN as u32;

/// The network task.
static NETWORK: AtomicWaker = AtomicWaker::new();

/// Why the controller does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// It stayed busy.
    Busy,
    /// Something else is there, which reads as this.
    NotThere(u32),
}

impl From<StayedBusy> for StartError {
    fn from(_: StayedBusy) -> Self {
        Self::Busy
    }
}

/// The controller.
#[derive(Debug)]
pub struct Lan9118 {
    address: [u8; 6],
}

impl Lan9118 {
    /// Resets the controller and starts it under `address`. Its interrupt is to be unmasked and to call
    /// [`handle_interrupt`].
    ///
    /// # Errors
    /// If it is not there or stays busy.
    pub fn start(address: [u8; 6]) -> Result<Self, StartError> {
        // Chapter 3.10: a write to this register wakes it, and nothing else may be accessed before it is ready.
        write(Register::ByteTest, 0);
        wait(Register::PowerControl, registers::POWER_READY, registers::POWER_READY)?;
        let test = read(Register::ByteTest);
        if test != registers::BYTE_TEST {
            return Err(StartError::NotThere(test));
        }
        write(Register::HardwareConfig, registers::HARDWARE_RESET);
        wait(Register::HardwareConfig, registers::HARDWARE_RESET, 0)?;
        write(Register::HardwareConfig, registers::HARDWARE_STORE_AND_FORWARD);

        let [a, b, c, d, e, f] = address;
        registers::write_mac(MacRegister::AddressLow, u32::from_le_bytes([a, b, c, d]))?;
        registers::write_mac(MacRegister::AddressHigh, u32::from_le_bytes([e, f, 0, 0]))?;
        registers::write_phy(PhyRegister::InterruptMask, registers::PHY_LINK_CHANGES)?;
        registers::write_phy(PhyRegister::BasicControl, registers::PHY_NEGOTIATE)?;
        registers::write_mac(MacRegister::Control, registers::MAC_ON)?;
        write(Register::TxConfig, registers::TX_ON);

        write(Register::FifoInterrupt, registers::FIFO_LEVELS);
        write(Register::InterruptStatus, u32::MAX);
        write(Register::IrqConfig, registers::IRQ_ON);
        Ok(Self { address })
    }

    /// Whether the link is up; asking also clears the PHY's interrupt.
    fn is_link_up(&self) -> Result<bool, StayedBusy> {
        registers::read_phy(PhyRegister::InterruptSource)?;
        // The first read tells that the link was down, the second that it is.
        registers::read_phy(PhyRegister::BasicStatus)?;
        Ok(registers::read_phy(PhyRegister::BasicStatus)? & registers::PHY_LINK != 0)
    }
}

/// To be called by the interrupt: wakes the network task, which unmasks it again.
pub fn handle_interrupt() {
    write(Register::InterruptEnable, 0);
    write(Register::InterruptStatus, u32::MAX);
    NETWORK.wake();
}

impl Driver for Lan9118 {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received, Room)> {
        NETWORK.register(cx.waker());
        while waiting_frames() > 0 {
            // An answer must have room, or else the frame waits.
            if !has_room() {
                write(Register::InterruptEnable, registers::INTERRUPT_TX_ROOM);
                return None;
            }
            if is_whole(read(Register::RxStatusFifoPeek)) {
                return Some((Received, Room));
            }
            skip_frame();
        }
        write(Register::InterruptEnable, registers::INTERRUPT_RX | registers::INTERRUPT_PHY);
        None
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Room> {
        NETWORK.register(cx.waker());
        if has_room() {
            return Some(Room);
        }
        write(
            Register::InterruptEnable,
            registers::INTERRUPT_TX_ROOM | registers::INTERRUPT_RX | registers::INTERRUPT_PHY,
        );
        None
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        NETWORK.register(cx.waker());
        match self.is_link_up() {
            Ok(true) => LinkState::Up,
            Ok(false) | Err(StayedBusy) => LinkState::Down,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_LEN_MAX;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A whole frame at the head of the FIFO.
#[derive(Debug)]
pub struct Received;

impl embassy_net_driver::RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        let len = len_with_checksum(read(Register::RxStatusFifo));
        let mut buffer = [0; BUFFER_LEN];
        let (words, _) = buffer[..len.next_multiple_of(4)].as_chunks_mut();
        for word in words {
            *word = read(Register::RxDataFifo).to_le_bytes();
        }
        f(&mut buffer[..len - CHECKSUM_LEN])
    }
}

/// Room for a frame.
#[derive(Debug)]
pub struct Room;

impl embassy_net_driver::TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // The stack keeps to the capabilities it was told: `len` is at most `FRAME_LEN_MAX`.
        let mut buffer = [0; BUFFER_LEN];
        let result = f(&mut buffer[..len]);
        write(Register::TxDataFifo, registers::TX_FIRST_AND_LAST | len as u32);
        write(Register::TxDataFifo, len as u32);
        let (words, _) = buffer[..len.next_multiple_of(4)].as_chunks();
        for word in words {
            write(Register::TxDataFifo, u32::from_le_bytes(*word));
        }
        // What was not sent is sent again by TCP; only the status must not pile up.
        while read(Register::TxFifoInfo) >> 16 & 0xff != 0 {
            read(Register::TxStatusFifo);
        }
        result
    }
}

/// Received frames in the FIFO.
fn waiting_frames() -> u32 {
    read(Register::RxFifoInfo) >> 16 & 0xff
}

fn has_room() -> bool {
    read(Register::TxFifoInfo) & 0xffff >= TX_ROOM
}

fn len_with_checksum(status: u32) -> usize {
    (status >> 16 & 0x3fff) as usize
}

fn is_whole(status: u32) -> bool {
    let fits = (CHECKSUM_LEN..=FRAME_LEN_MAX + CHECKSUM_LEN).contains(&len_with_checksum(status));
    status & registers::RX_ERROR == 0 && fits
}

/// Takes the next frame out of the FIFO, whatever it is.
fn skip_frame() {
    let len = len_with_checksum(read(Register::RxStatusFifo));
    for _ in 0..len.div_ceil(4) {
        read(Register::RxDataFifo);
    }
}
