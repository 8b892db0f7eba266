//! An open session: frames out, answers in, and somebody who notices when no answers come.

use std::time::Duration;

use gateway_core::gateway::{Outgoing, UplinkEvent};
use metrics::counter;
use quinn::{RecvStream, SendStream};
use tokio::time::MissedTickBehavior;
use wire::limits::UPLINK_FRAME_BYTES_MAX;
use wire::uplink::{Append, Frame, LENGTH_BYTES, frame_len};

use super::{SessionError, Uplink, is_control};
use crate::metrics as names;
use crate::store_thread::StoreHandle;

/// No packet for so long while frames wait for answers means that the broker is gone, in milliseconds: QUIC's own timers
/// back off far beyond the time in which a restarted broker is ready again.
const STALL_MS: u64 = 10_000;

/// How often that is looked at.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// An open session.
pub struct Session {
    pub control: SendStream,
    pub data: SendStream,
    pub readers: [FrameReader; 2],
}

impl Session {
    /// Sends and receives until something breaks; never ends well.
    pub async fn run(
        self,
        uplink: &Uplink,
        connection: &quinn::Connection,
    ) -> Result<(), SessionError> {
        let Self { control, data, readers: [control_reader, data_reader] } = self;
        tokio::select! {
            ended = write(uplink, control, data) => ended,
            ended = read(uplink, control_reader) => ended,
            ended = read(uplink, data_reader) => ended,
            ended = watch_for_stall(uplink, connection) => ended,
            error = connection.closed() => Err(error.into()),
        }
    }
}

/// Sends what the spool's owner gives out.
async fn write(
    uplink: &Uplink,
    mut control: SendStream,
    mut data: SendStream,
) -> Result<(), SessionError> {
    loop {
        for outgoing in uplink.store.pull().await? {
            let stream = if is_control(outgoing.batch.lane) { &mut control } else { &mut data };
            let batch = match build(uplink, &outgoing).await {
                Ok(batch) => batch,
                Err(detail) => {
                    uplink.store.uplink(UplinkEvent::Unreadable { detail }).await?;
                    continue;
                }
            };
            let frame = Frame::Append(Append {
                stream: outgoing.batch.stream,
                epoch: outgoing.batch.epoch,
                base: outgoing.batch.base,
                count: outgoing.batch.count,
                prev_tag: outgoing.batch.prev_tag,
                tag: outgoing.batch.tag,
                batch: &batch,
            });
            send(stream, &frame).await?;
            counter!(names::UPLINK_SENT_BYTES).increment(batch.len() as u64);
        }
    }
}

/// Builds and compresses a batch, away from the threads that serve sockets.
async fn build(uplink: &Uplink, outgoing: &Outgoing) -> Result<Vec<u8>, String> {
    let (batch, rows) = (outgoing.batch, outgoing.rows.clone());
    let gateway = uplink.identity.gateway.clone();
    let built = tokio::task::spawn_blocking(move || rows.build(&batch, &gateway)).await;
    built.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Hands the broker's answers to the spool's owner.
async fn read(uplink: &Uplink, mut reader: FrameReader) -> Result<(), SessionError> {
    loop {
        let bytes = reader.next(UPLINK_FRAME_BYTES_MAX).await?;
        answer(&uplink.store, Frame::decode(&bytes)?).await?;
    }
}

async fn answer(store: &StoreHandle, frame: Frame<'_>) -> Result<(), SessionError> {
    let event = match frame {
        Frame::State(state) => UplinkEvent::State(state),
        Frame::Refused(refused) => {
            let (code, permanent) = (refused.code, refused.permanent);
            tracing::warn!(?code, permanent, "uplink: batch refused: {}", refused.detail);
            let detail = refused.detail.to_owned();
            UplinkEvent::Refused { state: refused.state, code, permanent, detail }
        }
        Frame::Goodbye(reason, detail) => {
            return Err(SessionError::Goodbye(reason, detail.to_owned()));
        }
        Frame::NotOwner(frame) => {
            let owner = frame.owner.unwrap_or("unknown");
            return Err(SessionError::Protocol(format!("another broker is the owner: {owner}")));
        }
        frame @ (Frame::Hello(_) | Frame::Welcome(_) | Frame::Append(_) | Frame::Reset(_)) => {
            return Err(unexpected(&frame));
        }
    };
    Ok(store.uplink(event).await?)
}

/// Ends the session when frames wait for answers and nothing at all comes from the broker. A slow link is no reason: a
/// broker that is there acknowledges packets, however long a frame takes.
async fn watch_for_stall(
    uplink: &Uplink,
    connection: &quinn::Connection,
) -> Result<(), SessionError> {
    let mut ticks = tokio::time::interval(STALL_CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut quiet_since) = (0, uplink.clock.mono());
    loop {
        ticks.tick().await;
        let now = uplink.clock.mono();
        let datagrams = connection.stats().udp_rx.datagrams;
        if datagrams != heard || uplink.status.borrow().unanswered == 0 {
            (heard, quiet_since) = (datagrams, now);
        } else if now - quiet_since > STALL_MS {
            return Err(SessionError::Stalled(STALL_MS / 1_000));
        }
    }
}

/// Sends a frame.
pub async fn send(stream: &mut SendStream, frame: &Frame<'_>) -> Result<(), SessionError> {
    let bytes = frame.encode()?;
    stream.write_all(&bytes).await.map_err(|error| SessionError::Stream(error.to_string()))
}

/// A frame that has no place there.
pub fn unexpected(frame: &Frame<'_>) -> SessionError {
    let name = match frame {
        Frame::Hello(_) => "HELLO",
        Frame::Welcome(_) => "WELCOME of another version, or a second one",
        Frame::Append(_) => "APPEND",
        Frame::State(_) => "STATE",
        Frame::Refused(_) => "REFUSED",
        Frame::NotOwner(_) => "NOT_OWNER",
        Frame::Reset(_) => "RESET",
        Frame::Goodbye(..) => "GOODBYE",
    };
    SessionError::Protocol(format!("unexpected {name}"))
}

/// Frames off a stream.
pub struct FrameReader {
    stream: RecvStream,
}

impl FrameReader {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream }
    }

    /// The next frame, without its length.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<u8>, SessionError> {
        let broken = |error: quinn::ReadExactError| SessionError::Stream(error.to_string());
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length).await.map_err(broken)?;
        let mut bytes = vec![0; frame_len(length, limit)?];
        self.stream.read_exact(&mut bytes).await.map_err(broken)?;
        Ok(bytes)
    }
}
