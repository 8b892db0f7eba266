//! The host that runs the emulator, as semihosting reaches it ("Semihosting for AArch32 and AArch64", Arm): the command
//! line, the time of day, an output, and an end with an exit code. A real board would have a console, SNTP and no end.
#![allow(unsafe_code)]

use cortex_m_semihosting::{debug, nr, syscall1};

/// A command line may be so long.
pub const COMMAND_LINE_LEN_MAX: usize = 256;

/// The command line, or nothing if it is longer than `buffer` or no text.
pub fn command_line(buffer: &mut [u8; COMMAND_LINE_LEN_MAX]) -> Option<&str> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: SYS_GET_CMDLINE takes the address of two words, an address and a length, which are those of `buffer`. It
    // writes no more than that, and puts the length of the text, without the 0 behind it, into the second word.
    let status = unsafe { syscall1(nr::GET_CMDLINE, block.as_mut_ptr() as usize) };
    let len = block[1];
    let text = buffer.get(..len).filter(|_| status == 0)?;
    core::str::from_utf8(text).ok()
}

/// Seconds since 1970.
pub fn unix_seconds() -> u32 {
    // SAFETY: SYS_TIME has no argument and writes nothing.
    let seconds = unsafe { syscall1(nr::TIME, 0) };
    seconds as u32
}

/// Ends the emulator: with exit code 0 after a success, 1 otherwise.
pub fn exit(succeeded: bool) -> ! {
    let status = if succeeded { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE };
    loop {
        debug::exit(status);
    }
}
