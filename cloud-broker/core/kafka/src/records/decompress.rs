//! The five codecs behind one reader, none of which allocates by what the bytes say beyond a constant: gzip has a
//! window of 32 KiB, an LZ4 frame blocks of at most 4 MiB, a Snappy block is checked before it is made, and Zstandard
//! gets a window of at most [`ZSTD_WINDOW_LOG_MAX`].
//!
//! gzip, LZ4 and Snappy are decoded in Rust. Zstandard is the reference implementation in C: it is the only one whose
//! window can be limited to a figure of ours, and the gateway needs its encoder in any case.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use wire::record_batch::Codec;

use super::{BATCH_BYTES_MAX, RecordsError};

/// Base-2 logarithm of the greatest Zstandard window: 8 MiB, what RFC 8878 (3.1.1.1.2) recommends every decoder to
/// take. Only levels above 19 write larger ones.
pub(super) const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How Kafka's own clients begin a Snappy stream: the framing of the xerial library, not Snappy's.
pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Magic, version and compatible version.
const XERIAL_HEADER_BYTES: usize = 16;

/// Bytes that are decompressed ahead, so that reading varints byte by byte is cheap.
const BUFFER_BYTES: usize = 8 << 10;

/// The decompressed records of one batch.
pub(super) enum Decompressor<'a> {
    Gzip(BufReader<MultiGzDecoder<&'a [u8]>>),
    Lz4(BufReader<Box<FrameDecoder<&'a [u8]>>>),
    None(&'a [u8]),
    Snappy(Snappy<'a>),
    Zstd(BufReader<zstd::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decompressor<'a> {
    pub(super) fn new(codec: Codec, compressed: &'a [u8]) -> Result<Self, RecordsError> {
        Ok(match codec {
            Codec::None => Self::None(compressed),
            Codec::Gzip => Self::Gzip(buffered(MultiGzDecoder::new(compressed))),
            Codec::Snappy => Self::Snappy(Snappy::new(compressed)),
            Codec::Lz4 => Self::Lz4(buffered(Box::new(FrameDecoder::new(compressed)))),
            Codec::Zstd => {
                let decoder = zstd::Decoder::with_buffer(compressed);
                let mut decoder = decoder.map_err(|_| RecordsError::Compression)?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG_MAX)
                    .map_err(|_| RecordsError::Compression)?;
                Self::Zstd(buffered(decoder))
            }
        })
    }
}

/// What an error of reading from a [`Decompressor`] means.
pub(super) fn explain(error: &io::Error) -> RecordsError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => RecordsError::TooLarge,
        io::ErrorKind::UnexpectedEof => RecordsError::Truncated,
        _ => RecordsError::Compression,
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(reader) => reader.read(buffer),
            Self::Lz4(reader) => reader.read(buffer),
            Self::None(rest) => rest.read(buffer),
            Self::Snappy(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

/// Snappy, either one raw block (librdkafka and others) or xerial's: blocks behind lengths of four bytes.
pub(super) struct Snappy<'a> {
    rest: &'a [u8],
    framing: Framing,
    block: Vec<u8>,
    /// How much of `block` was read.
    read: usize,
}

enum Framing {
    Raw,
    Xerial,
}

impl<'a> Snappy<'a> {
    fn new(compressed: &'a [u8]) -> Self {
        let (rest, framing) = match compressed.get(XERIAL_HEADER_BYTES..) {
            Some(blocks) if compressed.starts_with(&XERIAL_MAGIC) => (blocks, Framing::Xerial),
            _ => (compressed, Framing::Raw),
        };
        Self { rest, framing, block: Vec::new(), read: 0 }
    }

    /// Cuts the next compressed block off.
    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        let (length, rest) = match self.framing {
            Framing::Raw => (self.rest.len(), self.rest),
            Framing::Xerial => {
                let (length, rest) = self.rest.split_first_chunk().ok_or_else(ended)?;
                (u32::from_be_bytes(*length) as usize, rest)
            }
        };
        let (block, rest) = rest.split_at_checked(length).ok_or_else(ended)?;
        self.rest = rest;
        Ok(block)
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() && !self.rest.is_empty() {
            let compressed = self.next_block()?;
            // A block says first how long it becomes, and only then is there a buffer of that size.
            let length = snap::raw::decompress_len(compressed)?;
            if length > BATCH_BYTES_MAX || length / SNAPPY_RATIO_MAX > compressed.len() {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.block.clear();
            self.block.resize(length, 0);
            self.read = 0;
            let written = snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
            self.block.truncate(written);
        }
        let mut unread = &self.block[self.read..];
        let count = unread.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// No Snappy element makes more than 64 bytes, and none that does is shorter than three.
const SNAPPY_RATIO_MAX: usize = 32;

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
