//! The one thread that owns the gateway core and its database: the acknowledgement gate.
//!
//! It takes everything that is queued, makes one transaction of it, and answers when that is synced. There is no timer:
//! while a sync runs the next batch grows (natural group commit). Acknowledgements leave before checkpoints are made.

use std::time::Duration;

use gateway_core::gateway::{
    ClientBatch, ClientToken, Due, Entropy, Gateway, Now, Outgoing, Rejection, Status, UplinkEvent,
    Verdict,
};
use gateway_core::spool::store::StoreError;
use process::{Clock, FatalError, ShutdownTrigger};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use wire::ids::SpoolId;
use wire::time::MonoMs;
use wire::uplink::StreamKey;

use crate::spool_sqlite::SqliteStore;

/// Jobs that may wait for the thread; beyond it connections stop reading their sockets.
const QUEUE_JOBS_MAX: usize = 1024;

/// Jobs that one transaction takes: enough for every connection of a busy gateway, and an end for its memory.
const TRANSACTION_JOBS_MAX: usize = 4096;

/// Batches handed to the uplink at a time.
const PULL_MAX: usize = 16;

/// The longest wait between two looks at the clock.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What became of a connection's batch: how many publishes are durable, and why the next one is not.
pub type Answer = (usize, Option<Rejection>);

/// What HELLO says of the spool.
#[derive(Debug)]
pub struct HelloFacts {
    /// The spool.
    pub spool: SpoolId,
    /// Its streams.
    pub streams: Vec<StreamKey>,
}

#[derive(Debug)]
enum Job {
    Hello(oneshot::Sender<HelloFacts>),
    Publish(ClientBatch, oneshot::Sender<Answer>),
    Pull(oneshot::Sender<Vec<Outgoing>>),
    Stop,
    Uplink(UplinkEvent),
}

/// The way to the thread. When it is gone, the process is ending.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    jobs: mpsc::Sender<Job>,
}

/// The thread has ended: nothing more can be stored or acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spool is closed")]
pub struct StoreClosed;

impl StoreHandle {
    /// Hands a batch of publishes over; the receiver gets the answer after the sync, or nothing if the disk failed.
    ///
    /// # Errors
    /// [`StoreClosed`].
    pub async fn publish(
        &self,
        batch: ClientBatch,
    ) -> Result<oneshot::Receiver<Answer>, StoreClosed> {
        let (answer, receiver) = oneshot::channel();
        self.send(Job::Publish(batch, answer)).await?;
        Ok(receiver)
    }

    /// Reports what happened on the uplink.
    ///
    /// # Errors
    /// [`StoreClosed`].
    pub async fn uplink(&self, event: UplinkEvent) -> Result<(), StoreClosed> {
        self.send(Job::Uplink(event)).await
    }

    /// What HELLO is to say.
    ///
    /// # Errors
    /// [`StoreClosed`].
    pub async fn hello(&self) -> Result<HelloFacts, StoreClosed> {
        let (answer, receiver) = oneshot::channel();
        self.send(Job::Hello(answer)).await?;
        receiver.await.map_err(|_| StoreClosed)
    }

    /// The next batches to send, as soon as there is one. A dropped call costs nothing: what it would have got is sent in
    /// the next session.
    ///
    /// # Errors
    /// [`StoreClosed`].
    pub async fn pull(&self) -> Result<Vec<Outgoing>, StoreClosed> {
        let (answer, receiver) = oneshot::channel();
        self.send(Job::Pull(answer)).await?;
        receiver.await.map_err(|_| StoreClosed)
    }

    /// Ends the thread once everything queued before is done.
    pub async fn stop(&self) {
        // Closed already is as good as stopped.
        let _ = self.send(Job::Stop).await;
    }

    async fn send(&self, job: Job) -> Result<(), StoreClosed> {
        self.jobs.send(job).await.map_err(|_| StoreClosed)
    }

    /// The way to a thread that answers nothing, as long as what comes with it is kept.
    #[cfg(test)]
    pub fn stalled() -> (Self, impl Sized) {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        (Self { jobs }, queue)
    }

    /// The way to a thread that has ended.
    #[cfg(test)]
    pub fn closed() -> Self {
        Self { jobs: mpsc::channel(1).0 }
    }
}

/// Starts the thread on an open gateway. It ends by [`StoreHandle::stop`], or fatally when the disk fails.
///
/// # Errors
/// The system's error if no thread can be made.
pub fn spawn(
    gateway: Gateway<SqliteStore>,
    clock: Clock,
    trigger: ShutdownTrigger,
) -> std::io::Result<(StoreHandle, watch::Receiver<Status>, std::thread::JoinHandle<()>)> {
    let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
    let now = Now { mono: clock.mono(), wall: clock.wall() };
    // Figures are there before the first commit.
    let first = gateway.status(now);
    crate::metrics::record_status(&first);
    let (status, watched) = watch::channel(first);
    let mut thread = StoreThread {
        gateway,
        clock,
        queue,
        status,
        waiting: Vec::new(),
        pull: None,
        next_token: 0,
        stopping: false,
    };
    let runtime = Handle::current();
    let joined = std::thread::Builder::new().name("spool".into()).spawn(move || {
        let _vital = trigger.vital("spool");
        if let Err(error) = thread.run(&runtime) {
            // Connections that wait for an answer get none: what they sent stays with its sender.
            trigger.fatal(FatalError { component: "spool", detail: error.to_string() });
        }
    })?;
    Ok((StoreHandle { jobs }, watched, joined))
}

/// The system's random numbers.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn random(&mut self) -> u64 {
        crate::entropy::random()
    }
}

struct StoreThread {
    gateway: Gateway<SqliteStore>,
    clock: Clock,
    queue: mpsc::Receiver<Job>,
    status: watch::Sender<Status>,
    waiting: Vec<(ClientToken, oneshot::Sender<Answer>)>,
    pull: Option<oneshot::Sender<Vec<Outgoing>>>,
    next_token: u64,
    stopping: bool,
}

impl StoreThread {
    fn run(&mut self, runtime: &Handle) -> Result<(), StoreError> {
        while !self.stopping {
            self.take_jobs(runtime);
            let now = self.now();
            self.gateway.handle_timeout(now);
            let due = match self.gateway.wants_commit() {
                Due::Now => true,
                Due::At(at) => at <= now.mono || self.stopping,
                Due::Never => false,
            };
            if due {
                let verdicts = self.gateway.commit(now, &mut SystemEntropy)?;
                self.answer(&verdicts);
            }
            self.feed_uplink()?;
            self.publish_status();
            self.gateway.store_mut().maintain()?;
        }
        Ok(())
    }

    /// Waits for work as long as none is due, then takes all that is queued.
    fn take_jobs(&mut self, runtime: &Handle) {
        let wait = match self.gateway.wants_commit() {
            Due::Now => Duration::ZERO,
            Due::At(at) => self.until(at),
            Due::Never => {
                self.gateway.next_deadline(self.clock.mono()).map_or(IDLE_WAIT, |at| self.until(at))
            }
        };
        let first = if wait.is_zero() {
            self.queue.try_recv().ok()
        } else {
            let queue = &mut self.queue;
            match runtime.block_on(async { tokio::time::timeout(wait, queue.recv()).await }) {
                Ok(Some(job)) => Some(job),
                Ok(None) => {
                    self.stopping = true;
                    None
                }
                Err(_elapsed) => None,
            }
        };
        let Some(first) = first else { return };
        self.take(first);
        for _ in 1..TRANSACTION_JOBS_MAX {
            match self.queue.try_recv() {
                Ok(job) => self.take(job),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Hello(answer) => {
                let (spool, streams) = (self.gateway.spool(), self.gateway.hello_streams());
                // Whoever asked may have given up.
                let _ = answer.send(HelloFacts { spool, streams });
            }
            Job::Publish(mut batch, answer) => {
                self.next_token += 1;
                batch.token = ClientToken(self.next_token);
                self.waiting.push((batch.token, answer));
                self.gateway.stage(batch);
            }
            Job::Pull(answer) => self.pull = Some(answer),
            Job::Stop => self.stopping = true,
            Job::Uplink(event) => self.gateway.handle_uplink(self.now(), event),
        }
    }

    /// Verdicts come in the order of staging, which is that of `waiting`; a large commit leaves some for the next one.
    fn answer(&mut self, verdicts: &[Verdict]) {
        debug_assert!(verdicts.len() <= self.waiting.len());
        let answered = verdicts.len().min(self.waiting.len());
        for ((token, answer), verdict) in self.waiting.drain(..answered).zip(verdicts) {
            if token == verdict.token {
                // The connection may be gone; its readings are stored all the same.
                let _ = answer.send((verdict.stored, verdict.rejected));
            }
        }
    }

    fn feed_uplink(&mut self) -> Result<(), StoreError> {
        let Some(pull) = self.pull.take() else {
            return Ok(());
        };
        if pull.is_closed() {
            return Ok(());
        }
        let now = self.clock.mono();
        let mut batches = Vec::new();
        while batches.len() < PULL_MAX
            && let Some(batch) = self.gateway.take_batch(now)?
        {
            batches.push(batch);
        }
        if batches.is_empty() {
            self.pull = Some(pull);
        } else {
            // A receiver that vanished in between belongs to a session that is over.
            let _ = pull.send(batches);
        }
        Ok(())
    }

    /// Whatever raised an alarm, an answer of the broker or a page of the disk, it is logged here, and once.
    fn publish_status(&mut self) {
        let status = self.gateway.status(self.now());
        if let (None, Some(alarm)) = (&self.status.borrow().alarm, &status.alarm) {
            tracing::error!("the uplink stops, readings are kept: {alarm}");
        }
        crate::metrics::record_status(&status);
        self.status.send_replace(status);
    }

    fn now(&self) -> Now {
        Now { mono: self.clock.mono(), wall: self.clock.wall() }
    }

    fn until(&self, at: MonoMs) -> Duration {
        Duration::from_millis(at - self.clock.mono()).min(IDLE_WAIT)
    }
}
