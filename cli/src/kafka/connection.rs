//! One connection to a broker: a request out, its response in.

use std::time::Duration;

use broker_kafka::frame::{decode_budget, encode_request, parse_response};
use broker_kafka::runtime::{Text, WireError};
use broker_kafka::{ErrorCode, Request, RequestHeader, Response};
use bytes::Bytes;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::limits::RECORD_BATCH_BYTES_MAX;

use super::decode::DecodeError;

/// Record bytes that a fetch asks for in all. A larger batch comes all the same if it is the first.
pub const FETCH_BYTES: usize = 4 << 20;

/// Longest response that is read.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(FETCH_BYTES + RECORD_BATCH_BYTES_MAX < RESPONSE_BYTES_MAX);

/// A broker that does not take a connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What this client calls itself.
const CLIENT_ID: Text = Text::from_static("culvert");

/// Why the log cannot be read.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// No connection. Try again.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection broke, or did not answer in time. Connect again.
    #[error("connection lost: {0}")]
    Connection(#[from] std::io::Error),
    /// What was fetched is no batch of records. Reading it again gives the same.
    #[error("partition {partition}, offset {offset}: {error}")]
    Corrupt {
        /// The partition.
        partition: i32,
        /// Where the batch was expected.
        offset: i64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// What answers does not speak the protocol as we do. Connect again: it may have been replaced.
    #[error("not an answer of a Kafka broker: {0}")]
    Protocol(String),
    /// The broker says that the topic is not for us. Nothing changes that but a person.
    #[error("the broker refuses to show the topic: {0}")]
    Refused(&'static str),
    /// The broker cannot answer now. Try again.
    #[error("the broker says {0}")]
    Unavailable(&'static str),
}

impl KafkaError {
    /// Whether trying again on a new connection may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Connection(_) | Self::Protocol(_) | Self::Unavailable(_) => {
                true
            }
            Self::Corrupt { .. } | Self::Refused(_) => false,
        }
    }
}

impl From<WireError> for KafkaError {
    fn from(error: WireError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// The name of an error code, for people.
pub fn error_name(code: i16) -> &'static str {
    ErrorCode::from_wire(code).map_or("an unknown error", ErrorCode::name)
}

/// An open connection. After an error, or a call that was not waited for to its end, it is of no more use.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects to `address`, `host:port`.
    ///
    /// # Errors
    /// [`KafkaError::Connect`].
    pub async fn open(address: &str) -> Result<Self, KafkaError> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| KafkaError::Connect(timed_out()))?;
        let stream = stream.map_err(KafkaError::Connect)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends `request` in this version and waits for its response, at most `patience`.
    ///
    /// # Errors
    /// [`KafkaError::Connection`] or `Protocol`.
    pub async fn call(
        &mut self,
        version: i16,
        request: Request,
        patience: Duration,
    ) -> Result<Response, KafkaError> {
        let calling = tokio::time::timeout(patience, self.exchange(version, request));
        calling.await.map_err(|_| KafkaError::Connection(timed_out()))?
    }

    async fn exchange(&mut self, version: i16, request: Request) -> Result<Response, KafkaError> {
        let api = request.api();
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api,
            version,
            correlation_id: self.correlation_id,
            client_id: Some(CLIENT_ID),
        };
        for chunk in encode_request(&header, &request)? {
            self.stream.write_all(&chunk).await?;
        }
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).ok().filter(|length| *length <= RESPONSE_BYTES_MAX);
        let length = length.ok_or_else(|| KafkaError::Protocol("impossible length".to_owned()))?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).await?;
        let (answered, response) =
            parse_response(&Bytes::from(frame), decode_budget(length), api, version)?;
        if answered != self.correlation_id {
            return Err(KafkaError::Protocol("the answer to another request".to_owned()));
        }
        Ok(response)
    }
}

fn timed_out() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")
}
