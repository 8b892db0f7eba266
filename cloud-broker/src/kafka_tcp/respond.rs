//! The writing half of a Kafka connection: answers become responses, in the order of the requests.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::time::Duration;

use broker_core::{
    Answer, Asker, Event, FetchAnswer, LookupAnswer, LookupProgress, PieceLost, Reply, RequestInfo,
};
use broker_kafka::Response;
use broker_log::{Piece, PieceRead};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{ConnectionEnd, InFlight, KafkaShared};
use crate::engine::{Client, EngineGone};
use crate::memory::Held;
use crate::metrics;
use crate::wal_file::WalReader;

/// A client must take something within this time, or it is taken for gone and its memory is freed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Chunks in one vectored write.
const WRITE_CHUNKS_MAX: usize = 64;

pub(super) struct Responder<'a, W> {
    pub(super) output: W,
    pub(super) shared: &'a KafkaShared,
    pub(super) client: Client,
    pub(super) queue: mpsc::Receiver<InFlight>,
    /// Answers whose turn has not come.
    pub(super) stash: BTreeMap<u64, Answer>,
}

impl<W: AsyncWrite + Unpin> Responder<'_, W> {
    /// Runs until the reading half is gone and everything is answered, or until something fails.
    pub(super) async fn run(mut self) -> ConnectionEnd {
        while let Some(next) = self.queue.recv().await {
            let sent = match next {
                InFlight::Reply(chunks) => self.send(chunks).await,
                InFlight::Asked(info, token) => self.respond(&info, token).await,
            };
            if let Err(end) = sent {
                return end;
            }
        }
        ConnectionEnd::Closed
    }

    async fn respond(&mut self, info: &RequestInfo, token: u64) -> Result<(), ConnectionEnd> {
        let mut held = None;
        let response: Response = match self.answer(token).await? {
            Answer::Produce(answer) => match info.reply {
                Reply::Expected => answer.response.into(),
                Reply::None if answer.failed => return Err(ConnectionEnd::ProduceFailed),
                Reply::None => return Ok(()),
            },
            Answer::Group(response) => *response,
            Answer::Admin(answer) => answer.into_response(),
            Answer::Metadata(response) => (*response).into(),
            Answer::Fetch(answer) => {
                let memory = &self.shared.response_memory;
                held = memory.acquire(answer.gathered_bytes()).await;
                gather(&self.shared.reader, answer).await?.into()
            }
            Answer::Lookup(answer) => self.look_up(token, answer).await?.into(),
            // The engine answers in kind; a connection never asks what only gateways ask.
            Answer::Uplink(_) => return Err(ConnectionEnd::EngineGone(EngineGone)),
        };
        let chunks = info.encode(&response).map_err(ConnectionEnd::Unencodable)?;
        drop(response);
        self.send(chunks).await?;
        drop(held);
        Ok(())
    }

    /// The answer to this request; others that come first are kept.
    async fn answer(&mut self, token: u64) -> Result<Answer, ConnectionEnd> {
        if let Some(answer) = self.stash.remove(&token) {
            return Ok(answer);
        }
        loop {
            let received = self.client.answers.recv().await;
            let (other, answer) = received.ok_or(EngineGone)?;
            if other == token {
                return Ok(answer);
            }
            self.stash.insert(other, answer);
        }
    }

    async fn look_up(
        &mut self,
        token: u64,
        mut answer: LookupAnswer,
    ) -> Result<broker_kafka::generated::list_offsets::ListOffsetsResponse, ConnectionEnd> {
        loop {
            let request = match advance(&self.shared.reader, answer).await? {
                LookupProgress::Done(response) => return Ok(response),
                LookupProgress::Again(request) => request,
            };
            let asker = Asker { client: self.client.id, token };
            let event = Event::Kafka(asker, request);
            self.shared.engine.request(event, Held::default()).await?;
            answer = match self.answer(token).await? {
                Answer::Lookup(answer) => answer,
                Answer::Admin(_)
                | Answer::Fetch(_)
                | Answer::Group(_)
                | Answer::Metadata(_)
                | Answer::Produce(_)
                | Answer::Uplink(_) => {
                    return Err(ConnectionEnd::EngineGone(EngineGone));
                }
            };
        }
    }

    async fn send(&mut self, mut chunks: Vec<Bytes>) -> Result<(), ConnectionEnd> {
        let mut first = 0;
        loop {
            while chunks.get(first).is_some_and(Bytes::is_empty) {
                first += 1;
            }
            let Some(rest) = chunks.get_mut(first..).filter(|rest| !rest.is_empty()) else {
                return Ok(());
            };
            let slices: Vec<IoSlice<'_>> =
                rest.iter().take(WRITE_CHUNKS_MAX).map(|chunk| IoSlice::new(chunk)).collect();
            let written = timeout(WRITE_TIMEOUT, self.output.write_vectored(&slices)).await;
            let mut written = written.map_err(|_| ConnectionEnd::NotReading)??;
            if written == 0 {
                return Err(ConnectionEnd::Closed);
            }
            for chunk in rest {
                let taken = written.min(chunk.len());
                chunk.advance(taken);
                written -= taken;
            }
        }
    }
}

/// Reads what a fetch gets, on a thread that may block if there are files to read.
async fn gather(
    reader: &WalReader,
    answer: FetchAnswer,
) -> Result<broker_kafka::generated::fetch::FetchResponse, ConnectionEnd> {
    if !answer.has_files() {
        return Ok(answer.into_response(&mut |_| Err(PieceLost::Unreadable)));
    }
    let reader = reader.clone();
    let gathering = move || answer.into_response(&mut |piece| read_piece(&reader, piece));
    blocking(gathering).await
}

/// Looks into runs, on a thread that may block if there are any.
async fn advance(
    reader: &WalReader,
    answer: LookupAnswer,
) -> Result<LookupProgress, ConnectionEnd> {
    if !answer.has_searches() {
        return Ok(answer.advance(&mut |_| Err(PieceLost::Unreadable)));
    }
    let reader = reader.clone();
    let advancing = move || answer.advance(&mut |piece| read_piece(&reader, piece));
    blocking(advancing).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConnectionEnd> {
    // Only a runtime that ends drops such work.
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ConnectionEnd::EngineGone(EngineGone))
}

/// Reads a piece of the log; blocks. A failure is counted and logged.
pub(crate) fn read_piece(reader: &WalReader, piece: &Piece) -> Result<PieceRead, PieceLost> {
    piece.read(&mut reader.clone()).map_err(|failed| {
        metrics::read_error();
        tracing::error!("a read of the log failed: {failed}");
        PieceLost::from(&failed)
    })
}
