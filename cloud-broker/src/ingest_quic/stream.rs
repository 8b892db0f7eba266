//! One stream of an uplink session: frames in, answers out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker_core::{
    Answer, Asker, ClientId, Event, RequestError, SESSION_FRAMES_MAX, UplinkAnswer, UplinkRequest,
};
use bytes::{Bytes, BytesMut};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::limits::{UPLINK_FRAME_BYTES_MAX, UPLINK_HANDSHAKE_BYTES_MAX};
use wire::uplink::{FrameError, GoodbyeReason, LENGTH_BYTES, frame_len};

use super::{FAREWELL_TIMEOUT, IDLE_TIMEOUT_MS, Session};
use crate::engine::{Client, EngineGone};
use crate::memory::Held;
use crate::metrics;

/// Time for each part of a frame, once its length has come and there is memory for it. By parts, because a frame that a
/// slow link needs minutes for must arrive some time: cut off, it would only be sent again from its start. As long as
/// QUIC's idle timeout: a link that is away for less than that keeps its connection, and so must keep its session.
const PART_TIMEOUT: Duration = Duration::from_millis(IDLE_TIMEOUT_MS as u64);

/// Bytes of a frame that must arrive in that time: a peer that trickles holds memory that others wait for.
const PART_BYTES: usize = 16 << 10;

/// Time for a gateway to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for answers that are on their way when nothing more is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Which stream it is.
pub(super) enum StreamKind {
    /// The first: it begins with HELLO. Tells when WELCOME is sent.
    Control(oneshot::Sender<()>),
    /// Any other: it has no HELLO.
    Data,
}

/// Why a stream ends. All but `Finished` end the session.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    #[error("the gateway has closed its control stream")]
    ControlFinished,
    #[error(transparent)]
    EngineGone(#[from] EngineGone),
    #[error("the gateway has closed the stream")]
    Finished,
    #[error("{0}")]
    Left(RequestError),
    #[error("{0}")]
    Lost(quinn::ConnectionError),
    #[error("{0}")]
    Misuse(String),
    #[error("refused: {0}")]
    Refused(GoodbyeReason),
    #[error("the gateway is too slow")]
    Slow,
    #[error("the process ends")]
    Stopping,
    #[error("{0}")]
    Stream(String),
}

impl StreamEnd {
    /// What GOODBYE and the connection's closing code say.
    pub(super) fn reason(&self) -> GoodbyeReason {
        match self {
            Self::Misuse(_) | Self::Slow => GoodbyeReason::Protocol,
            Self::Refused(reason) => *reason,
            Self::ControlFinished
            | Self::EngineGone(_)
            | Self::Finished
            | Self::Left(_)
            | Self::Lost(_)
            | Self::Stopping
            | Self::Stream(_) => GoodbyeReason::Stopping,
        }
    }
}

/// Serves a stream to its end, and says goodbye on it if the session ends with it.
pub(super) async fn serve_stream(
    session: Arc<Session>,
    mut send: SendStream,
    receive: RecvStream,
    kind: StreamKind,
) -> StreamEnd {
    let engine = session.shared.engine.clone();
    let mut client = match engine.open(SESSION_FRAMES_MAX as usize + 1).await {
        Ok(client) => client,
        Err(gone) => return gone.into(),
    };
    let is_control = matches!(kind, StreamKind::Control(_));
    let end = exchange(&session, &mut client, (&mut send, receive), kind).await;
    let farewell = match &end {
        StreamEnd::Misuse(detail) => Some(UplinkAnswer::goodbye(end.reason(), detail)),
        StreamEnd::Slow | StreamEnd::EngineGone(_) => {
            Some(UplinkAnswer::goodbye(end.reason(), &end.to_string()))
        }
        StreamEnd::Stopping if is_control => {
            Some(UplinkAnswer::goodbye(end.reason(), "the broker is stopping"))
        }
        StreamEnd::ControlFinished
        | StreamEnd::Finished
        | StreamEnd::Left(_)
        | StreamEnd::Lost(_)
        | StreamEnd::Refused(_)
        | StreamEnd::Stopping
        | StreamEnd::Stream(_) => None,
    };
    let last_words = async {
        if let Some(goodbye) = farewell {
            send.write_all(&goodbye.frame).await.ok()?;
        }
        send.finish().ok()?;
        send.stopped().await.ok()
    };
    // Whoever does not listen misses them.
    let _ = timeout(FAREWELL_TIMEOUT, last_words).await;
    end
}

async fn exchange(
    session: &Session,
    client: &mut Client,
    (send, receive): (&mut SendStream, RecvStream),
    kind: StreamKind,
) -> StreamEnd {
    let unanswered = AtomicU32::new(0);
    let is_control = matches!(kind, StreamKind::Control(_));
    let mut welcomed = match kind {
        StreamKind::Control(welcomed) => Some(welcomed),
        StreamKind::Data => None,
    };
    let mut frames = FrameReader {
        session,
        client: client.id,
        receive,
        unanswered: &unanswered,
        next_token: 0,
        is_control,
    };
    let mut answers = AnswerWriter { session, send, unanswered: &unanswered };
    let end = {
        let mut reading = std::pin::pin!(frames.run());
        loop {
            tokio::select! {
                biased;
                answer = client.answers.recv() => {
                    if let Err(end) = answers.write(answer).await {
                        break end;
                    }
                    if let Some(welcomed) = welcomed.take() {
                        // Nobody waits for it if the session is ending.
                        let _ = welcomed.send(());
                    }
                }
                end = &mut reading => break end,
                () = session.shutdown.requested() => break StreamEnd::Stopping,
            }
        }
    };
    if let StreamEnd::Finished | StreamEnd::ControlFinished | StreamEnd::Stopping = end {
        let draining = async {
            while unanswered.load(Ordering::Relaxed) > 0 {
                let answer = client.answers.recv().await;
                if answers.write(answer).await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(DRAIN_TIMEOUT, draining).await;
        // Answers that did not make it are nobody's any more: other streams may use their credits.
        let left = unanswered.load(Ordering::Relaxed);
        session.frames.add_permits(left as usize);
    }
    end
}

struct AnswerWriter<'a> {
    session: &'a Session,
    send: &'a mut SendStream,
    unanswered: &'a AtomicU32,
}

impl AnswerWriter<'_> {
    async fn write(&mut self, answer: Option<(u64, Answer)>) -> Result<(), StreamEnd> {
        let answer = match answer {
            Some((_, Answer::Uplink(answer))) => answer,
            // The engine answers in kind.
            Some((_, _)) | None => return Err(EngineGone.into()),
        };
        let written = timeout(WRITE_TIMEOUT, self.send.write_all(&answer.frame)).await;
        match written {
            Err(_) => return Err(StreamEnd::Slow),
            Ok(Err(error)) => return Err(StreamEnd::Stream(error.to_string())),
            Ok(Ok(())) => {}
        }
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.session.frames.add_permits(1);
        answer.close.map_or(Ok(()), |reason| Err(StreamEnd::Refused(reason)))
    }
}

struct FrameReader<'a> {
    session: &'a Session,
    client: ClientId,
    receive: RecvStream,
    unanswered: &'a AtomicU32,
    next_token: u64,
    is_control: bool,
}

impl FrameReader<'_> {
    async fn run(&mut self) -> StreamEnd {
        loop {
            if let Err(end) = self.take_frame().await {
                return end;
            }
        }
    }

    async fn take_frame(&mut self) -> Result<(), StreamEnd> {
        let length = self.read_length().await?;
        // The session's credit first, then memory: only then are the bytes read.
        let credit = self.session.frames.acquire().await;
        credit.map_err(|_| StreamEnd::Stopping)?.forget();
        let memory = &self.session.shared.request_memory.uplink;
        let held = Held::frame(memory.acquire(length).await);
        let frame = self.read_body(length).await?;
        metrics::uplink_frame();
        let request = UplinkRequest::parse(&frame).map_err(|error| match error {
            RequestError::Goodbye(_) => StreamEnd::Left(error),
            RequestError::Frame(_) | RequestError::Misuse(_) => {
                StreamEnd::Misuse(error.to_string())
            }
        })?;
        let is_first = self.is_control && self.next_token == 0;
        let is_hello = matches!(request, UplinkRequest::Hello(_));
        if is_first != is_hello {
            let rule = "HELLO is the first frame of the control stream, and only that";
            return Err(StreamEnd::Misuse(rule.to_owned()));
        }
        let event = Event::Uplink {
            asker: Asker { client: self.client, token: self.next_token },
            session: self.session.id,
            identity: self.session.gateway.clone(),
            request,
        };
        self.next_token += 1;
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let engine = &self.session.shared.engine;
        if is_hello {
            engine.request(event, held).await?;
        } else {
            engine.append(event, held).await?;
        }
        Ok(())
    }

    async fn read_length(&mut self) -> Result<usize, StreamEnd> {
        let mut field = [0; LENGTH_BYTES];
        match self.receive.read_exact(&mut field).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) if self.is_control => {
                return Err(StreamEnd::ControlFinished);
            }
            Err(ReadExactError::FinishedEarly(0)) => return Err(StreamEnd::Finished),
            Err(error) => return Err(explain(error)),
        }
        let limit = if self.is_control && self.next_token == 0 {
            UPLINK_HANDSHAKE_BYTES_MAX
        } else {
            UPLINK_FRAME_BYTES_MAX
        };
        frame_len(field, limit).map_err(|error: FrameError| StreamEnd::Misuse(error.to_string()))
    }

    async fn read_body(&mut self, length: usize) -> Result<Bytes, StreamEnd> {
        let mut frame = BytesMut::zeroed(length);
        for part in frame.chunks_mut(PART_BYTES) {
            match timeout(PART_TIMEOUT, self.receive.read_exact(part)).await {
                Ok(read) => read.map_err(explain)?,
                Err(_) => return Err(StreamEnd::Slow),
            }
        }
        Ok(frame.freeze())
    }
}

fn explain(error: ReadExactError) -> StreamEnd {
    match error {
        ReadExactError::FinishedEarly(_) => {
            StreamEnd::Misuse("the stream ends inside a frame".to_owned())
        }
        ReadExactError::ReadError(ReadError::ConnectionLost(error)) => StreamEnd::Lost(error),
        ReadExactError::ReadError(ReadError::Reset(code)) => reset(code),
        ReadExactError::ReadError(error) => StreamEnd::Stream(error.to_string()),
    }
}

fn reset(code: VarInt) -> StreamEnd {
    StreamEnd::Stream(format!("the gateway reset the stream ({code})"))
}
