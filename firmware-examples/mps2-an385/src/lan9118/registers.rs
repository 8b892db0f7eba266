//! The controller's registers: where they are, and the only code that touches them.
#![allow(unsafe_code)]

use core::ptr;

/// Where the controller is on this board (Application Note AN385, table 3-1).
const BASE: usize = 0x4020_0000;

/// Busy waits end after so many reads: a controller that stays busy is reported, not waited for.
const POLLS_MAX: u32 = 1_000_000;

/// Directly addressable registers (LAN9118 datasheet, chapter 5), by their offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Register {
    /// Bytes of received frames, in words.
    RxDataFifo = 0x00,
    /// Commands and bytes of frames to send, in words.
    TxDataFifo = 0x20,
    /// The next received frame's status; reading takes it away.
    RxStatusFifo = 0x40,
    /// As [`Register::RxStatusFifo`], without taking it away.
    RxStatusFifoPeek = 0x44,
    /// A sent frame's status; reading takes it away.
    TxStatusFifo = 0x48,
    /// How the interrupt line behaves.
    IrqConfig = 0x54,
    /// Which interrupts are due; writing a 1 clears one.
    InterruptStatus = 0x58,
    /// Which interrupts reach the line.
    InterruptEnable = 0x5c,
    /// Always [`BYTE_TEST`].
    ByteTest = 0x64,
    /// At which fill levels the FIFOs interrupt.
    FifoInterrupt = 0x68,
    /// The transmitter.
    TxConfig = 0x70,
    /// Resets and FIFO sizes.
    HardwareConfig = 0x74,
    /// What the receive FIFOs hold.
    RxFifoInfo = 0x7c,
    /// What the transmit FIFOs hold and have room for.
    TxFifoInfo = 0x80,
    /// Power management.
    PowerControl = 0x84,
    /// Starts an access to a [`MacRegister`].
    MacCommand = 0xa4,
    /// The value of that access.
    MacData = 0xa8,
}

/// Registers of the MAC, reached through two of the others (chapter 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MacRegister {
    /// Receiver and transmitter on and off.
    Control = 1,
    /// Bytes 4 and 5 of the address.
    AddressHigh = 2,
    /// Bytes 0 to 3 of the address.
    AddressLow = 3,
    /// Starts an access to a [`PhyRegister`].
    MiiAccess = 6,
    /// The value of that access.
    MiiData = 7,
}

/// Registers of the built-in PHY, reached through two of the MAC's (chapter 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PhyRegister {
    /// Auto-negotiation.
    BasicControl = 0,
    /// The link.
    BasicStatus = 1,
    /// Why it interrupts; reading clears it.
    InterruptSource = 29,
    /// For what it interrupts.
    InterruptMask = 30,
}

/// What [`Register::ByteTest`] reads as, if the bus and the byte order are right.
pub const BYTE_TEST: u32 = 0x8765_4321;

/// [`Register::PowerControl`]: awake.
pub const POWER_READY: u32 = 1;

/// [`Register::HardwareConfig`]: soft reset; clears itself.
pub const HARDWARE_RESET: u32 = 1;
/// [`Register::HardwareConfig`]: store and forward, "must be one", with 5 KiB for sending, the default.
pub const HARDWARE_STORE_AND_FORWARD: u32 = 1 << 20 | 5 << 16;

/// [`Register::IrqConfig`]: enabled, active high, push-pull.
pub const IRQ_ON: u32 = 1 << 8 | 1 << 4 | 1;

/// [`Register::InterruptEnable`]: the receive status FIFO is above its level.
pub const INTERRUPT_RX: u32 = 1 << 3;
/// [`Register::InterruptEnable`]: the transmit data FIFO has more room than its level.
pub const INTERRUPT_TX_ROOM: u32 = 1 << 9;
/// [`Register::InterruptEnable`]: the PHY interrupts.
pub const INTERRUPT_PHY: u32 = 1 << 18;

/// [`Register::FifoInterrupt`]: interrupt from one received frame on, and for 24 * 64 bytes of room, a whole frame.
pub const FIFO_LEVELS: u32 = 24 << 24;

/// [`Register::TxConfig`]: transmitter on.
pub const TX_ON: u32 = 1 << 1;

/// [`Register::RxStatusFifo`]: the frame is spoiled.
pub const RX_ERROR: u32 = 1 << 15;

/// First word before a frame that is sent in one piece; the length is added to both.
pub const TX_FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;

/// [`MacRegister::Control`]: full duplex, transmitter and receiver on.
pub const MAC_ON: u32 = 1 << 20 | 1 << 3 | 1 << 2;

/// [`PhyRegister::BasicControl`]: negotiate, anew.
pub const PHY_NEGOTIATE: u32 = 1 << 12 | 1 << 9;
/// [`PhyRegister::BasicStatus`]: the link is up. Stays 0 until read, once it was down.
pub const PHY_LINK: u32 = 1 << 2;
/// [`PhyRegister::InterruptMask`]: negotiation complete, link down.
pub const PHY_LINK_CHANGES: u32 = 1 << 6 | 1 << 4;

const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;

const MII_BUSY: u32 = 1;
const MII_WRITE: u32 = 1 << 1;
/// The built-in PHY has address 1.
const MII_PHY: u32 = 1 << 11;

/// A controller that stayed busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StayedBusy;

/// Reads a register.
pub fn read(register: Register) -> u32 {
    // SAFETY: the address is that of a 32-bit device register, which is always mapped; no Rust object lies there.
    unsafe { ptr::read_volatile((BASE + register as usize) as *const u32) }
}

/// Writes a register.
pub fn write(register: Register, value: u32) {
    // SAFETY: as in `read`; and the controller does no DMA, so no write makes it touch memory.
    unsafe { ptr::write_volatile((BASE + register as usize) as *mut u32, value) }
}

/// Waits until `register`, masked with `mask`, reads as `expected`.
///
/// # Errors
/// If it never does.
pub fn wait(register: Register, mask: u32, expected: u32) -> Result<(), StayedBusy> {
    let ready = (0..POLLS_MAX).any(|_| read(register) & mask == expected);
    if ready { Ok(()) } else { Err(StayedBusy) }
}

/// Reads a register of the MAC.
///
/// # Errors
/// If the controller stays busy.
pub fn read_mac(register: MacRegister) -> Result<u32, StayedBusy> {
    write(Register::MacCommand, MAC_BUSY | MAC_READ | register as u32);
    wait(Register::MacCommand, MAC_BUSY, 0)?;
    Ok(read(Register::MacData))
}

/// Writes a register of the MAC.
///
/// # Errors
/// If the controller stays busy.
pub fn write_mac(register: MacRegister, value: u32) -> Result<(), StayedBusy> {
    write(Register::MacData, value);
    write(Register::MacCommand, MAC_BUSY | register as u32);
    wait(Register::MacCommand, MAC_BUSY, 0)
}

/// Reads a register of the PHY.
///
/// # Errors
/// If the controller stays busy.
pub fn read_phy(register: PhyRegister) -> Result<u32, StayedBusy> {
    write_mac(MacRegister::MiiAccess, MII_PHY | (register as u32) << 6 | MII_BUSY)?;
    wait_phy()?;
    read_mac(MacRegister::MiiData)
}

/// Writes a register of the PHY.
///
/// # Errors
/// If the controller stays busy.
pub fn write_phy(register: PhyRegister, value: u32) -> Result<(), StayedBusy> {
    write_mac(MacRegister::MiiData, value)?;
    write_mac(MacRegister::MiiAccess, MII_PHY | (register as u32) << 6 | MII_WRITE | MII_BUSY)?;
    wait_phy()
}

fn wait_phy() -> Result<(), StayedBusy> {
    for _ in 0..POLLS_MAX {
        if read_mac(MacRegister::MiiAccess)? & MII_BUSY == 0 {
            return Ok(());
        }
    }
    Err(StayedBusy)
}
