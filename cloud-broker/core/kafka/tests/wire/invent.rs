//! Random messages without a description of them: bytes are drawn one by one and kept where the message still parses
//! when what follows is filled up with bytes that mean "nothing more".

use broker_kafka::generated::{ApiKey, Request, Response};
use broker_kafka::runtime::{Bytes, Reader, WireError};

/// A small generator of pseudo-random numbers (xorshift64*), so that every run draws the same.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Mostly small: such bytes are lengths and counts that work.
    pub fn byte(&mut self) -> u8 {
        match self.next() % 16 {
            0..=4 => 0,
            5..=12 => (self.next() % 5) as u8,
            13 => b'a' + (self.next() % 26) as u8,
            14 => 0xff,
            _ => self.next() as u8,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

#[derive(Debug, Clone, Copy)]
pub enum Side {
    Request,
    Response,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Request, Self::Response];

    pub fn read(self, api: ApiKey, r: &mut Reader<'_>, version: i16) -> Result<Message, WireError> {
        match self {
            Self::Request => Request::read(api, r, version).map(Message::Request),
            Self::Response => Response::read(api, r, version).map(Message::Response),
        }
    }
}

/// Memory that an invented message may take.
pub const BUDGET: usize = 1 << 20;

const FILL_BYTES: usize = 512;
const TRIES_PER_BYTE: usize = 4;

/// A message with about `len` bytes that are random, as far as the format lets them be.
pub fn message(random: &mut Random, side: Side, api: ApiKey, version: i16, len: usize) -> Message {
    let parse = |frame: &mut [u8]| parse_repairing(frame, side, api, version);
    let mut frame = vec![0; len + FILL_BYTES];
    let (mut best, mut used) = parse(&mut frame).expect("zeros make a message");
    for at in 0..len {
        if at >= used {
            break;
        }
        for _ in 0..TRIES_PER_BYTE {
            let mut tried = frame.clone();
            tried[at] = random.byte();
            let drawn = tried[..=at].to_vec();
            if let Some((message, len)) = parse(&mut tried)
                && tried[..=at] == drawn
            {
                (best, used, frame) = (message, len, tried);
                break;
            }
        }
    }
    best
}

/// Parses a frame that ends in zeros. A zero is null in the flexible form, which not every field takes: there it is
/// replaced by 1, which is empty. Gives the message and how many bytes it took.
fn parse_repairing(
    frame: &mut [u8],
    side: Side,
    api: ApiKey,
    version: i16,
) -> Option<(Message, usize)> {
    loop {
        let bytes = Bytes::copy_from_slice(frame);
        let mut reader = Reader::new(&bytes, BUDGET);
        let read = side.read(api, &mut reader, version);
        let used = bytes.len() - reader.remaining();
        match read {
            Ok(message) => return Some((message, used)),
            Err(WireError::Null) if frame[used - 1] == 0 => frame[used - 1] = 1,
            Err(_) => return None,
        }
    }
}
