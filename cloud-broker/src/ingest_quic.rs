//! The uplink's QUIC endpoint: sessions of gateways.
//!
//! A session is one connection with a certificate that names the gateway. Its first stream is the control stream: HELLO,
//! WELCOME, then frames of the control lane. Data streams carry the same frames; every answer goes back on the stream that
//! its frame came on. A peer that breaks the protocol is told GOODBYE and loses its connection; the others go on.

mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use process::Shutdown;
use quinn::{
    Connection, Endpoint, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig,
    TransportConfig, VarInt,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use wire::ids::GatewayId;
use wire::uplink::GoodbyeReason;

use broker_core::{SESSION_FRAMES_MAX, SessionId};

use crate::engine::{EngineHandle, Leaving};
use crate::memory::RequestMemory;
use crate::metrics;
use crate::quic_keys::QuicKeys;
use crate::tls::gateway_of;
use stream::{StreamEnd, StreamKind, serve_stream};

/// Connections at a time, handshakes included. Each may hold a receive window.
const CONNECTIONS_MAX: usize = 4096;

/// Connections from which on a new peer must first show that it receives at its address (a round trip more).
const RETRY_FROM: usize = CONNECTIONS_MAX / 2;

/// Data streams of a session.
const DATA_STREAMS_MAX: u32 = 16;

/// Time from the first packet to HELLO's answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the last words of a session to arrive.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for all sessions to end when the process ends: answers that are on their way, then the last words.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT_MS: u32 = 60_000;

/// Bytes that a stream may have sent and we not read.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Answers that a connection may have on their way.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// What all sessions share.
#[derive(Debug, Clone)]
pub(crate) struct UplinkShared {
    pub(crate) engine: EngineHandle,
    pub(crate) request_memory: RequestMemory,
}

/// A session whose gateway is known.
#[derive(Debug)]
struct Session {
    id: SessionId,
    /// The engine forgets the session when its last stream has ended, however that came.
    _leaving: Leaving,
    gateway: GatewayId,
    shared: UplinkShared,
    /// One permit for each unanswered frame that the session may have: the credits that WELCOME speaks of.
    frames: Semaphore,
    shutdown: Shutdown,
}

/// The endpoint's settings.
pub(crate) fn server_config(
    tls: quinn::crypto::rustls::QuicServerConfig,
    keys: &QuicKeys,
) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(DATA_STREAMS_MAX + 1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()))
        .enable_segmentation_offload(true);
    let mut config = ServerConfig::new(Arc::new(tls), Arc::new(keys.token_key()));
    config.transport_config(Arc::new(transport)).migration(true);
    config
}

/// Accepts connections until the end is requested, then says goodbye to all.
pub(crate) async fn serve(endpoint: Endpoint, shared: UplinkShared, shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = shutdown.requested() => break,
            incoming = endpoint.accept() => incoming,
            Some(_) = connections.join_next() => continue,
        };
        let Some(incoming) = incoming else {
            break;
        };
        if connections.len() >= CONNECTIONS_MAX {
            tracing::warn!(peer = %incoming.remote_address(), "too many uplink connections");
            incoming.refuse();
        } else if connections.len() >= RETRY_FROM && !incoming.remote_address_validated() {
            // Fails only for an address that was validated.
            let _ = incoming.retry();
        } else {
            connections.spawn(connection(incoming, shared.clone(), shutdown.clone()));
        }
    }
    let all_done = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, all_done).await.is_err() {
        connections.shutdown().await;
    }
    endpoint.close(code(GoodbyeReason::Stopping), b"stopping");
    let _ = timeout(FAREWELL_TIMEOUT, endpoint.wait_idle()).await;
}

async fn connection(incoming: Incoming, shared: UplinkShared, shutdown: Shutdown) {
    let peer = incoming.remote_address();
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let opened = tokio::select! {
        opened = timeout_at(deadline, open(incoming)) => opened,
        () = shutdown.requested() => return,
    };
    let (connection, gateway, control) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            metrics::uplink_protocol_error();
            tracing::warn!(%peer, "uplink connection refused: {error}");
            return;
        }
        Err(_) => {
            metrics::uplink_protocol_error();
            tracing::warn!(%peer, "uplink connection refused: the handshake took too long");
            return;
        }
    };
    let (id, leaving) = shared.engine.open_session();
    let session = Session {
        id,
        _leaving: leaving,
        gateway,
        shared,
        frames: Semaphore::new(SESSION_FRAMES_MAX as usize),
        shutdown,
    };
    let end = run(Arc::new(session), &connection, control, (peer, deadline)).await;
    log_end(&end, peer);
    connection.close(code(end.reason()), end.to_string().as_bytes());
}

/// Why a connection does not become a session.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error(
        "the certificate names no gateway (its common name or first DNS name must be a gateway id)"
    )]
    NoGateway,
}

type Control = (SendStream, RecvStream);

async fn open(incoming: Incoming) -> Result<(Connection, GatewayId, Control), OpenError> {
    let connection = incoming.await?;
    let Some(gateway) = peer_gateway(&connection) else {
        connection.close(code(GoodbyeReason::Unauthorized), b"no gateway id");
        return Err(OpenError::NoGateway);
    };
    let control = connection.accept_bi().await?;
    Ok((connection, gateway, control))
}

fn peer_gateway(connection: &Connection) -> Option<GatewayId> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    gateway_of(chain.first()?)
}

/// Serves a session's streams until the first of them says that the session is over.
async fn run(
    session: Arc<Session>,
    connection: &Connection,
    (send, receive): Control,
    (peer, deadline): (SocketAddr, Instant),
) -> StreamEnd {
    let (welcomed, is_welcome) = tokio::sync::oneshot::channel();
    let mut streams = JoinSet::new();
    let control = StreamKind::Control(welcomed);
    streams.spawn(serve_stream(Arc::clone(&session), send, receive, control));
    let hello = async {
        tokio::select! {
            welcome = timeout_at(deadline, is_welcome) => match welcome {
                Ok(Ok(())) => None,
                // The control stream has ended, and says why.
                Ok(Err(_)) => Some(joined(streams.join_next().await)),
                Err(_) => Some(StreamEnd::Misuse("no HELLO in time".to_owned())),
            },
            error = connection.closed() => Some(StreamEnd::Lost(error)),
        }
    };
    if let Some(end) = hello.await {
        streams.shutdown().await;
        return end;
    }
    tracing::info!(%peer, gateway = %session.gateway, "uplink session begins");
    let end = loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let session = Arc::clone(&session);
                    streams.spawn(serve_stream(session, send, receive, StreamKind::Data));
                }
                Err(error) => break StreamEnd::Lost(error),
            },
            end = streams.join_next() => match joined(end) {
                StreamEnd::Finished => {}
                end => break end,
            },
        }
    };
    // When the process ends, every stream still sends the answers that are on their way.
    if let StreamEnd::Stopping = end {
        let all_done = async { while streams.join_next().await.is_some() {} };
        let _ = timeout(STOP_TIMEOUT, all_done).await;
    }
    streams.shutdown().await;
    end
}

fn joined(end: Option<Result<StreamEnd, tokio::task::JoinError>>) -> StreamEnd {
    match end {
        Some(Ok(end)) => end,
        Some(Err(_)) => StreamEnd::Misuse("a stream's task has failed".to_owned()),
        None => StreamEnd::ControlFinished,
    }
}

fn log_end(end: &StreamEnd, peer: SocketAddr) {
    match end {
        StreamEnd::ControlFinished
        | StreamEnd::EngineGone(_)
        | StreamEnd::Finished
        | StreamEnd::Left(_)
        | StreamEnd::Lost(_)
        | StreamEnd::Stopping
        | StreamEnd::Stream(_) => tracing::info!(%peer, "uplink session ends: {end}"),
        StreamEnd::Misuse(_) | StreamEnd::Refused(_) | StreamEnd::Slow => {
            metrics::uplink_protocol_error();
            tracing::warn!(%peer, "uplink session is ended: {end}");
        }
    }
}

/// The connection's closing code: the reason's place among the variants, from 1.
fn code(reason: GoodbyeReason) -> VarInt {
    VarInt::from_u32(match reason {
        GoodbyeReason::Unauthorized => 1,
        GoodbyeReason::Protocol => 2,
        GoodbyeReason::Retired => 3,
        GoodbyeReason::Stopping => 4,
        GoodbyeReason::Version => 5,
    })
}
