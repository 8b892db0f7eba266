//! The way to the gateway: a pipe in memory that can be cut after any byte.

use std::cell::Cell;
use std::io::{Error, ErrorKind};

use device_sdk::client::Connector;
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes that a pipe holds in each direction.
const PIPE_BYTES: usize = 256;

/// Connects to a gateway in the same process.
pub struct Link {
    gateway: UnboundedSender<DuplexStream>,
    /// Bytes after which each connection is cut; those beyond are not.
    cuts: std::vec::IntoIter<usize>,
}

impl Link {
    /// The link, and where its connections come out.
    pub fn new(cuts: Vec<usize>) -> (Self, UnboundedReceiver<DuplexStream>) {
        let (gateway, accepted) = unbounded_channel();
        (Self { gateway, cuts: cuts.into_iter() }, accepted)
    }
}

impl Connector for Link {
    type Transport<'a> = Transport;
    type Error = Error;

    async fn connect(&mut self) -> Result<Transport, Error> {
        let (near, far) = duplex(PIPE_BYTES);
        self.gateway.send(far).map_err(|_| Error::from(ErrorKind::ConnectionRefused))?;
        let left = Cell::new(self.cuts.next().unwrap_or(usize::MAX));
        Ok(Transport { stream: FromTokio::new(near), left })
    }
}

/// One end of the pipe.
pub struct Transport {
    stream: FromTokio<DuplexStream>,
    /// Bytes until the cut, in both directions together.
    left: Cell<usize>,
}

impl Transport {
    fn spend(&self, bytes: usize) {
        self.left.set(self.left.get() - bytes);
    }

    fn allowance(&self, wanted: usize) -> Result<usize, Error> {
        match self.left.get().min(wanted) {
            0 => Err(ErrorKind::ConnectionReset.into()),
            allowed => Ok(allowed),
        }
    }
}

impl ErrorType for Transport {
    type Error = Error;
}

impl Read for Transport {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let allowed = self.allowance(buf.len())?;
        let read = self.stream.read(&mut buf[..allowed]).await?;
        self.spend(read);
        Ok(read)
    }
}

impl Write for Transport {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
        let allowed = self.allowance(buf.len())?;
        let written = self.stream.write(&buf[..allowed]).await?;
        self.spend(written);
        Ok(written)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.stream.flush().await
    }
}
