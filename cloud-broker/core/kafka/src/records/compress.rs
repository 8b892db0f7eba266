//! The five codecs' writing side, for batches that are written anew: block sizes and levels are those of Kafka's own
//! producer, so whoever reads its batches reads these.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use wire::record_batch::Codec;

use super::decompress::XERIAL_MAGIC;

/// gzip's level, Kafka's default.
const GZIP_LEVEL: u32 = 6;

/// Zstandard's level, Kafka's default. Its window of 2 MiB is one that every reader takes.
const ZSTD_LEVEL: i32 = 3;

/// Bytes that become one block of a Snappy stream, as Kafka's Java client makes them.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// Version and compatible version of the xerial framing.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];

/// Takes records, and makes of them what a batch of this codec holds.
pub(super) enum Compressor {
    Gzip(GzEncoder<Sink>),
    Lz4(Box<FrameEncoder<Sink>>),
    None(Sink),
    Snappy(Xerial),
    Zstd(zstd::Encoder<'static, Sink>),
}

impl Compressor {
    /// Appends to `out`, which may grow up to `limit` bytes.
    pub(super) fn new(codec: Codec, out: Vec<u8>, limit: usize) -> io::Result<Self> {
        let sink = Sink { bytes: out, limit };
        Ok(match codec {
            Codec::Gzip => Self::Gzip(GzEncoder::new(sink, flate2::Compression::new(GZIP_LEVEL))),
            Codec::Lz4 => {
                // Java's client reads no blocks that need the ones before them.
                let info = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max64KB);
                Self::Lz4(Box::new(FrameEncoder::with_frame_info(info, sink)))
            }
            Codec::None => Self::None(sink),
            Codec::Snappy => Self::Snappy(Xerial::new(sink)?),
            Codec::Zstd => Self::Zstd(zstd::Encoder::new(sink, ZSTD_LEVEL)?),
        })
    }

    /// What the output is once all records were written.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::from)?,
            Self::None(sink) => sink,
            Self::Snappy(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .bytes)
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Lz4(encoder) => encoder.write(bytes),
            Self::None(sink) => sink.write(bytes),
            Self::Snappy(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes up to a limit.
pub(super) struct Sink {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Snappy in the framing of the xerial library: blocks behind lengths of four bytes.
pub(super) struct Xerial {
    sink: Sink,
    block: Vec<u8>,
}

impl Xerial {
    fn new(mut sink: Sink) -> io::Result<Self> {
        sink.write_all(&XERIAL_MAGIC)?;
        sink.write_all(&XERIAL_VERSIONS)?;
        Ok(Self { sink, block: Vec::with_capacity(SNAPPY_BLOCK_BYTES) })
    }

    fn write_block(&mut self) -> io::Result<()> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.block)?;
        let length = u32::try_from(compressed.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.sink.write_all(&length.to_be_bytes())?;
        self.sink.write_all(&compressed)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Sink> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(self.sink)
    }
}

impl Write for Xerial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(SNAPPY_BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == SNAPPY_BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
