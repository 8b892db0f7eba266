//! The writing half of a Kafka connection: answers become responses, in the order of the requests.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::time::Duration;

use broker_core::{
    Answer, Asker, Event, FetchAnswer, LookupAnswer, LookupProgress, PieceLost, Reply, RequestInfo,
};
use broker_kafka::Response;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::time::timeout;

use super::{ConnectionEnd, InFlight, KafkaShared};
use crate::cold_reader::ColdReader;
use crate::engine::{Client, EngineGone};
use crate::memory::Held;

/// A client must take something within this time, or it is taken for gone and its memory is freed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Chunks in one vectored write.
const WRITE_CHUNKS_MAX: usize = 64;

/// Bytes of responses that are sent without a look at what else is answered.
const UNSENT_BYTES_MAX: usize = 16 << 10;

pub(super) struct Responder<'a, W> {
    pub(super) output: W,
    pub(super) shared: &'a KafkaShared,
    pub(super) client: Client,
    pub(super) queue: mpsc::Receiver<InFlight>,
    /// Answers whose turn has not come.
    pub(super) stash: BTreeMap<u64, Answer>,
    /// Responses, in their order, that go out before anything is waited for.
    pub(super) unsent: Vec<Bytes>,
}

impl<W: AsyncWrite + Unpin> Responder<'_, W> {
    /// Runs until the reading half is gone and everything is answered, or until something fails.
    pub(super) async fn run(mut self) -> ConnectionEnd {
        loop {
            let responded = match self.next().await {
                Ok(Some(next)) => self.respond(next).await,
                Ok(None) => return ConnectionEnd::Closed,
                Err(end) => Err(end),
            };
            if let Err(end) = responded {
                return end;
            }
        }
    }

    /// The next request to be answered, as soon as there is one; `None` once the reading half is gone and everything is sent.
    async fn next(&mut self) -> Result<Option<InFlight>, ConnectionEnd> {
        if let Ok(next) = self.queue.try_recv() {
            return Ok(Some(next));
        }
        self.send().await?;
        Ok(self.queue.recv().await)
    }

    async fn respond(&mut self, next: InFlight) -> Result<(), ConnectionEnd> {
        match next {
            InFlight::Reply(chunks) => self.unsent.extend(chunks),
            InFlight::Asked(info, token) => self.respond_to(&info, token).await?,
        }
        // What one commit answers goes out in one write, unless it is much.
        let bytes: usize = self.unsent.iter().map(Bytes::len).sum();
        let is_much = self.unsent.len() >= WRITE_CHUNKS_MAX || bytes >= UNSENT_BYTES_MAX;
        if is_much { self.send().await } else { Ok(()) }
    }

    async fn respond_to(&mut self, info: &RequestInfo, token: u64) -> Result<(), ConnectionEnd> {
        let mut held = None;
        let response: Response = match self.answer(token).await? {
            Answer::Produce(answer) => match info.reply {
                Reply::Expected => answer.response.into(),
                Reply::None if answer.failed => {
                    self.send().await?;
                    return Err(ConnectionEnd::ProduceFailed);
                }
                Reply::None => return Ok(()),
            },
            Answer::Group(response) => *response,
            Answer::Admin(answer) => answer.into_response(),
            Answer::Metadata(response) => (*response).into(),
            Answer::Fetch(mut answer) => {
                self.send().await?;
                held = self.shared.response_memory.gather(&mut answer).await;
                gather(&self.shared.reader, answer).await?.into()
            }
            Answer::Lookup(answer) => {
                self.send().await?;
                self.look_up(token, answer).await?.into()
            }
            // The engine answers in kind; a connection never asks what only gateways ask.
            Answer::Uplink(_) => return Err(ConnectionEnd::EngineGone(EngineGone)),
        };
        let chunks = info.encode(&response).map_err(ConnectionEnd::Unencodable)?;
        drop(response);
        self.unsent.extend(chunks);
        // The memory is given back when what it was for is gone.
        if held.is_some() { self.send().await } else { Ok(()) }
    }

    /// The answer to this request; others that come first are kept.
    async fn answer(&mut self, token: u64) -> Result<Answer, ConnectionEnd> {
        if let Some(answer) = self.stash.remove(&token) {
            return Ok(answer);
        }
        loop {
            let (other, answer) = match self.client.answers.try_recv() {
                Ok(received) => received,
                Err(TryRecvError::Disconnected) => return Err(EngineGone.into()),
                Err(TryRecvError::Empty) => {
                    self.send().await?;
                    self.client.answers.recv().await.ok_or(EngineGone)?
                }
            };
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

    /// Sends what is unsent.
    async fn send(&mut self) -> Result<(), ConnectionEnd> {
        let mut chunks = std::mem::take(&mut self.unsent);
        let mut first = 0;
        loop {
            while chunks.get(first).is_some_and(Bytes::is_empty) {
                first += 1;
            }
            let Some(rest) = chunks.get_mut(first..).filter(|rest| !rest.is_empty()) else {
                break;
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
        // The next responses are laid out in the same place.
        chunks.clear();
        self.unsent = chunks;
        Ok(())
    }
}

/// Reads what a fetch gets, on a thread that may block if there are files to read.
async fn gather(
    reader: &ColdReader,
    answer: FetchAnswer,
) -> Result<broker_kafka::generated::fetch::FetchResponse, ConnectionEnd> {
    if !answer.has_files() {
        return Ok(answer.into_response(&mut |_| Err(PieceLost::Unreadable)));
    }
    let gathering = |reader: &mut ColdReader| answer.into_response(&mut |piece| reader.read(piece));
    // Only a runtime that ends drops such work.
    reader.run(gathering).await.ok_or(ConnectionEnd::EngineGone(EngineGone))
}

/// Looks into runs, on a thread that may block if there are any.
async fn advance(
    reader: &ColdReader,
    answer: LookupAnswer,
) -> Result<LookupProgress, ConnectionEnd> {
    if !answer.has_searches() {
        return Ok(answer.advance(&mut |_| Err(PieceLost::Unreadable)));
    }
    let advancing = |reader: &mut ColdReader| answer.advance(&mut |piece| reader.read(piece));
    reader.run(advancing).await.ok_or(ConnectionEnd::EngineGone(EngineGone))
}
